"""What MiniMax M3 says about single layers (src/models/minimax-m3.cpp:4-30, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.errors import ModelError
from estimator.mixers import Blocks

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


def minimax_m3(facts: Facts, il: int, layer: Layer) -> Layer:
    """All but the leading dense layers attend to the blocks that an indexer chooses."""
    hparams = facts.hparams
    if il < hparams.whole("leading_dense_block_count", 0):
        return layer
    mixer = Blocks(
        n_head=hparams.whole("attention.indexer.head_count", low=1),
        n_embd_head=hparams.whole("attention.indexer.key_length", low=1),
        n_embd_head_v=layer.n_embd_head_v,
        block_size=hparams.whole("attention.indexer.block_size", low=1),
        top_k=hparams.whole("attention.indexer.top_k", low=1),
    )
    if mixer.n_head != layer.n_head_kv:
        raise ModelError(
            "bad-value",
            f"the indexer of layer {il} has {mixer.n_head} heads; it must have one for each of {layer.n_head_kv} of K",
            field="minimax-m3.attention.indexer.head_count",
        )
    return replace(layer, mixer=mixer)
