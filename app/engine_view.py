"""The page's answer for engines other than llama.cpp's own programs."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from app import contexts, figures, text
from app.outcome import EngineOutcome, outcome_of
from app.recipes import recipes
from app.result import Alternative, Result, Row
from app.support import worst
from app.values import cache_type, shown_type
from estimator.engines.result import Point
from estimator.errors import FathomError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.query import Query
    from estimator import Model
    from estimator.engines.result import Result as Answer


@lru_cache(maxsize=256)
def by_engine(query: Query, model: Model) -> Result:
    """Everything the page says about a state that another engine runs.

    Raises:
        RequestError: the state cannot be: with the query's own name of the field.
    """
    found = outcome_of(query, model)
    assert isinstance(found, EngineOutcome)
    engine, devices = found.engine, found.devices
    names = [text.device_name(device) for device in devices]
    points = _points(query, found)
    capacities = [share.capacity for share in found.estimate.devices]
    if len(devices) == 1:
        figure = figures.stacked(points, capacities[0], found.max_context, found.n_ctx)
    else:
        depths = [found.max_context] * len(devices)
        figure = figures.several(points, names, capacities, depths, found.n_ctx)
    return Result(
        model=model,
        outcome=found,
        device_names=names,
        rows=_rows(query, found),
        alternatives=list(_alternatives(query, found)),
        ladder=[],
        advice=[],
        reach=(),
        figure=figure,
        types_figure=None,
        accuracy=f"{engine.name} {engine.version} by its source: each line says how well it is known.",
        recipes=recipes(query, model),
    )


def _points(query: Query, found: EngineOutcome) -> list[Point]:
    """The curve, with points at the context that was asked for and where the limit is reached."""
    job, engine = found.job, found.engine
    end = contexts.end(job.model.context_length, found.n_ctx, found.max_context)
    if engine.caps_context:
        end = min(end, job.model.context_length)
    curve = engine.curve(job.model, query.run(), job.devices, end, job.companions)
    points = {point.n_ctx: point for point in curve}
    last = max(points)
    for n_ctx in {found.max_context, found.n_ctx}:
        if 0 < n_ctx < last and n_ctx not in points:
            points[n_ctx] = Point(n_ctx, _at(query, found, n_ctx))
    return [points[n_ctx] for n_ctx in sorted(points)]


def _at(query: Query, found: EngineOutcome, n_ctx: int) -> Answer:
    job = found.job
    return found.engine.estimate(job.model, replace(query.run(), n_ctx=n_ctx), job.devices, job.companions)


def _rows(query: Query, found: EngineOutcome) -> list[Row]:
    """The curve as a table: round contexts, the one that was asked for and the deepest that fits."""
    trained = found.job.model.context_length
    notes = contexts.noted(trained, found.n_ctx, max(trained, found.n_ctx), found.max_context)
    return [Row(n_ctx, _at(query, found, n_ctx), notes[n_ctx], None) for n_ctx in notes]


def _alternatives(query: Query, found: EngineOutcome) -> Iterator[Alternative]:
    """Every type that the engine has, alike on both sides, and the chosen pair if it is none of them."""
    engine, job = found.engine, found.job
    pairs = [(name, name) for name in (cache_type(one.id, engine) for one in engine.cache_types)]
    for pair in pairs if query.kv in pairs else [query.kv, *pairs]:
        other = replace(query, kv=pair)
        support = worst(engine, job.devices, pair, job.model)
        label = " : ".join(dict.fromkeys(shown_type(name, engine) for name in pair))
        try:
            now = engine.estimate(job.model, other.run(), job.devices, job.companions)
            deepest = engine.max_context(job.model, other.run(), job.devices, job.companions)
        except FathomError as error:
            refused = support if support.speed == "refused" else support._replace(speed="refused", why=error.message)
            yield Alternative(pair, "", pair == query.kv, 0, 0, 0, refused, label)
            continue
        cache = sum(share.kv_cache for share in now.devices)
        total = sum(share.total for share in now.devices)
        yield Alternative(pair, other.canonical(), pair == query.kv, deepest, cache, total, support, label)
