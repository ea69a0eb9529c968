"""Engines compared, as a page and as JSON: each number is what the engine itself says of the state that it links to."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from app.compare.says import apart, detail, headline
from app.compare.view import COUNTERPARTS, answer
from app.parsing import parse as parse_query
from app.support import engines
from estimator.engines.registry import ENGINES
from estimator.errors import FathomError
from estimator.sources.facts import facts_text
from estimator.sources.gguf import read_header
from tests.app.html import parse

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from app.compare.view import Comparison
    from app.query import Query

SMALL = "model=llama-3.2-1b-instruct&ctx=8192&device=rtx-3060-12-gb"
HEADER = Path(__file__).parents[1] / "data" / "gguf" / "llama-dense.gguf"
STATES = (
    SMALL,
    "model=gpt-oss-20b&kv=q8_0:q4_0",
    "model=deepseek-v2-lite&device=m1-16gb&ctx=4096",
    "model=qwen3-4b&engine=vllm&kv=fp8&weights=fp8&np=3&ctx=4096&desktop=on",
    "model=llama-3.2-1b-instruct&quant=Q8_0&device=rtx-3090&device=rtx-3090",
)


def query_of(text: str) -> Query:
    return parse_query(parse_qs(text))


def compared(text: str) -> Comparison:
    return answer(query_of(text))


def body(client: FlaskClient, query: str) -> dict[str, Any]:
    reply = client.get(f"/api/v1/compare?{query}")
    assert reply.status_code == 200
    found: dict[str, Any] = reply.get_json()
    return found


@pytest.mark.parametrize("state", STATES)
def test_every_engine_is_there_once(state: str) -> None:
    found = compared(state)
    assert {one.engine.id for one in (*found.runners, *found.refused)} == {one.id for one in engines()}
    assert len(found.runners) + len(found.refused) == len(ENGINES) - 2


@pytest.mark.parametrize("state", STATES)
def test_every_number_is_what_the_engine_says_of_the_state_that_is_linked(state: str) -> None:
    found = compared(state)
    for runner in found.runners:
        assert {row.types[0] for row in runner.rows} == set(runner.engine.cache_types)
        for row in runner.rows:
            linked = query_of(row.query)
            assert linked.canonical() == row.query
            assert linked.known_engine is runner.engine
            asked = (found.model, linked.run(), linked.devices(), linked.companions())
            if row.numbers is None:
                with pytest.raises(FathomError) as raised:
                    runner.engine.estimate(*asked)
                assert row.refusal.endswith(raised.value.message.partition(" ")[2])
                assert row.support.speed == "refused"
                continue
            now = runner.engine.estimate(*asked)
            numbers = row.numbers
            assert (numbers.total, numbers.fits) == (sum(share.total for share in now.devices), now.fits)
            assert numbers.budget == now.budget
            assert numbers.cache == sum(line.bytes for line in now.lines if line.kind == "kv_cache")
            assert numbers.max_context == runner.engine.max_context(*asked)
            assert row.depth <= numbers.max_context
            if numbers.held:
                full = runner.engine.estimate(asked[0], replace(asked[1], n_ctx=numbers.max_context), *asked[2:])
                held = numbers.held
                assert held.weights + held.other + held.cache == sum(share.total for share in full.devices)
                assert full.fits


@pytest.mark.parametrize("state", STATES)
def test_the_page_of_a_row_has_its_numbers(client: FlaskClient, state: str) -> None:
    for engine in body(client, state)["engines"]:
        for run in engine["runs"][:2]:
            own = client.get("/api/v1/estimate?" + urlsplit(run["links"]["self"]).query).get_json()
            if run["numbers"]:
                assert own["max_context"] == run["numbers"]["max_context"]
                assert sum(share["total"] for share in own["devices"]) == run["numbers"]["total"]
            else:
                assert own["error"]["message"] == run["refusal"]


def test_a_comparison_is_at_one_context(client: FlaskClient) -> None:
    for engine in body(client, "model=llama-3.2-1b-instruct")["engines"]:
        for run in engine["runs"]:
            assert run["numbers"] is None or run["numbers"]["n_ctx"] == 131072


def test_what_is_asked_of_one_engine_alone_is_left_out_for_others() -> None:
    found = compared("model=llama-3.2-1b-instruct&ngl=3&draft=llama-3.2-1b-instruct&desktop=on&np=2&ub=256")
    states = {one.engine.id: query_of(one.query) for one in (*found.runners, *found.refused)}
    assert states["llama-server"].ngl == states["ollama"].ngl == 3
    assert states["vllm"].ngl == -1
    assert not states["vllm"].draft
    without = {one.engine.id: one.without for one in found.runners}
    assert without["llama-server"] == ()
    assert without["sglang"] == ("ngl", "draft")
    assert [one.engine.id for one in found.refused if "draft" in one.refusal] == ["ollama"]
    assert {(state.desktop, state.np) for state in states.values()} == {(True, 2)}


@pytest.mark.parametrize(
    ("state", "engine", "words"),
    [
        (SMALL, "mlx", "mlx-lm does not run on NVIDIA GeForce RTX 3060"),
        ("model=deepseek-v2-lite", "exllamav3", "not Deepseek v2 Lite"),
        ("device=rtx-3090&device=rtx-3090", "transformers", "it must be one device"),
        ("engine=mlx", "mlx", "it needs METAL"),
        ("np=300", "llama-server", "np is 300"),
    ],
)
def test_a_refusal_is_told_in_its_own_words(client: FlaskClient, state: str, engine: str, words: str) -> None:
    (found,) = [one for one in body(client, state)["engines"] if one["id"] == engine]
    assert words in found["refusal"]
    assert found["runs"] == []
    assert found["refusal"] in unescape(client.get(f"/compare?{state}").text)


def test_a_type_that_the_model_or_the_device_forbids_says_so(client: FlaskClient) -> None:
    (found,) = [one for one in body(client, "model=deepseek-v2-lite")["engines"] if one["id"] == "vllm"]
    runs = {run["cache_type_k"]: run for run in found["runs"]}
    assert "latents" in runs["nvfp4"]["refusal"]
    assert "compute capability" in runs["nvfp4_4over6"]["refusal"]
    assert runs["fp8"]["refusal"] is None
    assert found["counterparts"]["8"] == "fp8"


def test_counterparts_have_the_bits_that_are_compared_and_run_if_any_does() -> None:
    for state in STATES:
        for runner in compared(state).runners:
            for bits, row in runner.counterparts.items():
                assert row.bits == bits
                same = [other for other in runner.rows if other.is_alike and other.bits == bits and other.numbers]
                assert row.numbers or not same
    ids = {one.engine.id: one for one in compared("").runners}
    expected = {
        "llama-server": ["f16", "q8_0", "q4_0"],
        "exllamav3": ["fp16", "q8", "q4"],
        "lmdeploy": ["none", "int8"],
    }
    for engine, names in expected.items():
        assert [row.name for row in ids[engine].counterparts.values()][: len(names)] == names


def test_the_kernels_of_llama_cpp_are_those_for_the_heads_of_the_model() -> None:
    (runner,) = [one for one in compared("model=deepseek-v2-lite").runners if one.engine.id == "llama-server"]
    assert runner.counterparts[8].support.speed == "slow"
    assert runner.counterparts[16].support.speed == "supported"


def test_a_mixed_pair_is_there_where_the_engine_can() -> None:
    found = {one.engine.id: one for one in compared("model=llama-3.2-1b-instruct&kv=q8_0:q4_0").runners}
    for engine, name in {"llama-server": "q8_0 : q4_0", "exllamav3": "q8 : q4", "vllm": "fp8"}.items():
        assert [row.name for row in found[engine].rows if row.is_chosen] == [name]


def test_what_an_engine_has_no_use_for_is_told(client: FlaskClient) -> None:
    page = parse(client.get("/compare?model=llama-3.2-1b-instruct&kvo=off&kv=q8_0").text)
    rows = [cells[0] for cells in page.one("table", class_="engines").table()[1:]]
    assert [row.endswith("; without kvo") for row in rows if row.startswith("vLLM")] == [True]
    assert not any("without" in row for row in rows if row.startswith("llama-server"))


def test_a_model_that_a_link_tells_of_is_compared(client: FlaskClient) -> None:
    facts = facts_text(read_header(HEADER))
    found = body(client, urlencode({"facts": facts, "device": "rtx-3060-12-gb"}))
    assert found["model"]["id"] is None
    assert sum(not one["refusal"] for one in found["engines"]) > 4


@pytest.mark.parametrize("program", ["llama-cli", "llama-bench"])
def test_another_program_of_llama_cpp_takes_the_place_of_the_server(program: str) -> None:
    found = compared(f"{SMALL}&engine={program}")
    assert [one.engine.id for one in found.runners if one.engine.family == "llama.cpp"] == [program, "ollama"]


def test_the_headline_names_the_deepest() -> None:
    for state in STATES:
        found = compared(state)
        each = f" in each of {found.n_requests} requests" if found.n_requests else ""
        depths = {
            f"{runner.engine.name} gets deepest: {row.depth:,} tokens with {row.name}{each}": row.depth
            for runner in found.runners
            for row in runner.rows
        }
        assert depths[headline(found)] == max(depths.values())


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("device=generic", "Memory does not limit the context here"),
        ("model=mamba-2.8b-hf", "Memory does not limit the context here"),
        ("model=qwen3-32b&device=rtx-3060-12-gb", "It fits with no engine"),
        ("model=llama-3.2-1b-instruct&np=3000", "gets deepest"),
    ],
)
def test_other_headlines(client: FlaskClient, state: str, says: str) -> None:
    assert says in headline(compared(state))
    assert says in parse(client.get(f"/compare?{state}").text).one("h1").text


def test_sentences_say_what_numbers_say() -> None:
    found = compared("")
    says = {one.bits: one.says for one in apart(found)}
    assert list(says) == list(COUNTERPARTS)
    for bits, sentence in says.items():
        depths = {one.engine.name: one.counterparts[bits] for one in found.runners if not one.engine.caps_context}
        best, least = (pick(depths, key=lambda name: depths[name].depth) for pick in (max, min))
        assert sentence.startswith(f"{best} with {depths[best].name} gets to {depths[best].depth:,} tokens")
        assert f"{least} with {depths[least].name} to {depths[least].depth:,}" in sentence
        assert "Ollama goes no further than the training, 131,072." in sentence
    assert "with 16 bits in llama-server, Ollama and ExLlamaV3" in detail(found)


def test_the_page_has_the_numbers_without_javascript(client: FlaskClient) -> None:
    found = compared(SMALL)
    page = parse(client.get(f"/compare?{SMALL}").text)
    table = page.one("table", class_="engines")
    assert table.table()[0] == ["Engine", "16 bits", "8 bits", "4 bits"]
    for cells, runner in zip(table.table()[1:], found.runners, strict=True):
        assert cells[0].startswith(runner.engine.name)
        for cell, bits in zip(cells[1:], COUNTERPARTS, strict=True):
            row = runner.counterparts.get(bits)
            if row and row.depth:
                assert cell.startswith(f"{row.depth:,}")
    links = {link.attributes["href"] for link in page.all("a")}
    assert {f"/?{row.query}" for runner in found.runners for row in runner.rows if row.numbers} <= links
    (figure,) = [one for one in page.all("script") if one.attributes.get("id") == "figure"]
    assert '"meta":"series-2"' in figure.text.replace(" ", "")


def test_the_link_is_canonical(client: FlaskClient) -> None:
    reply = client.get("/compare?device=RTX+4090&kv=q8_0:q8_0&ctx=32k&engine=llama-server")
    (link,) = parse(reply.text).all("link", rel="canonical")
    assert link.attributes["href"].endswith("/compare?ctx=32768&kv=q8_0")
    assert body(client, "kv=q8_0")["links"]["page"].endswith("/compare?kv=q8_0")


@pytest.mark.parametrize("query", ["ctx=many", "kv=q9", "device=nothing", "engine=none", "wired=5", "model=nothing"])
def test_what_cannot_be_is_refused_as_on_the_main_page(client: FlaskClient, query: str) -> None:
    main, own = (client.get(f"/{path}?{query}") for path in ("", "compare"))
    assert main.status_code == own.status_code == 400
    refusals = [parse(reply.text).one("section", role="alert").text for reply in (main, own)]
    assert refusals[0] == refusals[1]
    assert client.get(f"/api/v1/compare?{query}").get_json() == client.get(f"/api/v1/estimate?{query}").get_json()


def test_a_body_is_as_good_as_a_query(client: FlaskClient) -> None:
    fields = {"model": "llama-3.2-1b-instruct", "ctx": 8192, "device": ["rtx-3060-12-gb"]}
    assert client.post("/api/v1/compare", json=fields).get_json() == body(client, SMALL)


def test_the_main_page_and_the_header_lead_to_it(client: FlaskClient) -> None:
    page = parse(client.get(f"/?{SMALL}").text)
    links = [link.attributes["href"] for link in page.all("a") if link.text == "Compare engines"]
    assert links == ["/compare", f"/compare?{query_of(SMALL).canonical()}"]
