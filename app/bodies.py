"""What the API answers, as JSON: everything that the page says, in the query's and llama.cpp's names."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flask import url_for

from app.outcome import Outcome
from app.query import own_options
from app.recipes import recipes
from app.values import texts
from estimator.accuracy import band
from estimator.ggml import block_elements, cache_type, row_bytes

if TYPE_CHECKING:
    from app.library import Loaded
    from app.outcome import AnyOutcome, EngineOutcome
    from app.query import Query
    from estimator import Bound, Estimate, Model, Share
    from estimator.engines.base import Engine


def estimate_body(query: Query, loaded: Loaded, found: AnyOutcome) -> dict[str, Any]:
    model, source, now = loaded.model, loaded.source, found.estimate
    measured = band(model, found.asked.settings, len(found.devices)) if isinstance(found, Outcome) else None
    return {
        "model": {
            "id": None if query.facts else query.model,
            **model_body(model),
            "source": source and source.as_json(),
        },
        "settings": _settings_body(query, found.estimate) if isinstance(found, Outcome) else _job_body(found),
        "devices": [share_body(share) for share in now.devices],
        "host": share_body(now.host),
        "fits": now.fits,
        "safe": now.is_safe,
        "max_context": found.max_context,
        "safe_context": found.safe_context,
        "verdict": asdict(found.verdict),
        "sharing": [asdict(part) for part in found.parts],
        "bound": _bound_body(found.bound) if found.bound else None,
        "budget": asdict(found.budget) if found.budget else None,
        "recipes": [asdict(recipe) for recipe in recipes(query, model)],
        "lines": [asdict(line) for line in now.lines],
        "warnings": [warning._asdict() for warning in (*now.warnings, *loaded.warnings)],
        "accuracy": measured._asdict() if measured else None,
        "links": links(query.canonical()),
    }


def links(canonical: str) -> dict[str, str]:
    """The page of a state, and its estimate."""
    suffix = f"?{canonical}" if canonical else ""
    page, own = url_for("pages.index", _external=True), url_for("api.api_estimate", _external=True)
    return {"page": page + suffix, "self": own + suffix}


def engine_body(engine: Engine) -> dict[str, Any]:
    kinds = [
        {"id": one.id, "label": one.label, "bytes_per_element": one.bytes_per_element(), "note": one.note}
        for one in engine.cache_types
    ]
    return {
        "id": engine.id,
        "name": engine.name,
        "version": engine.version,
        "source": engine.source,
        "backends": engine.backends,
        "separate_kv": engine.separate_kv,
        "cache_types": kinds,
        "weights": [{"id": one.id, "label": one.label, "note": one.note} for one in engine.weight_formats],
        "options": [asdict(option) for option in own_options(engine)],
    }


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


def _job_body(found: EngineOutcome) -> dict[str, Any]:
    """The settings as another engine runs them, every default filled in."""
    job = found.job
    return {
        "engine": found.engine.id,
        "version": found.engine.version,
        "n_ctx": found.n_ctx,
        "n_requests": found.estimate.n_requests,
        "cache_type_k": job.type_k.id,
        "cache_type_v": job.type_v.id,
        "weight_format": job.format.id if job.format else None,
        "chunk": job.chunk,
        "flash_attn": job.flash_attn,
        "options": dict(job.options),
    }


def cache_type_body(name: str) -> dict[str, Any]:
    element_type = cache_type(name)
    elements = block_elements(element_type)
    return {"id": name, "block_elements": elements, "block_bytes": row_bytes(element_type, elements)}
