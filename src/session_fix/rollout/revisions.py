"""The migrations as SQL: what each revision sends to a database, up and down, rendered by Alembic itself."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from session_fix import folders

BASE = "base"
NOTES_VERSION = re.compile(r"(CREATE TABLE|INSERT INTO|UPDATE|DELETE FROM) alembic_version\b")


@dataclass(frozen=True, slots=True)
class Script:
    """One direction of a revision: its statements, and those that note it in ``alembic_version``.

    They run in one transaction, unless ``concurrently``: then each is alone, and the version is noted afterwards.
    """

    statements: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def concurrently(self) -> bool:
        """Whether a statement refuses to run inside a transaction."""
        return any(re.search(r"\bINDEX CONCURRENTLY\b", statement) for statement in self.statements)


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision: its id, the one before it ("" for the first), what its file says of it, and both directions."""

    id: str
    before: str
    doc: str
    up: Script
    down: Script

    @property
    def title(self) -> str:
        """What it does, in one sentence."""
        return " ".join(self.doc.split("\n\n")[0].split())


class _Statements(io.StringIO):
    """A buffer that keeps apart what Alembic writes: one statement, or one comment, at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text.strip())
        return len(text)


@cache
def chain() -> tuple[Revision, ...]:
    """Return the revisions, the oldest first."""
    from alembic.config import Config  # noqa: PLC0415  brings SQLAlchemy, which takes its time
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(folders.bundled("migrations")).replace("%", "%%"))
    found = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    return tuple(_revision(config, one) for one in found)


def _revision(config: Any, found: Any) -> Revision:
    before = found.down_revision or ""
    up = _script(config, "upgrade", f"{before or BASE}:{found.revision}")
    down = _script(config, "downgrade", f"{found.revision}:{before or BASE}")
    return Revision(found.revision, before, found.longdoc, up, down)


def _script(config: Any, command: str, between: str) -> Script:
    from alembic import command as commands  # noqa: PLC0415  see above

    config.output_buffer = buffer = _Statements()
    getattr(commands, command)(config, between, sql=True)
    sql = [text.removesuffix(";") for text in buffer.written if text and not text.startswith("--")]
    sql = [text for text in sql if text not in ("BEGIN", "COMMIT")]
    notes = tuple(text for text in sql if NOTES_VERSION.match(text))
    return Script(tuple(text for text in sql if text not in notes), notes)
