"""The page's answer for programs of llama.cpp, and where to find those of other engines."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from app import contexts, figures, text
from app.advice import advice
from app.engine_view import by_engine
from app.errors import as_bad_request
from app.ladder import ladder
from app.outcome import Outcome, at, bound, outcome
from app.query import Query, checked
from app.reach import reach
from app.recipes import recipes
from app.result import Alternative, RepoRow, Result, Row
from estimator import Point, curve, estimate, max_context
from estimator.accuracy import PLACEMENTS, band, placement
from estimator.companions import ALONE
from estimator.errors import FathomError, SettingsError
from estimator.memory.context import resolve
from estimator.sources.ollama import is_library_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.hub import Source
    from app.query import Asked
    from estimator import Model

COMPARED_TYPES: Final = ("f16", "q8_0", "q4_0")
"""K/V types that every page compares with the chosen pair."""


def answer(query: Query) -> Result:
    """Everything the page says about a state.

    Raises:
        RequestError: the state cannot be: with the query's own name of the field.
    """
    loaded = query.load()
    made = _answer(query, loaded.model, loaded.full) if query.program else by_engine(query, loaded.model)
    result = replace(made, cautions=loaded.warnings)
    source = loaded.source
    if source is None:
        is_served = is_library_name(query.model) and not query.facts
        return replace(result, quantization=loaded.model.file_type or "") if is_served else result
    label = source.entry.label if source.entry else ""
    return replace(result, source=source, quantization=label, files=_files(query, source))


def _files(query: Query, source: Source) -> tuple[RepoRow, ...]:
    """What else the repository holds."""
    return tuple(
        RepoRow(
            label=entry.label,
            path=entry.path,
            size=entry.size,
            parts=len(entry.files),
            query=replace(query, model=source.name_of(entry)).canonical(),
            chosen=entry == source.entry,
        )
        for entry in source.choices
    )


@lru_cache(maxsize=512)
def _answer(query: Query, model: Model, full: Model | None) -> Result:
    found = outcome(checked(query, model), query.host_bandwidth_gbps)
    asked, now, deepest = found.asked, found.estimate, found.max_context
    depths = [part.max_context for part in found.parts]
    try:
        points = _points(asked, deepest, {deepest, *depths})
        alternatives = [_alternative(query, model, pair) for pair in _pairs(query, model)]
    except FathomError as error:
        raise as_bad_request(error) from None
    names = [text.device_name(device) for device in asked.devices]
    capacities = [device.capacity for device in asked.devices]
    n_ctx = now.context.n_ctx
    if len(asked.devices) == 1:
        figure = figures.stacked(points, capacities[0], deepest, n_ctx)
        curves = {alternative.name: _curve_of(query, model, alternative, points) for alternative in alternatives}
        chosen = next(alternative.name for alternative in alternatives if alternative.chosen)
        types_figure = figures.by_cache_type(curves, chosen, capacities[0], n_ctx)
    else:
        figure, types_figure = figures.several(points, names, capacities, depths, n_ctx), None
    return Result(
        model=model,
        outcome=found,
        device_names=names,
        rows=_rows(found, query.host_bandwidth_gbps),
        alternatives=alternatives,
        ladder=ladder(query, full, asked) if full else [],
        advice=[] if now.fits else advice(query, full, asked),
        reach=reach(query, full, found),
        figure=figure,
        types_figure=types_figure,
        accuracy=_accuracy(asked),
        recipes=recipes(query, model),
    )


def _accuracy(asked: Asked) -> str:
    """How near estimates of this kind were to what llama.cpp says, and what that leaves out."""
    model, settings, devices, companions = asked
    found = band(model, settings, len(devices))
    if found is None:
        return "No run of this kind was measured."
    where = PLACEMENTS[placement(model, settings, len(devices))]
    said = text.accuracy(found, model.architecture, where)
    if companions != ALONE:
        said += " What is loaded beside the model was not measured with it."
    if all(device.backend == "generic" for device in devices):
        return said
    return f"{said} What a driver and its kernels add is modelled."


def _curve(asked: Asked, end: int) -> list[Point]:
    return list(curve(asked.model, asked.settings, asked.devices, end, asked.companions))


def _points(asked: Asked, deepest: int, crossings: Iterable[int]) -> list[Point]:
    """The curve, with a point where each limit is reached."""
    end = contexts.end(asked.model.context_length, asked.settings.n_ctx, deepest)
    points = {point.n_ctx: point for point in _curve(asked, end)}
    for n_ctx in crossings:
        if 0 < n_ctx < end and n_ctx not in points:
            points[n_ctx] = Point(n_ctx, at(asked, n_ctx))
    return [points[n_ctx] for n_ctx in sorted(points)]


def _pairs(query: Query, model: Model) -> list[tuple[str, str]]:
    """The chosen pair and the compared types that llama.cpp takes for this model, the chosen one at its place."""
    pairs = [(name, name) for name in COMPARED_TYPES if _is_taken(replace(query, kv=(name, name)), model)]
    return pairs if query.kv in pairs else [query.kv, *pairs]


def _is_taken(query: Query, model: Model) -> bool:
    try:
        resolve(model, query.settings())
    except SettingsError:
        return False
    return True


def _alternative(query: Query, model: Model, pair: tuple[str, str]) -> Alternative:
    other = replace(query, kv=pair)
    asked = checked(other, model)
    now = estimate(*asked)
    return Alternative(
        kv=pair,
        query=other.canonical(),
        chosen=pair == query.kv,
        max_context=max_context(*asked),
        cache=sum(share.kv_cache for share in now.devices),
        total=sum(share.total for share in now.devices),
    )


def _curve_of(query: Query, model: Model, alternative: Alternative, points: list[Point]) -> list[Point]:
    if alternative.chosen:
        return points
    return _curve(checked(replace(query, kv=alternative.kv), model), points[-1].n_ctx)


def _rows(found: Outcome, host_bandwidth_gbps: float) -> list[Row]:
    """The curve as a table: round contexts, the one that was asked for and the deepest that fits."""
    asked, now, deepest = found.asked, found.estimate, found.max_context
    trained = asked.model.context_length
    last = max(trained, now.context.n_ctx)
    notes = contexts.noted(trained, asked.settings.n_ctx or trained, last, deepest)
    estimates = {n_ctx: at(asked, n_ctx) for n_ctx in notes}
    return [
        Row(n_ctx, there, notes[n_ctx], bound(asked, there, host_bandwidth_gbps)) for n_ctx, there in estimates.items()
    ]
