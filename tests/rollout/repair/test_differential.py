"""Batches and the two revisions leave the same rows, on states and on drawn ones, and those are what a model says."""

# The statements below are made of the constants below.
# ruff: noqa: S608

import random
import uuid

import pytest

from session_fix.rollout import repair

STATES = [
    pytest.param(name, marks=pytest.mark.state(name)) for name in ("production_after_the_bug", "orphans", "hand_made")
]
KEYLESS = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"
IDS = [str(uuid.UUID(int=number << 64 | 0x4000 << 64 | 0x8 << 60)) for number in range(1, 9)]
CLEAR = "TRUNCATE ai_sessions, ai_interactions"
SEEDS = [*range(8), *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(8, 200))]


@pytest.mark.parametrize("name", STATES)
def test_batches_and_revisions_leave_the_same_rows(database, by_revisions, sums, name):
    """Whoever runs the one before the other must find nothing to do."""
    before = sums(database)
    done = repair.repair(database.params, batch_rows=37)
    by_batches = sums(database)
    assert (by_batches == before) == (done.changes == 0) == (name == "hand_made")
    if done.changes:
        assert repair.undo(database.params, "repair").refused == ()
    assert sums(database) == before
    by_revisions(database)
    assert sums(database) == by_batches
    assert repair.repair(database.params, run="again").changes == 0


def drawn(seed):
    """Return sessions (id, user, created, updated) and interactions (id, session, created), few ids among many rows."""
    draw = random.Random(seed)  # noqa: S311  repeatable on purpose
    users = [None, "anna", *IDS, *IDS]
    sessions = []
    for one in IDS[: draw.randrange(1, 6)] + [str(uuid.UUID(int=draw.getrandbits(128))) for _ in range(8)]:
        began = draw.randrange(20)
        sessions.append((one, draw.choice(users), began, began + draw.choice((0, 0, 0, 5))))
    named = IDS + [one[0] for one in sessions]
    interactions = [
        (str(uuid.UUID(int=draw.getrandbits(128))), draw.choice(named), draw.randrange(20)) for _ in range(6)
    ]
    return sessions, interactions


def modelled(sessions, interactions):
    """Return the sessions that a repair leaves: the rules again, in few words and without a database."""
    stored = {one[0]: one for one in sessions}
    used = {one[1] for one in interactions}
    users = {one[1] for one in sessions}
    phantoms = [
        (id_, user, began)
        for id_, user, began, ended in sessions
        if user in IDS + list(stored) and user in used | stored.keys()
        if began == ended and id_ not in used and id_ not in users
    ]
    left = {id_: one[1:] for id_, one in stored.items() if id_ not in {phantom[0] for phantom in phantoms}}
    for _, user, at in phantoms:
        known, began, ended = left.get(user, (None, at, at))
        left[user] = (known, min(began, at), max(ended, at))
    for name in used - left.keys():
        times = [one[2] for one in interactions if one[1] == name]
        left[name] = (None, min(times), max(times))
    return left


@pytest.mark.parametrize("seed", SEEDS)
def test_drawn_rows_are_repaired_as_the_model_says(database, by_revisions, sums, seed):
    """Combinations that nobody thought of: chains, circles, several rows for one session, in any order.

    A run after it finds nothing, but where one phantom stood for another of the same moment: as long as the one names
    the other, that counts as a session.
    """
    sessions, interactions = drawn(seed)
    database.rows(KEYLESS)
    store(database, sessions, interactions)
    before = sums(database)
    repair.repair(database.params, batch_rows=1 + seed % 4)
    assert left(database) == modelled(sessions, interactions)
    by_batches, once = sums(database), left(database)
    again = modelled([(id_, *values) for id_, values in once.items()], interactions)
    assert (repair.repair(database.params, run="again").changes > 0) == (again != once)
    assert left(database) == again
    if again != once:
        assert repair.undo(database.params, "again").refused == ()
    if database.rows("SELECT to_regclass('session_fix.repair_journal')") != [(None,)]:
        assert repair.undo(database.params, "repair").refused == ()
    assert sums(database) == before
    by_revisions(database)
    assert sums(database) == by_batches


def store(database, sessions, interactions):
    """Write the drawn rows; a moment is a number of minutes."""
    moment = "timestamptz '2026-01-05' + %s * interval '1 minute'"
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO ai_sessions VALUES (%s, %s, {moment}, {moment})", sessions)
        cursor.executemany(
            "INSERT INTO ai_interactions (id, session_id, prompt, response, created_at) "
            f"VALUES (%s, %s, '', '', {moment})",
            interactions,
        )


def left(database):
    """Return the sessions that are stored, as the model has them."""
    minutes = "(extract(epoch FROM {0} - timestamptz '2026-01-05') / 60)::int"
    query = f"SELECT id::text, user_id, {minutes.format('created_at')}, {minutes.format('updated_at')} FROM ai_sessions"
    return {row[0]: tuple(row[1:]) for row in database.rows(query)}
