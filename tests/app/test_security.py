"""Headers of every response, and the policy that keeps foreign code out of the page."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from app import create_app
from tests.app import html

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.wrappers import Response

REPLIES = [
    ("GET", "/", 200),
    ("HEAD", "/", 200),
    ("GET", "/?model=nope", 400),
    ("POST", "/", 405),
    ("GET", "/nope", 404),
    ("GET", "/static/nope", 404),
    ("GET", "/healthz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/api/v1/estimate", 200),
    ("OPTIONS", "/api/v1/estimate", 200),
    ("GET", "/api/v1/estimate?ctx=x", 400),
    ("DELETE", "/api/v1/estimate", 405),
    ("GET", "/api/v1/nope", 404),
    ("POST", "/api/v1/gguf", 206),
]


def policy(reply: Response) -> dict[str, list[str]]:
    """The content security policy as directives."""
    (header,) = reply.headers.getlist("Content-Security-Policy")
    directives = [part.split() for part in header.split(";")]
    assert len({name for name, *_ in directives}) == len(directives)
    return {name: values for name, *values in directives}


def assert_safe(reply: Response) -> None:
    """All headers are there."""
    directives = policy(reply)
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == ["'self'"]
    assert directives["frame-ancestors"] == directives["base-uri"] == ["'none'"]
    assert directives["form-action"] == directives["connect-src"] == ["'self'"]
    for values in directives.values():
        assert not any(value in ("*", "http:", "https:") or value.startswith("'unsafe") for value in values)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in reply.headers["Permissions-Policy"]


@pytest.mark.parametrize(("method", "path", "status"), REPLIES, ids=[f"{how} {path}" for how, path, _ in REPLIES])
def test_every_reply_has_the_headers(client: FlaskClient, method: str, path: str, status: int) -> None:
    reply = client.open(path, method=method)
    assert reply.status_code == status
    assert_safe(reply)


def test_a_reply_to_a_body_that_is_too_large_has_them_too(client: FlaskClient) -> None:
    reply = client.post("/api/v1/estimate", data={"model": "x" * 2**20})
    assert reply.status_code == 413
    assert_safe(reply)


def test_a_fault_of_ours_has_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("app.pages.answer", broken)
    reply = create_app().test_client().get("/")
    assert reply.status_code == 500
    assert_safe(reply)


def test_a_static_file_has_them_too(app: Flask, client: FlaskClient) -> None:
    with client.get(f"{app.static_url_path}/js/main.js") as reply:
        assert reply.status_code == 200
        assert_safe(reply)


def test_a_view_may_set_a_header_itself(client: FlaskClient, app: Flask) -> None:
    with app.test_request_context("/"):
        response = app.make_response("x")
        response.headers["Referrer-Policy"] = "no-referrer"
        assert app.process_response(response).headers.getlist("Referrer-Policy") == ["no-referrer"]


def test_the_one_style_that_is_allowed_is_empty(client: FlaskClient) -> None:
    empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert policy(client.get("/"))["style-src"] == ["'self'", f"'sha256-{empty}'"]


@pytest.mark.parametrize("path", ["/", "/?model=nope", "/nope"])
def test_all_that_a_page_loads_is_its_own(app: Flask, client: FlaskClient, path: str) -> None:
    page = html.parse(client.get(path).text)
    loaded = [element.attributes["src"] for element in page.all() if "src" in element.attributes]
    loaded += [link.attributes["href"] for link in page.all("link") if link.attributes["rel"] != "canonical"]
    assert loaded
    for url in loaded:
        assert urlsplit(url).netloc == ""
        assert url.startswith(f"{app.static_url_path}/")
        with client.get(url) as reply:
            assert reply.status_code == 200


@pytest.mark.parametrize("path", ["../app/config.py", "%2e%2e/app/config.py", "js/../../app/config.py", "/etc/passwd"])
def test_no_file_outside_of_the_folder_is_served(app: Flask, client: FlaskClient, path: str) -> None:
    assert client.get(f"{app.static_url_path}/{path}").status_code in (308, 404)
