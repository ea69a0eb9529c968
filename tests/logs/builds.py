"""Rules of llama.cpp's older builds that logs were written by, each with the pull request that ended it.

The estimator knows b11434 alone. Here its parts are exchanged for those of the time, so that a log of an older build
can be compared as well: where that makes it come out alike, the difference has a name.
"""

from __future__ import annotations

import importlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from unittest.mock import patch

from estimator.estimate import Estimate, estimate
from estimator.ggml import ElementType, cache_type, is_quantized, pad
from estimator.memory import attention, feed_forward, graph
from estimator.memory.alloc import HOST
from estimator.memory.builder import I64_BYTES, TOKENS, Graph
from estimator.memory.context import Context, resolve
from estimator.memory.embedding import joined
from estimator.memory.free_list import Buffers
from estimator.memory.placement import Place, Places
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES, Attention, Metal, scratch
from estimator.memory.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from estimator.backends import Backend
    from estimator.devices import Device
    from estimator.layer import Activation, Layer
    from estimator.lines import Line
    from estimator.memory.alloc import Node
    from estimator.model import Model
    from estimator.settings import Settings
    from tests.logs.log import Log


ESTIMATE: Final = importlib.import_module("estimator.estimate")
"""The module: the package has a function of the same name."""


class Rule(NamedTuple):
    """What builds did before ``until``, the day on which ``source`` had ended it, or a later one before the next log.

    ``source`` are pull requests of ggml-org/llama.cpp, or what the log itself says. ``concerns``: whether it could
    matter to a log, were that old enough.
    """

    what: str
    until: str
    source: str
    concerns: Callable[[Log], bool]


def _has_flash_attention(log: Log) -> bool:
    return log.settings.flash_attn


def _has_quantized_cache(log: Log) -> bool:
    return any(is_quantized(cache_type(name)) for name in (log.settings.cache_type_k, log.settings.cache_type_v))


def _is_partly_on_host(log: Log) -> bool:
    return log.model is not None and 0 <= log.settings.n_gpu_layers <= log.model.n_layer


def _is_mamba(log: Log) -> bool:
    return log.model is not None and log.model.architecture == "mamba"


RULES: Final = {
    "state-in-cache": Rule(
        "recurrent state was kept in the tensors of K and V",
        "2025-06-01",
        "the log's own line: K (f32) 3.75 MiB, V (f32) 20.00 MiB",
        _is_mamba,
    ),
    "padded-to-32": Rule(
        "without flash attention the context was rounded up to 32 tokens, not to 256",
        "2025-10-28",
        "7257, 16812",
        lambda log: not log.settings.flash_attn and log.settings.n_ctx % 256 > 0,
    ),
    "one-stream": Rule(
        "all slots shared one cache whatever was asked for",
        "2025-07-16",
        "14363",
        lambda log: log.settings.n_seq_max > 1 and not log.settings.is_unified,
    ),
    "whole-windows": Rule(
        "layers with a window had a cache for the whole context",
        "2025-05-20",
        "13194",
        lambda log: log.cached_model.has_windows,
    ),
    "cached-encoders": Rule(
        "encoders had a cache", "2025-05-08", "13108", lambda log: not log.cached_model.traits.cached
    ),
    "latent-v": Rule(
        "the latent vector of MLA was kept twice, as K and as V", "2026-01-25", "19067", lambda log: log.keeps_latent
    ),
    "output-last": Rule(
        "the output layer was the last to go to a device, not the first", "2025-12-27", "18148", _is_partly_on_host
    ),
    "prompts-only": Rule(
        "compute buffers were reserved for a batch of prompts alone, not for a single token too",
        "2024-10-01",
        "the log has one number of graph splits, later ones two",
        _is_partly_on_host,
    ),
    "all-logits": Rule(
        "logits were reserved for every row of a batch, not one for each slot",
        "2026-06-01",
        "23861",
        lambda log: log.model is not None,
    ),
    "f32-mask": Rule(
        "the attention mask was handed over in f32 and cast to f16 on the first device",
        "2026-05-29",
        "23764",
        _has_flash_attention,
    ),
    "pooled-copies": Rule(
        "CUDA and HIP took the f16 copies of a quantized K and V from a pool outside of the compute buffer",
        "2026-06-05",
        "23907",
        lambda log: log.backend in ("CUDA", "ROCm") and _has_flash_attention(log) and _has_quantized_cache(log),
    ),
    "metal-in-place": Rule(
        "Metal read a quantized cache as it is and reserved no f16 copies",
        "2026-08-20",
        "27390",
        lambda log: log.backend == "Metal" and _has_flash_attention(log),
    ),
    "weighed-in-place": Rule(
        "what experts gave was weighed in place, with no kernel that keeps it to weigh and add it up at once",
        "2026-08-20",
        "25952, 28948",
        lambda log: log.model is not None and any(layer.n_expert_used > 1 for layer in log.model.kinds),
    ),
    "text-or-embeddings": Rule(
        "a batch held tokens or embeddings, not both, and had no branch for a mixture",
        "2026-07-13",
        "24669",
        lambda log: log.model is not None,
    ),
    "tokens-only": Rule(
        "the graph of a batch of tokens had no input for embeddings",
        "2026-01-23",
        "18898",
        lambda log: log.model is not None,
    ),
    "early-selection": Rule(
        "Qwen 3.5 picked the rows that logits are wanted for in its last layer, as no further layer read the others",
        "2026-05-16",
        "22673",
        lambda log: log.model is not None and log.model.architecture in ("qwen35", "qwen35moe"),
    ),
    "unrotated": Rule(
        "a quantized cache was not rotated, so there were no matrices for it",
        "2026-04-01",
        "21038",
        _has_quantized_cache,
    ),
    "contiguous-cells": Rule(
        "K and V were copied to cells side by side, without an index for each row",
        "2025-08-22",
        "14285, 15505",
        lambda log: log.model is not None,
    ),
    "apart-activation": Rule(
        "the activation of a gate and its product with the up projection were two operations, both in place",
        "2025-06-30",
        "14158",
        lambda log: log.model is not None,
    ),
    "copied-parts": Rule(
        "Q, K and V were copied out of what one matrix gave",
        "2025-09-08",
        "15662",
        lambda log: log.model is not None and any(layer.fused_qkv for layer in log.model.layers),
    ),
}
"""All of them, those of the cache first."""


