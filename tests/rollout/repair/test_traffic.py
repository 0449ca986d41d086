"""Repaired while writers go on: nothing that was acknowledged is lost, and what nobody touched is as it was.

The writers do what the service does: store the session unless it is there, then the interaction, and both again where
the database says 23503. They use sessions of their own, sessions that phantoms stand for or that orphans name, and,
which no client can know, the ids of phantoms.
"""

import hashlib
import random
import threading
import uuid
from dataclasses import dataclass, field

import psycopg
import pytest

from session_fix import schema
from session_fix.rollout import repair

FILL = """
CREATE TABLE public.promised AS SELECT n, md5('promised' || n)::uuid AS id FROM generate_series(1, {size}) n;
INSERT INTO public.ai_sessions (id, user_id, created_at, updated_at)
    SELECT md5('phantom' || n || '-' || k)::uuid, p.id, m, m FROM public.promised p, generate_series(0, 2) k,
        LATERAL (SELECT timestamp '2026-01-05' + p.n * interval '1 s' + k * interval '7 s') t(m);
INSERT INTO public.ai_sessions (id, user_id, created_at, updated_at)
    SELECT md5('healthy' || n)::uuid, 'user-' || n, timestamp '2026-01-05', timestamp '2026-01-06'
    FROM generate_series(1, {size}) n;
INSERT INTO public.ai_interactions (id, session_id, prompt, response, created_at)
    SELECT md5('asked' || n)::uuid, md5('healthy' || n)::uuid, 'why?', repeat('so ', 50), timestamp '2026-01-05'
    FROM generate_series(1, {size}) n;
INSERT INTO public.ai_interactions (id, session_id, prompt, response, created_at)
    SELECT md5('orphan' || n || '-' || k)::uuid, CASE k WHEN 0 THEN id ELSE md5('missing' || n)::uuid END, 'why?',
        repeat('so ', 50), timestamp '2026-01-05' + n * interval '1 s'
    FROM public.promised, generate_series(0, 1) k;
"""
KEYLESS = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"
# With the key there are no orphans, but whoever names a session that is not there is told at once.
WITHOUT_ORPHANS = f"""{FILL.rsplit("INSERT INTO", 1)[0]}
INSERT INTO public.ai_sessions (id, user_id, created_at, updated_at)
    SELECT id, 'named', timestamp '2026-01-06', timestamp '2026-01-07' FROM public.promised WHERE n % 2 = 0;
"""  # noqa: S608  constants of ours
NEW = "INSERT INTO ai_sessions (id, created_at, updated_at) VALUES (%s, now(), now()) ON CONFLICT (id) DO NOTHING"
ASK = (
    "INSERT INTO ai_interactions (id, session_id, prompt, response, created_at) VALUES (%s, %s, 'new', '', now()) "
    "ON CONFLICT (id) DO NOTHING"
)
TOUCH = "UPDATE ai_sessions SET updated_at = greatest(updated_at, now()) WHERE id = %s RETURNING updated_at"


@dataclass
class Writer:
    """One client; ``acked`` are its interactions that the database said it has, ``touched`` by session when."""

    params: dict
    size: int
    seed: int
    stop: threading.Event
    pause_s: float
    acked: dict = field(default_factory=dict)
    touched: dict = field(default_factory=dict)
    used: set = field(default_factory=set)
    surprises: list = field(default_factory=list)
    retried: int = 0

    def run(self):
        """Write until told to stop."""
        draw = random.Random(self.seed)  # noqa: S311  no secret
        with psycopg.connect(**self.params, autocommit=True) as connection:
            while not self.stop.wait(self.pause_s):
                try:
                    self._use(connection, *self._drawn(draw))
                except psycopg.Error as error:
                    self.surprises.append(error.sqlstate or str(error))

    def _drawn(self, draw):
        kind = draw.choice(("own", "promised", "missing", "phantom"))
        number = draw.randrange(1, self.size + 1)
        if kind == "own":
            return kind, uuid.uuid4()
        named = f"{kind}{number}-{draw.randrange(3)}" if kind == "phantom" else f"{kind}{number}"
        return kind, uuid.UUID(hashlib.md5(named.encode()).hexdigest())  # noqa: S324  as in the SQL above

    def _use(self, connection, kind, session_id):
        interaction = uuid.uuid4()
        self.used |= {str(session_id), str(interaction)}
        for _ in range(3):
            connection.execute(NEW, (session_id,))
            try:
                connection.execute(ASK, (interaction, session_id))
                break
            except psycopg.errors.ForeignKeyViolation:
                self.retried += 1
                if kind != "phantom":
                    self.surprises.append(f"23503 for a session of kind {kind}")
        else:
            self.surprises.append("23503 three times")
            return
        self.acked[interaction] = session_id
        for (at,) in connection.execute(TOUCH, (session_id,)):
            self.touched[session_id] = at


