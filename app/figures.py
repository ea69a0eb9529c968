"""The chart as Plotly data: plain dictionaries, so that the page needs no Python plotting at run time.

Colours are left to the page: a trace says its role, and the style sheet gives the role a colour in light and dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from app.text import GIB, size, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator import Share


class Holding(Protocol):
    """What devices hold."""

    @property
    def devices(self) -> Sequence[Share]:
        """What each holds, in bytes."""
        ...


class Point(Protocol):
    """What devices hold at a context in tokens, whatever the engine."""

    @property
    def n_ctx(self) -> int:
        """The context."""
        ...

    @property
    def estimate(self) -> Holding:
        """What they hold."""
        ...


STACK: Final = (
    ("weights", "Weights"),
    ("overhead", "Overhead"),
    ("compute", "Compute buffer"),
    ("recurrent_state", "Recurrent state"),
    ("kv_cache", "K/V cache"),
)
"""What is stacked, from the bottom: what does not grow with the context first."""

Trace = dict[str, Any]


def stacked(points: Sequence[Point], capacity: int | None, max_context: int, n_ctx: int) -> dict[str, Any]:
    """Memory of one device against context, stacked by kind, with its limit and where the two cross."""
    shares = [point.estimate.devices[0] for point in points]
    contexts = [point.n_ctx for point in points]
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "stackgroup": "memory",
            "x": contexts,
            "y": [getattr(share, kind) / GIB for share in shares],
            "hovertemplate": "%{y:.2f} GiB",
            "meta": kind,
        }
        for kind, name in STACK
        if kind != "recurrent_state" or any(share.recurrent_state for share in shares)
    ]
    traces.append(_line("Total", "total", contexts, [share.total for share in shares]))
    if capacity is not None:
        traces.append(_limit("Limit", contexts, capacity))
        traces += _crossing(points, 0, max_context)
    return _figure(traces, contexts[-1], n_ctx)


def several(
    points: Sequence[Point], names: Sequence[str], capacities: Sequence[int | None], depths: Sequence[int], n_ctx: int
) -> dict[str, Any]:
    """Memory of several devices that share a model, each with its own limit and how deep that lets it get."""
    contexts = [point.n_ctx for point in points]
    traces: list[Trace] = []
    for index, capacity in enumerate(capacities):
        shares = [point.estimate.devices[index] for point in points]
        name = f"{index + 1}: {names[index]}"
        traces.append(_line(name, f"device-{index}", contexts, [share.total for share in shares]))
        if capacity is not None:
            traces.append(_limit(f"Limit of {index + 1}", contexts, capacity) | {"meta": f"device-{index}"})
            traces += _crossing(points, index, depths[index])
    return _figure(traces, contexts[-1], n_ctx)


def by_cache_type(
    curves: Mapping[str, Sequence[Point]], chosen: str, capacity: int | None, n_ctx: int
) -> dict[str, Any]:
    """Memory of one device against context, one line for each type of K/V cache."""
    traces = []
    for index, (name, points) in enumerate(curves.items()):
        contexts = [point.n_ctx for point in points]
        line = _line(name, f"type-{index}", contexts, [point.estimate.devices[0].total for point in points])
        traces.append(line | {"line": {"width": 4 if name == chosen else 2}})
    if capacity is not None:
        traces.append(_limit("Limit", contexts, capacity))
    return _figure(traces, contexts[-1], n_ctx)


def by_engine(engines: Sequence[str], depths: Mapping[str, Sequence[int | None]], trained: int) -> dict[str, Any]:
    """The largest context of engines as bars, one of each for every name of ``depths``.

    Bars end at twice what the model was trained for, as their numbers say how far it goes on: what fits into that is
    what people look for.

    Args:
        engines: names.
        depths: tokens of each engine; None where it has no such type or refuses it.
        trained: tokens.
    """
    most = max((depth or 0 for found in depths.values() for depth in found), default=0)
    end = max(min(most, 2 * trained), 1)
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(engines),
            "x": [min(depth or 0, end) for depth in found],
            "text": [_bar_text(depth, end) for depth in found],
            "textposition": "outside",
            "constraintext": "none",
            "cliponaxis": False,
            "hoverinfo": "skip",
            "marker": {},
            "meta": f"series-{index}",
        }
        for index, (name, found) in enumerate(depths.items())
    ]
    ticks = _ticks(end, 4)
    layout: dict[str, Any] = {
        "barmode": "group",
        "bargap": 0.22,
        "xaxis": {
            "title": {"text": "Largest context (tokens)"},
            "range": [0, end * 1.42],
            "tickvals": ticks,
            "ticktext": [f"{tick // 1024}K" for tick in ticks],
            "fixedrange": True,
        },
        "yaxis": {"autorange": "reversed", "fixedrange": True},
        "hovermode": False,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "margin": {"l": 56, "r": 12, "t": 8, "b": 48},
    }
    if trained <= end:
        line = {"type": "line", "xref": "x", "yref": "paper", "x0": trained, "x1": trained, "y0": 0, "y1": 1}
        layout["shapes"] = [line | {"line": {"width": 1, "dash": "dot"}}]
    return {"data": traces, "layout": layout}


def _bar_text(depth: int | None, end: int) -> str:
    if not depth:
        return "refused" if depth is None else "does not fit"
    return f"{tokens(depth)} →" if depth > end else tokens(depth)


def _line(name: str, role: str, contexts: list[int], totals: list[int]) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": contexts,
        "y": [total / GIB for total in totals],
        "line": {"width": 2},
        "hovertemplate": "%{y:.2f} GiB",
        "meta": role,
    }


def _limit(name: str, contexts: list[int], capacity: int) -> Trace:
    line = _line(name, "limit", [0, contexts[-1]], [capacity, capacity])
    return line | {"line": {"width": 2, "dash": "dash"}, "hoverinfo": "skip", "hovertemplate": None}


def _crossing(points: Sequence[Point], index: int, max_context: int) -> list[Trace]:
    """A marker at the deepest context that fits, if the chart reaches it."""
    point = next((point for point in points if point.n_ctx == max_context), None)
    if point is None or point is points[-1]:
        return []
    total = point.estimate.devices[index].total
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "Fits up to here",
            "x": [max_context],
            "y": [total / GIB],
            "text": [f"{tokens(max_context)} tokens"],
            "textposition": "top left",
            "marker": {"size": 12, "symbol": "diamond"},
            "hovertemplate": f"fits up to {tokens(max_context)} tokens, {size(total)}<extra></extra>",
            "showlegend": False,
            "meta": "crossing",
        }
    ]


def _figure(traces: list[Trace], last: int, n_ctx: int) -> dict[str, Any]:
    ticks = _ticks(last)
    top = max(max(trace["y"]) for trace in traces)
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": "Context (tokens)"},
            "range": [0, last],
            "tickvals": ticks,
            "ticktext": [f"{tick // 1024}K" for tick in ticks],
            "hoverformat": ",d",
        },
        "yaxis": {"title": {"text": "Memory (GiB)"}, "range": [0, top * 1.1], "hoverformat": ".2f"},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "margin": {"l": 56, "r": 30, "t": 8, "b": 48},
    }
    if n_ctx <= last:
        asked = {"type": "line", "xref": "x", "yref": "paper", "x0": n_ctx, "x1": n_ctx, "y0": 0, "y1": 1}
        layout["shapes"] = [asked | {"line": {"width": 1, "dash": "dot"}}]
    return {"data": traces, "layout": layout}


def _ticks(last: int, most: int = 8) -> list[int]:
    """Up to ``most`` round multiples of 1024 tokens, with 0."""
    step = 1024
    while last / step > most:
        step *= 2
    return list(range(0, last + 1, step))
