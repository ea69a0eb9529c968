"""What ExLlamaV3 loads and caches, layer by layer (1.6.5). Line numbers are of exllamav3/."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.engines.checkpoint import NAMES, columns
from estimator.engines.exllamav3_tables import HEAD_BITS, RINGS, Exl3
from estimator.engines.layout import layout, shown
from estimator.engines.packing import F16
from estimator.engines.weights import ROLES, role
from estimator.mixers import Mamba2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.engines.base import Job
    from estimator.engines.layout import Cached
    from estimator.engines.weights import Role, WeightFormat
    from estimator.lines import Basis, Kind
    from estimator.model import Model

PAGE: Final = 256
"""Tokens of a page (constants.py:2)."""

BEYOND_WINDOW: Final = 2 * PAGE
"""Tokens that a ring has more than its window (modules/sliding_attn.py:281)."""

STATES: Final = 2
"""Recurrent states of a slot (modules/gated_delta_net.py:289)."""


class Part(NamedTuple):
    """An allocation of one module, before it has a place."""

    kind: Kind
    label: str
    bytes: int
    basis: Basis
    explain: str


def whole_pages(job: Job) -> int:
    """Tokens of the cache."""
    return -(-job.n_ctx // PAGE) * PAGE


def modules(job: Job) -> list[tuple[Part, ...]]:
    """Parts of each layer, and of the output layer, in the order in which they are loaded."""
    assert job.format
    weights = _weights(job.model, job.format, offloaded(job))
    kept = layout(job.model)
    known = {cached: tuple(_caches(job, cached)) for cached in kept}
    layers = [(*weights.get(il, ()), *known[cached], *_states(job, il, cached)) for il, cached in enumerate(kept)]
    return [*layers, weights.get(job.model.n_layer, ())]


@lru_cache(maxsize=64)
def _weights(model: Model, form: WeightFormat, on_host: frozenset[int]) -> dict[int, tuple[Part, ...]]:
    """Weights on devices by layer, the output layer last: without embeddings, and experts of layers ``on_host``."""
    sizes: dict[int, dict[Role, list[int]]] = {}
    for tensor in model.tensors:
        kind = role(model, tensor)
        il = layer_of(model, tensor.name_in_stack)
        if kind == "embedding" or il is None or (kind == "expert" and il in on_host):
            continue
        found = sizes.setdefault(il, {}).setdefault(kind, [0, 0])
        found[0] += form.tensor_bytes(kind, tensor.shape)
        found[1] += tensor.n_elements
    if model.has_tied_output:
        shape = (model.n_embd, model.n_vocab)
        sizes.setdefault(model.n_layer, {})["output"] = [form.tensor_bytes("output", shape), prod(shape)]
    return {il: tuple(_weight(form, role, *sizes[il][role]) for role in ROLES if role in sizes[il]) for il in sizes}


def _weight(form: WeightFormat, role: Role, size: int, n_elements: int) -> Part:
    kept = f"{form.packing}" if role in form.covers else "16 bits"
    if role == "output" and isinstance(form, Exl3):
        kept = f"{HEAD_BITS} bits, a matrix of its own where the embedding is tied"
    return Part("weights", NAMES[role], size, "modelled", f"{n_elements:,} elements, {kept}")


def layer_of(model: Model, name: str) -> int | None:
    """The layer of a tensor, that of the output behind all others; None of layers that are not loaded."""
    part, _, rest = name.partition(".")
    if part != "blk":
        return model.n_layer
    il = int(rest.partition(".")[0])
    return il if il < model.n_layer else None


def offloaded(job: Job) -> frozenset[int]:
    """Layers whose experts are computed by the processor: the first that have any."""
    sparse = [il for il, layer in enumerate(job.model.layers) if layer.n_expert]
    return frozenset(sparse[: job.whole("moe_cpu_offload")])


def _caches(job: Job, cached: Cached) -> Iterator[Part]:
    """The cache of one layer: pages for all requests together, or a ring for each."""
    if cached.attention == "none":
        return
    if cached.attention == "latent":
        yield _latent(job, cached)
    elif cached.window and job.model.architecture in RINGS and not job.is_on("swa_full"):
        ring = -(-(cached.window + BEYOND_WINDOW) // PAGE) * PAGE
        row = 2 * F16.row_bytes(cached.n_head_kv * cached.n_embd_head_k)
        explain = f"{job.n_requests} slots x {ring:,} tokens x {row:,} B at 16 bits ({shown(cached)})"
        yield Part("kv_cache", "Rings of windows", job.n_requests * ring * row, "exact", explain)
    else:
        # V is stored as wide as K (cache/quant.py:33-41, modules/sliding_attn.py:258)
        n_token = cached.n_head_kv * cached.n_embd_head_k
        row = job.type_k.k.row_bytes(n_token) + job.type_v.v.row_bytes(n_token)
        explain = f"{whole_pages(job):,} tokens x {row:,} B ({shown(cached)}; K {job.type_k.k}, V {job.type_v.v})"
        yield Part("kv_cache", "Cache of attention", whole_pages(job) * row, "exact", explain)


def _latent(job: Job, cached: Cached) -> Part:
    """The latent as K says; its rotated part and keys of an indexer stay at 16 bits (cache/mla.py:200-260)."""
    row = job.type_k.k.row_bytes(cached.n_latent) + (cached.n_rot + cached.n_indexer) * 2
    beside = f", a key of {cached.n_indexer}" if cached.n_indexer else ""
    explain = f"{whole_pages(job):,} tokens x {row:,} B ({shown(cached)}{beside}; {job.type_k.k}, all else 16 bits)"
    return Part("kv_cache", "Cache of latents", whole_pages(job) * row, "exact", explain)


def _states(job: Job, il: int, cached: Cached) -> Iterator[Part]:
    """The state of a recurrent layer for each slot (modules/gated_delta_net.py:259-303, modules/short_conv.py:127)."""
    if not cached.is_recurrent:
        return
    conv = columns(job.model, cached.n_conv)
    is_wide = job.is_on("recurrent_state_fp32") or isinstance(job.model.layers[il].mixer, Mamba2)
    size = 4 if is_wide else 2
    each = conv * 2 + STATES * cached.n_state * size
    explain = f"{job.n_requests} slots x ({conv:,} x 2 B + {STATES} x {cached.n_state:,} x {size} B)"
    yield Part("recurrent_state", "Recurrent state", job.n_requests * each, "modelled", explain)
