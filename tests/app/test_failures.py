"""How failures answer: one shape for programs, a page for people, and nothing of the inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app import create_app
from app.config import MAX_CONTENT_LENGTH
from app.gguf import MAX_BODY
from tests.app.html import parse

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

URL = "/api/v1/estimate"
GGUF = "/api/v1/gguf"
HEADER = Path(__file__).parents[1] / "data" / "gguf" / "llama-dense.gguf"


def failure(reply: TestResponse, status: int = 400) -> dict[str, Any]:
    """The error of a reply, in its one shape."""
    assert (reply.status_code, reply.mimetype) == (status, "application/json"), reply.text
    answer: dict[str, Any] = reply.get_json()
    assert list(answer) == ["error"]
    error: dict[str, Any] = answer["error"]
    assert list(error) == ["code", "field", "message", "allowed"]
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert "Traceback" not in reply.text
    return error


REFUSED = [
    ({"foo": "1"}, "unknown-parameter", "foo"),
    ({"ctx": "-1"}, "not-a-number", "ctx"),
    ({"ctx": "1e9"}, "not-a-number", "ctx"),
    ({"ctx": "abc"}, "not-a-number", "ctx"),
    ({"ctx": "NaN"}, "not-a-number", "ctx"),
    ({"ctx": str(2**70)}, "not-a-number", "ctx"),
    ({"ctx": str(2**31)}, "out-of-range", "ctx"),
    ({"ctx": ["1", "2"]}, "repeated", "ctx"),
    ({"ub": "0"}, "out-of-range", "ub"),
    ({"np": "257"}, "out-of-range", "np"),
    ({"engine": "llama-bench", "np": "8", "ctx": "4"}, "fewer-outputs-than-slots", "np"),
    ({"model": "nope"}, "unknown-model", "model"),
    ({"model": "\0"}, "unknown-model", "model"),
    ({"model": "../../etc/passwd"}, "bad-name", "model"),
    ({"quant": "Q4"}, "unknown-quantization", "quant"),
    ({"kv": "q8_0:q2_k"}, "unknown-cache-type", "kv"),
    ({"kv": "q4_0", "fa": "off"}, "quantized-v-needs-flash-attention", "kv"),
    ({"engine": "tgi"}, "unknown-engine", "engine"),
    ({"device": "rtx-9999"}, "unknown-device", "device"),
    ({"device": ["rtx-4090"] * 17}, "device-count", "device"),
    ({"wired": "4096"}, "not-metal", "wired"),
    ({"model": "x" * 201}, "too-long", "model"),
    ({"device": "x" * 60_000}, "too-long", "device"),
]


@pytest.mark.parametrize("how", ["get", "form", "json"])
@pytest.mark.parametrize(("given", "code", "field"), REFUSED, ids=[f"{code} {field}" for _, code, field in REFUSED])
def test_a_parameter_that_cannot_be(client: FlaskClient, how: str, given: Any, code: str, field: str) -> None:
    if how == "get":
        reply = client.get(URL, query_string=given)
    else:
        reply = client.post(URL, json=given) if how == "json" else client.post(URL, data=given)
    error = failure(reply)
    assert (error["code"], error["field"]) == (code, field)
    assert isinstance(error["allowed"], str | list) or code in ("unknown-model", "unknown-device")


def test_a_parameter_in_the_query_and_in_the_body_is_repeated(client: FlaskClient) -> None:
    error = failure(client.post(f"{URL}?ctx=8k", json={"ctx": 8192}))
    assert (error["code"], error["field"]) == ("repeated", "ctx")


@pytest.mark.parametrize(
    "text",
    ["", "[]", '["model"]', "1", "null", '"model"', "{", '{"ctx": 1', "{'ctx': 1}", "\x00", "9" * 5000],
)
def test_a_body_that_is_no_object(client: FlaskClient, text: str) -> None:
    error = failure(client.post(URL, data=text, content_type="application/json"))
    assert (error["code"], error["field"]) == ("not-an-object", None)


@pytest.mark.parametrize("opening", ["[", '{"ctx":', '{"ctx":['])
def test_a_body_that_is_nested_without_end(client: FlaskClient, opening: str) -> None:
    text = opening * (60_000 // len(opening))
    failure(client.post(URL, data=text, content_type="application/json"))


@pytest.mark.parametrize("value", ["{}", '{"n": 1}', "[[1]]", "[{}]", "1.5", "NaN", "Infinity", "1e400"])
def test_a_value_of_no_use(client: FlaskClient, value: str) -> None:
    error = failure(client.post(URL, data=f'{{"ctx": {value}}}', content_type="application/json"))
    assert (error["code"], error["field"]) == ("wrong-type", "ctx")


def test_whole_numbers_of_any_size_are_read_as_what_they_are(client: FlaskClient) -> None:
    error = failure(client.post(URL, json={"ctx": 2**70}))
    assert (error["code"], error["field"]) == ("not-a-number", "ctx")
    assert str(2**70) in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", None])
def test_a_body_of_another_type_is_not_taken_for_an_empty_one(client: FlaskClient, kind: str | None) -> None:
    error = failure(client.post(URL, data=b'{"model": "qwen3-8b"}', content_type=kind), 415)
    assert (error["code"], error["field"]) == ("unsupported-media-type", None)
    assert "application/json" in error["allowed"]
    assert str(kind or "unknown") in error["message"]


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_that_is_too_large(client: FlaskClient, kind: str) -> None:
    data: Any = {"model": "x" * MAX_CONTENT_LENGTH} if "form" in kind else b'{"model": "%s"}' % (b"x" * 2**20)
    error = failure(client.post(URL, data=data, content_type=kind), 413)
    assert (error["code"], error["field"]) == ("body-too-large", None)
    assert f"{MAX_CONTENT_LENGTH:,} bytes" in error["message"]


def test_text_that_is_not_utf_8(client: FlaskClient) -> None:
    error = failure(client.get(f"{URL}?model=%ff%fe"))
    assert (error["code"], error["field"]) == ("unknown-model", "model")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PK\x03\x04 not a model", "not-gguf"),
        (b"<html>" * 20_000, "not-gguf"),
        (b"GGUF\x63\x00\x00\x00" + bytes(16), "unsupported-version"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "too-many-tensors"),
        (HEADER.read_bytes().replace(b"llama", b"lxama"), "unknown-architecture"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_file_that_is_no_model(client: FlaskClient, data: bytes, code: str) -> None:
    assert failure(client.post(GGUF, data=data))["code"] == code


def test_a_header_that_is_too_large(client: FlaskClient) -> None:
    length = {"CONTENT_LENGTH": str(MAX_BODY + 1)}
    error = failure(client.post(GGUF, data=b"GGUF", environ_overrides=length), 413)
    assert error["code"] == "body-too-large"
    assert f"{MAX_BODY:,} bytes" in error["message"]


@pytest.mark.parametrize("path", ["/api/", "/api/v1/", "/api/v1/nope", "/api/v2/estimate", "/api/v1/estimate/"])
def test_an_unknown_path_of_the_api(client: FlaskClient, path: str) -> None:
    assert failure(client.get(path), 404)["code"] == "not-found"


WRONG_METHODS = [
    ("DELETE", URL, {"GET", "HEAD", "OPTIONS", "POST"}),
    ("PUT", URL, {"GET", "HEAD", "OPTIONS", "POST"}),
    ("GET", GGUF, {"OPTIONS", "POST"}),
    ("POST", "/api/v1/models", {"GET", "HEAD", "OPTIONS"}),
]


@pytest.mark.parametrize(("method", "path", "_"), WRONG_METHODS)
def test_a_wrong_method(client: FlaskClient, method: str, path: str, _: set[str]) -> None:
    assert failure(client.open(path, method=method), 405)["code"] == "method-not-allowed"


@pytest.mark.parametrize(("method", "path", "allowed"), WRONG_METHODS)
def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient, method: str, path: str, allowed: set[str]) -> None:
    assert set(client.open(path, method=method).headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/nope", 404, "Not Found"),
        ("GET", "/static/x", 404, "Not Found"),
        ("POST", "/", 405, "Method Not Allowed"),
    ],
)
def test_people_get_a_page(client: FlaskClient, method: str, path: str, status: int, title: str) -> None:
    reply = client.open(path, method=method)
    assert (reply.status_code, reply.mimetype) == (status, "text/html")
    page = parse(reply.text)
    assert page.one("h1").text == title
    assert any(link.attributes["href"] == "/" for link in page.one("main").all("a"))


@pytest.mark.parametrize(("path", "kind"), [(URL, "application/json"), ("/", "text/html")])
def test_a_fault_of_ours_says_nothing_of_the_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str, kind: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr("app.api.outcome_of", broken)
    monkeypatch.setattr("app.pages.answer", broken)
    reply = create_app().test_client().get(path)
    assert (reply.status_code, reply.mimetype) == (500, kind)
    assert "secret" not in reply.text
    assert "secret of the house" in caplog.text
    if kind == "application/json":
        assert failure(reply, 500)["code"] == "internal-server-error"
