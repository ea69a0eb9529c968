"""The shapes of the API's answers, as JSON Schema."""

from __future__ import annotations

from typing import Any, Final, get_args

from app.support import SPEEDS
from estimator.ggml import CACHE_TYPES
from estimator.lines import KINDS
from estimator.matrix import State
from estimator.sources.facts import MAX_TEXT as MAX_FACTS

Schema = dict[str, Any]

TOKENS: Final[Schema] = {"type": "integer", "minimum": 0, "description": "tokens"}
STRING: Final[Schema] = {"type": "string"}
BYTES: Final[Schema] = {"type": "integer", "minimum": 0, "description": "bytes"}


def object_of(properties: dict[str, Schema]) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def estimate_schema() -> Schema:
    share = {"$ref": "#/components/schemas/Share"}
    properties = {
        "model": {"type": "object"},
        "settings": {"type": "object"},
        "devices": {"type": "array", "items": share},
        "host": share,
        "fits": {"type": "boolean"},
        "safe": {"type": "boolean", "description": "whether llama.cpp's own margin of 1 GiB stays free, too"},
        "max_context": {"type": "integer", "description": "tokens; 0 if none fits"},
        "safe_context": {"type": "integer", "description": "the deepest that leaves llama.cpp's own margin, too"},
        "verdict": object_of({name: {"type": "string"} for name in ("headline", "detail", "decides", "state")}),
        "sharing": {"type": "array", "items": _part_schema()},
        "bound": _bound_schema(),
        "budget": {"type": ["object", "null"], "description": "what an engine takes whatever the context is"},
        "recipes": {"type": "array", "items": {"type": "object"}},
        "lines": {"type": "array", "items": {"type": "object"}},
        "warnings": {"type": "array", "items": {"type": "object"}},
        "accuracy": _accuracy_schema(),
        "links": {"type": "object"},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def matrix_schema() -> Schema:
    """All pairs; those that llama.cpp refuses have null for each size."""
    size: Schema = {"type": ["integer", "null"]}
    saved = object_of({name: {"type": "integer"} for name in ("kv_cache", "scratch", "net")})
    pair: dict[str, Schema] = {
        "cache_type_k": {"type": "string", "enum": list(CACHE_TYPES)},
        "cache_type_v": {"type": "string", "enum": list(CACHE_TYPES)},
        "state": {"type": "string", "enum": list(get_args(State))},
        "max_context": {**size, "description": "tokens; 0 if none fits"},
        "kv_cache": {**size, "description": "bytes at n_ctx"},
        "compute": {**size, "description": "bytes at n_ctx"},
        "saved": {**saved, "type": ["object", "null"], "description": "bytes less than with f16; net of added scratch"},
        "kernel": {"type": ["object", "null"], "description": "null where no device runs flash attention"},
        "refusal": {"type": ["object", "null"]},
        "page": {"type": "string"},
    }
    properties: dict[str, Schema] = {
        "model": {"type": "object"},
        "n_ctx": {"type": "integer", "minimum": 0, "description": "tokens; what fits is asked of these"},
        "flash_attn": {"type": "boolean"},
        "pairs": {"type": "array", "items": object_of(pair)},
        "quality": {"type": "object", "description": "published figures of perplexity, and notes, with sources"},
        "links": {"type": "object"},
    }
    return object_of(properties)


def _accuracy_schema() -> Schema:
    """The measurements behind estimates of this kind."""
    properties: dict[str, Schema] = {name: {"type": "integer", "minimum": 0} for name in ("cases", "exact", "near")}
    properties["worst"] = {
        "type": "number",
        "description": "largest difference of a size, a fraction of the total",
    }
    return {"type": ["object", "null"], "properties": properties, "required": list(properties)}


def _part_schema() -> Schema:
    """What one of several devices has."""
    properties: dict[str, Schema] = {
        "label": {"type": "string"},
        "layers": {"type": "array", "items": {"type": "integer"}},
        "has_output": {"type": "boolean"},
        "max_context": {"type": "integer", "description": "tokens, were the other devices larger"},
        "copies": {**BYTES, "description": "bytes that only a pipeline needs"},
    }
    return object_of(properties)


def _bound_schema() -> Schema:
    """An upper bound on decoding; null where it is not known or the context does not fit."""
    properties: dict[str, Schema] = {
        "tokens_per_second": {"type": "number"},
        "n_past": {"type": "integer", "description": "tokens in the cache"},
        "readings": {"type": "array", "items": {"type": "object"}},
    }
    return {**object_of(properties), "type": ["object", "null"]}


def share_schema() -> Schema:
    properties: dict[str, Schema] = {name: {"type": "string"} for name in ("id", "label", "name")}
    properties |= dict.fromkeys((*KINDS, "total"), BYTES)
    properties |= {"capacity": {"type": ["integer", "null"]}, "fits": {"type": "boolean"}}
    return {"type": "object", "properties": properties, "required": list(properties)}


def error_schema() -> Schema:
    properties: dict[str, Schema] = {
        "code": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "message": {"type": "string"},
        "allowed": {"type": ["array", "string", "null"], "items": {"type": "string"}},
    }
    error = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def file_schema() -> Schema:
    facts = {"type": ["string", "null"], "description": "null where no link can carry them: warnings say why"}
    properties: dict[str, Schema] = {
        "model": {"type": ["object", "null"]},
        "mmproj": {"type": ["integer", "null"], "description": "bytes, where the file is a projector and no model"},
        "facts": {**facts, "maxLength": MAX_FACTS},
        "links": {"type": ["object", "null"]},
        "warnings": {"type": "array", "items": {"type": "object"}},
    }
    return object_of(properties)


def plan_schema() -> Schema:
    """What would make a state fit."""
    properties: dict[str, Schema] = {name: {"type": "string"} for name in ("kind", "says", "query")}
    properties |= {"total": BYTES, "capacity": {"type": ["integer", "null"]}, "max_context": TOKENS}
    change = object_of({**properties, "links": {"type": "object"}})
    limit = object_of({name: {"type": "string"} for name in ("kind", "says", "now", "most", "query")})
    limit["properties"]["links"] = {"type": ["object", "null"]}
    return object_of({"changes": {"type": "array", "items": change}, "limits": {"type": "array", "items": limit}})


def survey_schema() -> Schema:
    choice: dict[str, Schema] = {
        "kv": {"type": "string", "description": "cache types"},
        "quant": {"type": "string", "description": "the largest that fits beside them"},
        "totals": {"type": "array", "items": BYTES},
        "max_context": {"type": "integer", "description": "tokens"},
        "tokens_per_second": {"type": ["number", "null"], "description": "bound on decoding with a full context"},
        "page": {"type": "string"},
    }
    model: dict[str, Schema] = {name: {"type": "string"} for name in ("id", "name", "family")}
    model |= {name: {"type": "integer"} for name in ("parameters", "active_parameters", "context_length", "n_ctx")}
    model |= {
        "repo": {"type": ["string", "null"]},
        "experts": {"type": "boolean", "description": "one token needs only a part of it"},
        "status": {"type": "string", "enum": ["runs", "smaller-cache", "does-not-run"]},
        "choices": {"type": "array", "items": object_of(choice)},
        "reason": {"type": ["string", "null"], "description": "why it does not run"},
    }
    counts: dict[str, Schema] = {
        name: {"type": "integer", "minimum": 0} for name in ("models", "runs", "smaller_cache", "refused")
    }
    return object_of(
        {
            "settings": {"type": "object"},
            "devices": {"type": "array", "items": {"type": "object"}},
            "headline": {"type": "string"},
            "counts": object_of(counts),
            "models": {"type": "array", "items": object_of(model)},
            "links": {"type": "object"},
        }
    )


def compare_schema() -> Schema:
    """All engines; those that refuse the state have no runs."""
    tokens: Schema = {"type": "integer", "minimum": 0}
    held: dict[str, Schema] = {
        "limit": {"type": ["integer", "null"], "description": "bytes of all devices, or of the budget"},
        **dict.fromkeys(("weights", "other", "cache"), BYTES),
        "per_token": {"type": "number", "description": "bytes of cache"},
    }
    numbers: dict[str, Schema] = {
        "max_context": {**tokens, "description": "as the engine's own option counts it; 0 if none fits"},
        "max_context_of_request": {**tokens, "description": "tokens that each request has then"},
        "n_ctx": {**tokens, "description": "tokens of a request that the sizes are for"},
        "n_requests": {"type": "integer", "minimum": 1},
        "kv_cache": BYTES,
        "kv_cache_per_token": {"type": ["number", "null"], "description": "bytes; null without a cache"},
        "total": BYTES,
        "fits": {"type": "boolean"},
        "budget": {"type": ["object", "null"], "description": "what an engine takes whatever the context is"},
        "at_max_context": {**object_of(held), "type": ["object", "null"]},
    }
    run: dict[str, Schema] = {
        "cache_type_k": {"type": "string"},
        "cache_type_v": {"type": "string"},
        "chosen": {"type": "boolean", "description": "the pair of the state, or what comes nearest to it"},
        "support": object_of(_support_properties()),
        "refusal": {"type": ["string", "null"]},
        "numbers": {**object_of(numbers), "type": ["object", "null"]},
        "links": {"type": "object"},
    }
    engine: dict[str, Schema] = {
        **dict.fromkeys(("id", "name", "version"), STRING),
        "weights": {"type": ["string", "null"], "description": "the format that it loads"},
        "without": {"type": "array", "items": STRING, "description": "parameters that it has no use for"},
        "shares_context": {"type": "boolean", "description": "a context is of all requests together"},
        "refusal": {"type": ["string", "null"]},
        "counterparts": {"type": "object", "description": "types by the bits that engines are compared at"},
        "runs": {"type": "array", "items": object_of(run)},
        "links": {"type": "object"},
    }
    apart: dict[str, Schema] = {"bits": {"type": "integer"}, "says": {"type": "string"}}
    return object_of(
        {
            "model": {"type": "object"},
            "devices": {"type": "array", "items": {"type": "object"}},
            "n_ctx": {"type": "integer", "description": "tokens that are asked for"},
            "headline": {"type": "string"},
            "detail": {"type": "string"},
            "apart": {"type": "array", "items": object_of(apart)},
            "engines": {"type": "array", "items": object_of(engine)},
            "links": {"type": "object"},
        }
    )


def _support_properties() -> dict[str, Schema]:
    speed: Schema = {"type": "string", "enum": list(SPEEDS)}
    return {"speed": speed, **dict.fromkeys(("why", "version", "source"), STRING)}


def support_schema() -> Schema:
    """Pairs of all engines on devices."""
    pair = {**dict.fromkeys(("cache_type_k", "cache_type_v", "kv"), STRING), **_support_properties()}
    engine: dict[str, Schema] = {
        **dict.fromkeys(("id", "name", "version"), STRING),
        "separate_kv": {"type": "boolean"},
        "pairs": {"type": "array", "items": object_of(pair)},
    }
    listed: Schema = {"type": "array", "items": {"type": "object"}}
    return object_of({"devices": listed, "engines": {"type": "array", "items": object_of(engine)}})
