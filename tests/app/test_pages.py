"""The page that answers: its sentence, its numbers, its links, and what its form sends back."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import template_rendered

from app import text
from app.devices import SIZES, device_text
from app.form import Form
from app.pages import Page
from app.parsing import parse
from app.query import Query, own_options
from app.values import shown_type, texts
from app.view import answer
from estimator.accuracy import PLACEMENTS, bands, total
from estimator.engines.registry import ENGINES
from estimator.sources.facts import facts_text
from estimator.sources.gguf import read_header
from tests.app import html

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from jinja2 import Template

    from tests.app.html import Element

FACTS = facts_text(read_header(Path(__file__).parents[1] / "data" / "gguf" / "gpt-oss-moe.gguf"))
ELSEWHERE = Query(
    model="gemma-3-12b-it",
    quant="Q6_K",
    ctx=16384,
    kv=("q8_0", "q4_0"),
    ub=256,
    np=2,
    device=("rtx-3060-12-gb",),
    engine="llama-cli",
)
PARTLY = Query(model="qwen3-30b-a3b", device=("rtx-3060-12-gb",), ngl=40, ncmoe=12, ncffn=2, kvo=False, ctx=8192)
ON_MACS = Query(model="llama-3.2-1b-instruct", fa=False, device=("m1-16gb", "m2-8gb"), wired=6000, engine="llama-bench")
SHARED = Query(
    model="gpt-oss-20b",
    device=("rtx-a4000", "radeon-780m-64gb"),
    ts=(1, 2.5),
    os="windows",
    desktop=True,
    ecc=True,
    taken=(300,),
    gtt=40960,
    ram=205,
    options=(("swa_full", True), ("n_batch", 1024)),
)
IN_VLLM = Query(
    model="qwen3-8b",
    device=("rtx-4090",),
    ctx=16384,
    engine="vllm",
    kv=("fp8", "fp8"),
    weights="bf16",
    np=4,
    options=(("gpu_memory_utilization", 0.9), ("enforce_eager", True)),
)
LINKED = Query(facts=FACTS, ctx=4096, device=("m1-16gb",), draft="qwen3-0.6b:Q8_0", mmproj=2**20)
WITH_STATE = Query(model="qwen3.5-9b", device=("rtx-3090",))
STATES = [Query(), ELSEWHERE, PARTLY, ON_MACS, SHARED, LINKED, WITH_STATE]
IDS = ["default", "elsewhere", "partly on the host", "on Macs", "shared", "of a link", "with state"]
EVERY = [*STATES, IN_VLLM]
EVERY_ID = [*IDS, "in vLLM"]


def opened(client: FlaskClient, query: Query) -> Element:
    """The page of a state."""
    reply = client.get(f"/?{query.canonical()}")
    assert (reply.status_code, reply.mimetype) == (200, "text/html")
    return html.parse(reply.text)


def captions(page: Element) -> dict[str, Element]:
    """The tables that have a caption, by how it begins."""
    return {
        table.one("caption").text.split(" at ")[0].split(",")[0]: table
        for table in page.all("table")
        if table.all("caption")
    }


@pytest.mark.parametrize(
    ("query", "headline", "mark"),
    [
        ("", "Fits an RTX 4090 24 GB up to its full 131,072 tokens", "fits"),
        ("model=qwen2.5-32b-instruct&ctx=4k", "Fits an RTX 4090 24 GB up to {deepest} tokens", "fits"),
        ("model=qwen2.5-32b-instruct", "Fits an RTX 4090 24 GB up to {deepest} tokens", "partly"),
        ("model=llama-3.3-70b-instruct", "Does not fit an RTX 4090 24 GB", "over"),
    ],
)
def test_the_verdict(client: FlaskClient, query: str, headline: str, mark: str) -> None:
    page = html.parse(client.get(f"/?{query}").text)
    deepest = client.get(f"/api/v1/estimate?{query}").get_json()["max_context"]
    expected = headline.format(deepest=f"{deepest:,}")
    assert page.one("h1").text == f"{ {'fits': '✓', 'partly': '◐', 'over': '✕'}[mark] } {expected}"
    assert page.one("title").text.startswith(expected)
    assert len(page.all("section", class_=f"card verdict {mark}")) == 1


@pytest.mark.parametrize("query", STATES, ids=IDS)
def test_the_tables_have_the_numbers_of_the_estimate(client: FlaskClient, query: Query) -> None:
    page, result = opened(client, query), answer(query)
    shares = [*result.estimate.devices, result.estimate.host]
    breakdown = next(table for table in page.all("table") if any(row[:1] == ["Overhead"] for row in table.table()))
    by_kind = {row.all("th")[0].text: row.all("td") for row in breakdown.one("tbody").all("tr")}
    kinds = {"Weights": "weights", "K/V cache": "kv_cache", "Compute buffer": "compute", "Overhead": "overhead"}
    assert ("Recurrent state" in by_kind) == result.has_state == (query is WITH_STATE)
    if result.has_state:
        kinds["Recurrent state"] = "recurrent_state"
    for label, kind in {**kinds, "Total": "total"}.items():
        expected = [getattr(share, kind) for share in shares]
        assert [cell.attributes["title"] for cell in by_kind[label]] == [f"{n:,} bytes" for n in expected]
        assert [cell.text for cell in by_kind[label]] == [text.size(n) for n in expected]
    limits = [text.size(share.capacity) for share in result.estimate.devices if share.capacity]
    assert [cell.text for cell in by_kind["Limit"]] == [*limits, ""]
    lines = page.one("table", class_="lines").table()[1:]
    for line, row in zip(result.lines, lines, strict=False):
        assert row == [line.device, line.label, f"{line.bytes:,}", line.basis, " ".join(line.explain.split())]
    assert len(lines) == len(result.lines) + len(result.devices)


@pytest.mark.parametrize("query", EVERY, ids=EVERY_ID)
def test_the_chart_and_its_table_say_the_same(client: FlaskClient, query: Query) -> None:
    page, result = opened(client, query), answer(query)
    assert json.loads(page.one("script", id="figure").text) == result.figure
    blocks = page.all("script", id="types-figure")
    assert [json.loads(block.text) for block in blocks] == ([result.types_figure] if result.types_figure else [])
    assert {chart.attributes["data-figure"] for chart in page.all("fit-chart")} == {
        block.attributes["id"] for block in page.all("script", type="application/json")
    }
    head, *rows = captions(page)["The same numbers"].table()
    assert len(rows) == len(result.rows)
    for cells, row in zip(rows, result.rows, strict=True):
        shown = dict(zip(head, cells, strict=True))
        assert shown["Context"] == f"{row.n_ctx:,}{row.note}"
        assert shown["Fits"] == ("yes" if row.estimate.fits else "no")
        assert shown["Total"] == text.size(sum(share.total for share in row.estimate.devices))
        assert shown["K/V cache"] == text.size(sum(share.kv_cache for share in row.estimate.devices))
        state = sum(share.recurrent_state for share in row.estimate.devices)
        assert shown.get("State", "0") == text.size(state)


@pytest.mark.parametrize("query", EVERY, ids=EVERY_ID)
def test_the_links_are_canonical(client: FlaskClient, query: Query) -> None:
    links = client.get(f"/api/v1/estimate?{query.canonical()}").get_json()["links"]
    page = opened(client, query)
    assert page.one("link", rel="canonical").attributes["href"] == links["page"]
    assert page.one("div", id="answer").attributes["data-canonical"] == links["page"]
    share = page.one("p", class_="share")
    link, curl = (button.attributes["data-copy"] for button in share.all("button"))
    assert link == links["page"]
    assert shlex.split(curl) == ["curl", links["self"]]
    assert [one.attributes["href"] for one in page.all("a") if one.text == "JSON"] == [links["self"]]


def test_a_state_has_one_canonical_link_however_it_is_asked(client: FlaskClient) -> None:
    page = html.parse(client.get("/?device=RTX-4090&kv=F16%3Aq8_0&ctx=8k&ub=").text)
    assert page.one("link", rel="canonical").attributes["href"] == "http://localhost/?ctx=8192&kv=f16:q8_0"


@pytest.mark.parametrize("query", STATES, ids=IDS)
def test_the_form_sends_back_its_state(client: FlaskClient, query: Query) -> None:
    page = opened(client, query)
    again = html.parse(client.get(f"/?{urlencode(html.filled(page))}").text)
    canonical = page.one("link", rel="canonical").attributes
    assert again.one("link", rel="canonical").attributes == canonical
    assert html.filled(again) == html.filled(page)


@pytest.mark.parametrize("query", EVERY[1:], ids=EVERY_ID[1:])
def test_the_form_shows_its_state(client: FlaskClient, query: Query) -> None:
    filled = html.filled(opened(client, query))
    shown = dict(filled)
    assert [value for name, value in filled if name == "device"] == [*map(device_text, query.device), ""]
    assert shown["engine"] == query.engine
    assert (shown.get("draft", ""), shown.get("mmproj", "")) == (query.draft, str(query.mmproj or ""))
    if query.facts:
        assert (shown["facts"], shown.get("model"), shown.get("quant")) == (query.facts, None, None)
    else:
        assert (shown["model"], shown["quant"]) == (query.model, query.quant)
    types = (shown["k"], shown["v"]) if "k" in shown else (shown["kv"],) * 2
    assert types == tuple(shown_type(name, query.known_engine) for name in query.kv)
    assert shown["ctx"] == (str(query.ctx) if query.ctx else "auto")
    assert shown["np"] == (str(query.np) if query.np > 0 else "auto")
    assert shown["ub"] == (str(query.ub) if query.ub > 0 else "auto")
    assert (shown["wired"], shown.get("fa", "on")) == (str(query.wired), "on" if query.fa else "off")
    assert {name: shown[name] for name, _ in query.options} == {
        name: texts(name, value)[0] for name, value in query.options
    }


@pytest.mark.parametrize(
    ("given", "kv"),
    [
        ("k=q8_0&v=q8_0", "q8_0"),
        ("k=q8_0&v=q4_0", "q8_0:q4_0"),
        ("k=q8_0", "q8_0:f16"),
        ("v=q8_0&k=", "f16:q8_0"),
        ("kv=&k=q8_0&v=q8_0", "q8_0"),
        ("kv=q4_0&k=q4_0&v=q4_0", "q4_0"),
    ],
)
def test_the_lists_of_k_and_v_make_a_pair(client: FlaskClient, given: str, kv: str) -> None:
    page = html.parse(client.get(f"/?model=llama-3.2-1b-instruct&{given}").text)
    link = page.one("link", rel="canonical").attributes["href"]
    assert link == f"http://localhost/?model=llama-3.2-1b-instruct&kv={kv}"


def test_k_and_v_are_names_of_the_form_alone(client: FlaskClient) -> None:
    assert client.get("/api/v1/estimate?k=q8_0").get_json()["error"]["code"] == "unknown-parameter"


def test_the_form_offers_everything_there_is(client: FlaskClient) -> None:
    page = opened(client, Query())
    for name, path, key in (("model", "models", "models"), ("device", "devices", "devices")):
        known = {one["id"] for one in client.get(f"/api/v1/{path}").get_json()[key]}
        select = page.all("select", name={"model": "bundled", "device": "pick"}[name])[0]
        offered = {value for option in select.all("option") if (value := option.attributes["value"])}
        assert offered == known | ({"generic", *SIZES} if name == "device" else set())
        listed = {option.attributes["value"] for option in page.one("datalist", id=path).all("option")}
        assert listed == offered
    types = [one["id"] for one in client.get("/api/v1/cache-types").get_json()["cache_types"]]
    assert sorted(option.text for option in page.one("select", id="k").all("option")) == sorted(types)
    engines = [one["id"] for one in client.get("/api/v1/engines").get_json()["engines"]]
    assert [option.attributes["value"] for option in page.one("select", id="engine").all("option")] == engines


def test_what_is_compared_is_a_link_to_itself(client: FlaskClient) -> None:
    page = opened(client, ELSEWHERE)
    found = answer(ELSEWHERE)
    others = {other.name: f"?{other.query}" for other in found.alternatives if not other.chosen}
    others |= {rung.name: f"?{rung.query}" for rung in found.ladder if not rung.chosen}
    others |= {one.most: f"?{one.query}" for one in found.reach if one.query != ELSEWHERE.canonical()}
    links = {link.text: link.attributes["href"] for link in page.all("a") if link.attributes["href"].startswith("?")}
    assert links == others
    assert set(links) > {"f16", "q8_0", "q4_0", "BF16", "Q2_K"}


@pytest.mark.parametrize("query", [Query(), ELSEWHERE, IN_VLLM], ids=["default", "elsewhere", "in vLLM"])
def test_every_type_that_runs_has_its_numbers(client: FlaskClient, query: Query) -> None:
    table = next(found for found in opened(client, query).all("table") if "K/V type" in found.text)
    for cells, other in zip(table.table()[1:], answer(query).alternatives, strict=True):
        expected = [f"{other.max_context:,}", text.size(other.cache), text.size(other.total)]
        assert cells[:4] == [other.name, *([""] * 3 if other.is_refused else expected)]


def test_what_else_runs_is_asked_of_the_devices_as_they_are_used(client: FlaskClient) -> None:
    links = opened(client, SHARED).all("a")
    (link,) = [one.attributes["href"] for one in links if one.text.startswith("What else runs")]
    asked = parse_qs(urlsplit(link).query)
    assert asked["device"] == list(SHARED.device)
    assert (asked["os"], asked["desktop"], asked["taken"], asked["gtt"]) == (["windows"], ["on"], ["300"], ["40960"])
    assert client.get(link).status_code == 200


def test_warnings_are_on_the_page(client: FlaskClient) -> None:
    page = opened(client, Query(model="llama-3.2-1b-instruct", ctx=1000, kv=("q8_0", "q4_0"), device=("m1-16gb",)))
    codes = [one.attributes["data-code"] for one in page.all("p", class_="warning")]
    assert {"metal-mixed-kv-types", "context-rounded"} <= set(codes)


@pytest.mark.parametrize("path", ["/", f"/?{ON_MACS.canonical()}", "/?model=nope&ctx=x", "/nope"])
def test_no_script_or_style_stands_in_the_page(client: FlaskClient, path: str) -> None:
    page = html.parse(client.get(path).text)
    assert page.all("style") == []
    for element in page.all():
        assert not any(name == "style" or name.startswith("on") for name in element.attributes)
    for script in page.all("script"):
        data = script.attributes.get("type") == "application/json"
        assert data or (script.attributes["src"].startswith("/static/") and not script.inside)


@pytest.mark.parametrize("path", ["/", f"/?{ON_MACS.canonical()}", "/?model=nope&device=x&device=y"])
def test_ids_are_unique_and_every_control_has_a_label(client: FlaskClient, path: str) -> None:
    page = html.parse(client.get(path).text)
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    labels = {label.attributes["for"] for label in page.all("label")}
    assert labels <= set(ids)
    for control in [*page.all("input"), *page.all("select")]:
        named = control.attributes.get("id") in labels or control.attributes.get("aria-label")
        assert named or control.attributes.get("type") == "hidden"


@pytest.mark.parametrize("path", ["/", "/?model=nope"])
def test_the_template_gets_what_is_declared_and_no_more(app: Flask, client: FlaskClient, path: str) -> None:
    seen: list[tuple[str | None, dict[str, Any]]] = []

    def record(_: Flask, template: Template, context: dict[str, Any], **__: Any) -> None:
        seen.append((template.name, context))

    with template_rendered.connected_to(record, app):
        client.get(path)
    ((name, context),) = seen
    assert name == "index.html"
    page = {name: value for name, value in context.items() if name not in ("g", "request", "session")}
    assert set(page) == {field.name for field in fields(Page)}
    assert isinstance(page["form"], Form)
    assert (page["result"] is None) is (page["error"] is not None)
    options = {option.name for option in own_options(ENGINES[0])}
    assert page["form"].typed.keys() == {field.name for field in fields(Query)} - {"options"} | options


def test_the_states_differ_from_the_defaults_in_all_that_the_form_has() -> None:
    """So that none of the tests above passes because a field was forgotten."""
    changed = {
        field.name
        for query in (ELSEWHERE, PARTLY, ON_MACS, SHARED, IN_VLLM, LINKED)
        for field in fields(Query)
        if getattr(query, field.name) != field.default
    }
    assert changed == {field.name for field in fields(Query)}
    assert parse({}) == Query()


@pytest.mark.parametrize("query", STATES, ids=IDS)
def test_the_page_says_how_exact_such_estimates_are(client: FlaskClient, query: Query) -> None:
    page = opened(client, query)
    said = answer(query).accuracy
    assert "measured with llama.cpp itself" in said
    hint = next(one for one in page.all("p", class_="hint") if said in one.text)
    assert hint.one("a").attributes["href"] == "/accuracy"


def test_the_report_on_accuracy_has_every_measurement(client: FlaskClient) -> None:
    reply = client.get("/accuracy")
    assert (reply.status_code, reply.mimetype) == (200, "text/html")
    page = html.parse(reply.text)
    rows = page.one("table").table()[1:]
    expected = [(name, where) for name, places in bands().items() for where in places]
    assert [(row[0], row[1]) for row in rows] == [(name, PLACEMENTS[where]) for name, where in expected]
    assert [row[2:5] for row in rows] == [[str(n) for n in bands()[name][where][:3]] for name, where in expected]
    whole = total(band for places in bands().values() for band in places.values())
    assert f"{whole.exact:,} of {whole.cases:,}" in page.text


@pytest.mark.parametrize("id", ["bge-base-en-v1.5", "falcon-mamba-7b"])
def test_a_model_without_a_cache_compares_no_types(client: FlaskClient, id: str) -> None:
    query = Query(model=id)
    page = opened(client, query)
    assert not answer(query).has_cache
    assert "What the K/V cache type changes" not in page.text
    assert len(page.all("fit-chart")) == 1


def test_the_model_of_a_link_stands_in_place_of_the_lists(client: FlaskClient) -> None:
    page = opened(client, LINKED)
    model = answer(LINKED).model
    assert page.all("select", name="model") == page.all("select", name="quant") == []
    assert page.one("input", name="facts").attributes["value"] == FACTS
    assert page.one("p", class_="subject").text.startswith(f"{model.name} · K/V cache")
    assert page.one("p", class_="subject").text.endswith(" · draft qwen3-0.6b:Q8_0 · projector")
    way_back = page.one("p", class_="linked").one("a").attributes["href"]
    assert way_back == f"/?{replace(LINKED, facts='').canonical()}"


@pytest.mark.parametrize(("others", "kept"), [("", ""), ("&ctx=x&device=m1-16gb", "?ctx=x&device=m1-16gb")])
def test_a_link_that_cannot_be_read_leads_back_to_the_lists(client: FlaskClient, others: str, kept: str) -> None:
    reply = client.get(f"/?facts=2nothing{others}")
    assert reply.status_code == 400
    page = html.parse(reply.text)
    assert page.one("input", name="facts").attributes["value"] == "2nothing"
    assert page.one("p", class_="linked").one("a").attributes["href"] == f"/{kept}"


def test_a_name_of_ollama_says_its_quantization_itself(client: FlaskClient) -> None:
    page = html.parse(client.get("/?model=gpt-oss:20b&quant=Q4_K_M").text)
    (select,) = [one for one in page.all("select") if one.attributes.get("name") == "quant"]
    assert "disabled" in select.attributes
    assert "MXFP4_MOE" in page.one("p", class_="subject").text
