"""A form for which another engine is chosen: what that lacks is left out, or becomes what comes nearest to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.parsing import NAMES, engine_of, takes
from app.query import own_options
from estimator.engines.registry import engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.engines.base import Engine

Given = dict[str, list[str]]


def switched(given: Mapping[str, Sequence[str]], was: str) -> tuple[Given, str]:
    """The state of a form for the engine that it asks for, and what to say of types that became others.

    Args:
        was: the engine that the form was made for.
    """
    runs, before = engine_of(given), engine(was)
    if before is None or runs.id == before.id:
        return {name: list(values) for name, values in given.items()}, ""
    options = {option.name for option in own_options(runs)}
    former = {option.name for option in own_options(before)} - options
    kept = {
        name: list(values)
        for name, values in given.items()
        if name not in former and (name not in NAMES or takes(runs, name)) and name != "weights"
    }
    changed = _types(kept, runs)
    return kept, changed


def _types(given: Given, runs: Engine) -> str:
    """Give each side a type that the engine has."""
    sides = [side for value in given.get("kv", []) for side in value.lower().split(":")]
    if not sides or len(sides) > 2:
        return ""
    types = [runs.nearest_cache_type(side) for side in sides]
    if not runs.separate_kv:
        types = types[:1]
    given["kv"] = [":".join(one.id for one in types)]
    lost = [side for side, one in zip(sides, types, strict=False) if runs.cache_type(side) is None]
    if lost:
        return f"{runs.name} has no {lost[0]} cache: {types[0].id} is the nearest that it has."
    return f"{runs.name} has one type for K and V." if len(set(sides)) > len(types) else ""
