"""The factory: every application is its own, and where its limits come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import config, create_app

if TYPE_CHECKING:
    import pytest


def limit(overrides: dict[str, object] | None = None) -> int | None:
    """The length of body that an application takes."""
    length: int | None = create_app(overrides).config["MAX_CONTENT_LENGTH"]
    return length


def test_defaults() -> None:
    assert limit() == config.MAX_CONTENT_LENGTH == 65536


def test_the_environment_beats_the_defaults_and_overrides_beat_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_MAX_CONTENT_LENGTH", "100")
    monkeypatch.setenv("MAX_CONTENT_LENGTH", "7")
    monkeypatch.setenv("FLASK_MAX_CONTENT_LENGTH", "8")
    assert limit() == 100
    assert limit({"MAX_CONTENT_LENGTH": 50}) == 50
    assert limit({"OTHER": 1}) == 100


def test_a_limit_of_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_MAX_CONTENT_LENGTH", "100")
    client = create_app().test_client()
    assert client.post("/api/v1/estimate", json={"ctx": 8192}).status_code == 200
    assert client.post("/api/v1/estimate", json={"ctx": "8192" + " " * 100}).status_code == 413


def test_the_time_that_files_are_kept_can_be_set() -> None:
    app = create_app({"SEND_FILE_MAX_AGE_DEFAULT": 60})
    with app.test_client().get(f"{app.static_url_path}/app.css") as reply:
        assert reply.cache_control.max_age == 60


def test_applications_share_nothing() -> None:
    one, other = create_app({"MAX_CONTENT_LENGTH": 1}), create_app()
    assert one is not other
    assert other.config["MAX_CONTENT_LENGTH"] == config.MAX_CONTENT_LENGTH


def test_a_service_keeps_no_debugging_on() -> None:
    app = create_app()
    assert not app.debug
    assert not app.testing


def test_json_keeps_the_order_of_the_contract() -> None:
    answer = create_app().test_client().get("/api/v1/estimate").text
    places = [answer.index(f'"{name}":') for name in ("model", "settings", "devices", "host", "lines", "links")]
    assert places == sorted(places)
