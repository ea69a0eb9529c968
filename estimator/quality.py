"""What quantizing the K/V cache did to answers where somebody measured it: figures and notes, each with its source."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from estimator.model import Model

DATA: Final = Path(__file__).parent / "data" / "quality.json"


class Source(NamedTuple):
    """Where a figure was published."""

    title: str
    url: str


class Figure(NamedTuple):
    """Perplexity of one model with a pair of cache types in somebody's test; ``plain`` is that of f16 in the same test.

    ``rotated``: whether the cache held keys and values turned by a Hadamard matrix, as llama.cpp does since March 2026.
    """

    k: str
    v: str
    model: str
    plain: float
    perplexity: float
    rotated: bool
    source: Source

    @property
    def change(self) -> float:
        """How much more perplexity than with f16."""
        return self.perplexity - self.plain


class Note(NamedTuple):
    """A finding in words; ``architecture`` is that of the models it is about, None for all."""

    text: str
    source: Source
    architecture: str | None = None


class Quality(NamedTuple):
    """All that is known."""

    figures: tuple[Figure, ...]
    notes: tuple[Note, ...]


@cache
def quality() -> Quality:
    """All figures, those of a pair side by side, and all notes."""
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    sources = {id: Source(**source) for id, source in data["sources"].items()}
    return Quality(
        tuple(Figure(**{**figure, "source": sources[figure["source"]]}) for figure in data["figures"]),
        tuple(Note(**{**note, "source": sources[note["source"]]}) for note in data["notes"]),
    )


def notes(model: Model) -> tuple[Note, ...]:
    """The notes that are about this model, among others or alone."""
    return tuple(note for note in quality().notes if note.architecture in (None, model.architecture))
