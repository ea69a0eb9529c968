"""mlx-lm 0.32.2 on Apple's GPUs: a cache that grows by 256 tokens, and quantized attention that computes all scores.

Line numbers are of mlx_lm/. How MLX shares and frees buffers was measured with its CPU backend (0.32.4): growth of a
cache holds one layer twice, and scores are held once. Not modelled: sharing a model among machines, and MLX's backend
for CUDA, which mlx-lm installs as ``mlx-lm[cuda13]``: it has other kernels for attention, and an allocator that takes
up to 0.95 of a device (mlx, backend/cuda/allocator.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.cautions import Caution
from estimator.engines.base import Engine, Job
from estimator.engines.checkpoint import Parts, activations, weight_parts
from estimator.engines.layout import counts, layout, shown
from estimator.engines.mlx_recipe import recipes
from estimator.engines.mlx_tables import (
    CACHE_TYPES,
    CHUNKED,
    LISTS,
    OPTIONS,
    OWN_ATTENTION,
    WEIGHT_FORMATS,
    WITHOUT_WINDOWS,
    caches_latents,
    is_quantized,
    packing,
    refuse,
)
from estimator.engines.packing import F16
from estimator.engines.result import Result, Support, result
from estimator.lines import Line, labels_of, overhead_lines
from estimator.memory.overhead import overhead
from estimator.mixers import Latent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.devices import Device
    from estimator.engines.layout import Cached
    from estimator.engines.recipe import Recipe, Source
    from estimator.layer import Layer

STEP: Final = 256
"""Tokens by which a cache grows (KVCache.step)."""

PROMPTS: Final = 8
"""Prompts that the server computes together (``--prompt-concurrency``)."""

FUSED: Final = frozenset({64, 72, 80, 96, 128})
"""Sizes of heads, K's and V's alike, for which scores of a chunk are not held in memory: the fused kernels for 192 and
256 are passed over as slower, but on M5 those of 256 for chunks of 1024 and more (``use_fallback`` in mlx's
backend/metal/scaled_dot_product_attention.cpp)."""


@dataclass(frozen=True, slots=True)
class Held:
    """What layers of one kind hold of one sequence at their peak.

    Args:
        bytes: of one layer.
        explain: the formula with its numbers.
    """

    bytes: int
    explain: str


class Mlx(Engine):
    """mlx-lm's server and its command line."""

    id = "mlx"
    name = "mlx-lm"
    version = "0.32.2"
    source = "https://pypi.org/project/mlx-lm/0.32.2/"
    family = "mlx"
    summary = "Apple's own; its cache grows with the tokens that are there, and is quantized late"
    backends = ("metal",)
    cache_types = CACHE_TYPES
    weight_formats = WEIGHT_FORMATS
    options = OPTIONS
    max_devices = 1

    def lay_out(self, job: Job) -> Result:
        refuse(job)
        (label,) = labels_of(job.devices)
        parts = [*weight_parts(job), *_cache(job), *_states(job), *_computing(job)]
        lines = [Line(label, *part) for part in parts if part[2]]
        lines += overhead_lines(label, overhead(job.devices[0]))
        return result(job.devices, lines, tuple(_cautions(job)), n_ctx=job.n_ctx, n_requests=job.n_requests)

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        found = self.cache_type(type_k)
        assert found, type_k
        if found.k == F16:
            return Support(
                "supported", "fused attention for most sizes of heads", self.version, "models/base.py:108-137"
            )
        why = "products with the quantized cache; scores are held in memory"
        return Support("supported", why, self.version, "models/base.py:61-105")

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source)


def _chunk(job: Job) -> int:
    return min(job.chunk, job.n_ctx)


def _sequences(job: Job) -> int:
    return job.n_requests + job.whole("prompt_cache_size")


