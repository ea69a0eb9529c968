"""The application, and somebody who asks it things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app import create_app

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


NOWHERE = {"HUB_ENDPOINT": "http://127.0.0.1:9", "HUB_CACHE_BYTES": 0}
"""A Hub that cannot be reached: no test goes out."""


@pytest.fixture(scope="session")
def app() -> Flask:
    """The application; what it does not handle is raised in the test."""
    return create_app({"TESTING": True, **NOWHERE})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor without a past."""
    return app.test_client()
