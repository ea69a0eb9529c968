"""Qwen 4: delta nets and attention to pools of tokens, between residual streams (qwen4exp.cpp:29-230, b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.mixers import GatedDeltaNet, PooledAttention, Pools
from estimator.model import NGrams
from estimator.sources.delta_net import delta_net
from estimator.sources.hparams import MAX_STREAMS
from estimator.sources.recurrent import MAX_CONV

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts, HParams

MAX_NGRAM: Final = 16
"""Our bound on tokens that are embedded together."""


def ngrams(hparams: HParams) -> NGrams | None:
    """Tokens embedded together with those before, if a layer adds them."""
    if not _ngram_layers(hparams):
        return None
    size = hparams.whole("ple.ngram_size", low=2, high=MAX_NGRAM)
    return NGrams(
        n_head=(size - 1) * hparams.whole("ple.heads_per_ngram", low=1, high=1024),
        n_embd_head=hparams.whole("embedding_length_per_layer_input", low=1),
        d_conv=hparams.whole("ple.conv_kernel", low=1, high=MAX_CONV),
    )


def pooling_delta_net(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer, recurrent or with an indexer if the file has one."""
    hparams = facts.hparams
    layer = replace(delta_net(facts, il, layer), wiring="low_rank_streams")
    if isinstance(layer.mixer, GatedDeltaNet):
        return replace(layer, mixer=replace(layer.mixer, copies_state=True), n_embd_p=_ngram_state(facts, il))
    if _ngram_state(facts, il):
        raise ModelError("bad-value", f"layer {il} is not recurrent, so it cannot add n-grams", field="ple.layers")
    ratios = hparams.array("attention.compress_ratios") if hparams.has("attention.compress_ratios") else None
    if not ratios or not ratios[il] or not facts.has(il, "indexer.k_proj"):
        return layer
    pools = Pools(
        n_head=hparams.whole("attention.indexer.head_count", low=1),
        n_embd_head=hparams.whole("attention.indexer.key_length", low=1),
        top_k=hparams.whole("attention.indexer.top_k", low=1),
        n_tokens=_whole_ratio(ratios[il]),
        gated=False,
    )
    return replace(layer, mixer=PooledAttention(pools=pools))


def _whole_ratio(ratio: int) -> int:
    if ratio < 2:
        raise ModelError("bad-value", "a pool must have more than one token", field="attention.compress_ratios")
    return ratio


def _ngram_layers(hparams: HParams) -> tuple[int, ...]:
    return hparams.numbers("ple.layers")


def _ngram_state(facts: Facts, il: int) -> int:
    """What the convolution looks back at, as far apart as tokens are embedded (llama-hparams.cpp:263-270)."""
    hparams = facts.hparams
    if il not in _ngram_layers(hparams):
        return 0
    taps = hparams.whole("ple.conv_kernel", low=1, high=MAX_CONV) - 1
    size = hparams.whole("ple.ngram_size", low=2, high=MAX_NGRAM)
    return taps * size * hparams.whole("hyper_connection.count", low=2, high=MAX_STREAMS) * facts.n_embd
