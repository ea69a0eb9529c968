"""What reading a model of one architecture needs to know beside the keys that all architectures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from estimator.traits import PLAIN, Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from estimator.layer import Layer
    from estimator.model import NGrams, Stacks
    from estimator.sources.hparams import Facts, HParams


@dataclass(frozen=True, slots=True)
class Window:
    """Which layers attend to a window only (llama-hparams.cpp:8-22, ``set_swa_pattern``).

    Of every ``period`` layers all but the last have the window. ``default`` is its size in tokens where the
    file has no ``attention.sliding_window``; None = no layer has a window then. ``n_layer``: only models with so many
    layers have it at all. ``needs_size``: the loader gives up without one, ``needs_list``: without a list of the
    layers. ``size``: it is always this, if there is one. ``dense_first``: the first of every ``period`` layers is the
    one without.
    """

    period: int
    default: int | None = None
    n_layer: int | None = None
    size: int | None = None
    needs_size: bool = False
    needs_list: bool = False
    dense_first: bool = False

    def covers(self, layer: int, period: int) -> bool:
        """Whether a layer has the window; ``period`` is the file's own or ours."""
        if self.dense_first:
            return period == 0 or layer % period != 0
        return period == 0 or layer % period < period - 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """What reading a model of this architecture needs to know beside the shared keys.

    Args:
        window: None where the loader has no sliding window, or ignores the key.
        traits: what its graph does beside the plain transformer.
        half_normed: a layer may norm the input of attention or of the feed-forward alone.
        no_rope_every: every so-many-th layer has no RoPE; 0 = all have it.
        rope_in_windows: where some layers have a window, only they have RoPE.
        m_rope_by_sections: a model has M-RoPE if its header names two sections of it.
        parallel_by_key: the header says whether attention and feed-forward read the same input.
        hyper_connections: the header says how many residual streams run side by side.
        deepstack: the header may say that the first layers get a part of the embedding each.
        stack: what the names of the stack's tensors begin with whose graph is reserved.
        wiring: how the parts of its blocks are joined (``Layer.wiring``).
        attn_gate: its ``attn_gate`` weighs the result of attention.
        expert_factors: its graph reads a factor for each expert where the file has one.
        refine_traits: what the header says about its traits: given the header's keys, answers the traits as they are.
        loops: the header may say that the blocks of the file are run several times.
        stacks: how its layers share the blocks of the file, if they do.
        embedding_scale: what the embedding is multiplied by where the file does not say it; 0 = by nothing. None: the
            loader does not read the key.
        expert_weights_by_keys: the header says whether the weights of the chosen experts are divided and scaled.
        scaled_experts_by_key: the header says whether they are scaled, and they are divided or not as ``traits`` say.
        ngrams: how tokens are embedded together with those before, if they are.
        headless: its models may have no attention heads at all.
        refine: what its layers have beside the shared keys: given the facts, the index of a layer and the layer as the
            shared keys describe it, answers the layer as it is.
    """

    window: Window | None = None
    traits: Traits = PLAIN
    half_normed: bool = False
    no_rope_every: int = 0
    rope_in_windows: bool = False
    m_rope_by_sections: bool = False
    parallel_by_key: bool = False
    hyper_connections: bool = False
    deepstack: bool = False
    stack: str = ""
    wiring: str = "sequential"
    attn_gate: bool = False
    expert_factors: bool = False
    refine_traits: Callable[[HParams, Traits], Traits] | None = None
    loops: bool = False
    stacks: Callable[[HParams], Stacks] | None = None
    embedding_scale: float | None = None
    expert_weights_by_keys: bool = False
    scaled_experts_by_key: bool = False
    ngrams: Callable[[HParams], NGrams | None] | None = None
    headless: bool = False
    refine: Callable[[Facts, int, Layer], Layer] | None = None

    def has_rope(self, il: int, windows: Sequence[int]) -> bool:
        """Whether layer ``il`` turns its Q and K by their position; ``windows`` has a size for each layer."""
        if self.rope_in_windows and any(windows):
            return windows[il] > 0
        return not self.no_rope_every or (il + 1) % self.no_rope_every != 0
