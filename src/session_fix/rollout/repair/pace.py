"""How large a batch may be, how long to wait before it is tried again, and when an index pays. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

FIRST_ROWS = 100
TRIES = 30
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
PAGES_WORTH_AN_INDEX = 500_000  # read one after the other, about a second
ROWS_IN_A_SMALL_BATCH = 500


def next_rows(rows: int, took_ms: float, *, batch_ms: float, most: int) -> int:
    """Return how many rows the next batch may have, after one of ``rows`` took so long: at most twice as many."""
    fitting = rows * batch_ms / max(took_ms, 0.1)
    return max(1, min(int(fitting), 2 * rows, most))


def pauses(chance: Callable[[], float]) -> Iterator[float]:
    """Yield the seconds before the second try of a batch, the third and so on; ``chance`` is of [0, 1)."""
    pause_s = FIRST_PAUSE_S
    for _ in range(TRIES - 1):
        yield pause_s * (0.5 + chance())
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def needs_index(*, phantoms: int, missing: int, pages: int, has_key: bool) -> bool:
    """Say whether going through all interactions, again and again, would take longer than building an index does.

    That is done once a batch; and once for each session that is deleted, where a foreign key checks it.
    """
    passes = (phantoms + missing) // ROWS_IN_A_SMALL_BATCH + (phantoms if has_key else 0)
    return passes * pages > PAGES_WORTH_AN_INDEX
