"""The application, and somebody who asks it things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app import create_app

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


@pytest.fixture(scope="session")
def app() -> Flask:
    """The application; what it does not handle is raised in the test."""
    return create_app({"TESTING": True})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor without a past."""
    return app.test_client()
