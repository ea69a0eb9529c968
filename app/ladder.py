"""What each quantization of a model takes, and how deep it gets: from the most bytes to the fewest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from estimator import max_context
from estimator.companions import ALONE
from estimator.estimate import fixed
from estimator.inverse import quantized
from estimator.sources.catalogue import QUANTIZATIONS

if TYPE_CHECKING:
    from app.query import Asked, Query
    from estimator import Model


@dataclass(frozen=True, slots=True)
class Rung:
    """One quantization. ``size`` is bytes of the file's tensors, ``max_context`` tokens, ``query`` leads to it."""

    name: str
    size: int
    bits: float
    max_context: int
    query: str
    chosen: bool


def ladder(query: Query, full: Model, asked: Asked) -> list[Rung]:
    """The quantizations that are offered first, and the chosen one.

    Args:
        full: the model in full precision, from which each is made.
        asked: what the core is asked of the chosen one.
    """
    names = dict.fromkeys((*QUANTIZATIONS, query.quant))
    models = [model for name in names if (model := quantized(full, name))]
    return [
        _rung(query, model, _deepest(model, full, asked))
        for model in sorted(models, key=lambda model: model.weights_bytes, reverse=True)
    ]


def _deepest(model: Model, full: Model, asked: Asked) -> int:
    """The deepest context. Where all is on one device only the weights differ, so that one graph serves all rungs."""
    settings, devices = asked.settings, asked.devices
    is_whole = settings.n_gpu_layers == -1 and settings.cpu_tensors is None and settings.offload_kqv
    if len(devices) > 1 or not is_whole or asked.companions != ALONE:
        return max_context(*asked._replace(model=model))
    (more,), (whole,) = (fixed(one, settings, devices) for one in (model, full))
    return max_context(full, settings, devices, spare=more - whole)


def _rung(query: Query, model: Model, deepest: int) -> Rung:
    name = model.file_type or ""
    n_elements = sum(tensor.n_elements for tensor in model.tensors)
    return Rung(
        name=name,
        size=model.weights_bytes,
        bits=model.weights_bytes * 8 / n_elements,
        max_context=deepest,
        query=replace(query, quant=name).canonical(),
        chosen=name == query.quant,
    )
