"""How far each setting goes: the link leads there, it fits there, and no farther."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from app.parsing import parse
from app.query import Query, checked
from app.reach import NONE, Reach
from app.view import answer
from estimator import estimate
from tests.app import html

if TYPE_CHECKING:
    from flask.testing import FlaskClient

STATES = {
    "it fits": Query(ctx=32768),
    "too deep": Query(model="qwen3.6-27b", ctx=131072),
    "experts": Query(model="gpt-oss-120b", ctx=32768),
    "two cards": Query(model="gemma-3-27b-it", quant="Q8_0", ctx=32768, device=("rtx-3090", "rtx-3060-12-gb")),
    "with a projector": Query(model="qwen3-8b", ctx=16384, device=("rtx-3060-12-gb",), mmproj=2**30),
}


def reached(query: Query) -> dict[str, Reach]:
    """What the page says, by kind."""
    return {one.kind: one for one in answer(query).reach}


def state(one: Reach) -> Query:
    """Where it leads."""
    return parse(parse_qs(one.query))


def fits(query: Query) -> bool:
    """Whether a state fits."""
    return estimate(*checked(query)).fits


@pytest.mark.parametrize("name", STATES)
def test_everything_that_is_reached_fits(name: str) -> None:
    found = reached(STATES[name])
    assert {"n_ctx", "n_parallel", "cache_types", "file_type", "n_gpu_layers"} <= found.keys()
    assert ("tensor_split" in found) == (name == "two cards")
    for kind, one in found.items():
        if kind == "tensor_split":
            continue  # it leaves the most, which may still be too little
        assert bool(one.query) == (one.most != NONE)
        assert not one.query or fits(state(one)), kind


def test_nothing_goes_farther() -> None:
    found = reached(STATES["it fits"])
    farther: dict[str, Any] = {"n_ctx": {"ctx": state(found["n_ctx"]).ctx + 256}}
    slots = state(found["n_parallel"]).np
    assert state(found["n_parallel"]).ctx == slots * 32768  # each has as much as was asked for
    farther["n_parallel"] = {"np": slots + 1, "ctx": (slots + 1) * 32768}
    assert slots > 1
    for kind, changes in farther.items():
        assert not fits(replace(state(found[kind]), **changes)), kind


def test_what_does_not_fit_says_how_it_could() -> None:
    found = reached(STATES["experts"])
    assert (found["n_ctx"].most, found["n_ctx"].query) == (NONE, "")
    assert state(found["n_cpu_moe"]).ncmoe > 0
    assert state(found["n_gpu_layers"]).ngl > 0


def test_the_page_and_the_answer_say_the_same(client: FlaskClient) -> None:
    query = STATES["two cards"]
    page = html.parse(client.get(f"/?{query.canonical()}").text)
    table = next(found for found in page.all("table", class_="sentences") if "Limit" in found.text)
    limits = client.get(f"/api/v1/plan?{query.canonical()}").get_json()["limits"]
    assert table.table()[1:] == [[one["says"], one["now"], one["most"]] for one in limits]
    for one in limits:
        assert client.get(one["links"]["self"]).status_code == 200
