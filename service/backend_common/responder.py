"""What answers a query: a small interface, and a deterministic answer where a real model would be called."""

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """A model's answer: its text, the items it found, and what it cost."""

    response: str
    items: list[dict[str, Any]] = field(default_factory=list)
    model_used: str = "deterministic"
    tokens_used: int = 0


class Responder(Protocol):
    """Anything that answers a query; put a real model here."""

    def answer(self, text: str) -> Answer:
        """Return the answer to ``text``."""


class DeterministicResponder:
    """Gives the same answer to the same text, without a model."""

    def answer(self, text: str) -> Answer:
        """Return the words of ``text`` as items, and their number as tokens."""
        words = text.split()
        items = [{"position": position, "word": word} for position, word in enumerate(words, start=1)]
        return Answer(response=f"You said: {text}", items=items, tokens_used=len(words))
