"""How failures answer: as JSON for the API, as a page for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import jsonify, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app.errors import RequestError, error_body

if TYPE_CHECKING:
    from flask import Flask, Response

    Answer = tuple[Response | str, int, dict[str, str]]


JSON_PATHS: Final = ("/api", "/healthz", "/openapi.json")


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(RequestError, _bad_request)
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    app.register_error_handler(HTTPException, _http_error)


def _bad_request(error: RequestError) -> Answer:
    return jsonify(error_body(error.code, error.field, error.message, error.allowed)), error.status, error.headers


def _too_large(_: RequestEntityTooLarge) -> Answer:
    allowed = f"at most {request.max_content_length or 0:,} bytes in {request.max_form_parts} parts"
    message = f"the body is too large; it can be {allowed}"
    return _bad_request(RequestError("body-too-large", None, message, allowed, 413))


def _http_error(error: HTTPException) -> Answer:
    status = error.code or 500
    if request.path.startswith(JSON_PATHS):
        code = error.name.lower().replace(" ", "-")
        body: Response | str = jsonify(error_body(code, None, error.description or error.name, None))
    else:
        body = render_template("error.html", name=error.name, description=error.description)
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    return body, status, {"Allow": allowed} if allowed else {}
