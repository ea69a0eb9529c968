"""How failures answer: as JSON for the API, as a page for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from app.errors import RequestError, error_body

if TYPE_CHECKING:
    from flask import Flask, Response

    Answer = tuple[Response | str, int]


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(RequestError, _bad_request)
    app.register_error_handler(HTTPException, _http_error)


def _bad_request(error: RequestError) -> Answer:
    return jsonify(error_body(error.code, error.field, error.message, error.allowed)), error.status


def _http_error(error: HTTPException) -> Answer:
    status = error.code or 500
    if request.path.startswith("/api/"):
        code = error.name.lower().replace(" ", "-")
        return jsonify(error_body(code, None, error.description or error.name, None)), status
    return render_template("error.html", status=status, name=error.name, description=error.description), status