def rules(log: Log) -> frozenset[str]:
    """Those that the build of a log had and that concern it."""
    return frozenset(name for name, rule in RULES.items() if log.date < rule.until and rule.concerns(log))


def context_of(log: Log, model: Model, settings: Settings, active: frozenset[str]) -> Context:
    """What the build made of the settings."""
    if "one-stream" in active:
        settings = replace(settings, kv_unified=True)
    context = resolve(model, settings)
    if "padded-to-32" in active:
        n_ctx = pad(settings.n_ctx, 32)
        context = replace(context, n_ctx=n_ctx, n_ctx_seq=n_ctx)
    return replace(context, swa_full=True) if "whole-windows" in active else context


@lru_cache(maxsize=256)
def model_of(model: Model, n_embd_head_v: int, active: frozenset[str]) -> Model:
    """The model as builds with these rules saw it.

    A new object for each set of rules, as what is known of graphs is known by model. ``n_embd_head_v`` is the width of
    what MLA kept beside K.
    """
    traits = model.traits
    if "cached-encoders" in active:
        traits = replace(traits, cached=True)
    if "early-selection" in active:
        traits = replace(traits, selects_rows="in_last_layer")
    layers = model.layers
    if "latent-v" in active:
        layers = tuple(replace(layer, n_embd_head_v=n_embd_head_v) for layer in layers)
    return replace(model, traits=traits, layers=layers)


def cached_model(log: Log, active: frozenset[str]) -> Model:
    """The model of a log as its build saw it."""
    return model_of(log.cached_model, log.facts.get("n_embd_head_v", 0), active)


def estimate_as_built(log: Log, active: frozenset[str]) -> Estimate:
    """The estimate with these rules of older builds. Needs a log of a known model."""
    settings = replace(log.settings, n_outputs=0) if "all-logits" in active else log.settings
    with _exchanged(log, active):
        return estimate(cached_model(log, active), settings, log.devices)


@contextmanager
def _exchanged(log: Log, active: frozenset[str]) -> Iterator[None]:
    with ExitStack() as stack:

        def exchange(module: object, name: str, made: object) -> None:
            stack.enter_context(patch.object(module, name, made))

        exchange(ESTIMATE, "resolve", lambda model, settings: context_of(log, model, settings, active))
        exchange(ESTIMATE, "target", lambda backend: _target(backend, active))
        exchange(attention, "CacheInputs", lambda graph, layer: _CacheInputs(graph, layer, active))
        if "output-last" in active:
            exchange(ESTIMATE, "placed", _output_last)
        if active:  # what is known of other contexts, or stored, goes by b11434's rules
            exchange(ESTIMATE, "compute_buffers", _prompts_only if "prompts-only" in active else _laid_out)
        if "text-or-embeddings" in active:
            exchange(graph, "_embedding", lambda graph: _embedding(graph, active))
        if "copied-parts" in active:
            exchange(attention, "matrices", _copied)
        if "apart-activation" in active:
            exchange(feed_forward, "_activated", _activated)
        yield


