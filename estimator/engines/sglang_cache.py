"""SGLang's pools: slots of one token for all layers, fewer slots for windows, and slots of recurrent states (0.5.23).

Source: sglang/srt/model_executor/pool_configurator.py and sglang/srt/mem_cache/kv_cache_configurator.py. Not modelled:
drafts, decode context parallelism, one pool for all (``--enable-unified-memory``), sizes after graphs are captured.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Final, Literal

from estimator.engines.layout import Cached, layout, shown
from estimator.engines.sglang_share import page_tokens
from estimator.engines.sglang_tables import STATES, WINDOWED, is_latent, is_major

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.engines.base import Job
    from estimator.layer import Layer
    from estimator.model import Model

EVICTION: Final = 128
"""Tokens after which those that left a window are freed (environ.py, ``SGLANG_SWA_EVICTION_INTERVAL``)."""

IN_FLIGHT: Final = 2
"""Chunks of prompts at once with overlapping steps (pool_configurator.py:958)."""

FP8_DSA: Final = 656
"""Bytes of a row of 512 + 64: 8 bits with four scales of 4 B, and the rotated part at 16 bits
(kv_cache_configurator.py:3455-3473)."""

Where = Literal["context", "window", "state"]


@dataclass(frozen=True, slots=True)
class Part:
    """Layers that keep the same.

    Args:
        label: for people.
        where: the pool.
        bytes: that one token, or one state, adds to all of these layers on each device.
        explain: how they come about.
    """

    label: str
    where: Where
    bytes: int
    explain: str


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools of a job on each device.

    Args:
        parts: what is in them.
        page: tokens of a page.
        window: tokens of the largest window that has a pool, 0 without one.
        ratio: slots of windows for each slot of the context.
        fixed_window: slots of windows where they follow from the most requests, else 0.
        states: states of one request.
        split: memory of states to memory of the cache.
        fixed_states: states where they follow from the most requests, else 0.
    """

    parts: tuple[Part, ...]
    page: int
    window: int
    ratio: Fraction
    fixed_window: int
    states: int
    split: Fraction
    fixed_states: int

    def sum(self, where: Where) -> int:
        """Bytes of one slot of a pool."""
        return sum(part.bytes for part in self.parts if part.where == where)

    def paged(self, tokens: int) -> int:
        """Tokens rounded up to a page."""
        return -(-tokens // self.page) * self.page

    def per_window(self, n_ctx: int) -> int:
        """Slots of windows that a running request holds at most (pool_configurator.py:905-968)."""
        return min(self.paged(n_ctx), self.window + EVICTION + 2 * self.page)

    def window_slots(self, n_ctx: int, n_requests: int, chunk: int) -> int:
        """Slots of windows for so many requests, while a chunk of a prompt passes through."""
        most = n_requests * self.paged(n_ctx)
        needed = self.paged(min(most, n_requests * self.per_window(n_ctx) + chunk)) + self.page
        return max(needed, self.least_window)

    @property
    def least_window(self) -> int:
        """Slots of windows without which it does not start (pool_configurator.py:197-216)."""
        return self.paged(self.window + self.page + 1)

    def slots(self, n_ctx: int, n_requests: int, chunk: int) -> int:
        """Slots of the context with which so many requests run."""
        tokens = n_requests * self.paged(n_ctx)
        if not self.window or self.fixed_window:
            return tokens
        needed = self.window_slots(n_ctx, n_requests, chunk)
        return max(tokens, self.paged(ceil(needed / self.ratio)))

    def cell(self) -> Fraction:
        """Bytes of a slot of the context, with its share of the windows' (pool_configurator.py:788-812)."""
        own = Fraction(self.sum("context"))
        return own if self.fixed_window else own + self.ratio * self.sum("window")

    def state_bytes(self, n_requests: int) -> int:
        """Bytes of all states, with the slot that padding goes to."""
        return ((self.fixed_states or n_requests * self.states) + 1) * self.sum("state") if self.states else 0

    def total(self, n_ctx: int, n_requests: int, chunk: int) -> int:
        """Bytes of all pools with which so many requests run."""
        cache = self.slots(n_ctx, n_requests, chunk) * self.cell() + self.fixed_window * self.sum("window")
        states = self.state_bytes(n_requests)
        if not self.states or self.fixed_states:
            return ceil(cache + states)
        return ceil(max(cache * (1 + self.split), states * (1 + self.split) / self.split))

    def held(self, room: int) -> tuple[int, int]:
        """Slots of the context, and states, in so many bytes."""
        cache, states = Fraction(room), 0
        if self.states:
            share = self.state_bytes(0) if self.fixed_states else room * self.split / (1 + self.split)
            states = max(int(share // self.sum("state")) - 1, 0)
            cache -= share
        cache -= self.fixed_window * self.sum("window")
        cell = self.cell()
        tokens = max(int(cache // cell), 0) if cell else 0
        return tokens // self.page * self.page, states

    def requests(self, room: int, n_ctx: int, chunk: int, most: int) -> float:
        """Requests of a length that so many bytes hold at once."""
        tokens, states = self.held(room)
        limits = [tokens / self.paged(n_ctx)] if self.cell() else [float(most)]
        if self.fixed_window or self.fixed_states:
            limits.append(float(most))
        if self.states and not self.fixed_states:
            limits.append(states / self.states)
        if self.window and not self.fixed_window:
            limits.append(self._of_windows(int(tokens * self.ratio) // self.page * self.page, n_ctx, chunk))
        return min(limits)

    def _of_windows(self, slots: int, n_ctx: int, chunk: int) -> float:
        left = slots - self.page
        many = max(left / self.paged(n_ctx), (left - chunk) / self.per_window(n_ctx))
        return many if slots >= self.least_window else 0


def pools(job: Job) -> Pools:
    """The pools of a job.

    Raises:
        SettingsError: what SGLang keeps of this model is not known.
    """
    model, page = job.model, page_tokens(job)
    parts = tuple(_parts(job))
    split_window = any(part.where == "window" for part in parts)
    window = max(layer.n_swa for layer in model.kinds) if split_window else 0
    is_hybrid = any(part.where == "state" for part in parts)
    most = job.options["max_running_requests"]
    is_fixed = job.is_on("disable_radix_cache") and isinstance(most, int)
    fixed = int(most) if is_fixed and isinstance(most, int) else 0
    has_context = any(part.where == "context" for part in parts)
    found = Pools(
        parts=parts,
        page=page,
        window=window,
        ratio=Fraction(str(job.number("swa_full_tokens_ratio"))) if has_context else Fraction(1),
        fixed_window=0,
        states=(1 if job.is_on("disable_radix_cache") else STATES[model.architecture]) if is_hybrid else 0,
        split=Fraction(str(job.number("mamba_full_memory_ratio"))),
        fixed_states=fixed if is_hybrid else 0,
    )
    if not (fixed and window and has_context):
        return found
    per_request = window + EVICTION + 2 * page
    slots = found.paged(fixed * per_request + IN_FLIGHT * job.chunk + page)
    return replace(found, fixed_window=slots)


def _parts(job: Job) -> Iterator[Part]:
    """What the layers keep, those of a kind together."""
    model = job.model
    kinds = Counter(
        _shared(model, layer) if _is_counted(model, layer, cached) else cached
        for layer, cached in zip(model.layers, layout(model), strict=True)
    )
    for cached, n_layer in kinds.items():
        if cached.attention != "none":
            yield _attention(job, cached, n_layer)
        if cached.n_indexer:
            # fp8 keys with a scale of four bytes for each 128 (pool_configurator.py:572-651)
            size = cached.n_indexer + cached.n_indexer // 128 * 4
            explain = f"{n_layer} layers x {size} B: keys of {cached.n_indexer} at 8 bits and their scales"
            yield Part("Indexer", "context", n_layer * size, explain)
        if cached.is_recurrent:
            yield _state(job, cached, n_layer)


def _is_counted(model: Model, layer: Layer, cached: Cached) -> bool:
    """Whether the pool has a layer that reads another's cache: it counts all layers, unless some are recurrent."""
    reads = cached.attention == "none" and not cached.is_recurrent and not layer.own_cache and layer.n_head_kv > 0
    return reads and not model.has_states


def _shared(model: Model, layer: Layer) -> Cached:
    """What a layer would cache that reads the cache of an earlier one of its kind."""
    kind = (layer.n_swa, layer.n_head_kv, layer.n_embd_head_k)
    return next(found for found in layout(model) if (found.window, found.n_head_kv, found.n_embd_head_k) == kind)


def _attention(job: Job, cached: Cached, n_layer: int) -> Part:
    where: Where = "window" if cached.window and job.model.architecture in WINDOWED else "context"
    label = "Cache of latents" if is_latent(cached) else "Cache of windows" if where == "window" else "Cache"
    if is_latent(cached):
        row, text = _latent_row(job, cached)
        return Part(label, where, n_layer * row, f"{n_layer} layers x {row:,} B: {shown(cached)}, {text}")
    heads = cached.heads_of(len(job.devices))
    k, v = job.type_k.k.row_bytes(cached.n_embd_head_k), job.type_v.v.row_bytes(cached.n_embd_head_v)
    text = f"{n_layer} layers x {heads} heads x ({k} + {v}) B: {shown(cached)}"
    size = n_layer * heads * (k + v)
    if job.type_k.id == "nvfp4" and is_major(job.devices[0], 12):
        # prefill reads a layer at a time from a copy at 8 bits (kv_cache_hook.py:29-60)
        copy = heads * (cached.n_embd_head_k + cached.n_embd_head_v)
        size, text = size + copy, f"{text}, and {copy:,} B of one layer at 8 bits"
    return Part(label, where, size, text)


def _latent_row(job: Job, cached: Cached) -> tuple[int, str]:
    """Bytes of one token in a layer of latents; every device has them all (kv_cache_configurator.py:3412-3475)."""
    device = job.devices[0]
    is_blackwell = is_major(device, 10, 11, 12)
    is_fp8 = job.type_k.id.startswith("fp8") or (job.type_k.id == "auto" and cached.n_indexer > 0 and is_blackwell)
    if not is_fp8:
        return cached.n_embd_head_k * 2, "2 B each"
    # TRTLLM on Blackwell and the kernels for HIP read plain rows, but for GLM on SM120
    is_plain = device.backend == "rocm" or (is_blackwell and not _is_glm_on_sm120(job))
    if cached.n_indexer and not is_plain:
        size = cached.n_latent + cached.n_latent // 128 * 4 + cached.n_rot * 2
        return size, f"{cached.n_latent} B, {cached.n_latent // 128} scales of 4 B and {cached.n_rot} x 2 B"
    return cached.n_embd_head_k, "1 B each"


def _is_glm_on_sm120(job: Job) -> bool:
    return job.model.architecture == "glm-dsa" and is_major(job.devices[0], 12)


def _state(job: Job, cached: Cached, n_layer: int) -> Part:
    """A state of one sequence: two bytes for convolutions (configs/mamba_utils.py:41-101)."""
    asked = job.options["mamba_ssm_dtype"]
    size = 4 if asked in ("auto", "float32") else 2
    n_devices = len(job.devices)
    each = -(-(cached.n_conv * 2 + cached.n_state * size) // n_devices)
    text = f"{n_layer} layers x ({cached.n_conv:,} x 2 B + {cached.n_state:,} x {size} B)"
    return Part("States", "state", n_layer * each, text + (f", over {n_devices} devices" if n_devices > 1 else ""))
