"""The API's description in OpenAPI 3.1, made from the tables that the code itself uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app import schemas
from app.hub import MAX_NAME
from app.parsing import MAX_TEXT
from app.query import own_options
from app.schemas import Schema, object_of
from estimator.engines.registry import ENGINES
from estimator.estimate import MAX_DEVICES
from estimator.ggml import CACHE_TYPES
from estimator.sources.facts import MAX_TEXT as MAX_FACTS
from estimator.sources.quantize import FILE_TYPES
from estimator.sources.split import MAX_SHARDS
from estimator.usage import SYSTEMS

if TYPE_CHECKING:
    from estimator.engines.options import Option

TEXT: Final[Schema] = {"type": "string", "maxLength": MAX_TEXT}


def options_of_engines() -> dict[Option, list[str]]:
    """All options of engines, and who has each; those of one name count once."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for engine in ENGINES:
        for option in own_options(engine):
            found.setdefault(option.name, (option, []))[1].append(engine.name)
    return dict(found.values())


PARAMETERS: Final[dict[str, tuple[str, Schema]]] = {
    "model": (
        "A bundled model (see /api/v1/models), or one on the Hugging Face Hub: org/repo, org/repo/file.gguf or a link; "
        "@revision behind it is a branch, a tag or a commit.",
        {"type": "string", "maxLength": MAX_NAME},
    ),
    "quant": (
        "Quantization of the weights; of a repository with GGUF files, which of them, or the nearest in size.",
        {"type": "string", "enum": list(FILE_TYPES)},
    ),
    "facts": (
        "All of a model that is not bundled, in place of model and quant: what /api/v1/gguf answers.",
        {"type": "string", "maxLength": MAX_FACTS},
    ),
    "ctx": ("Context in tokens (32768 or 32k), or auto: what the model was trained for.", TEXT),
    "kv": (f"Cache type for both sides, or TYPE_K:TYPE_V, of {', '.join(CACHE_TYPES)}.", TEXT),
    "fa": ("Flash attention.", {"type": "string", "enum": ["on", "off"]}),
    "ub": ("Tokens of a physical batch (n_ubatch).", TEXT),
    "np": ("Slots (n_parallel), or auto: the program's own number.", TEXT),
    "ngl": ("Layers on devices (n_gpu_layers), or all.", TEXT),
    "ncmoe": ("The first layers whose experts stay in system memory (--n-cpu-moe), or all (--cpu-moe).", TEXT),
    "ncffn": ("The first layers whose dense feed-forward stays in system memory (--n-cpu-ffn).", TEXT),
    "kvo": ("The cache on devices (--kv-offload) or in system memory.", {"type": "string", "enum": ["on", "off"]}),
    "device": (
        "A device by id or name (rtx-4090, RTX 4090 24 GB), several (2 x RTX 3090), or any of a size (cuda-24gb, "
        "rocm-16gb, metal-64gb); repeat it for others that share the layers. See /api/v1/devices.",
        {"type": "array", "items": TEXT, "maxItems": MAX_DEVICES},
    ),
    "ts": ("Share of the layers for each device (--tensor-split), such as 3,1; without it by free memory.", TEXT),
    "os": (
        "What the machine runs: Windows and WSL keep a part of the memory; macos-15 is that or an older version.",
        {"type": "string", "enum": list(SYSTEMS)},
    ),
    "desktop": ("Whether the first device draws a desktop.", {"type": "string", "enum": ["on", "off"]}),
    "ecc": ("Error correction on workstation cards that ship without.", {"type": "string", "enum": ["on", "off"]}),
    "taken": ("MiB that other programs have taken of each device, such as 800,300.", TEXT),
    "wired": ("Metal: iogpu.wired_limit_mb in MiB; 0 is macOS's default.", TEXT),
    "gtt": ("APUs of AMD: MiB of memory that the GPU may use; 0 is the default, half of it.", TEXT),
    "ram": ("How fast the system's memory is read, in GB/s, or auto: 89.6, two channels of DDR5-5600.", TEXT),
    "engine": (
        "What runs the model; see /api/v1/engines. Options that only it has are parameters, too, by its own names.",
        {"type": "string", "enum": [known.id for known in ENGINES]},
    ),
    "weights": ("Format of the weights for engines of checkpoints; without it the nearest to quant.", TEXT),
    "draft": ("A bundled model that proposes tokens, ID or ID:QUANT (Q4_K_M without); the context is as long.", TEXT),
    "mmproj": ("Size of the projector's file: bytes, or with M or G for MiB or GiB.", TEXT),
}
"""Parameters of the page and of /api/v1/estimate: description and schema."""


OPTIONS: Final[dict[str, tuple[str, Schema]]] = {
    option.name: (f"{option.label} ({', '.join(names)}): {option.summary}".rstrip(": ") + ".", TEXT)
    for option, names in options_of_engines().items()
}
"""Options that only some engines have, by the engines' own names of them."""


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
            "/api/v1/plan": {"get": _get("What would make it fit, least harm first: each change is enough.", "Plan")},
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
                "Share": schemas.share_schema(),
                "Error": schemas.error_schema(),
            }
        },
    }


def _get(summary: str, answer: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
        for name, (description, schema) in (PARAMETERS | OPTIONS).items()
    ]
    return {"summary": summary, "parameters": parameters, "responses": _responses(answer)}


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
