"""Which types run where, as JSON and as a table: what each engine says itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from app.support import SPEEDS, everywhere
from estimator import device
from estimator.engines.registry import engine
from tests.app.html import parse

if TYPE_CHECKING:
    from flask.testing import FlaskClient


def pairs(client: FlaskClient, query: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    reply = client.get(f"/api/v1/support?{query}")
    assert reply.status_code == 200
    return {
        (one["id"], pair["cache_type_k"], pair["cache_type_v"]): pair
        for one in reply.get_json()["engines"]
        for pair in one["pairs"]
    }


@pytest.mark.parametrize(
    ("query", "key", "speed"),
    [
        ("device=rtx-4090", ("llama-server", "q8_0", "q8_0"), "supported"),
        ("device=rtx-4090", ("llama-server", "q8_0", "q4_0"), "slow"),
        ("device=rtx-4090", ("llama-server", "iq4_nl", "iq4_nl"), "cpu"),
        ("device=m1-16gb", ("llama-server", "q8_0", "q4_0"), "cpu"),
        ("device=rtx-4090", ("vllm", "nvfp4_4over6", "nvfp4_4over6"), "refused"),
        ("device=rtx-4090", ("transformers", "hqq-4", "hqq-4"), "slow"),
        ("device=rtx-4090", ("mlx", "8bit", "8bit"), "refused"),
        ("device=m1-16gb", ("mlx", "8bit", "8bit"), "supported"),
        ("device=rtx-4090", ("exllamav3", "q8", "q4"), "supported"),
        ("device=rtx-4090&device=m1-16gb", ("llama-server", "q8_0", "q4_0"), "cpu"),
        ("device=rtx-4090&device=m1-16gb", ("vllm", "fp8", "fp8"), "refused"),
    ],
)
def test_pairs_are_told_apart(client: FlaskClient, query: str, key: tuple[str, str, str], speed: str) -> None:
    found = pairs(client, query)[key]
    assert found["speed"] == speed
    assert found["why"]
    assert found["version"]
    assert found["source"]


def test_each_is_what_the_engine_says(client: FlaskClient) -> None:
    card = device("rtx-4090")
    for (name, k, v), pair in pairs(client, "device=rtx-4090").items():
        runs = engine(name)
        assert runs
        if card.backend in runs.backends:
            assert {one: pair[one] for one in ("speed", "why", "version", "source")} == runs.support(
                card, k, v
            )._asdict()
        assert k == v or runs.separate_kv


def test_groups_hold_every_pair_once() -> None:
    for known in everywhere((device("rtx-4090"),)):
        assert sum(len(group.names) for group in known.groups) == len(known.pairs)
        ranks = [(group.is_apart, SPEEDS.index(group.support.speed)) for group in known.groups]
        assert ranks == sorted(ranks)


@pytest.mark.parametrize(("query", "field"), [("device=nothing", "device"), ("ctx=4096", "ctx"), ("foo=1", "foo")])
def test_what_cannot_be_is_refused_by_name(client: FlaskClient, query: str, field: str) -> None:
    reply = client.get(f"/api/v1/support?{query}")
    assert reply.status_code == 400
    assert reply.get_json()["error"]["field"] == field


def test_the_page_has_it_as_a_table(client: FlaskClient) -> None:
    page = parse(client.get("/compare").text)
    rows = page.one("table", class_="support sentences").table()
    assert ["mlx-lm", "refused", "all"] in [row[:3] for row in rows]
    assert ["llama-server", "supported", "f16, bf16, q8_0, q4_0"] in [row[:3] for row in rows]
    assert any(row[0] == "llama-server" and "pairs such as" in row[2] for row in rows)
    (link,) = [one for one in page.all("a") if one.text == "as JSON"]
    assert client.get(link.attributes["href"]).status_code == 200