def _grown(tokens: int) -> int:
    """Tokens that a cache has room for: whole steps, where chunks are (else up to a step more than there are)."""
    return -(-tokens // STEP) * STEP


def _wide_tokens(job: Job) -> int:
    """Tokens at 16 bits when a cache is quantized: the end of the first chunk that reaches the start."""
    start = max(job.whole("quantized_kv_start"), 1)
    return min(job.n_ctx, -(-start // job.chunk) * job.chunk)


def _held(job: Job, cached: Cached) -> Held:
    model, n_ctx = job.model, job.n_ctx
    if caches_latents(model, cached):
        return _latent(job, cached)
    n_token = cached.n_expanded
    row = F16.row_bytes(n_token)
    if cached.window and model.architecture not in WITHOUT_WINDOWS:
        kept = _grown(job.chunk) if model.architecture in CHUNKED else job.chunk - 1
        tokens = min(_grown(n_ctx), cached.window + kept)
        why = "the window and a chunk" if tokens < n_ctx else f"steps of {STEP}"
        return Held(tokens * row, f"{tokens:,} tokens ({why}) x {row:,} B ({shown(cached)})")
    tokens = _grown(n_ctx)
    narrow = packing(job)
    if narrow is None or model.architecture in LISTS or not is_quantized(job):
        return Held(tokens * row, f"{tokens:,} tokens (steps of {STEP}) x {row:,} B ({shown(cached)})")
    small, before = narrow.row_bytes(n_token), _grown(_wide_tokens(job))
    if before * row > tokens * small:
        return Held(before * row, f"{before:,} tokens x {row:,} B at 16 bits, before they are quantized")
    return Held(tokens * small, f"{tokens:,} tokens (steps of {STEP}) x {small:,} B ({shown(cached)}, {narrow})")


def _latent(job: Job, cached: Cached) -> Held:
    """Latent as K and rotated part as V; keys of an indexer have a V of that size, all 0 (deepseek_v32.py:102)."""
    tokens, indexer = _grown(job.n_ctx), 2 * cached.n_indexer
    row = F16.row_bytes(cached.n_embd_head_k + indexer)
    beside = f", {indexer} of an indexer" if indexer else ""
    return Held(tokens * row, f"{tokens:,} tokens (steps of {STEP}) x {row:,} B ({shown(cached)}{beside})")


def _cache(job: Job) -> Iterator[Parts]:
    for cached, n_layer in counts(job.model).items():
        if cached.attention == "none":
            continue
        held = _held(job, cached)
        n = _sequences(job)
        explain = f"{n} sequences x {n_layer} layers x {held.explain}"
        where = f" in a window of {cached.window:,}" if cached.window else ""
        yield "kv_cache", f"Cache of attention{where}", n * n_layer * held.bytes, "exact", explain


def _states(job: Job) -> Iterator[Parts]:
    """Convolutions in the model's type, states at four bytes (models/gated_delta.py:583, models/ssm.py)."""
    for cached, n_layer in counts(job.model).items():
        if cached.is_recurrent:
            size, n = cached.n_conv * 2 + cached.n_state * 4, _sequences(job)
            explain = f"{n} sequences x {n_layer} layers x ({cached.n_conv:,} x 2 B + {cached.n_state:,} x 4 B)"
            yield "recurrent_state", "Recurrent state", n * n_layer * size, "modelled", explain


def _computing(job: Job) -> Iterator[Parts]:
    batch = min(job.n_requests, PROMPTS)
    size, explain = activations(job.model, batch * _chunk(job))
    yield "compute", "Activations", size, "modelled", explain
    kinds = dict.fromkeys(zip(layout(job.model), job.model.layers, strict=True))
    size, explain = max((_scores(job, cached, layer) for cached, layer in kinds), default=(0, ""))
    yield "compute", "Scores of attention", batch * size, "modelled", f"{batch} prompts x {explain}"
    growths = [_held(job, cached) for cached in counts(job.model) if cached.attention != "none"]
    if growths:
        widest = max(growths, key=lambda held: held.bytes)
        explain = f"{job.n_requests} sequences x {widest.explain}: a layer is copied when its cache grows"
        yield "compute", "Growth of one layer", job.n_requests * widest.bytes, "modelled", explain


def _scores(job: Job, cached: Cached, layer: Layer) -> tuple[int, str]:
    """What attention of one layer to one prompt holds beside its cache, in a chunk at the end of the context."""
    if cached.attention == "none":
        return 0, "no attention"
    rows = _chunk(job)
    if caches_latents(job.model, cached):
        return _scores_of_latents(job, cached, layer)
    has_window = cached.window and job.model.architecture not in WITHOUT_WINDOWS
    tokens = cached.tokens(job.n_ctx, job.chunk - 1) if has_window else job.n_ctx
    is_narrow = is_quantized(job) and not has_window and job.model.architecture not in LISTS
    if not is_narrow and job.model.architecture not in OWN_ATTENTION and _is_fused(cached):
        return 0, "fused kernels hold no scores"
    explain = f"{cached.n_head} heads x {rows:,} x {tokens:,} tokens x 2 B, and a mask of 1 B"
    return (cached.n_head * 2 + 1) * rows * tokens, explain


def _is_fused(cached: Cached) -> bool:
    return (
        cached.attention != "latent" and cached.n_embd_head_k == cached.n_embd_head_v and cached.n_embd_head_k in FUSED
    )


def _scores_of_latents(job: Job, cached: Cached, layer: Layer) -> tuple[int, str]:
    """Scores of rotated parts, the mask of fused attention, and K and V of all heads (deepseek_v3.py:150-165)."""
    rows, n_ctx, mixer = _chunk(job), job.n_ctx, layer.mixer
    assert isinstance(mixer, Latent)
    n_nope = mixer.n_embd_head_k_mla - mixer.n_rot
    held = 1 if n_nope == mixer.n_embd_head_v_mla and n_nope in FUSED else 2
    n_indexer = mixer.indexer.n_head if mixer.indexer and mixer.indexer.own else 0
    width = n_nope + mixer.n_embd_head_v_mla
    size = (held * cached.n_head + n_indexer) * rows * n_ctx * 2 + cached.n_head * width * n_ctx * 2
    explain = f"({held} x {cached.n_head} heads x {rows:,} + {cached.n_head} x {width}) x {n_ctx:,} tokens x 2 B"
    return size, explain + (f", and {n_indexer} heads of an indexer" if n_indexer else "")


def _cautions(job: Job) -> Iterator[Caution]:
    model, narrow = job.model, packing(job)
    if job.n_ctx > model.context_length:
        text = f"{job.n_ctx:,} tokens are more than the {model.context_length:,} of training; the answers get worse."
        yield Caution("beyond-training-context", text)
    if narrow and model.architecture in LISTS:
        yield Caution(
            "cache-not-quantized", f"--kv-bits does nothing for {model.architecture}: its cache stays at 16 bits."
        )
    elif narrow and not is_quantized(job):
        start = job.whole("quantized_kv_start")
        text = f"--kv-bits begins at token {start:,} (--quantized-kv-start): all of this context has 16 bits."
        yield Caution("cache-not-yet-quantized", text)
    weights = sum(part[2] for part in weight_parts(job))
    capacity = job.devices[0].capacity
    if capacity and weights > 0.9 * capacity:
        yield Caution("close-to-wired-limit", "mlx-lm warns of weights above 0.9 of the wired limit: it may be slow.")


ENGINES: Final = (Mlx(),)
