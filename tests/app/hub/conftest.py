"""A Hub on this machine, and the application that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from app import create_app
from tests.hub_server import HubServer, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask
    from werkzeug.test import TestResponse


@dataclass
class Visitor:
    """Somebody who asks the application for models on the Hub."""

    app: Flask

    def get(self, model: str, **more: str) -> TestResponse:
        return self.app.test_client().get("/api/v1/estimate", query_string={"model": model, **more})

    def answer(self, model: str, **more: str) -> dict[str, Any]:
        """The answer to a question that can be answered."""
        reply = self.get(model, **more)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.get_json()
        return answer

    def error(self, model: str, status: int, **more: str) -> dict[str, Any]:
        """What is said to a question that cannot be answered."""
        reply = self.get(model, **more)
        assert reply.status_code == status, reply.text
        error: dict[str, Any] = reply.get_json()["error"]
        assert error["field"] == "model"
        assert error["allowed"]
        return error


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub without repositories."""
    with running() as server:
        yield server


@pytest.fixture
def settings(hub: HubServer, tmp_path: Path) -> dict[str, Any]:
    """The configuration of an application that asks that Hub."""
    return {"TESTING": True, "HUB_ENDPOINT": hub.endpoint, "HUB_CACHE": str(tmp_path), "HUB_LOOKUP_SECONDS": 5}


@pytest.fixture
def visitor(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Visitor:
    """Somebody at an application without a token."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Visitor(create_app(settings))
