"""The JSON API: what it answers to those who ask well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import estimator as fathom
from estimator.ggml import CACHE_TYPES
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model
from tests.app import html

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

URL = "/api/v1/estimate"

SHARE = {
    "id": str,
    "label": str,
    "name": str,
    "weights": int,
    "kv_cache": int,
    "recurrent_state": int,
    "compute": int,
    "overhead": int,
    "total": int,
    "capacity": int,
    "fits": bool,
}

STATES: list[dict[str, Any]] = [
    {},
    {"model": "gemma-3-12b-it", "quant": "Q6_K", "ctx": 16384, "kv": "q8_0:q4_0", "device": ["rtx-3060-12-gb"]},
    {"model": "llama-3.3-70b-instruct", "device": ["rtx-4090", "rtx-3090", "rtx-3090"], "np": 2, "ub": 1024},
    {"model": "llama-3.2-1b-instruct", "device": ["m1-16gb"], "wired": 12288, "engine": "llama-bench", "fa": "off"},
]
IDS = ["default", "one device", "three devices", "bench on a Mac"]


def body(reply: TestResponse) -> dict[str, Any]:
    """The JSON of a reply that says it is fine."""
    assert (reply.status_code, reply.mimetype) == (200, "application/json"), reply.text
    answer: dict[str, Any] = reply.get_json()
    return answer


@pytest.mark.parametrize("state", STATES, ids=IDS)
def test_every_way_to_ask_gives_the_same(client: FlaskClient, state: dict[str, Any]) -> None:
    asked = body(client.get(URL, query_string=state))
    assert body(client.post(URL, json=state)) == asked
    assert body(client.post(URL, data=state)) == asked
    assert body(client.post(URL, data=state, content_type="multipart/form-data")) == asked
    assert body(client.post(URL, query_string=state)) == asked


def test_a_body_adds_to_the_query(client: FlaskClient) -> None:
    asked = body(client.get(URL, query_string={"ctx": "8k", "kv": "q8_0"}))
    assert body(client.post(f"{URL}?ctx=8k", json={"kv": "q8_0"})) == asked


def test_json_may_have_numbers_texts_and_truth(client: FlaskClient) -> None:
    asked = body(client.get(URL, query_string={"ctx": 8192, "fa": "off", "device": "rtx-3090"}))
    for given in (
        {"ctx": 8192, "fa": False, "device": ["rtx-3090"]},
        {"ctx": "8k", "fa": "off", "device": "rtx-3090"},
        {"ctx": ["8,192"], "fa": 0, "device": "RTX-3090", "model": "", "kv": []},
    ):
        assert body(client.post(URL, json=given)) == asked


@pytest.mark.parametrize("state", STATES, ids=IDS)
def test_the_shape(client: FlaskClient, state: dict[str, Any]) -> None:
    answer = body(client.get(URL, query_string=state))
    assert set(answer) == {
        *("model", "settings", "devices", "host", "fits", "safe", "max_context", "safe_context", "verdict", "sharing"),
        *("bound", "budget", "recipes", "lines", "warnings", "accuracy", "links"),
    }
    for share in answer["devices"]:
        assert {name: type(value) for name, value in share.items()} == SHARE
    assert {name: type(value) for name, value in answer["host"].items()} == {**SHARE, "capacity": type(None)}
    for line in answer["lines"]:
        assert {name: type(value) for name, value in line.items()} == {
            **dict.fromkeys(("device", "kind", "label", "basis", "explain"), str),
            "bytes": int,
        }
        assert line["basis"] in ("exact", "modelled", "margin")
    assert type(answer["max_context"]) is int
    assert set(answer["links"]) == {"page", "self"}
    assert answer["model"]["id"] == state.get("model", "llama-3.1-8b-instruct")


@pytest.mark.parametrize("state", STATES, ids=IDS)
def test_what_the_page_says_is_in_the_answer(client: FlaskClient, state: dict[str, Any]) -> None:
    answer = body(client.get(URL, query_string=state))
    page = html.parse(client.get(answer["links"]["page"]).text)
    said = page.one("section", class_=f"card verdict {answer['verdict']['state']}").text
    assert all(answer["verdict"][name] in said for name in ("headline", "decides", "detail"))
    assert answer["safe_context"] <= answer["max_context"]
    assert [part["label"] for part in answer["sharing"]] == (
        [share["label"] for share in answer["devices"]] if len(answer["devices"]) > 1 else []
    )
    if answer["sharing"]:
        assert min(part["max_context"] for part in answer["sharing"]) == answer["max_context"]
    if answer["bound"]:
        seconds = [
            (read["weights"] + read["cache"]) / read["bandwidth_gbps"] / 1e9 for read in answer["bound"]["readings"]
        ]
        assert answer["bound"]["tokens_per_second"] == pytest.approx(1 / sum(seconds))
    assert (answer["bound"] is None) == (not answer["fits"])


def test_the_plan_says_what_the_page_advises(client: FlaskClient) -> None:
    state = {"model": "llama-3.3-70b-instruct", "device": "rtx-4090", "ctx": 32768}
    found = body(client.get("/api/v1/plan", query_string=state))["changes"]
    page = html.parse(client.get("/", query_string=state).text)
    advised = page.all("table", class_="sentences")[0].table()[1:]
    assert [one["says"] for one in found] == [row[0] for row in advised]
    for one in found:
        assert body(client.get(one["links"]["self"]))["fits"]
    assert body(client.get("/api/v1/plan", query_string={"ctx": 8192}))["changes"] == []


@pytest.mark.parametrize("state", STATES, ids=IDS)
def test_the_lines_add_up(client: FlaskClient, state: dict[str, Any]) -> None:
    answer = body(client.get(URL, query_string=state))
    for share in [*answer["devices"], answer["host"]]:
        sums = {kind: 0 for kind in SHARE if SHARE[kind] is int and kind not in ("total", "capacity")}
        for line in answer["lines"]:
            if line["device"] == share["label"]:
                sums[line["kind"]] += line["bytes"]
        assert sums.items() <= share.items()
        assert share["total"] == sum(sums.values())
    assert answer["fits"] is all(share["total"] <= share["capacity"] for share in answer["devices"])


@pytest.mark.parametrize(
    ("state", "quant", "settings", "devices"),
    [
        (STATES[0], "Q4_K_M", fathom.Settings(), [fathom.device("rtx-4090")]),
        (
            STATES[1],
            "Q6_K",
            fathom.Settings(n_ctx=16384, cache_type_k="q8_0", cache_type_v="q4_0"),
            [fathom.device("rtx-3060-12-gb")],
        ),
        (
            STATES[2],
            "Q4_K_M",
            fathom.Settings(n_parallel=2, n_ubatch=1024),
            [fathom.device("rtx-4090"), fathom.device("rtx-3090"), fathom.device("rtx-3090")],
        ),
        (
            STATES[3],
            "Q4_K_M",
            fathom.Settings(n_parallel=1, n_outputs=0, flash_attn=False),
            [fathom.with_wired_limit(fathom.device("m1-16gb"), 12288)],
        ),
    ],
    ids=IDS,
)
def test_the_numbers_are_the_cores(
    client: FlaskClient,
    state: dict[str, Any],
    quant: str,
    settings: fathom.Settings,
    devices: list[fathom.Device],
) -> None:
    answer = body(client.get(URL, query_string=state))
    model = catalogue_model(answer["model"]["id"], quant)
    now = fathom.estimate(model, settings, devices)
    for given, share in zip([*answer["devices"], answer["host"]], [*now.devices, now.host], strict=True):
        assert given == {name: getattr(share, name) for name in SHARE}
    assert answer["max_context"] == fathom.max_context(model, settings, devices) > 0
    assert answer["settings"]["n_ctx"] == now.context.n_ctx
    assert [warning["code"] for warning in answer["warnings"]] == [warning.code for warning in now.warnings]
    facts = answer["model"]
    assert facts["file_type"] == quant
    assert facts["weights_bytes"] == model.weights_bytes
    assert facts["parameters"] == model.parameters
    assert facts["context_length"] == model.context_length


def test_equal_devices_have_labels_of_their_own(client: FlaskClient) -> None:
    devices = body(client.get(URL, query_string=STATES[2]))["devices"]
    assert [share["id"] for share in devices] == ["rtx-4090", "rtx-3090", "rtx-3090"]
    assert [share["label"] for share in devices] == ["rtx-4090", "rtx-3090", "rtx-3090#2"]


def test_warnings_have_a_code_and_a_text(client: FlaskClient) -> None:
    state = {"model": "llama-3.2-1b-instruct", "kv": "q8_0:q4_0", "device": "m1-16gb", "ctx": 1000}
    warnings = body(client.get(URL, query_string=state))["warnings"]
    assert {"metal-mixed-kv-types", "context-rounded"} <= {warning["code"] for warning in warnings}
    assert all(set(warning) == {"code", "text"} and warning["text"].endswith(".") for warning in warnings)


@pytest.mark.parametrize("state", STATES, ids=IDS)
def test_the_links_open_the_same_state(client: FlaskClient, state: dict[str, Any]) -> None:
    answer = body(client.get(URL, query_string=state))
    page, own = answer["links"]["page"], answer["links"]["self"]
    assert body(client.get(own)) == answer
    assert page.startswith("http://localhost/")
    assert page.partition("?")[2] == own.partition("?")[2]
    assert ("?" in own) is bool(state)


def test_however_it_is_asked_the_link_is_the_same(client: FlaskClient) -> None:
    links = [
        body(client.get(f"{URL}?{text}"))["links"]
        for text in ("ctx=8k&kv=q8_0", "kv=Q8_0:q8_0&ctx=8,192&fa=on", "np=auto&kv=q8_0&ctx=8192&device=rtx-4090&ub=")
    ]
    assert links[0]["self"] == "http://localhost/api/v1/estimate?ctx=8192&kv=q8_0"
    assert links[0]["page"] == "http://localhost/?ctx=8192&kv=q8_0"
    assert links == [links[0]] * 3


def test_devices(client: FlaskClient) -> None:
    devices = body(client.get("/api/v1/devices"))["devices"]
    assert len(devices) == len({one["id"] for one in devices}) == 312
    (known,) = (one for one in devices if one["id"] == "rtx-4090")
    assert known["capacity"] == fathom.device("rtx-4090").capacity
    assert known["sources"]


def test_models(client: FlaskClient) -> None:
    answer = body(client.get("/api/v1/models"))
    assert len(answer["models"]) == len({one["id"] for one in answer["models"]}) == 293
    assert answer["quantizations"] == list(QUANTIZATIONS)
    assert len(QUANTIZATIONS) == 12
    (known,) = (one for one in answer["models"] if one["id"] == "llama-3.1-8b-instruct")
    assert (known["family"], known["parameters"], known["context_length"]) == ("Llama", 8_030_261_248, 131_072)


def test_cache_types(client: FlaskClient) -> None:
    answer = body(client.get("/api/v1/cache-types"))["cache_types"]
    assert [one["id"] for one in answer] == list(CACHE_TYPES)
    assert len(CACHE_TYPES) == 9
    blocks = {one["id"]: (one["block_elements"], one["block_bytes"]) for one in answer}
    assert blocks["f16"] == (1, 2)
    assert blocks["q8_0"] == (32, 34)
    assert blocks["q4_0"] == (32, 18)


def test_healthz(client: FlaskClient) -> None:
    assert body(client.get("/healthz")) == {"status": "ok"}


def test_a_file_that_ollama_serves_otherwise(client: FlaskClient) -> None:
    codes = {
        name: [warning["code"] for warning in body(client.get(f"/api/v1/estimate?model={name}"))["warnings"]]
        for name in ("gpt-oss:20b", "llama3.1:8b")
    }
    assert "ollama-file-differs" in codes["gpt-oss:20b"]
    assert "ollama-file-differs" not in codes["llama3.1:8b"]


def test_a_tag_of_ollama_that_is_not_at_hand(client: FlaskClient) -> None:
    reply = client.get("/api/v1/estimate?model=llama3.1:9b")
    assert reply.status_code == 400
    error = reply.get_json()["error"]
    assert (error["code"], error["field"], error["allowed"][0]) == ("unknown-model", "model", "llama3.1:8b")
