"""What a model caches, layer by layer, for engines that are not llama.cpp: attention of some kind, a state, or nothing.

``Model`` is llama.cpp-shaped: each engine makes its own tensors of the same heads, windows, latents and states.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from estimator.errors import SettingsError
from estimator.mixers import CompressedAttention, Latent, PooledAttention

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.model import Model

Attention = Literal["full", "window", "latent", "none"]


@dataclass(frozen=True, slots=True)
class Cached:
    """What one layer keeps of each token, and of each sequence. Numbers are elements: an engine knows its types.

    ``attention``: ``full`` keeps K and V of the whole context, ``window`` those of the last ``window`` tokens,
    ``latent`` a vector of ``n_latent`` elements and ``n_rot`` rotated ones, shared by all heads (MLA), and ``none``
    nothing: the layer is recurrent, or reads the cache of an earlier one. A latent layer may have a window too.

    Args:
        n_head: heads of Q.
        n_head_kv: heads of K and V, 1 where they are latent.
        n_embd_head_k: elements of one head's K; of a latent layer all that it caches of one token.
        n_embd_head_v: elements of one head's V; 0 where it is latent.
        window: tokens that it looks back at, 0 = all.
        n_latent: elements of the latent vector.
        n_rot: rotated elements beside it.
        n_indexer: elements of the keys of an indexer of its own (DSA), for each token.
        n_conv: elements of the state of a convolution, for each sequence.
        n_state: elements of the recurrent state, for each sequence.
        n_expanded_k: elements of one head's K that a latent stands for, for engines that cache no latent.
        n_expanded_v: those of its V.
    """

    attention: Attention
    n_head: int = 0
    n_head_kv: int = 0
    n_embd_head_k: int = 0
    n_embd_head_v: int = 0
    window: int = 0
    n_latent: int = 0
    n_rot: int = 0
    n_indexer: int = 0
    n_conv: int = 0
    n_state: int = 0
    n_expanded_k: int = 0
    n_expanded_v: int = 0

    @property
    def is_recurrent(self) -> bool:
        """Whether it keeps a state of each sequence; it may attend as well (Falcon-H1)."""
        return self.n_conv + self.n_state > 0

    @property
    def n_elements(self) -> int:
        """Elements that one token adds, without an indexer's."""
        return self.n_head_kv * (self.n_embd_head_k + self.n_embd_head_v)

    @property
    def n_expanded(self) -> int:
        """Elements that one token adds where K and V of every head are cached, without an indexer's."""
        return self.n_head * (self.n_expanded_k + self.n_expanded_v) if self.attention == "latent" else self.n_elements

    def heads_of(self, n_devices: int) -> int:
        """Heads of K and V that each of so many devices caches; fewer than devices are repeated, a latent always is."""
        return max(1, self.n_head_kv // n_devices)

    def tokens(self, n_ctx: int, more: int = 0) -> int:
        """Tokens of a context that it looks at: no more than its window and ``more`` that a prefill adds."""
        return min(n_ctx, self.window + more) if self.window else n_ctx


def layout(model: Model) -> tuple[Cached, ...]:
    """What each layer of the trunk keeps.

    Raises:
        SettingsError: ``not-modelled``: only llama.cpp's cache is known for this kind of layer.
    """
    kinds = _kinds(model)
    return tuple(kinds[kind] for kind in model.layer_kinds)


def counts(model: Model) -> Counter[Cached]:
    """How many layers keep the same, in the order of their first appearance.

    Raises:
        SettingsError: as ``layout`` does.
    """
    return Counter(layout(model))


@lru_cache(maxsize=256)
def _kinds(model: Model) -> tuple[Cached, ...]:
    return tuple(_cached(model, layer) for layer in model.kinds)


def _cached(model: Model, layer: Layer) -> Cached:
    mixer = layer.mixer
    pools = isinstance(mixer, Latent) and mixer.pools is not None
    if isinstance(mixer, (CompressedAttention, PooledAttention)) or pools:
        raise SettingsError(
            "not-modelled",
            f"{model.architecture} attends to blocks of tokens: what engines other than llama.cpp cache is not known",
            field="engine",
            allowed=("llama-server", "llama-cli", "llama-bench"),
        )
    states = {"n_conv": layer.n_embd_r + layer.n_embd_p, "n_state": layer.n_embd_s}
    attends = layer.own_cache and layer.n_head_kv > 0 and model.traits.cached
    if not attends:
        return Cached("none", **states)
    if isinstance(mixer, Latent):
        width = mixer.n_lora_kv + mixer.n_rot
        return Cached(
            "latent",
            n_head=layer.n_head,
            n_head_kv=1,
            n_embd_head_k=width,
            window=layer.n_swa,
            n_latent=mixer.n_lora_kv,
            n_rot=mixer.n_rot,
            n_indexer=mixer.n_embd_indexer,
            n_expanded_k=mixer.n_embd_head_k_mla,
            n_expanded_v=mixer.n_embd_head_v_mla,
            **states,
        )
    return Cached(
        "window" if layer.n_swa else "full",
        n_head=layer.n_head,
        n_head_kv=layer.n_head_kv,
        n_embd_head_k=layer.n_embd_head_k,
        n_embd_head_v=layer.n_embd_head_v,
        window=layer.n_swa,
        n_indexer=mixer.n_embd_indexer if mixer else 0,
        **states,
    )


def shown(cached: Cached) -> str:
    """A layer in a few words, for the explain of a line: ``"8 heads of 128"``, ``"a latent of 512 + 64"``."""
    if cached.attention == "latent":
        return f"a latent of {cached.n_latent} + {cached.n_rot}"
    heads = f"{cached.n_head_kv} heads of {cached.n_embd_head_k}"
    if cached.n_embd_head_v != cached.n_embd_head_k:
        heads += f" (K) and {cached.n_embd_head_v} (V)"
    return heads + (f" in a window of {cached.window:,}" if cached.window else "")
