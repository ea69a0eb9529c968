"""What gemma's later models say about single layers (src/models/gemma3n.cpp and gemma4.cpp, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.mixers import AltUp

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts

OWN_CACHES: Final = 20
"""Layers of Gemma 3n with a cache of their own (gemma3n.cpp:7)."""

SPARSE: Final = 10
"""``n_layer_sparsity`` (models.h)."""

N_EMBD_ALTUP: Final = 256
LAUREL_RANK: Final = 64
"""Defaults of llama-hparams.h, which no header changes."""


def gemma3n(facts: Facts, il: int, layer: Layer) -> Layer:
    """All dimensions beside the shared ones are constants of the loader.

    Raises:
        ModelError: the tensors have other dimensions.
    """
    shape = facts.shapes.get(f"blk.{il}.inp_gate.weight")
    if shape is not None and shape[-1] != N_EMBD_ALTUP:
        field = f"blk.{il}.inp_gate.weight"
        raise ModelError("bad-shape", f"{field} must be {N_EMBD_ALTUP} wide; the header has {shape}", field=field)
    return replace(
        layer,
        own_cache=il < OWN_CACHES,
        normed_v=True,
        n_embd_per_layer=N_EMBD_ALTUP,
        mixer=AltUp(laurel_rank=LAUREL_RANK, sparse=il < SPARSE),
        wiring="altup",
    )


def gemma4(facts: Facts, il: int, layer: Layer) -> Layer:
    """Heads as wide for V as for K, embeddings of its own, and a cache that may be an earlier layer's.

    Raises:
        ModelError: a key is missing that the loader cannot do without, or llama.cpp would not find a layer's cache.
    """
    hparams = facts.hparams
    for key in ("attention.key_length_swa", "attention.value_length_swa"):
        hparams.whole(key, low=1)
    if layer.n_embd_head_k != layer.n_embd_head_v:
        raise ModelError(
            "bad-value",
            f"heads of layer {il} have {layer.n_embd_head_k} elements in K and {layer.n_embd_head_v} in V",
            field="gemma4.attention.value_length",
        )
    return replace(
        layer,
        own_cache=_has_own_cache(facts, il, layer),
        v_from_k=not facts.has(il, "attn_v"),
        normed_v=True,
        n_embd_per_layer=hparams.whole("embedding_length_per_layer_input"),
        scaled_output=facts.has(il, "layer_output_scale"),
        wiring="beside_experts" if layer.n_expert else "sequential",
        n_ff_shexp=hparams.per_layer("feed_forward_length")[il] if layer.n_expert else 0,
    )


def _has_own_cache(facts: Facts, il: int, layer: Layer) -> bool:
    """The last layers look at the cache of the last one that has its own, or of the one before if they have a window.

    (src/llama-model.cpp:2794-2806)
    """
    key = "attention.shared_kv_layers"
    n_layer = facts.hparams.n_layer_all
    n_own = n_layer - facts.hparams.whole(key, 0, high=n_layer - 2)
    looked_at = n_own < n_layer and il in (n_own - 2, n_own - 1)
    if looked_at and (layer.n_swa > 0) != (il == n_own - 2):
        raise ModelError(
            "bad-value",
            f"gemma4.{key}: the layers before the last {n_layer - n_own} must be one with a window and one without",
            field=f"gemma4.{key}",
        )
    return il < n_own
