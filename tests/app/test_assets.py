"""Static files: kept for ever under an address that changes with them, and compressed on the way."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

import app as package
from app import create_app
from app.assets import digest
from tests.app import html

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

YEAR = 365 * 24 * 3600


def fill(folder: Path, **files: str) -> str:
    """The digest of a folder with these files."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return digest(folder)


def test_the_digest_follows_names_and_contents(tmp_path: Path) -> None:
    digests = [
        fill(tmp_path / "one", a="x", b="y"),
        fill(tmp_path / "content", a="x", b="z"),
        fill(tmp_path / "name", a="x", c="y"),
        fill(tmp_path / "swapped", a="y", b="x"),
        fill(tmp_path / "fewer", a="x"),
    ]
    assert len(set(digests)) == len(digests)
    assert fill(tmp_path / "same", b="y", a="x") == digests[0]
    (tmp_path / "one" / "deeper").mkdir()
    assert digest(tmp_path / "one") == digests[0]
    (tmp_path / "one" / "deeper" / "d").write_text("")
    assert digest(tmp_path / "one") != digests[0]


def test_the_address_has_the_digest(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert app.static_url_path == f"/static/{digest(package.STATIC)}"
    page = html.parse(client.get("/").text)
    assert all(
        script.attributes["src"].startswith(f"{app.static_url_path}/") for script in page.all("script", defer="")
    )
    other = fill(tmp_path / "static", file="x")
    monkeypatch.setattr(package, "STATIC", tmp_path / "static")
    assert create_app().static_url_path == f"/static/{other}" != app.static_url_path


def test_an_old_address_is_gone(client: FlaskClient) -> None:
    assert client.get("/static/000000000000/app.css").status_code == 404


@pytest.mark.parametrize("name", ["app.css", "icon.svg", "js/main.js", "js/chart.js", "vendor/plotly-LICENSE"])
def test_a_file_is_kept_for_a_year(app: Flask, client: FlaskClient, name: str) -> None:
    with client.get(f"{app.static_url_path}/{name}") as reply:
        assert reply.data == (package.STATIC / name).read_bytes()
        assert reply.cache_control.public
        assert reply.cache_control.max_age == YEAR


def test_the_page_itself_is_not_kept(client: FlaskClient) -> None:
    assert client.get("/").cache_control.max_age is None


@pytest.mark.parametrize("name", ["app.css", "js/main.js", "vendor/plotly-basic-4.1.1.min.js"])
def test_a_file_is_compressed_for_those_who_can_read_it(app: Flask, client: FlaskClient, name: str) -> None:
    content = (package.STATIC / name).read_bytes()
    with client.get(f"{app.static_url_path}/{name}", headers={"Accept-Encoding": "gzip"}) as reply:
        assert reply.content_encoding == "gzip"
        assert len(reply.data) < len(content) / 2
        assert gzip.decompress(reply.data) == content
        assert "Accept-Encoding" in reply.vary


@pytest.mark.parametrize("path", ["/", "/api/v1/estimate", "/api/v1/devices"])
def test_a_reply_is_compressed_for_those_who_can_read_it(client: FlaskClient, path: str) -> None:
    plain = client.get(path)
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert plain.content_encoding is None
    assert packed.content_encoding == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert "Accept-Encoding" in plain.vary


def test_a_file_that_is_known_is_not_sent_again(app: Flask, client: FlaskClient) -> None:
    url = f"{app.static_url_path}/js/main.js"
    with client.get(url) as reply:
        tag = reply.headers["ETag"]
    with client.get(url, headers={"If-None-Match": tag}) as reply:
        assert (reply.status_code, reply.data) == (304, b"")
