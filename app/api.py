"""The JSON API: the page's own parameters in, the estimate out."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, jsonify, request, url_for

from app.advice import advice
from app.errors import RequestError
from app.openapi import document
from app.outcome import outcome
from app.query import Query, checked, parse
from app.values import texts
from estimator import devices
from estimator.accuracy import band
from estimator.ggml import CACHE_TYPES, block_elements, cache_type, row_bytes
from estimator.sources.catalogue import QUANTIZATIONS, entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.library import Loaded
    from app.outcome import Outcome
    from estimator import Bound, Estimate, Model, Share

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
    return jsonify(_estimate_body(query, loaded, outcome(checked(query, loaded.model), query.host_bandwidth_gbps)))


@api.get("/api/v1/plan")
def api_plan() -> Response:
    """What would make a state fit: each change with the page and the estimate of the state that it leads to."""
    query = parse(given_state())
    loaded = query.load()
    found = advice(query, loaded.full, checked(query, loaded.model))
    return jsonify({"changes": [{**asdict(one), "links": _links(one.query)} for one in found]})


@api.get("/api/v1/devices")
def api_devices() -> Response:
    """All device profiles, with the source of each figure."""
    return jsonify({"devices": [asdict(device) for device in devices()]})


@api.get("/api/v1/models")
def api_models() -> Response:
    """All bundled models and the quantizations that each is offered in."""
    return jsonify({"models": [asdict(entry) for entry in entries()], "quantizations": QUANTIZATIONS})


@api.get("/api/v1/cache-types")
def api_cache_types() -> Response:
    """The types that K and V can be stored in, with the bytes of a block."""
    return jsonify({"cache_types": [_cache_type(name) for name in CACHE_TYPES]})


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


def _estimate_body(query: Query, loaded: Loaded, found: Outcome) -> dict[str, Any]:
    model, source, now = loaded.model, loaded.source, found.estimate
    measured = band(model, found.asked.settings, len(found.asked.devices))
    return {
        "model": {
            "id": None if query.facts else query.model,
            **model_body(model),
            "source": source and source.as_json(),
        },
        "settings": _settings_body(query, now),
        "devices": [share_body(share) for share in now.devices],
        "host": share_body(now.host),
        "fits": now.fits,
        "safe": now.is_safe,
        "max_context": found.max_context,
        "safe_context": found.safe_context,
        "verdict": asdict(found.verdict),
        "sharing": [asdict(part) for part in found.parts],
        "bound": _bound_body(found.bound) if found.bound else None,
        "lines": [asdict(line) for line in now.lines],
        "warnings": [warning._asdict() for warning in (*now.warnings, *loaded.warnings)],
        "accuracy": measured._asdict() if measured else None,
        "links": _links(query.canonical()),
    }


def _links(canonical: str) -> dict[str, str]:
    """The page of a state, and its estimate."""
    suffix = f"?{canonical}" if canonical else ""
    page, own = url_for("pages.index", _external=True), url_for("api.api_estimate", _external=True)
    return {"page": page + suffix, "self": own + suffix}


def _bound_body(bound: Bound) -> dict[str, Any]:
    """A bound on decoding, with what has to be read for a token."""
    return {"tokens_per_second": bound.tokens_per_second, **asdict(bound)}


def model_body(model: Model) -> dict[str, Any]:
    """The facts of a model."""
    return {
        "name": model.name,
        "architecture": model.architecture,
        "file_type": model.file_type,
        "parameters": model.parameters,
        "weights_bytes": model.weights_bytes,
        "context_length": model.context_length,
        "n_layer": model.n_layer,
        "n_embd": model.n_embd,
        "n_vocab": model.n_vocab,
    }


def share_body(share: Share) -> dict[str, Any]:
    """What one device holds, in bytes."""
    return {
        "id": share.id,
        "label": share.label,
        "name": share.name,
        "weights": share.weights,
        "kv_cache": share.kv_cache,
        "recurrent_state": share.recurrent_state,
        "compute": share.compute,
        "overhead": share.overhead,
        "total": share.total,
        "capacity": share.capacity,
        "fits": share.fits,
    }


def _settings_body(query: Query, now: Estimate) -> dict[str, Any]:
    """The settings as asked, under the query's names, and as llama.cpp resolves them."""
    context = now.context
    return {
        "quant": None if query.facts else query.quant,
        "kv": texts("kv", query.kv)[0],
        "engine": query.engine,
        "n_ctx": context.n_ctx,
        "n_ctx_seq": context.n_ctx_seq,
        "n_ubatch": context.n_ubatch,
        "n_parallel": context.n_seq_max,
        "kv_unified": context.n_stream == 1,
        "cache_type_k": query.kv[0],
        "cache_type_v": query.kv[1],
        "flash_attn": context.flash_attn,
        "swa_full": context.swa_full,
        "n_outputs": context.n_outputs,
        "n_gpu_layers": query.ngl,
        "offload_kqv": context.offload_kqv,
        "tensor_split": list(query.ts) or None,
        "cpu_tensors": query.settings().cpu_tensors,
        "system": query.os,
        "desktop": query.desktop,
        "ecc": query.ecc,
        "taken_mib": list(query.taken),
        "host_bandwidth_gbps": query.host_bandwidth_gbps,
        "draft": query.draft or None,
        "mmproj": query.mmproj,
    }


def _cache_type(name: str) -> dict[str, Any]:
    element_type = cache_type(name)
    elements = block_elements(element_type)
    return {"id": name, "block_elements": elements, "block_bytes": row_bytes(element_type, elements)}
