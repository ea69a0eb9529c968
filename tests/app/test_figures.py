"""The charts: Plotly takes them, and their numbers are the estimate's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs_version

from app import figures
from app.query import Query
from app.text import GIB
from app.view import answer
from estimator import curve, device, estimate, max_context
from estimator.lines import KINDS

VENDOR = Path(__file__).parents[2] / "static" / "vendor"

PARTLY = Query(model="qwen2.5-32b-instruct")
FULLY = Query(model="llama-3.2-1b-instruct", kv=("q8_0", "q4_0"))
NOT_AT_ALL = Query(model="llama-3.3-70b-instruct")
WITHOUT_LIMIT = Query(model="llama-3.2-1b-instruct", device=("generic",))
SEVERAL = Query(model="llama-3.3-70b-instruct", device=("rtx-4090", "rtx-3090", "rtx-3090"))
STATES = [PARTLY, FULLY, NOT_AT_ALL, WITHOUT_LIMIT, SEVERAL]
IDS = ["partly", "fully", "not at all", "without limit", "several"]


def traces(figure: dict[str, Any], role: str) -> list[dict[str, Any]]:
    """The traces of a role."""
    return [trace for trace in figure["data"] if trace["meta"] == role]


def trace(figure: dict[str, Any], role: str) -> dict[str, Any]:
    """The only trace of a role."""
    (found,) = traces(figure, role)
    return found


@pytest.mark.parametrize("query", STATES, ids=IDS)
def test_plotly_knows_every_property(query: Query) -> None:
    result = answer(query)
    assert len(go.Figure(result.figure).data) == len(result.figure["data"])
    if result.types_figure:
        assert len(go.Figure(result.types_figure).data) == len(result.types_figure["data"])


def test_plotly_would_refuse_a_property_it_does_not_know() -> None:
    figure = answer(PARTLY).figure
    broken = {**figure, "layout": {**figure["layout"], "legned": {}}}
    with pytest.raises(ValueError, match="legned"):
        go.Figure(broken)


@pytest.mark.parametrize("query", [PARTLY, FULLY, NOT_AT_ALL, WITHOUT_LIMIT], ids=IDS[:-1])
def test_the_stack_adds_up_to_the_total(query: Query) -> None:
    result = answer(query)
    stack = [trace for trace in result.figure["data"] if trace.get("stackgroup")]
    assert {trace["meta"] for trace in stack} == set(KINDS) - {"recurrent_state"}
    whole = trace(result.figure, "total")
    assert [sum(parts) for parts in zip(*(trace["y"] for trace in stack), strict=True)] == pytest.approx(whole["y"])
    for n_ctx, total in list(zip(whole["x"], whole["y"], strict=True))[:: max(len(whole["x"]) // 4, 1)]:
        (share,) = estimate(result.model, replace(query.settings(), n_ctx=n_ctx), result.devices).devices
        assert total * GIB == share.total


@pytest.mark.parametrize("query", STATES, ids=IDS)
def test_the_axes_hold_everything(query: Query) -> None:
    result = answer(query)
    for figure in filter(None, (result.figure, result.types_figure)):
        (left, right), (bottom, top) = (figure["layout"][axis]["range"] for axis in ("xaxis", "yaxis"))
        assert all(left <= x <= right for one in figure["data"] for x in one["x"])
        assert all(bottom <= y < top for one in figure["data"] for y in one["y"])
        ticks = figure["layout"]["xaxis"]["tickvals"]
        assert ticks[0] == 0
        assert 4 <= len(ticks) <= 9
        assert len(figure["layout"]["xaxis"]["ticktext"]) == len(ticks)
        assert right >= result.model.context_length
        (asked,) = figure["layout"]["shapes"]
        assert asked["x0"] == asked["x1"] == result.n_ctx


def test_the_limit_and_where_it_is_crossed() -> None:
    result = answer(PARTLY)
    capacity = device("rtx-4090").capacity
    assert capacity is not None
    assert trace(result.figure, "limit")["y"] == [capacity / GIB] * 2
    crossing, whole = trace(result.figure, "crossing"), trace(result.figure, "total")
    assert crossing["x"] == [result.max_context]
    assert 0 < result.max_context < result.model.context_length
    assert crossing["y"] == [whole["y"][whole["x"].index(result.max_context)]]
    assert f"{result.max_context:,}" in crossing["text"][0]
    over = [x for x, y in zip(whole["x"], whole["y"], strict=True) if y > capacity / GIB]
    assert all(x > result.max_context for x in over)
    assert over


def test_a_model_that_never_fits_has_a_limit_and_no_crossing() -> None:
    result = answer(NOT_AT_ALL)
    assert traces(result.figure, "limit")
    assert traces(result.figure, "crossing") == []


def test_a_device_without_limit_has_none() -> None:
    result = answer(WITHOUT_LIMIT)
    assert traces(result.figure, "limit") == traces(result.figure, "crossing") == []
    assert result.types_figure
    assert traces(result.types_figure, "limit") == []


def test_several_devices_have_a_line_and_a_limit_each() -> None:
    result = answer(SEVERAL)
    assert result.types_figure is None
    for index, (used, share) in enumerate(zip(result.devices, result.estimate.devices, strict=True)):
        line, limit = traces(result.figure, f"device-{index}")
        assert used.capacity is not None
        assert limit["y"] == [used.capacity / GIB] * 2
        at = line["x"].index(result.n_ctx)
        assert line["y"][at] == share.total / GIB
    markers = traces(result.figure, "crossing")
    last = result.figure["layout"]["xaxis"]["range"][1]
    depths = [part.max_context for part in result.outcome.parts]
    assert [marker["x"] for marker in markers] == [[depth] for depth in depths if depth < last]
    assert markers
    assert min(depths) == max_context(result.model, SEVERAL.settings(), result.devices)
    names = [one["name"] for one in result.figure["data"]]
    assert [name for name in names if name[:1].isdigit()] == [
        "1: RTX 4090 24 GB",
        "2: RTX 3090 24 GB",
        "3: RTX 3090 24 GB",
    ]


def test_one_line_for_each_cache_type() -> None:
    result = answer(FULLY)
    figure = result.types_figure
    assert figure
    lines = [one for one in figure["data"] if one["meta"].startswith("type-")]
    assert [line["name"] for line in lines] == ["q8_0 : q4_0", "f16", "q8_0", "q4_0"]
    assert [line["line"]["width"] for line in lines] == [4, 2, 2, 2]
    last = [line["y"][-1] for line in lines]
    assert last[1] > last[2] > last[0] > last[3]
    for line, kv in zip(lines, [("q8_0", "q4_0"), ("f16", "f16")], strict=False):
        query = Query(model=FULLY.model, kv=kv, ctx=line["x"][-1])
        assert line["y"][-1] * GIB == estimate(result.model, query.settings(), result.devices).devices[0].total


def test_a_limit_at_the_very_end_is_not_marked() -> None:
    """The chart may end before the memory does: its last point is then no crossing."""
    result = answer(PARTLY)
    points = curve(result.model, PARTLY.settings(), result.devices, 8192)
    capacity = result.devices[0].capacity
    assert traces(figures.stacked(points, capacity, points[-1].n_ctx, 8192), "crossing") == []
    assert len(traces(figures.stacked(points, capacity, points[0].n_ctx, 8192), "crossing")) == 1


def test_a_context_beyond_the_chart_has_no_mark() -> None:
    query = Query(model="llama-3.2-1b-instruct", ctx=256)
    model, settings, devices = query.load().model, query.settings(), query.devices()
    points = curve(model, settings, devices, 8192)
    assert "shapes" in figures.stacked(points, None, 0, 8192)["layout"]
    assert "shapes" not in figures.stacked(points, None, 0, 8448)["layout"]


def test_the_vendored_bundle_is_the_version_that_the_figures_are_checked_with() -> None:
    (bundle,) = VENDOR.glob("plotly-basic-*.min.js")
    version = get_plotlyjs_version()
    assert bundle.name == f"plotly-basic-{version}.min.js"
    assert f"v{version}\n" in bundle.read_text(encoding="utf-8")[:200]


def test_bars_of_engines_end_at_twice_the_training_and_say_their_numbers() -> None:
    figure = figures.by_engine(["one", "two"], {"16 bits": [1000, None], "8 bits": [5000, 0]}, 1024)
    go.Figure(figure)
    first, second = figure["data"]
    assert (first["x"], first["text"]) == ([1000, 0], ["1,000", "refused"])
    assert (second["x"], second["text"]) == ([2048, 0], ["5,000 →", "does not fit"])
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [1024]
    assert figure["layout"]["xaxis"]["range"][1] > 2048


def test_a_training_that_no_bar_reaches_has_no_line() -> None:
    figure = figures.by_engine(["one"], {"16 bits": [1000]}, 4096)
    assert figure["data"][0]["x"] == [1000]
    assert "shapes" not in figure["layout"]
