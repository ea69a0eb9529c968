"""How far each setting goes by itself, all else as it is: what the inverse questions answer, as links."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app import text
from estimator.inverse import (
    best_pair,
    best_split,
    fewest_expert_layers,
    largest_quantization,
    most_layers,
    most_slots,
)
from estimator.sources.catalogue import QUANTIZATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.outcome import Outcome
    from app.query import Query
    from estimator import Model

NONE = "none fits"


@dataclass(frozen=True, slots=True)
class Reach:
    """One setting: what it is ``now``, how far it goes, and the query that leads there; empty where nothing fits."""

    kind: str
    says: str
    now: str
    most: str
    query: str


def reach(query: Query, full: Model | None, found: Outcome) -> tuple[Reach, ...]:
    """How far the settings of a state go.

    Args:
        full: the model in full precision, where it is at hand.
        found: the answer to the state.
    """
    return (*_of_context(query, found), *_of_weights(query, full, found), *_of_places(query, found))


def _of_context(query: Query, found: Outcome) -> Iterator[Reach]:
    """The context, slots that have as much of it each, the types of its cache."""
    model, settings, devices, beside = asked = found.asked
    context = found.estimate.context
    other = replace(query, ctx=found.max_context)
    yield _one("n_ctx", "Deepest context", _tokens(context.n_ctx), _tokens(found.max_context), other)
    if not model.traits.cached:
        return
    slots = most_slots(model, settings, devices, context.n_ctx_seq, beside)
    says = f"Most slots with {text.tokens(context.n_ctx_seq)} tokens each"
    other = replace(query, np=slots or 1, ctx=(slots or 1) * context.n_ctx_seq)
    shared = context.n_stream == 1 < context.n_seq_max
    now = f"{context.n_seq_max} that share one cache" if shared else str(context.n_seq_max)
    yield _one("n_parallel", says, now, str(slots or ""), other)
    pair = best_pair(*asked)
    most = " : ".join(dict.fromkeys(pair)) if pair else ""
    now = " : ".join(dict.fromkeys(query.kv))
    yield _one("cache_types", "Cache of the most bits", now, most, replace(query, kv=pair or query.kv))


def _of_weights(query: Query, full: Model | None, found: Outcome) -> Iterator[Reach]:
    """The quantization."""
    if full:
        _, settings, devices, beside = found.asked
        name = largest_quantization(full, settings, devices, QUANTIZATIONS, beside) or ""
        yield _one("file_type", "Largest quantization", query.quant, name, replace(query, quant=name or query.quant))


def _of_places(query: Query, found: Outcome) -> Iterator[Reach]:
    """Layers on devices, experts in system memory, how devices share the layers."""
    model, settings, devices, beside = asked = found.asked
    count = model.n_layer_all + 1
    layers = most_layers(*asked)
    now = str(count if query.ngl < 0 else min(query.ngl, count))
    most = "" if layers is None else f"{layers} of {count}"
    other = replace(query, ngl=-1 if layers is None or layers == count else layers)
    yield _one("n_gpu_layers", "Most layers on devices", f"{now} of {count}", most, other)
    if any(layer.n_expert for layer in model.kinds):
        fewest = fewest_expert_layers(model, settings, devices, query.ncffn, beside)
        most = "" if fewest is None else str(fewest)
        now = "all" if query.ncmoe < 0 else str(query.ncmoe)
        yield _one("n_cpu_moe", "Fewest layers with experts on the CPU", now, most, replace(query, ncmoe=fewest or 0))
    if len(devices) > 1:
        split = best_split(*asked)
        now = ",".join(map(str, query.ts)) or "by free memory"
        most = ",".join(map(str, split))
        yield _one("tensor_split", "Split that leaves the most", now, most, replace(query, ts=split))


def _one(kind: str, says: str, now: str, most: str, other: Query) -> Reach:
    return Reach(kind, says, now, most or NONE, other.canonical() if most else "")


def _tokens(n: int) -> str:
    return text.tokens(n) if n else ""