def _target(backend: Backend, active: frozenset[str]) -> Target:
    reduces = 0 if "weighed-in-place" in active else backend.reduces
    target = Target(scratch(backend.name), backend.alignment, backend.fetches, reduces, is_real=True)
    if "pooled-copies" in active:
        return target._replace(scratch=scratch("generic"))
    return target._replace(scratch=_MetalInPlace()) if "metal-in-place" in active else target


class _MetalInPlace(Metal):
    """Metal without copies: what it pads are rows of the cache itself."""

    F16_TYPES = frozenset[ElementType]()

    def _f16(self, a: Attention) -> int:
        return 0


def _output_last(model: Model, settings: Settings, devices: Sequence[Device], lines: Iterable[Line]) -> Places:
    """The last ``n_gpu_layers`` layers on the device, the output on the host."""
    first = model.n_layer - settings.n_gpu_layers
    layers = tuple(Place(0 if il >= first else HOST) for il in range(model.n_layer))
    return Places(layers, Place(HOST), nextn=(), is_full=False, is_pipelined=False)


def _prompts_only(model: Model, context: Context, targets: Sequence[Target], places: Places) -> Buffers:
    alignments = (*(target.alignment for target in targets), graph.HOST_ALIGNMENT)
    *devices, host = graph._at_once(Graph(model, context, targets, places), places, alignments).sizes()
    return Buffers(devices, host)


def _laid_out(model: Model, context: Context, targets: Sequence[Target], places: Places) -> Buffers:
    *devices, host = graph.buffers(model, context, targets, places)
    return Buffers(devices, host)


class _CacheInputs:
    """``attention.CacheInputs`` of older builds."""

    def __init__(self, graph: Graph, layer: Layer, active: frozenset[str]) -> None:
        context, n_tokens = graph.context, graph.n_tokens
        self._graph = graph
        self.k_rot = self.v_rot = self.k_idxs = self.v_idxs = None
        if "unrotated" not in active:
            self.k_rot = graph.rotation(context.type_k, layer.n_embd_head_k, largest=True)
            self.v_rot = graph.rotation(context.type_v, layer.n_embd_head_v, largest=False)
        if "contiguous-cells" not in active:
            self.k_idxs = graph.input(n_tokens * I64_BYTES)
            v_rows = n_tokens if context.flash_attn else n_tokens * graph.model.n_embd_v_gqa_max
            self.v_idxs = graph.input(v_rows * I64_BYTES)
        self._is_cast = context.flash_attn and "f32-mask" in active
        element = F32_BYTES if self._is_cast or not context.flash_attn else F16_BYTES
        self._given = graph.input(context.cells(layer) * n_tokens * element)

    @property
    def mask(self) -> Node:
        if not self._is_cast:
            return self._given
        given = self._given
        return self._graph.once(("cast", given), lambda: self._graph.add(given.size // 2, given))


def _embedding(graph: Graph, active: frozenset[str]) -> tuple[Node, list[Node]]:
    """Rows looked up on the host, and nothing else."""
    rows = graph.n_tokens * graph.row
    tokens = graph.left[TOKENS] = graph.input(graph.n_tokens * I32_BYTES)
    if "tokens-only" not in active:
        graph.input(rows)
    embedded = joined(graph, graph.lookup(rows, tokens))
    if graph.model.traits.scaled_embedding:
        embedded = graph.add(rows, embedded, inplace=True)
    return embedded, []


def _activated(graph: Graph, activation: Activation, gate: Node, up: Callable[[], Node]) -> Node:
    bent = graph.add(gate.size, gate, inplace=True)
    return graph.add(gate.size, bent, up(), inplace=True)


def _copied(graph: Graph, layer: Layer, normed: Node) -> Callable[[int, str], Node]:
    n_embd_qkv = layer.n_embd_head_k * layer.n_head + layer.n_embd_k_gqa + layer.n_embd_v_gqa
    fused = graph.add(graph.n_tokens * n_embd_qkv * F32_BYTES, normed, weight="attn_qkv")
    return lambda size, _: graph.add(size, fused)
