"""DeepSeek V4: which blocks of tokens a layer sees, and what it keeps of those that are not full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import CompressedAttention, Indexer
from estimator.model import Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

if TYPE_CHECKING:
    from estimator.layer import Layer

HEAD = 64
KEYS: dict[str, Any] = {
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "attention.q_lora_rank": 32,
    "attention.output_group_count": 2,
    "attention.output_lora_rank": 16,
    "attention.sliding_window": 128,
    "attention.indexer.head_count": 8,
    "attention.indexer.key_length": 128,
    "attention.indexer.top_k": 512,
    "hyper_connection.count": 4,
}
SHAPES = {"attn_q_a.weight": (256, 32), "attn_kv.weight": (256, HEAD), "attn_output_b.weight": (32, 256)}


def layers(ratios: tuple[int, ...], **keys: Any) -> tuple[Layer, ...]:
    metadata = {
        "general.architecture": "deepseek4",
        "deepseek4.block_count": len(ratios),
        "deepseek4.context_length": 8192,
        "deepseek4.embedding_length": 256,
        "deepseek4.attention.compress_ratios": ratios,
        **{f"deepseek4.{key}": value for key, value in {**KEYS, **keys}.items()},
    }
    shapes = {"attn_norm.weight": (256,), "ffn_norm.weight": (256,), **SHAPES}
    tensors = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    for il in range(len(ratios)):
        tensors += [Tensor(f"blk.{il}.{name}", shape, ElementType.F32) for name, shape in shapes.items()]
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0)).layers


def test_layers_of_each_kind() -> None:
    found = layers((0, 4, 128))
    indexer = Indexer(n_head=8, n_embd_head=128, top_k=512)
    for layer, ratio in zip(found, (0, 4, 128), strict=True):
        assert layer.mixer == CompressedAttention(
            n_lora_q=32, n_lora_o=16, n_group=2, ratio=ratio, indexer=indexer if ratio == 4 else None
        )
        assert (layer.n_swa, layer.has_v, layer.wiring) == (128, False, "fused_streams")
    # values and scores: none, 8 rows of twice both keys, 128 rows of one
    assert [layer.n_embd_s for layer in found] == [0, 2 * 8 * 2 * (HEAD + 128), 2 * 128 * HEAD]


def test_experts_from_a_table() -> None:
    assert [layer.tabled_experts for layer in layers((0, 4), hash_layer_count=1)] == [True, False]


@pytest.mark.parametrize(
    ("ratios", "keys", "field"),
    [
        ((8,), {}, "attention.compress_ratios"),
        ((0,), {"attention.q_lora_rank": 33}, "blk.0.attn_q_a.weight"),
        ((0,), {"attention.output_group_count": 4}, "blk.0.attn_output_b.weight"),
        ((4,), {"attention.indexer.top_k": 0}, "deepseek4.attention.indexer.top_k"),
    ],
)
def test_refusals(ratios: tuple[int, ...], keys: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        layers(ratios, **keys)
    assert caught.value.field == field
