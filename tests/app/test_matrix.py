"""Every pair of K and V types as a page and as JSON: each is what its own state says."""

from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from app.matrix import TYPES, answer
from app.query import Query
from estimator.ggml import CACHE_TYPES
from tests.app.html import parse

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from tests.app.html import Element

SMALL = "model=llama-3.2-1b-instruct&ctx=32768&device=rtx-3050-6-gb"
LATENT = "model=deepseek-v2-lite&ctx=4096"


def body(client: FlaskClient, query: str) -> dict[str, Any]:
    reply = client.get(f"/api/v1/matrix?{query}")
    assert reply.status_code == 200
    answer: dict[str, Any] = reply.get_json()
    return answer


def pairs(client: FlaskClient, query: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(pair["cache_type_k"], pair["cache_type_v"]): pair for pair in body(client, query)["pairs"]}


def grid(client: FlaskClient, query: str, status: int = 200) -> Element:
    reply = client.get(f"/matrix?{query}")
    assert reply.status_code == status
    return parse(reply.text)


def test_all_types_are_there() -> None:
    assert set(TYPES) == set(CACHE_TYPES)
    assert [[pair.v for pair in row] for row in answer(Query(model="qwen3-0.6b")).rows] == [list(TYPES)] * len(TYPES)


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q8_0:q4_0", "bf16:f32"])
@pytest.mark.parametrize("more", ["", "&device=rtx-3060-12-gb", "&draft=llama-3.2-1b-instruct&mmproj=1G", "&kvo=off"])
def test_a_pair_is_what_the_estimate_of_its_state_says(client: FlaskClient, kv: str, more: str) -> None:
    k, _, v = kv.partition(":")
    query = SMALL + more
    found = pairs(client, query)[k, v or k]
    plain, own = (client.get(f"/api/v1/estimate?{query}&kv={one}").get_json() for one in ("f16", kv))
    assert found["max_context"] == own["max_context"]
    assert (found["state"] == "fits") == own["fits"]
    shares = [own["host"]] if "kvo" in more else own["devices"]
    draft = sum(
        line["bytes"] for line in own["lines"] if line["label"].startswith("Draft: ") and line["kind"] == "kv_cache"
    )
    assert found["kv_cache"] == sum(share["kv_cache"] for share in shares)
    assert found["kv_cache"] > draft
    assert found["compute"] == sum(share["compute"] for share in own["devices"])
    before, after = (sum(share["total"] for share in one["devices"]) for one in (plain, own))
    if "kvo" not in more:
        assert found["saved"]["net"] == before - after
    assert found["saved"]["net"] == found["saved"]["kv_cache"] - found["saved"]["scratch"]


def test_a_pair_leads_to_its_own_state(client: FlaskClient) -> None:
    for pair in body(client, f"{SMALL}&kv=q8_0")["pairs"]:
        own = client.get(pair["page"].replace("/?", "/api/v1/estimate?")).get_json()["settings"]
        assert (own["cache_type_k"], own["cache_type_v"]) == (pair["cache_type_k"], pair["cache_type_v"])


@pytest.mark.parametrize(
    ("query", "k", "v", "code"),
    [
        (f"{SMALL}&fa=off", "q8_0", "q8_0", "quantized-v-needs-flash-attention"),
        (f"{SMALL}&fa=off", "q8_0", "f16", None),
        (SMALL, "q8_0", "q8_0", None),
        (LATENT, "f16", "q8_0", "cache-types-must-be-equal"),
        (LATENT, "q8_0", "q8_0", None),
        ("model=phi-2&ctx=1024", "q8_0", "f16", "head-size-not-a-multiple-of-the-block"),
    ],
)
def test_what_llama_cpp_refuses_has_no_numbers(
    client: FlaskClient, query: str, k: str, v: str, code: str | None
) -> None:
    found = pairs(client, query)[k, v]
    assert (found["refusal"] or {}).get("code") == code
    is_refused = code is not None
    assert (found["state"] == "refused") == is_refused
    assert (found["kv_cache"] is None) == (found["saved"] is None) == (found["max_context"] is None) == is_refused


