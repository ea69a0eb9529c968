"""What runs on a device: the state and its one canonical link, the page without JavaScript, and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import text
from app.errors import RequestError
from app.parsing import parse as parse_query
from app.query import Query
from app.survey.query import DEFAULT_RUN, ELSEWHERE, KINDS, NAMES, QUANTIZATIONS, SORTS, Survey, parse
from app.survey.view import MOST_DEVICES, answer
from estimator import devices
from estimator.ggml import CACHE_TYPES
from estimator.sources.catalogue import QUANTIZATIONS as OF_CATALOGUE
from estimator.sources.catalogue import entries
from tests.app import html

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from app.survey.view import Row
    from tests.app.html import Element

SMALL = "device=rtx-3060-12-gb&ctx=16384"

states = st.builds(
    Survey,
    run=st.builds(
        Query,
        ctx=st.integers(0, 10**9),
        kv=st.tuples(st.sampled_from(CACHE_TYPES), st.sampled_from(CACHE_TYPES)),
        device=st.lists(st.sampled_from([one.id for one in devices()]), min_size=1, max_size=MOST_DEVICES).map(tuple),
        fa=st.booleans(),
        np=st.integers(-1, 256),
    ),
    find=st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), max_size=30),
    kind=st.sampled_from(list(KINDS)),
    least=st.integers(0, 10**14),
    most=st.integers(0, 10**14),
    bits=st.sampled_from(list(QUANTIZATIONS)),
    sort=st.sampled_from(list(SORTS)),
)


def read(query: str) -> Survey:
    """The state of a link."""
    return parse(parse_qs(query, keep_blank_values=True, strict_parsing=bool(query)))


def opened(client: FlaskClient, query: str = "", status: int = 200) -> Element:
    """The page of a state."""
    reply = client.get(f"/what-runs?{query}")
    assert (reply.status_code, reply.mimetype) == (status, "text/html")
    return html.parse(reply.text)


def asked(client: FlaskClient, query: str = "") -> dict[str, Any]:
    """The JSON of a state."""
    reply = client.get(f"/api/v1/survey?{query}")
    assert (reply.status_code, reply.mimetype) == (200, "application/json")
    body: dict[str, Any] = reply.get_json()
    return body


# The state ------------------------------------------------------------------------------------------------------------


@given(states)
def test_a_canonical_link_says_the_state_and_nothing_else(state: Survey) -> None:
    link = state.canonical()
    assert read(link) == state
    assert read(link).canonical() == link


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("", Survey()),
        ("ctx=32768&kind=text&bits=4&sort=parameters&least=&most=0", Survey()),
        ("ctx=auto", Survey(run=Query(ctx=0))),
        ("kv=q8_0&device=m1-16gb", Survey(run=Query(ctx=32768, kv=("q8_0", "q8_0"), device=("m1-16gb",)))),
        ("least=7&most=70b", Survey(least=7 * 10**9, most=70 * 10**9)),
        ("least=0.5b&most=500M", Survey(least=500 * 10**6, most=500 * 10**6)),
        ("find=+Qwen++coder", Survey(find="Qwen coder")),
        ("kind=MoE&sort=SPEED&bits=8", Survey(kind="moe", sort="speed", bits=8)),
    ],
)
def test_what_is_read(query: str, state: Survey) -> None:
    assert read(query) == state


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("foo=1", "unknown-parameter", "foo"),
        ("model=qwen3-8b", "unknown-parameter", "model"),
        ("ngl=3", "unknown-parameter", "ngl"),
        ("least=many", "not-a-number", "least"),
        ("most=-1", "not-a-number", "most"),
        ("bits=7", "unknown-bits", "bits"),
        ("kind=large", "unknown-kind", "kind"),
        ("sort=price", "unknown-sort", "sort"),
        ("sort=name&sort=bits", "repeated", "sort"),
        ("find=" + "x" * 201, "too-long", "find"),
        ("ctx=many", "not-a-number", "ctx"),
        ("device=rtx-9999", "unknown-device", "device"),
        ("&".join(["device=rtx-3090"] * (MOST_DEVICES + 1)), "device-count", "device"),
        ("ub=0", "out-of-range", "ub"),
    ],
)
def test_what_is_refused(query: str, code: str, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        answer(read(query))
    assert (caught.value.code, caught.value.field) == (code, field)


def test_every_quantization_of_the_catalogue_has_its_bits() -> None:
    assert {name for names in QUANTIZATIONS.values() for name in names} == set(OF_CATALOGUE)
    assert Survey(bits=2).quantizations == tuple(name for names in QUANTIZATIONS.values() for name in names)
    assert "Q3_K_M" not in Survey().quantizations


def test_the_fields_are_those_of_a_run_and_its_own() -> None:
    assert not ELSEWHERE & set(NAMES)
    assert len(NAMES) == len(set(NAMES))


# What is found --------------------------------------------------------------------------------------------------------


def test_every_model_is_somewhere_once(client: FlaskClient) -> None:
    body = asked(client, f"{SMALL}&kind=all")
    assert sorted(one["id"] for one in body["models"]) == sorted(entry.id for entry in entries())
    statuses = [one["status"] for one in body["models"]]
    counts = {"runs": "runs", "smaller_cache": "smaller-cache", "refused": "does-not-run"}
    assert {name: statuses.count(status) for name, status in counts.items()} == {
        name: body["counts"][name] for name in counts
    }
    assert body["counts"]["models"] == len(entries())
    assert all(body["counts"][name] for name in counts)


def test_the_numbers_are_those_of_the_estimate(client: FlaskClient) -> None:
    body = asked(client, SMALL)
    for model in body["models"][:: len(body["models"]) // 8]:
        for choice in model["choices"]:
            estimate = client.get(choice["page"].replace("/?", "/api/v1/estimate?")).get_json()
            assert estimate["fits"]
            assert estimate["model"]["id"] == model["id"]
            assert [share["total"] for share in estimate["devices"]] == choice["totals"]
            assert estimate["max_context"] == choice["max_context"]


def test_what_does_not_run_says_why(client: FlaskClient) -> None:
    reasons = {one["id"]: one["reason"] for one in asked(client, f"{SMALL}&kind=all")["models"]}
    assert reasons["llama-3.2-1b-instruct"] is None
    assert "more than there are" in reasons["llama-3.3-70b-instruct"]
    assert reasons["bge-m3"] == "trained for 8,192 tokens only"
    unusual = asked(client, "kv=q8_0&find=phi-2&ctx=2048")["models"]
    assert "head size 80" in unusual[0]["reason"] or unusual[0]["choices"]


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("parameters", lambda row: -row.found.entry.parameters),
        ("context", lambda row: -row.choice.max_context),
        ("speed", lambda row: -row.choice.tokens_per_second),
        ("name", lambda row: row.found.entry.name.lower()),
    ],
)
def test_the_order(sort: str, key: Any) -> None:
    rows: list[Row] = answer(read(f"{SMALL}&sort={sort}")).rows
    assert len(rows) > 20
    assert [key(row) for row in rows] == sorted(key(row) for row in rows)


def test_filters(client: FlaskClient) -> None:
    def found(query: str) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = asked(client, f"{SMALL}&{query}")["models"]
        assert models
        return models

    assert all(7e9 <= one["parameters"] <= 15e9 for one in found("least=7b&most=15b"))
    assert all(one["experts"] for one in found("kind=moe"))
    assert not any(one["experts"] for one in found("kind=dense"))
    assert all("qwen" in one["id"] and "coder" in one["id"] for one in found("find=QWEN+coder"))
    assert {one["family"] for one in found("find=granite")} == {"Granite"}
    embeddings = {one["id"] for one in found("kind=embedding")}
    assert "bge-m3" in embeddings
    assert not embeddings & {one["id"] for one in found("kind=text")}
    runs = [one for one in found("bits=8") if one["choices"]]
    assert {choice["quant"] for one in runs for choice in one["choices"]} <= {"BF16", "Q8_0"}


def test_the_acceptable_bits_decide_what_runs(client: FlaskClient) -> None:
    counts = [asked(client, f"{SMALL}&bits={bits}")["counts"]["runs"] for bits in (16, 8, 4, 2)]
    assert counts == sorted(counts)
    assert len(set(counts)) == 4


def test_a_smaller_cache_is_told_of() -> None:
    result = answer(read("device=rtx-4090&ctx=65536"))
    assert result.smaller
    assert all(row.choice.pair == ("q8_0", "q8_0") or row.choice.pair == ("q4_0", "q4_0") for row in result.smaller)
    for row in result.rows:
        if row.other:
            assert row.other.pair == ("q8_0", "q8_0")
    assert result.has_others


def test_a_run_that_is_laid_out_agrees(client: FlaskClient) -> None:
    query = "device=rtx-3060-12-gb&device=rtx-4090&ctx=8192&find=gemma-3-1"
    body = asked(client, query)
    assert body["counts"]["runs"] == len(body["models"])
    for model in body["models"]:
        (choice,) = model["choices"]
        estimate = client.get(choice["page"].replace("/?", "/api/v1/estimate?")).get_json()
        assert [share["total"] for share in estimate["devices"]] == choice["totals"]


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_says_it_in_a_sentence(client: FlaskClient) -> None:
    page, body = opened(client, SMALL), asked(client, SMALL)
    counts = body["counts"]
    expected = f"{counts['runs']} of {counts['models']} models run on an RTX 3060 12 GB with 16,384 tokens"
    assert page.one("h1").text == expected == body["headline"]
    assert page.one("title").text == f"{expected}: Fathom"
    largest = max((one for one in body["models"] if one["status"] == "runs"), key=lambda one: one["parameters"])
    assert f"The largest is {largest['name']}" in page.one("section", class_="card verdict").text


def test_the_tables_have_the_numbers_of_the_survey(client: FlaskClient) -> None:
    page, result = opened(client, SMALL), answer(read(SMALL))
    tables = page.all("table")
    assert [len(table.one("tbody").all("tr")) for table in tables] == [
        len(result.rows),
        len(result.smaller),
        len(result.refused),
    ]
    for row, cells in zip(result.rows, tables[0].table()[1:], strict=True):
        assert cells[0] == row.found.entry.name
        assert cells[1].startswith(text.parameters(row.found.entry.parameters))
        assert cells[2] == row.choice.quantization
        assert cells[3] == text.size(row.total)
        assert cells[4].startswith(text.tokens(row.choice.max_context))
    for refused, cells in zip(result.refused, tables[2].table()[1:], strict=True):
        assert cells[2] == refused.why


def test_each_row_leads_to_its_own_page(client: FlaskClient) -> None:
    page, result = opened(client, SMALL), answer(read(SMALL))
    link = page.all("table")[0].one("tbody").all("a")[0].attributes["href"]
    assert link == f"/?{result.rows[0].link}"
    query = parse_query(parse_qs(link.partition("?")[2]))
    assert (query.model, query.ctx) == (result.rows[0].found.entry.id, 16384)
    assert query.canonical() == result.rows[0].link


@pytest.mark.parametrize(
    "query",
    [
        "",
        "kv=q8_0:q4_0",
        "device=rtx-3090&device=rtx-3090&find=llama&least=7b&sort=speed",
        "ctx=auto&np=1&find=qwen3-8b",
    ],
)
def test_the_form_without_script_sends_the_same_state(client: FlaskClient, query: str) -> None:
    page = opened(client, query)
    sent = urlencode([(name, value) for name, value in html.filled(page) if name != "pick"])
    assert read(sent) == read(query)
    assert page.one("link", rel="canonical").attributes["href"].partition("?")[2] == read(query).canonical()


def test_an_error_keeps_what_was_typed(client: FlaskClient) -> None:
    page = opened(client, "ctx=many&find=qwen&device=m1-16gb", status=400)
    assert "ctx is 'many'" in page.one("section", role="alert").text
    assert page.one("input", id="ctx").attributes["value"] == "many"
    assert page.one("input", id="ctx").attributes["aria-invalid"] == "true"
    assert page.one("input", id="find").attributes["value"] == "qwen"
    assert page.all("input", name="device")[0].attributes["value"] == "M1 16 GB"


def test_what_is_said_of_the_devices_counts(client: FlaskClient) -> None:
    alone, used = (
        read(f"device=rtx-3060-12-gb&find=qwen3&{rest}") for rest in ("bits=4", "bits=4&desktop=on&taken=2048")
    )
    assert [one.capacity for one in answer(alone).devices] == [one.capacity for one in answer(used).devices]
    fewer, more = (len(answer(state).rows) for state in (used, alone))
    assert fewer < more
    page = opened(client, "device=rtx-3060-12-gb&desktop=on&taken=2048")
    assert html.chosen(page.one("select", id="desktop")) == "on"
    assert page.one("input", id="taken").attributes["value"] == "2048"


def test_markup_in_a_name_stays_text(client: FlaskClient) -> None:
    page = opened(client, urlencode({"find": '"><script>alert(1)</script>'}))
    assert page.one("input", id="find").attributes["value"] == '"><script>alert(1)</script>'
    assert "No bundled model" in page.one("main").text


def test_pages_lead_there_and_back(client: FlaskClient) -> None:
    page = html.parse(client.get("/?device=m1-16gb&model=llama-3.2-1b-instruct&ctx=4096").text)
    links = [link.attributes["href"] for link in page.all("a")]
    assert "/what-runs" in links
    assert "/what-runs?device=m1-16gb&ctx=4096" in links


def test_every_label_names_a_field(client: FlaskClient) -> None:
    page = opened(client)
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert {label.attributes["for"] for label in page.all("label")} <= set(ids)


def test_the_default_context_is_one_to_work_with() -> None:
    assert DEFAULT_RUN.ctx == 32768
    assert sum(entry.context_length >= DEFAULT_RUN.ctx for entry in entries()) > len(entries()) // 2
