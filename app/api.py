"""The JSON API: the page's own parameters in, the estimate out."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, jsonify, request

from app.advice import advice
from app.bodies import cache_type_body, engine_body, estimate_body, links
from app.errors import RequestError
from app.openapi import document
from app.outcome import outcome, outcome_of
from app.parsing import parse
from app.query import checked
from app.reach import reach
from estimator import devices
from estimator.engines.registry import ENGINES
from estimator.ggml import CACHE_TYPES
from estimator.sources.catalogue import QUANTIZATIONS, entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

api = Blueprint("api", __name__)


def init_app(app: Flask) -> None:
    """Add the API to an application."""
    app.register_blueprint(api)


@api.get("/healthz")
def healthz() -> Response:
    """Whether this process answers."""
    return jsonify({"status": "ok"})


@api.route("/api/v1/estimate", methods=["GET", "POST"])
def api_estimate() -> Response:
    """The estimate of one state, from the query, a form or a JSON object."""
    query = parse(given_state())
    loaded = query.load()
    return jsonify(estimate_body(query, loaded, outcome_of(query, loaded.model)))


@api.get("/api/v1/plan")
def api_plan() -> Response:
    """What would make a state fit, and how far each setting goes: each with the state that it leads to."""
    query = parse(given_state())
    loaded = query.load()
    asked = checked(query, loaded.model)
    found = advice(query, loaded.full, asked)
    limits = reach(query, loaded.full, outcome(asked, query.host_bandwidth_gbps))
    return jsonify(
        {
            "changes": [{**asdict(one), "links": links(one.query)} for one in found],
            "limits": [{**asdict(one), "links": links(one.query) if one.query else None} for one in limits],
        }
    )


@api.get("/api/v1/devices")
def api_devices() -> Response:
    """All device profiles, with the source of each figure."""
    return jsonify({"devices": [asdict(device) for device in devices()]})


@api.get("/api/v1/models")
def api_models() -> Response:
    """All bundled models and the quantizations that each is offered in."""
    return jsonify({"models": [asdict(entry) for entry in entries()], "quantizations": QUANTIZATIONS})


@api.get("/api/v1/engines")
def api_engines() -> Response:
    """All engines: their cache types, formats of weights, and options of their own."""
    return jsonify({"engines": [engine_body(engine) for engine in ENGINES]})


@api.get("/api/v1/cache-types")
def api_cache_types() -> Response:
    """The types that K and V can be stored in, with the bytes of a block."""
    return jsonify({"cache_types": [cache_type_body(name) for name in CACHE_TYPES]})


@api.get("/openapi.json")
def openapi() -> Response:
    """This API in OpenAPI 3.1."""
    return jsonify(document())


def given_state() -> Mapping[str, Sequence[str]]:
    """Names and values of a request, wherever they stand."""
    given: dict[str, list[str]] = {name: request.args.getlist(name) for name in request.args}
    if request.method == "POST":
        for name, values in _body().items():
            given.setdefault(name, []).extend(values)
    return given


def _body() -> Mapping[str, Sequence[str]]:
    if request.is_json:
        return _json_object()
    if request.mimetype in FORM_TYPES or not request.content_length:
        return {name: request.form.getlist(name) for name in request.form}
    allowed = ("application/json", *FORM_TYPES)
    message = f"a body of type {request.mimetype[:60] or 'unknown'!r} is not read"
    raise RequestError("unsupported-media-type", None, message, allowed, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _json_object() -> dict[str, list[str]]:
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise RequestError("not-an-object", None, "the body must be a JSON object of parameters", "a JSON object")
    return {name: _json_values(name, value) for name, value in body.items()}


def _json_values(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for item in values:
        if item is None:
            continue
        if isinstance(item, bool):
            texts.append("on" if item else "off")
        elif isinstance(item, float) and item.is_integer():
            texts.append(str(int(item)))
        elif isinstance(item, str | int):
            texts.append(str(item))
        else:
            message = f"{name[:40]} must be a text, a whole number, true or false"
            raise RequestError("wrong-type", name[:40], message, "a text, a whole number, true or false")
    return texts
