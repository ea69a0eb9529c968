"""What runs on a device: the whole catalogue against it, as a page and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.survey.pages import survey

if TYPE_CHECKING:
    from flask import Flask


def init_app(app: Flask) -> None:
    """Add the page and its JSON to an application."""
    app.register_blueprint(survey)
