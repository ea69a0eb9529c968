"""What layers of encoders have beside the shared keys (src/models/bert.cpp and modern-bert.cpp, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.errors import ModelError

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


def encoder_layer(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer of an encoder, which may norm the result of attention once more (bert.cpp:156-159).

    Raises:
        ModelError: the last layers are the head of a decision model, which is evaluated for each type of question.
    """
    if facts.hparams.whole("decision.block_count", 0):
        message = "the layers of a decision model's head are not modelled"
        raise ModelError("unknown-layout", message, field="decision.block_count")
    return replace(layer, wiring="post_norm_twice") if facts.has(il, "attn_norm_2") else layer


def t5_layer(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer whose scores have a bias for distance (t5.cpp:72-110).

    Raises:
        ModelError: encoder and decoder have not as many blocks each: the cache has a layer for each of the encoder.
    """
    n_layer = facts.hparams.n_layer
    if facts.hparams.whole("decoder_block_count", n_layer) != n_layer:
        message = f"only a decoder of as many blocks as the encoder has, {n_layer}, is modelled"
        raise ModelError("unknown-layout", message, field="decoder_block_count")
    return replace(layer, position_bias=True, own_position_bias=facts.has(il, "attn_rel_b"))
