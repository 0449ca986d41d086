"""What we say of our speed, checked against what was measured in the same run."""

from benchmarks import all_orders, handing_out, orders, per_test, rollout, server_start, suite, tap
from benchmarks.figures import BOTH, INSTALLED, TUNED, Claim

RECYCLED, CLONED = (per_test.NAME, per_test.RECYCLED, BOTH), (per_test.NAME, per_test.CLONED, BOTH)
WARM = (server_start.NAME, f"{server_start.OURS}, warm", BOTH)


def _peer(setting: str) -> tuple[str, str, str]:
    return per_test.NAME, per_test.PEER, setting


def _get_server(state: str) -> tuple[str, str, str]:
    return server_start.NAME, f"{server_start.GET_SERVER}, {state}", TUNED


def _suite(name: str, setting: str) -> tuple[str, str, str]:
    return suite.NAME, f"{name}: {suite.WAITING}", setting


CLAIMS = [
    Claim("pytest-postgresql, tuned / ours recycled, per test", ">= 20", RECYCLED, _peer(TUNED)),
    Claim("pytest-postgresql, as installed / ours recycled, per test", ">= 20", RECYCLED, _peer(INSTALLED)),
    Claim("pytest-postgresql, tuned / ours cloned, per test", ">= 2", CLONED, _peer(TUNED)),
    Claim("ours recycled / rollback, per test", "<= 1.5", (per_test.NAME, per_test.ROLLBACK, TUNED), RECYCLED),
    *(
        Claim(f"{name}: a database made ahead, handed out, ms", "<= 0.3", (handing_out.NAME, name, ""))
        for name in handing_out.READY.values()
    ),
    Claim("get_server, tuned, new data directory / ours warm, start", ">= 10", WARM, _get_server("cold")),
    Claim("get_server, tuned, its old data directory / ours warm, start", ">= 1", WARM, _get_server("warm")),
    Claim(  # of clones nothing is claimed: they are made inside PostgreSQL, where a second worker gains little
        f"{per_test.RECYCLED}, tests with a body: -n 2, net / one after another",
        "<= 0.65",
        _suite(per_test.RECYCLED, suite.SERIAL),
        _suite(per_test.RECYCLED, suite.NET),
    ),
    *(
        Claim(
            f"{name}: every order in turn / the same calls one after another, calls a second",
            ">= 0.7",
            (orders.NAME, orders.OURS, name),
            (orders.NAME, orders.UNGATED, name),
        )
        for name in orders.VARIANTS
    ),
    *(
        Claim(f"{name.removeprefix('session-fix, ')}: the tap adds to a call, ms", "<= 0.5", (tap.NAME, name, tap.NET))
        for name in (tap.RECORDING, tap.OPEN)
    ),
    *(
        Claim(f"70 orders of two queries, {how}, ms", f"<= {limit_ms}", (all_orders.NAME, all_orders.OURS, how))
        for how, limit_ms in ((all_orders.UNPRUNED, 6000), (all_orders.PRUNED, 2000))
    ),
    *(
        Claim(
            f"a rollout, {setting}: worst stall, naive / ours",
            ">= 25",
            (rollout.NAME, rollout.OURS, f"{rollout.STALL}, {setting}"),
            (rollout.NAME, rollout.NAIVE, f"{rollout.STALL}, {setting}"),
        )
        for setting in (rollout.QUIET, rollout.BEHIND)
    ),
    *(
        Claim(
            f"a rollout, {setting}: in all, ours / naive",
            "<= 1.5",
            (rollout.NAME, rollout.NAIVE, f"{rollout.IN_ALL}, {setting}"),
            (rollout.NAME, rollout.OURS, f"{rollout.IN_ALL}, {setting}"),
        )
        for setting in (rollout.QUIET, rollout.BEHIND)
    ),
]
