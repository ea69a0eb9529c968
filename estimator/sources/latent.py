"""Reading rules of models with latent attention (src/models/deepseek2.cpp, minicpm3.cpp, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from estimator.errors import ModelError
from estimator.mixers import Indexer, Latent

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


def latent(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer with latent attention.

    Files with ``key_length_mla`` and ``value_length_mla`` are absorbed (llama-hparams.cpp, ``is_mla``): their
    ``key_length`` is that of the cached latent. In files without them it is the length of a head.
    """
    hparams = facts.hparams
    n_embd_head_k_mla = hparams.whole(_key("attention.key_length_mla", layer), 0)
    n_embd_head_v_mla = hparams.whole(_key("attention.value_length_mla", layer), 0)
    absorbed = n_embd_head_k_mla > 0 and n_embd_head_v_mla > 0
    n_embd_head_k = n_embd_head_k_mla if absorbed else layer.n_embd_head_k
    n_lora_kv = hparams.whole(_key("attention.kv_lora_rank", layer), low=1)
    both = facts.shape(il, "attn_kv_a_mqa")
    n_rot = both[1] - n_lora_kv
    if not 0 <= n_rot <= n_embd_head_k or (absorbed and layer.n_embd_head_k != both[1]):
        raise ModelError(
            "bad-value",
            f"attn_kv_a_mqa makes {both[1]} elements: kv_lora_rank {n_lora_kv} of them, and the rest does not suit "
            f"heads of {n_embd_head_k} and a cache of {layer.n_embd_head_k}",
            field=f"blk.{il}.attn_kv_a_mqa.weight",
        )
    mixer = Latent(
        n_lora_q=facts.shape(il, "attn_q_a")[1] if facts.has(il, "attn_q_a") else 0,
        n_lora_kv=n_lora_kv,
        n_rot=n_rot,
        n_embd_head_k_mla=n_embd_head_k,
        n_embd_head_v_mla=n_embd_head_v_mla if absorbed else layer.n_embd_head_v,
        absorbed=absorbed,
        normed_key=facts.has(il, "attn_k_norm"),
        n_gate=facts.rows(il, "attn_gate") if facts.has(il, "attn_gate") else 0,
    )
    return replace(layer, mixer=mixer)


def tempered_latent(facts: Facts, il: int, layer: Layer) -> Layer:
    """The same, and a temperature may scale Q (deepseek2.cpp:45-49)."""
    layer = latent(facts, il, layer)
    tempered = facts.hparams.real("attention.temperature_scale", 0.0) != 0.0
    return replace(layer, mixer=replace(cast("Latent", layer.mixer), tempered=tempered))


def indexed_latent(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer with latent attention to what an indexer chose, its own or that of a layer before.

    Which layers have their own is a key, or else the tensors tell (glm-dsa.cpp:58-66; hy-v4.cpp:59). Layers with a
    window have none (dots3note.cpp:208).
    """
    layer = _required(latent(facts, il, _windowed(facts, layer)))
    hparams = facts.hparams
    top_k = hparams.whole("attention.indexer.top_k", 0)
    if layer.n_swa or not top_k:
        return layer
    types = hparams.flags("attention.indexer.types")
    own = types[il] if types else facts.has(il, "indexer.attn_k")
    if not own and il == 0:
        raise ModelError(
            "missing-tensor",
            "the first layer needs an indexer of its own: none before it has chosen anything",
            field="attention.indexer.types",
        )
    indexer = Indexer(
        n_head=hparams.whole("attention.indexer.head_count", low=1),
        n_embd_head=hparams.whole("attention.indexer.key_length", low=1),
        top_k=top_k,
        own=own,
    )
    return replace(layer, mixer=replace(cast("Latent", layer.mixer), indexer=indexer))


def hyper_latent(facts: Facts, il: int, layer: Layer) -> Layer:
    """The same between residual streams. Its indexer's keys are not turned (hy-v4.cpp:378)."""
    layer = indexed_latent(facts, il, layer)
    mixer = cast("Latent", layer.mixer)
    indexer = replace(mixer.indexer, rotated=False) if mixer.indexer else None
    return replace(layer, mixer=replace(mixer, indexer=indexer), wiring="hyper")


def _windowed(facts: Facts, layer: Layer) -> Layer:
    """Layers with a window may have heads of another size (llama-hparams.cpp:148-154)."""
    if not layer.n_swa:
        return layer
    return replace(
        layer,
        n_embd_head_k=facts.hparams.whole("attention.key_length_swa", layer.n_embd_head_k, low=1),
        n_embd_head_v=facts.hparams.whole("attention.value_length_swa", layer.n_embd_head_v, low=1),
    )


def _required(layer: Layer) -> Layer:
    """The loader refuses files of the old form for these architectures."""
    if layer.has_v:
        raise ModelError(
            "missing-key",
            "this architecture needs key_length_mla and value_length_mla",
            field="attention.key_length_mla",
        )
    return layer


def _key(name: str, layer: Layer) -> str:
    """Layers with a window have keys of their own (dots3note.cpp:27-30)."""
    return f"{name}_swa" if layer.n_swa else name
