"""States that other engines run: their page, their answer as JSON, and a form that goes over to another engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.query import Query
from app.switching import switched
from app.view import answer
from estimator.engines.registry import ENGINES, engine
from estimator.quality import figures, notes
from tests.app import html

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from estimator.engines.base import Engine

OTHERS = [known for known in ENGINES if known.family != "llama.cpp" or known.id == "ollama"]
IDS = [known.id for known in OTHERS]
SMALL = "llama-3.2-1b-instruct"


def device_for(runs: Engine) -> str:
    """A device that the engine runs on."""
    return "rtx-4090" if "cuda" in runs.backends else "m3-max-16c-64gb"


def estimate(client: FlaskClient, **query: Any) -> dict[str, Any]:
    """The answer to a query."""
    reply = client.get("/api/v1/estimate", query_string=query)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.get_json()
    return found


@pytest.mark.parametrize("runs", OTHERS, ids=IDS)
def test_every_engine_answers(client: FlaskClient, runs: Engine) -> None:
    found = estimate(client, engine=runs.id, model=SMALL, device=device_for(runs), ctx=8192)
    assert (found["settings"]["engine"], found["settings"]["n_ctx"]) == (runs.id, 8192)
    assert found["settings"]["cache_type_k"] == runs.cache_types[0].id
    assert found["fits"]
    assert found["max_context"] >= 8192
    for share in [*found["devices"], found["host"]]:
        lines = sum(line["bytes"] for line in found["lines"] if line["device"] == share["label"])
        assert lines == share["total"]
    assert found["recipes"]
    assert (found["budget"] is None) == (not runs.name.startswith(("vLLM", "SGLang", "LMDeploy")))


@pytest.mark.parametrize("runs", OTHERS, ids=IDS)
def test_the_page_offers_what_the_engine_has(client: FlaskClient, runs: Engine) -> None:
    page = html.parse(client.get(f"/?engine={runs.id}&model={SMALL}&device={device_for(runs)}&ctx=8192").text)
    types = [
        option.attributes["value"] for option in page.one("select", id="k" if runs.separate_kv else "kv").all("option")
    ]
    assert types == [one.id for one in runs.cache_types]
    formats = [
        option.attributes["value"] for found in page.all("select", id="weights") for option in found.all("option")
    ]
    assert formats[1:] == [one.id for one in runs.weight_formats]
    controls = {one.attributes.get("name") for one in [*page.all("input"), *page.all("select")]}
    fields = {"n_gpu_layers": "ngl", "num_gpu": "ngl", "offload_kqv": "kvo"}
    assert {fields.get(option.name, option.name) for option in runs.options} <= controls
    assert ("ncmoe" in controls) == any(option.name == "n_cpu_moe" for option in runs.options)
    assert f"{runs.name} {runs.version}" in page.one("p", id="engine-hint").text
    assert page.all("pre")
    assert page.all("details", id="pairs") == []


@pytest.mark.parametrize("runs", OTHERS, ids=IDS)
def test_each_type_links_to_its_state(runs: Engine) -> None:
    result = answer(Query(engine=runs.id, model=SMALL, device=(device_for(runs),), ctx=8192))
    assert len(result.alternatives) == len(runs.cache_types)
    assert [one.chosen for one in result.alternatives].count(True) == 1
    for one in result.alternatives:
        assert one.support
        if one.support.speed != "refused":
            assert one.max_context
            assert f"engine={runs.id}" in one.query
        else:
            assert one.support.why


def test_a_pool_is_told_in_tokens_and_requests(client: FlaskClient) -> None:
    found = estimate(client, engine="vllm", model="qwen3-8b", ctx=32768)
    assert found["budget"]["pool_tokens"] > 32768
    page = html.parse(client.get(found["links"]["page"]).text)
    said = page.one("section", class_=f"card verdict {found['verdict']['state']}").text
    assert f"{found['budget']['pool_tokens']:,} tokens" in said
    assert f"{found['budget']['requests']:.1f} requests of 32,768" in said


def test_an_option_of_the_engine_is_a_parameter(client: FlaskClient) -> None:
    less, more = (
        estimate(client, engine="vllm", model=SMALL, ctx=8192, gpu_memory_utilization=share) for share in (0.5, 0.9)
    )
    assert less["budget"]["pool_tokens"] < more["budget"]["pool_tokens"]
    assert "gpu_memory_utilization=0.5" in less["links"]["page"]
    assert "--gpu-memory-utilization 0.5" in less["recipes"][0]["text"]


@pytest.mark.parametrize("path", ["/api/v1/matrix", "/api/v1/plan", "/matrix", "/what-runs", "/api/v1/survey"])
def test_what_only_llama_cpp_has_is_refused_to_others(client: FlaskClient, path: str) -> None:
    reply = client.get(f"{path}?engine=vllm")
    assert reply.status_code == 400
    assert "llama-server" in reply.text


def test_a_type_that_the_engine_lacks_is_refused_with_the_nearest(client: FlaskClient) -> None:
    error = client.get("/api/v1/estimate?engine=vllm&kv=q8_0").get_json()["error"]
    assert (error["code"], error["field"]) == ("unknown-cache-type", "kv")
    assert "the nearest is fp8" in error["message"]


@pytest.mark.parametrize(
    ("given", "was", "kept", "said"),
    [
        (
            {"engine": ["vllm"], "kv": ["q8_0"]},
            "llama-server",
            {"engine": ["vllm"], "kv": ["fp8"]},
            "no q8_0 cache: fp8",
        ),
        ({"engine": ["vllm"], "kv": ["f16:q4_0"]}, "llama-server", {"engine": ["vllm"], "kv": ["auto"]}, "one type"),
        (
            {"engine": ["vllm"], "ngl": ["20"], "swa_full": ["on"], "draft": ["x"], "ctx": ["8k"]},
            "llama-server",
            {"engine": ["vllm"], "ctx": ["8k"]},
            "",
        ),
        (
            {"engine": ["llama-server"], "gpu_memory_utilization": ["0.9"], "weights": ["awq"], "kv": ["fp8"]},
            "vllm",
            {"engine": ["llama-server"], "kv": ["q8_0"]},
            "no fp8 cache: q8_0",
        ),
        ({"engine": ["vllm"], "kv": ["q8_0"]}, "vllm", {"engine": ["vllm"], "kv": ["q8_0"]}, ""),
        ({"engine": ["vllm"], "kv": ["q8_0"]}, "", {"engine": ["vllm"], "kv": ["q8_0"]}, ""),
        ({"engine": ["llama-cli"], "ngl": ["20"]}, "llama-server", {"engine": ["llama-cli"], "ngl": ["20"]}, ""),
    ],
)
def test_a_form_goes_over_to_another_engine(
    given: dict[str, list[str]], was: str, kept: dict[str, list[str]], said: str
) -> None:
    found, note = switched(given, was)
    assert found == kept
    assert said in note
    assert bool(note) == bool(said)


@pytest.mark.parametrize("runs", OTHERS, ids=IDS)
def test_the_form_of_one_engine_is_answered_by_another(client: FlaskClient, runs: Engine) -> None:
    """As without JavaScript: another engine is chosen and everything else is sent as it stands."""
    before = engine("llama-server")
    assert before
    page = html.parse(client.get(f"/?model={SMALL}&device={device_for(runs)}&ctx=8k&kv=q8_0:q4_0&ncffn=0&ngl=all").text)
    filled = [(name, runs.id if name == "engine" else value) for name, value in html.filled(page)]
    reply = client.get("/", query_string=filled)
    assert reply.status_code == 200, reply.text
    link = html.parse(reply.text).one("link", rel="canonical").attributes["href"]
    state = parse_qs(urlsplit(link).query)
    assert state["engine"] == [runs.id]
    back = html.parse(client.get(link).text)
    filled = [(name, before.id if name == "engine" else value) for name, value in html.filled(back)]
    assert client.get("/", query_string=filled).status_code == 200


@pytest.mark.parametrize("id", ["llama-server", "ollama", "vllm", "lmdeploy", "transformers"])
def test_what_was_measured_stands_beside_the_types(client: FlaskClient, id: str) -> None:
    page = html.parse(client.get(f"/?engine={id}&model={SMALL}&ctx=8192").text)
    part = next(found for found in page.all("details") if "What was measured of quality" in found.text)
    links = {link.attributes["href"] for link in part.all("a")}
    said = notes(id, model=answer(Query(engine=id, model=SMALL)).model)
    assert links == {one.source.url for one in figures(id)} | {one.source.url for one in said}
    assert links
