"""Qwen 4: pools that an indexer chooses from, and tokens embedded together with those before."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import GatedAttention, GatedDeltaNet, PooledAttention, Pools
from estimator.model import Model, NGrams, Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

KEYS: dict[str, Any] = {
    "attention.head_count": 4,
    "attention.recurrent_layers": (True, False),
    "attention.compress_ratios": (4, 4),
    "attention.indexer.head_count": 2,
    "attention.indexer.key_length": 128,
    "attention.indexer.top_k": 512,
    "hyper_connection.count": 4,
    "hyper_connection.low_rank": 8,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 32,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 2,
    "ple.layers": (0,),
    "ple.ngram_size": 3,
    "ple.heads_per_ngram": 2,
    "ple.conv_kernel": 4,
    "embedding_length_per_layer_input": 64,
}


def read(given: dict[str, Any] | None = None, *, indexer: bool = True) -> Model:
    metadata = {
        "general.architecture": "qwen4exp",
        "qwen4exp.block_count": 2,
        "qwen4exp.context_length": 8192,
        "qwen4exp.embedding_length": 256,
        **{f"qwen4exp.{key}": value for key, value in {**KEYS, **(given or {})}.items()},
    }
    tensors = [
        Tensor("token_embd.weight", (256, 10), ElementType.F16),
        Tensor("blk.0.ssm_conv1d.weight", (4, 128 + 2 * 2 * 32), ElementType.F32),
        Tensor("blk.0.attn_qkv.weight", (256, 256), ElementType.F32),
        Tensor("blk.1.attn_k.weight", (256, 256), ElementType.F32),
    ]
    if indexer:
        tensors.append(Tensor("blk.1.indexer.k_proj.weight", (256, 128), ElementType.F32))
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0))


def test_both_kinds_of_layers() -> None:
    model = read()
    first, second = model.layers
    assert isinstance(first.mixer, GatedDeltaNet)
    assert first.mixer.copies_state
    # (kernel - 1) taps, an n-gram apart, of all streams
    assert first.n_embd_p == 3 * 3 * 4 * 256
    assert second.mixer == PooledAttention(pools=Pools(n_head=2, n_embd_head=128, top_k=512, n_tokens=4, gated=False))
    assert second.mixer.n_embd_indexer == 2 * 128
    assert {first.wiring, second.wiring} == {"low_rank_streams"}
    assert (model.n_low_rank, model.ngrams) == (8, NGrams(n_head=4, n_embd_head=64, d_conv=4))


def test_without_an_indexer_and_without_ngrams() -> None:
    model = read({"ple.layers": ()}, indexer=False)
    assert model.ngrams is None
    assert [layer.n_embd_p for layer in model.layers] == [0, 0]
    assert model.layers[1].mixer == GatedAttention()
    assert read({"attention.compress_ratios": (0, 0)}).layers[1].mixer == GatedAttention()


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"ple.layers": (1,)}, "ple.layers"),
        ({"ple.ngram_size": 1}, "qwen4exp.ple.ngram_size"),
        ({"attention.compress_ratios": (1, 1)}, "attention.compress_ratios"),
        ({"attention.indexer.top_k": 0}, "qwen4exp.attention.indexer.top_k"),
    ],
)
def test_refusals(keys: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(keys)
    assert caught.value.field == field