@pytest.mark.parametrize(
    ("query", "k", "v", "speed"),
    [
        (SMALL, "q8_0", "q8_0", "fast"),
        (SMALL, "q8_0", "q4_0", "slow"),
        (SMALL, "iq4_nl", "q4_0", "cpu"),
        (f"{SMALL}&device=m1-16gb", "q8_0", "q4_0", "cpu"),
        ("model=llama-3.2-1b-instruct&device=m1-16gb", "q5_1", "q5_1", "fast"),
        (LATENT, "q8_0", "q8_0", "slow"),
        (LATENT, "f16", "f16", "fast"),
        (f"{SMALL}&fa=off", "q8_0", "f16", None),
        (f"{SMALL}&kvo=off", "q8_0", "q4_0", "slow"),
    ],
)
def test_the_kernel_is_said(client: FlaskClient, query: str, k: str, v: str, speed: str | None) -> None:
    assert (pairs(client, query)[k, v]["kernel"] or {}).get("speed") == speed


def test_the_page_marks_the_chosen_pair_and_says_how_fast_each_is(client: FlaskClient) -> None:
    page = grid(client, f"{SMALL}&kv=q8_0:q4_0")
    table = page.one("table", class_="grid")
    assert table.table()[0] == ["K \\ V", *TYPES]
    (cell,) = [cell for cell in table.all("td") if "chosen" in cell.attributes["class"].split()]
    assert cell.text.endswith("slow chosen")
    assert [link.attributes["href"] for link in table.all("a", aria_current="true")] == []
    link = cell.one("a")
    assert link.attributes["aria-current"] == "true"
    assert "kv=q8_0:q4_0" in link.attributes["href"]
    fast = [cell.text for cell in table.all("td") if "fast" in cell.text]
    assert len(fast) == 4
    assert "builds up to about b10819" in page.text


def test_a_cell_says_whether_the_context_fits(client: FlaskClient) -> None:
    classes = {"rtx-3050-6-gb": "fits", "cuda-2gb": "partly", "cuda-1gb": "over"}
    for device, expected in classes.items():
        page = grid(client, f"model=llama-3.2-1b-instruct&ctx=32768&device={device}")
        first = page.one("table", class_="grid").all("td")[0]
        assert expected in first.attributes["class"].split()
        assert ("too much" in first.text) == (expected == "over")


def test_what_scratch_eats_is_said_where_it_does(client: FlaskClient) -> None:
    says = "Less than it seems"
    assert says in grid(client, f"{SMALL}&kv=q8_0").text
    assert says not in grid(client, f"{SMALL}&kvo=off").text
    assert says not in grid(client, "model=llama-3.2-1b-instruct&device=generic").text


def test_a_model_without_a_cache_says_so(client: FlaskClient) -> None:
    page = grid(client, "model=mamba-2.8b-hf&ctx=2048")
    assert "keeps no K/V cache" in page.text
    assert not page.all("table")


def test_quality_has_its_sources(client: FlaskClient) -> None:
    page = grid(client, SMALL)
    quality = body(client, SMALL)["quality"]
    assert quality["figures"]
    assert quality["notes"]
    links = {link.attributes["href"] for link in page.all("a")}
    assert {one["source"]["url"] for one in (*quality["figures"], *quality["notes"])} <= links
    assert "gpt-oss" not in page.text
    assert "gpt-oss" in grid(client, "model=gpt-oss-20b").text


@pytest.mark.parametrize("query", ["ctx=many", "kv=q9", "device=nothing", "engine=llama-server&np=300", "wired=5"])
def test_what_cannot_be_is_refused_as_on_the_main_page(client: FlaskClient, query: str) -> None:
    main, own = (client.get(f"/{path}?{query}") for path in ("", "matrix"))
    assert main.status_code == own.status_code == 400
    refusals = [parse(reply.text).one("section", role="alert").text for reply in (main, own)]
    assert refusals[0] == refusals[1]
    assert f"/?{query}" in unescape(own.text)
    assert client.get(f"/api/v1/matrix?{query}").get_json() == client.get(f"/api/v1/estimate?{query}").get_json()


def test_a_text_does_not_break_out_of_the_way_back(client: FlaskClient) -> None:
    grid(client, 'ctx="><script>alert(1)</script>', status=400)


def test_a_body_is_as_good_as_a_query(client: FlaskClient) -> None:
    fields = {"model": "llama-3.2-1b-instruct", "ctx": 32768, "device": ["rtx-3050-6-gb"]}
    assert client.post("/api/v1/matrix", json=fields).get_json() == body(client, SMALL)


def test_the_main_page_leads_to_it(client: FlaskClient) -> None:
    (details,) = parse(client.get(f"/?{SMALL}&kv=q8_0").text).all("details", id="pairs")
    place = details.one("p")
    assert details.one("a").attributes["href"] == place.attributes["data-source"]
    reply = client.get(place.attributes["data-source"])
    assert "chosen" in reply.text
    assert parse(reply.text).all("div", id="matrix")
