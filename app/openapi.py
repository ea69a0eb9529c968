"""The API's description in OpenAPI 3.1, made from the tables that the code itself uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app import schemas
from app.parameters import OPTIONS, PARAMETERS, SURVEY_PARAMETERS
from app.schemas import Schema, object_of
from estimator.sources.split import MAX_SHARDS

if TYPE_CHECKING:
    from collections.abc import Mapping


def document() -> dict[str, Any]:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fathom",
            "version": "1",
            "description": "How many bytes a language model takes in llama.cpp, and how deep a context fits.",
        },
        "paths": {
            "/api/v1/estimate": {
                "get": _get("What a model takes.", "Estimate"),
                "post": _post("The same, from a body.", "Estimate"),
            },
            "/api/v1/matrix": {
                "get": _get("Every pair of K and V types: how deep it gets, and what it saves.", "Matrix"),
                "post": _post("The same, from a body.", "Matrix"),
            },
            "/api/v1/compare": {
                "get": _get("Every engine on one model and devices: how deep each of its cache types gets.", "Compare"),
                "post": _post("The same, from a body.", "Compare"),
            },
            "/api/v1/support": {"get": _support()},
            "/api/v1/plan": {"get": _get("What would make it fit, least harm first: each change is enough.", "Plan")},
            "/api/v1/survey": {"get": _survey()},
            "/api/v1/devices": {"get": _listing("All device profiles, with the source of each figure.")},
            "/api/v1/models": {"get": _listing("All bundled models and their quantizations.")},
            "/api/v1/engines": {"get": _listing("All engines: cache types, formats of weights, options of their own.")},
            "/api/v1/cache-types": {"get": _listing("The types that K and V can be stored in.")},
            "/api/v1/gguf": {"post": _gguf()},
            "/healthz": {"get": _listing("Whether the service answers.")},
        },
        "components": {
            "schemas": {
                "Estimate": schemas.estimate_schema(),
                "Plan": schemas.plan_schema(),
                "Matrix": schemas.matrix_schema(),
                "Compare": schemas.compare_schema(),
                "Support": schemas.support_schema(),
                "Survey": schemas.survey_schema(),
                "Share": schemas.share_schema(),
                "Error": schemas.error_schema(),
            }
        },
    }


def _get(summary: str, answer: str) -> dict[str, Any]:
    return {"summary": summary, "parameters": _in_query(PARAMETERS | OPTIONS), "responses": _responses(answer)}


def _support() -> dict[str, Any]:
    return {
        "summary": "Which pairs of K and V types each engine runs on devices, with the version and place that say so.",
        "parameters": _in_query({"device": PARAMETERS["device"]}),
        "responses": {
            "200": _json("All engines; of llama.cpp's programs one stands for all.", "Support"),
            "400": _json("What is wrong, and what would work.", "Error"),
        },
    }


def _survey() -> dict[str, Any]:
    return {
        "summary": "What runs on devices: of every bundled model the largest quantization that fits, and how deep.",
        "parameters": _in_query(SURVEY_PARAMETERS),
        "responses": {
            "200": _json("All models that are looked for: those that run first.", "Survey"),
            "400": _json("What is wrong, and what would work.", "Error"),
        },
    }


def _in_query(parameters: Mapping[str, tuple[str, Schema]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
        for name, (description, schema) in parameters.items()
    ]


def _post(summary: str, answer: str) -> dict[str, Any]:
    properties = {
        name: {**schema, "description": description} for name, (description, schema) in (PARAMETERS | OPTIONS).items()
    }
    body = {"schema": {"type": "object", "properties": properties, "additionalProperties": False}}
    content = {"application/json": body, "application/x-www-form-urlencoded": body}
    return {"summary": summary, "requestBody": {"content": content}, "responses": _responses(answer)}


def _gguf() -> dict[str, Any]:
    first_bytes = {"type": "string", "format": "binary"}
    files = {"type": "object", "properties": {"file": {"type": "array", "items": first_bytes, "maxItems": MAX_SHARDS}}}
    needed: Schema = {"type": ["integer", "array"], "items": {"type": "integer"}, "minimum": 1}
    more = object_of({"needed": {**needed, "description": "bytes from the start of the file, or of each file"}})
    header = {"description": "The same numbers, with commas between.", "schema": {"type": "string"}}
    return {
        "summary": "What model the first bytes of a GGUF file describe; of all files where the model is in several.",
        "requestBody": {
            "content": {
                "application/octet-stream": {"schema": first_bytes},
                "multipart/form-data": {"schema": files},
            }
        },
        "responses": {
            "200": _content("The model, and its facts for a link.", schemas.file_schema()),
            "206": {**_content("A header is longer: send more.", more), "headers": {"Fathom-Needed": header}},
            "400": _json("Not a GGUF header, or one that cannot be read.", "Error"),
            "413": _json("The body is too large.", "Error"),
        },
    }


def _listing(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary}}}


def _responses(answer: str) -> dict[str, Any]:
    errors = {
        "400": "What is wrong, and what would work.",
        "403": "The files of a model on the Hub are gated, and the server has no token for them.",
        "404": "No such repository, revision or file on the Hub.",
        "502": "The Hub failed, or sent what cannot be read.",
        "503": "The Hub cannot be reached or wants fewer requests; Retry-After says when to ask again, if it is known.",
        "504": "The Hub did not answer in time.",
    }
    return {
        "200": _json("The answer.", answer),
        **{status: _json(text, "Error") for status, text in errors.items()},
    }


def _json(description: str, schema: str) -> dict[str, Any]:
    return _content(description, {"$ref": f"#/components/schemas/{schema}"})


def _content(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
