// The Supabase data API of many databases in one process: http://127.0.0.1:PORT/<database>/rest/v1/...
//
// Settings come from SESSION_FIX_LITE (JSON); the port is written to `ready` once it listens. A database's App is made
// at its first request. With the control token, DELETE /<database> closes its connections and forgets its schema, and
// PUT /<database> waits for the requests to it that are under way: 204 when all have ended, 409 after a second.

import { createServer } from "node:http";
import { timingSafeEqual } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { getRequestListener } from "@hono/node-server";
import { App } from "@supabase/lite";
import { PostgresConnection } from "@supabase/lite/postgres";
import { sql } from "kysely";

const settings = JSON.parse(process.env.SESSION_FIX_LITE);
delete process.env.SESSION_FIX_LITE;

/** Runs every request as the role of its key in a transaction, as PostgREST does, so that GRANTs count. */
class RoleConnection extends PostgresConnection {
  // Upstream switches roles only where a table has row-level security, and then grants every role everything.
  async ensureRlsContext() {
    return true;
  }

  // Upstream sends up to five statements here; one round trip does the same.
  async applyJwtSessionContext(db, vars) {
    const { role = "anon", uid = "", jwt } = vars.auth ?? {};
    const claims = jwt && typeof jwt === "object" ? JSON.stringify(jwt) : "";
    await sql`SELECT set_config('role', ${role}, true), set_config('request.jwt.claim.sub', ${String(uid ?? "")}, true),
      set_config('request.jwt.claim.role', ${role}, true), set_config('request.jwt.claims', ${claims}, true)`.execute(db);
  }
}

function open(database) {
  const connection = new RoleConnection({
    url: "",
    postgresOptions: { ...settings.postgres, database, max: settings.connections, onnotice() {} },
  });
  const { publishable_key, secret_key, jwt_secret } = settings;
  return new App({
    connection,
    auth: { enabled: false, publishable_key, secret_key, jwt_secret },
    options: { server: { admin: false } },
  });
}

const apps = new Map();
const underWay = new Map(); // database: a set of promises, one a request
const PATIENCE_MS = 1000;

function app(database) {
  if (!apps.has(database)) apps.set(database, open(database));
  return apps.get(database);
}

async function forget(database) {
  const known = apps.get(database);
  apps.delete(database);
  underWay.delete(database);
  await known?.connection.driver.end({ timeout: 0 }); // whatever still runs there is about to lose its database
}

async function isIdle(database) {
  const requests = Promise.allSettled(underWay.get(database) ?? []);
  return Promise.race([requests.then(() => true), new Promise((done) => setTimeout(done, PATIENCE_MS, false).unref())]);
}

/** Counts a request among those under way until its answer is there, whether or not its client still waits for it. */
function counted(database, answer) {
  if (!underWay.has(database)) underWay.set(database, new Set());
  const requests = underWay.get(database).add(answer);
  return answer.finally(() => requests.delete(answer));
}

function mayControl(request) {
  const given = Buffer.from(request.headers.get("x-session-fix-control") ?? "");
  const wanted = Buffer.from(settings.control_token);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

async function answer(request) {
  const url = new URL(request.url);
  // A page in a browser that rebinds its own name to 127.0.0.1 sends that name.
  if (url.hostname !== "127.0.0.1") return new Response("wrong host", { status: 403 });
  const [, database, ...rest] = url.pathname.split("/");
  if (!new RegExp(settings.databases).test(database)) return new Response("no such database", { status: 404 });
  if (rest.length === 0 && ["DELETE", "PUT"].includes(request.method)) {
    if (!mayControl(request)) return new Response("forbidden", { status: 403 });
    if (request.method === "PUT") return new Response(null, { status: (await isIdle(database)) ? 204 : 409 });
    await forget(database);
    return new Response(null, { status: 204 });
  }
  url.pathname = "/" + rest.join("/");
  return counted(database, Promise.resolve(app(database).fetch(new Request(url, request), { peerAddress: null })));
}

const server = createServer(getRequestListener(answer));
server.keepAliveTimeout = 300_000; // a paused test must not find its connection closed
server.listen(0, "127.0.0.1", () => {
  writeFileSync("unfinished", String(server.address().port));
  renameSync("unfinished", "ready");
});
