"""Layers of DeepSeek V4: attention to a window and to blocks of older tokens (deepseek4.cpp, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.mixers import CompressedAttention, Indexer
from estimator.sources.recurrent import check_shape

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts

SMALL: Final = 4
"""``DSV4_CSA_RATIO``: so many tokens a block, of which an indexer chooses."""

LARGE: Final = 128
"""``DSV4_HCA_RATIO``: all blocks are seen."""


def compressed(facts: Facts, il: int, layer: Layer) -> Layer:
    """Which blocks a layer sees is a key; the first layers may look up their experts in a table."""
    hparams = facts.hparams
    ratio = hparams.array("attention.compress_ratios")[il]
    if ratio not in (0, SMALL, LARGE):
        raise ModelError(
            "bad-value",
            f"layer {il} has {ratio} tokens a block; it must be 0, {SMALL} or {LARGE}",
            field="attention.compress_ratios",
            allowed=f"0, {SMALL} or {LARGE}",
        )
    n_lora_q = hparams.whole("attention.q_lora_rank", low=1)
    n_group = hparams.whole("attention.output_group_count", low=1, high=layer.n_head)
    n_lora_o = hparams.whole("attention.output_lora_rank", low=1)
    check_shape(facts, il, "attn_q_a", (facts.n_embd, n_lora_q))
    check_shape(facts, il, "attn_kv", (facts.n_embd, layer.n_embd_head_k))
    check_shape(facts, il, "attn_output_b", (n_group * n_lora_o, facts.n_embd))
    indexer = None
    if ratio == SMALL:
        indexer = Indexer(
            n_head=hparams.whole("attention.indexer.head_count", low=1),
            n_embd_head=hparams.whole("attention.indexer.key_length", low=1),
            top_k=hparams.whole("attention.indexer.top_k", low=1),
        )
    mixer = CompressedAttention(n_lora_q=n_lora_q, n_lora_o=n_lora_o, n_group=n_group, ratio=ratio, indexer=indexer)
    return replace(
        layer,
        mixer=mixer,
        wiring="fused_streams",
        tabled_experts=il < hparams.whole("hash_layer_count", 0),
        n_embd_s=_state(layer, mixer),
    )


def _state(layer: Layer, mixer: CompressedAttention) -> int:
    """Values and scores of tokens whose block is not full, twice as wide where blocks overlap."""
    if not mixer.indexer:
        return 2 * mixer.n_state_rows * layer.n_embd_head_k
    return 2 * mixer.n_state_rows * 2 * (layer.n_embd_head_k + mixer.indexer.n_embd_head)
