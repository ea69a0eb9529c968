"""What would make it fit, as links: each change with the page's own answer to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app import text
from app.query import checked
from estimator import changes, device, estimate, max_context
from estimator.errors import FathomError
from estimator.sources.catalogue import QUANTIZATIONS

if TYPE_CHECKING:
    from app.query import Asked, Query
    from estimator import Change, Estimate, Model


@dataclass(frozen=True, slots=True)
class Advice:
    """One change: ``says`` it, ``query`` leads to it.

    ``total`` is what the fullest device then holds, in bytes, ``max_context`` the deepest context then, in tokens.
    """

    kind: str
    says: str
    query: str
    total: int
    capacity: int | None
    max_context: int


def advice(query: Query, full: Model | None, asked: Asked) -> list[Advice]:
    """The smallest change of each kind that is enough by itself, least harm first; none where it fits.

    Args:
        full: the model in full precision, where it is at hand.
        asked: what the core is asked of the query, of which nothing beside the model is changed.
    """
    found = changes(*asked[:3], full=full, file_types=QUANTIZATIONS, companions=asked.companions)
    return [made for change in found if (made := _made(query, change, full, asked))]


def _made(query: Query, change: Change, full: Model | None, asked: Asked) -> Advice | None:
    """The advice, if the link's own answer is that it fits: a query does not say all that settings can."""
    other = replace(query, **_fields(change, query))
    try:
        then = checked(other, asked.model if change.kind != "file_type" else other.load().model)
        now = estimate(*then)
        deepest = max_context(*then)
    except FathomError:
        return None
    if not now.fits:
        return None
    share = max(now.devices, key=lambda share: share.total - (share.capacity or share.total))
    says = _says(change, asked.model, now)
    return Advice(change.kind, says, other.canonical(), share.total, share.capacity, deepest)


def _fields(change: Change, query: Query) -> dict[str, Any]:
    """The change in the query's names."""
    value: Any = change.value
    if change.kind == "n_devices":
        return {"device": query.device[:1] * value}
    names = {
        "tensor_split": "ts",
        "n_ubatch": "ub",
        "n_parallel": "np",
        "cache_types": "kv",
        "n_ctx": "ctx",
        "file_type": "quant",
        "n_cpu_moe": "ncmoe",
        "n_gpu_layers": "ngl",
        "device": "device",
    }
    return {names[change.kind]: (value,) * len(query.device) if change.kind == "device" else value}


def _says(change: Change, model: Model, now: Estimate) -> str:
    value: Any = change.value
    if change.kind == "tensor_split":
        return f"Layers shared as {','.join(map(str, value))} over the devices"
    if change.kind == "cache_types":
        return f"K/V cache in {' : '.join(dict.fromkeys(value))}"
    if change.kind == "device":
        return f"On {text.with_article(text.device_name(device(value)))}"
    if change.kind == "n_devices":
        return f"{value} of this device"
    sentences = {
        "n_ubatch": f"A ubatch of {value} tokens",
        "n_parallel": f"{value} slot" + ("s" if value != 1 else ""),
        "n_ctx": f"{text.tokens(now.context.n_ctx)} tokens of context",
        "file_type": f"Weights in {value}",
        "n_cpu_moe": f"Experts of {value} of {model.n_layer} layers in system memory",
        "n_gpu_layers": f"{value} of {model.n_layer_all + 1} layers on the device, the rest in system memory",
    }
    return sentences[change.kind]
