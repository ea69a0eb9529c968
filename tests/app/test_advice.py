"""What would make it fit: each link leads to a page that says that it fits."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from app.parsing import parse
from app.query import Query, checked
from app.view import answer
from estimator import estimate, max_context

STATES = {
    "a deep context": Query(model="qwen3-30b-a3b", ctx=131072),
    "a large model": Query(model="llama-3.3-70b-instruct", ctx=32768),
    "two cards": Query(model="llama-3.3-70b-instruct", ctx=65536, device=("rtx-3090", "rtx-3090")),
    "slots": Query(model="llama-3.1-8b-instruct", ctx=131072, np=8, device=("rtx-3060-12-gb",)),
    "a draft and a projector": Query(model="qwen3-32b", ctx=32768, draft="qwen3-0.6b", mmproj=2**30),
    "a Mac": Query(model="gpt-oss-120b", ctx=32768, device=("m4-pro-48gb",)),
}


@pytest.mark.parametrize("name", STATES)
def test_every_link_leads_to_what_fits(name: str) -> None:
    query = STATES[name]
    found = answer(query).advice
    assert found
    for one in found:
        other = parse(parse_qs(one.query))
        now = estimate(*checked(other))
        assert now.fits
        assert one.total == max(now.devices, key=lambda share: share.total - (share.capacity or 0)).total
        assert one.says
        assert one.max_context == max_context(*checked(other)) >= now.context.n_ctx
        changed = {field for field in Query.__slots__ if getattr(other, field) != getattr(query, field)}
        assert len(changed) == 1


def test_nothing_is_advised_where_it_fits() -> None:
    assert answer(Query(model="llama-3.1-8b-instruct", ctx=8192)).advice == []


def test_the_order_is_that_of_harm() -> None:
    kinds = [one.kind for one in answer(STATES["a deep context"]).advice]
    assert kinds[:3] == ["cache_types", "n_ctx", "file_type"]
    assert kinds[-1] == "device"


def test_faster_system_memory_lets_what_lies_there_decode_faster() -> None:
    partly = Query(model="gpt-oss-120b", ctx=8192, ncmoe=30)
    slow, fast = (answer(replace(partly, ram=ram)).outcome.bound for ram in (0, 205))
    assert slow
    assert fast
    assert {read.place: read.bandwidth_gbps for read in slow.readings}["System memory"] == 89.6
    assert {read.place: read.bandwidth_gbps for read in fast.readings}["System memory"] == 205
    assert 1.2 * slow.tokens_per_second < fast.tokens_per_second


def test_a_deeper_context_decodes_more_slowly() -> None:
    bounds = [row.bound.tokens_per_second for row in answer(Query(ctx=8192)).rows if row.bound]
    assert len(bounds) > 5
    assert bounds == sorted(bounds, reverse=True)


def test_the_speed_is_a_bound() -> None:
    assert answer(Query(model="llama-3.1-8b-instruct", ctx=8192)).bound.endswith("tokens/s at 8,192 tokens")
    assert answer(Query(model="llama-3.1-8b-instruct", ctx=8192, device=("generic",))).bound == ""
