"""MiniMax-01: which layers have lightning attention, and how long their state is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import LightningAttention
from estimator.model import Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

if TYPE_CHECKING:
    from estimator.layer import Layer

QKV = (256, 3 * 4 * 64)


def layers(n_layer: int, qkv: tuple[int, ...] = QKV, **keys: Any) -> tuple[Layer, ...]:
    """The layers of a model of four heads of 64; all have the matrix that only lightning attention reads."""
    metadata = {
        "general.architecture": "minimax-01",
        "minimax-01.block_count": n_layer,
        "minimax-01.context_length": 8192,
        "minimax-01.embedding_length": 256,
        "minimax-01.attention.head_count": 4,
        **{f"minimax-01.{key}": value for key, value in keys.items()},
    }
    blocks = {"attn_norm.weight": (256,), "ffn_norm.weight": (256,), "attn_qkv.weight": qkv}
    tensors = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    tensors += [
        Tensor(f"blk.{il}.{name}", shape, ElementType.F32) for il in range(n_layer) for name, shape in blocks.items()
    ]
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0)).layers


@pytest.mark.parametrize(("keys", "attention"), [({}, [7]), ({"full_attention_interval": 3}, [2, 5, 8])])
def test_which_layers_attend_to_a_cache(keys: dict[str, Any], attention: list[int]) -> None:
    found = layers(9, **keys)
    assert [il for il, layer in enumerate(found) if layer.mixer is None] == attention
    for layer in found:
        is_recurrent = layer.mixer == LightningAttention()
        assert (layer.n_head_kv, layer.n_embd_r, layer.n_embd_s) == ((0, 0, 64 * 64 * 4) if is_recurrent else (4, 0, 0))
        assert layer.wiring == "normed_residual"


def test_a_matrix_of_another_width() -> None:
    with pytest.raises(ModelError) as caught:
        layers(1, qkv=(256, 256))
    assert (caught.value.code, caught.value.field) == ("bad-shape", "blk.0.attn_qkv.weight")
