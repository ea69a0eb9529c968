"""What quantizing the K/V cache did to answers where somebody measured it: figures and notes, each with its source."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from estimator.engines.registry import engine

if TYPE_CHECKING:
    from estimator.model import Model

DATA: Final = Path(__file__).parent / "data" / "quality.json"


class Source(NamedTuple):
    """Where a figure was published."""

    title: str
    url: str


class Figure(NamedTuple):
    """A score of one model with a pair of cache types in somebody's test; ``plain`` is that of 16 bits in the same.

    ``engine``: an id of the registry, or a family of programs such as llama.cpp; ``k`` and ``v``: its names of types.
    ``metric``: ``perplexity``, of which less is better, or a task, of which more is: per cent, or a fraction of 1.
    ``rotated``: whether the cache held keys and values turned by a Hadamard matrix, as llama.cpp does since March 2026;
    None where the engine has no such choice.
    """

    engine: str
    k: str
    v: str
    model: str
    plain: float
    value: float
    source: Source
    metric: str = "perplexity"
    rotated: bool | None = None

    @property
    def change(self) -> float:
        """How much more than with 16 bits."""
        return self.value - self.plain


class Note(NamedTuple):
    """A finding, or advice, in words.

    ``engine``: as of a figure, None for all. ``types``: those that it is about, none for all that quantize.
    ``architecture``: that of the models it is about, None for all.
    """

    text: str
    source: Source
    engine: str | None = None
    types: tuple[str, ...] = ()
    architecture: str | None = None


class Quality(NamedTuple):
    """All that is known."""

    figures: tuple[Figure, ...]
    notes: tuple[Note, ...]


@cache
def quality() -> Quality:
    """All figures and all notes."""
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    sources = {id: Source(**source) for id, source in data["sources"].items()}
    return Quality(
        tuple(Figure(**{**figure, "source": sources[figure["source"]]}) for figure in data["figures"]),
        tuple(
            Note(**{**note, "source": sources[note["source"]], "types": tuple(note.get("types", ()))})
            for note in data["notes"]
        ),
    )


def figures(engine_id: str, type_k: str | None = None, type_v: str | None = None) -> tuple[Figure, ...]:
    """The figures of an engine or of its family: of all pairs, or of the types that are given, by names or aliases."""
    k, v = _type(engine_id, type_k), _type(engine_id, type_v)
    return tuple(
        figure
        for figure in quality().figures
        if figure.engine in _names(engine_id) and k in (None, figure.k) and v in (None, figure.v)
    )


def notes(
    engine_id: str, type_k: str | None = None, type_v: str | None = None, *, model: Model | None = None
) -> tuple[Note, ...]:
    """The notes about an engine, its family or all; without those about other types or other models.

    Args:
        type_k: without both, notes about any type.
        type_v: likewise.
        model: without it, no note that is about one architecture.
    """
    types = {_type(engine_id, name) for name in (type_k, type_v) if name}
    about = (None, model.architecture if model else None)
    return tuple(
        note
        for note in quality().notes
        if note.engine in (None, *_names(engine_id))
        and (not types or not note.types or types & set(note.types))
        and note.architecture in about
    )


def _names(engine_id: str) -> tuple[str, ...]:
    """What figures may call an engine: its id, or its family."""
    found = engine(engine_id)
    return (engine_id, found.family) if found else (engine_id,)


def _type(engine_id: str, name: str | None) -> str | None:
    """A type by the engine's own name, where the engine is known."""
    found = engine(engine_id)
    kind = found.cache_type(name) if found and name else None
    return kind.id if kind else name
