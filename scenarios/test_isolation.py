"""Inside one database: what PostgreSQL does with open transactions that meet in one session, at each isolation level.

Each spec in ``isolation/`` is one situation, performed by PostgreSQL's own ``isolationtester`` on the migrated schema;
what it printed is compared with ``isolation/expected/<level>/<spec>.out`` or, where either of two things may happen,
with ``<spec>_1.out``. No service takes part: this is what a service, a cleanup or a migration can rely on.

A spec begins its transactions with a plain BEGIN; their level comes with the connection, as
``PGOPTIONS='-c default_transaction_isolation=serializable'`` does by hand. So a spec stands as it is run.
"""

from pathlib import Path

import pytest

from session_fix.errors import EnvironmentUnavailableError
from session_fix.explore import isolationtester

FOLDER = Path(__file__).parent / "isolation"
SPECS = sorted(path.stem for path in FOLDER.glob("*.spec"))
ENGLISH = ("C", "POSIX", "en")


def expected(name, level):
    """Return what may be printed for a spec at a level, by file name."""
    folder = FOLDER / "expected" / level.replace(" ", "_")
    files = [folder / f"{name}.out", *sorted(folder.glob(f"{name}_[0-9].out"))]
    return {path.name: path.read_text() for path in files}


@pytest.fixture
def perform(database):
    """Return a function that performs a spec on a private database; skip where that cannot be, with the reason."""
    try:
        isolationtester.find()
    except EnvironmentUnavailableError as error:
        pytest.skip(str(error))
    language = database.rows("SHOW lc_messages")[0][0]
    if not language.startswith(ENGLISH):
        pytest.skip(f"the server's messages are in {language}, and those expected in English")
    return lambda spec, level: isolationtester.run(spec, database.params, level=level)


@pytest.mark.parametrize("level", isolationtester.LEVELS)
@pytest.mark.parametrize("name", SPECS)
def test_open_transactions(name, level, perform):
    """Who waits, who is refused and what is left in the tables is what was reviewed, line by line."""
    printed = perform((FOLDER / f"{name}.spec").read_text(), level)
    if difference := isolationtester.difference(printed, expected(name, level)):
        pytest.fail(f"{name} at {level.upper()}:\n{difference}", pytrace=False)