@pytest.fixture
def production(session_fix_stack):
    """Return a function that makes a database as it is before the rollout, with so many rows of each kind."""
    databases = session_fix_stack.databases
    databases.template()  # for the data API's roles
    made = []

    def make(size, *, has_key):
        made.append(databases.empty())
        schema.migrate(made[-1].params, to="0002_api_grants")
        with made[-1].connect() as connection:
            if not has_key:
                connection.execute(KEYLESS)
            for statement in (WITHOUT_ORPHANS if has_key else FILL).format(size=size).split(";\n"):
                connection.execute(statement)
            connection.execute("CREATE TABLE kept_sessions AS SELECT id, user_id, s::text AS row FROM ai_sessions s")
            connection.execute("CREATE TABLE kept_interactions AS SELECT id, i::text AS row FROM ai_interactions i")
        made[-1].rows("ANALYZE")
        return made[-1]

    yield make
    for database in made:
        databases.drop(database)


@pytest.fixture
def under_traffic():
    """Return a function that performs something while four clients write, and returns them and what it returned."""
    stop = threading.Event()

    def perform(database, size, what):
        pause_s = 0.0 if size < 1000 else 0.05  # at night, as many a second as a busy backend has
        writers = [Writer(database.params, size, seed, stop, pause_s) for seed in range(4)]
        threads = [threading.Thread(target=writer.run, daemon=True) for writer in writers]
        for thread in threads:
            thread.start()
        try:
            done = what()
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        return writers, done

    yield perform
    stop.set()


# Of the rows that were there and that no writer used: how many, and whether they are what they were.
SAME = """
SELECT count(*), md5(string_agg(k.row, '|' ORDER BY k.id)) = md5(string_agg(t.row, '|' ORDER BY k.id))
FROM kept_{0} k LEFT JOIN (SELECT id, x::text AS row FROM ai_{0} x) t USING (id)
WHERE NOT EXISTS (SELECT FROM used u WHERE u.id = k.id) {1}
"""
USED_FOR_PHANTOMS = """
INSERT INTO used SELECT k.id FROM kept_sessions k JOIN used u ON k.user_id = u.id::text ON CONFLICT DO NOTHING
"""
STORED_FOR_NOBODY = """
SELECT count(*) FROM ai_sessions s
WHERE NOT EXISTS (SELECT FROM kept_sessions k WHERE k.id = s.id) AND NOT EXISTS (SELECT FROM used u WHERE u.id = s.id)
"""
HEALTHY = "AND k.user_id LIKE 'user-%'"


def check_traffic(database, writers):
    """Assert that each client has what it was told that it has."""
    assert [one for writer in writers for one in writer.surprises] == []
    acked = {key: value for writer in writers for key, value in writer.acked.items()}
    assert len(acked) > 20, "the writers wrote too little to be in anybody's way"
    stored = dict(database.rows("SELECT id, session_id FROM ai_interactions WHERE prompt = 'new'"))
    assert stored == acked
    sessions = dict(database.rows("SELECT id, updated_at FROM ai_sessions"))
    assert set(acked.values()) <= set(sessions)
    late = [one for writer in writers for one, at in writer.touched.items() if sessions[one] < at]
    assert late == [], "somebody's touch was undone"


@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("size", [300, pytest.param(250_000, marks=pytest.mark.nightly)])
def test_a_repair_under_traffic_and_its_undo(production, under_traffic, size, has_key):
    """What nobody wrote to is the same after it, and all is after an undo; a million phantoms and orphans at night."""
    database = production(size, has_key=has_key)
    rows = 20 if size < 1000 else 2000
    told = []
    writers, done = under_traffic(
        database, size, lambda: repair.repair(database.params, batch_rows=rows, batch_ms=100, tell=told.append)
    )
    slowest = next(one for one in told if one.longest_ms == done.longest_ms)
    print(f"{done}\nthe longest batch: {slowest}")  # noqa: T201  pytest shows it with a failure, and with -s
    check_traffic(database, writers)
    if done.left:
        assert repair.repair(database.params).left == 0, "what was in use is done once the writers have gone"
    used = {one for writer in writers for one in writer.used}
    database.rows("CREATE TABLE used (id uuid PRIMARY KEY)")
    note(database, used)
    for table, which in (("sessions", HEALTHY), ("interactions", "")):
        ((number, same),) = database.rows(SAME.format(table, which))
        assert (number > size / 3, same) == (True, True), table
    undone = repair.undo(database.params, "repair")
    print(undone.restored, len(undone.refused), undone.batches, undone.longest_ms, undone.took_s)  # noqa: T201
    assert {one.id for one in undone.refused} <= used, "only for what the writers used"
    note(database, {one.session_id for one in undone.refused})
    database.rows(USED_FOR_PHANTOMS)
    for table in ("sessions", "interactions"):
        ((number, same),) = database.rows(SAME.format(table, ""))
        assert (number > size / 3, same) == (True, True), table
    assert database.rows(STORED_FOR_NOBODY) == [(0,)], "what was stored for them is gone"


def note(database, ids):
    """Write down ids that are to be left out of what is compared."""
    with database.connect() as connection:
        connection.execute("INSERT INTO used SELECT unnest(%s::uuid[]) ON CONFLICT DO NOTHING", (list(ids),))
