"""What became of a run's private databases, in a few lines (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

TITLE = "session-fix: private databases"
EMPTIED, CLONE, FOUND = "recycled", "dropped", "dropped: "  # as ``PrivateDatabases.ended`` counts them
REASONS_AT_MOST = 5


def total(ended: Mapping[str, int]) -> str:
    """Return how many databases were handed on and how many dropped, "" where none was lent."""
    found = sum(count for what, count in ended.items() if what.startswith(FOUND))
    counts = {
        "emptied for a later test": ended.get(EMPTIED, 0),
        "dropped for what was found in them": found,
        "dropped as clones of one test": ended.get(CLONE, 0),
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def details(ended: Mapping[str, int], mishaps: Sequence[str]) -> Iterator[str]:
    """Yield why databases were dropped, the most frequent reasons first, and what went wrong in that."""
    reasons = Counter({what.removeprefix(FOUND): count for what, count in ended.items() if what.startswith(FOUND)})
    shown = reasons.most_common(REASONS_AT_MOST)
    for reason, count in shown:
        yield f"{count:6,}  {reason}"
    if rest := reasons.total() - sum(count for _, count in shown):
        yield f"{rest:6,}  for {len(reasons) - len(shown):,} other reasons"
    for mishap in mishaps:
        yield f"dropping went wrong: {mishap}"
