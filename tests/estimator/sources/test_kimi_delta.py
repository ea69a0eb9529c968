"""Kimi delta attention, and what stands between its layers."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import KimiDeltaAttention, Latent, Pools
from estimator.model import Model, Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

HEADS, HEAD, TAPS, LATENT, ROT = 4, 16, 4, 32, 8
INNER = HEADS * HEAD

KEYS = {
    "attention.head_count_kv": (0, HEADS),
    "attention.key_length": LATENT + ROT,
    "attention.value_length": LATENT,
    "attention.key_length_mla": 24,
    "attention.value_length_mla": 16,
    "attention.kv_lora_rank": LATENT,
    "ssm.conv_kernel": TAPS,
    "kda.head_dim": HEAD,
}
RECURRENT: dict[str, tuple[int, ...]] = {
    **{f"attn_{name}.weight": (256, INNER) for name in "qkv"},
    **{f"ssm_conv1d_{name}.weight": (TAPS, 1, INNER) for name in "qkv"},
    "ssm_f_a.weight": (256, HEAD),
    "ssm_f_b.weight": (HEAD, INNER),
    "ssm_g_a.weight": (256, HEAD),
    "ssm_g_b.weight": (HEAD, INNER),
}


def read(
    name: str,
    given: dict[str, Any] | None = None,
    recurrent: dict[str, tuple[int, ...]] = RECURRENT,
    rot: int = ROT,
) -> Model:
    """A model of a recurrent layer and one with latent attention; ``given`` are keys of its header."""
    keys = {"attention.key_length": LATENT + rot, **(given or {})}
    metadata = {
        "general.architecture": name,
        f"{name}.block_count": 2,
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": 256,
        f"{name}.attention.head_count": HEADS,
        **{f"{name}.{key}": value for key, value in {**KEYS, **keys}.items()},
    }
    blocks: list[dict[str, tuple[int, ...]]] = [recurrent, {"attn_kv_a_mqa.weight": (256, LATENT + rot)}]
    tensors = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    for il, block in enumerate(blocks):
        shapes = {"attn_norm.weight": (256,), "ffn_norm.weight": (256,), **block}
        tensors += [Tensor(f"blk.{il}.{part}", shape, ElementType.F32) for part, shape in shapes.items()]
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0))


def without(*names: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in RECURRENT.items() if name.removesuffix(".weight") not in names}


def test_a_recurrent_layer_and_a_latent_one() -> None:
    first, second = read("kimi-linear").layers
    assert first.mixer == KimiDeltaAttention(n_head=HEADS, n_embd_head=HEAD, n_lora_decay=HEAD, n_lora_gate=HEAD)
    assert (first.n_embd_r, first.n_embd_s, first.n_head_kv) == (3 * (TAPS - 1) * INNER, HEAD**2 * HEADS, 0)
    assert isinstance(second.mixer, Latent)
    assert not second.turned
    assert {first.wiring, second.wiring} == {"settled_norm"}


def test_one_matrix_instead_of_two() -> None:
    shapes = {**without("ssm_f_b", "ssm_g_a", "ssm_g_b"), "ssm_g.weight": (256, INNER)}
    mixer = read("kimi-linear", recurrent=shapes).layers[0].mixer
    assert mixer == KimiDeltaAttention(n_head=HEADS, n_embd_head=HEAD, gate="ssm_g")


@pytest.mark.parametrize(("clamps", "expected"), [((0.0, 4.0), ["fused", "clamped"]), ((0.0, 0.0), ["fused"] * 2)])
def test_a_clamped_feed_forward(clamps: tuple[float, float], expected: list[str]) -> None:
    model = read("bailingmoe3", {"swiglu_clamp_exp": clamps})
    assert [layer.activation_exps for layer in model.layers] == expected
    assert {layer.activation for layer in model.layers} == {"fused"}
    assert isinstance(model.layers[1].mixer, Latent)
    assert model.layers[1].mixer.copies_gated


def test_layers_that_bank_what_they_were_given() -> None:
    model = read("kimi-k3", {"attn_res.block_size": 12})
    assert [(layer.n_banked, layer.banks, layer.wiring) for layer in model.layers] == [
        (0, True, "banked"),
        (1, False, "banked"),
    ]
    model = read("kimi-k3", {"attn_res.block_size": 1})
    assert [(layer.n_banked, layer.banks) for layer in model.layers] == [(0, True), (1, True)]


def test_pools_of_tokens() -> None:
    keys = {
        "attention.indexer.head_count": 2,
        "attention.indexer.key_length": 64,
        "attention.indexer.top_k": 128,
        "attention.indexer.kpool": 4,
        "hyper_connection.count": 4,
    }
    first, second = read("glm5-next", keys, rot=0).layers
    pools = Pools(n_head=2, n_embd_head=64, top_k=128, n_tokens=4, gated=True)
    assert isinstance(second.mixer, Latent)
    assert second.mixer.pools == pools
    assert second.mixer.n_embd_indexer == 3 * 64
    assert {first.wiring, second.wiring} == {"late_streams"}
    shared = read("glm5-next", {**keys, "attention.indexer.types": 0}, rot=0).layers[1].mixer
    assert shared
    assert shared.n_embd_indexer == 0


@pytest.mark.parametrize(
    ("name", "shapes", "keys", "code", "field"),
    [
        ("kimi-linear", without("attn_k"), {}, "bad-shape", "blk.0.attn_k.weight"),
        ("kimi-linear", RECURRENT, {"ssm.conv_kernel": 3}, "bad-shape", "blk.0.ssm_conv1d_q.weight"),
        (
            "kimi-linear",
            {**RECURRENT, "ssm_f_b.weight": (HEAD + 1, INNER)},
            {},
            "bad-shape",
            "blk.0.ssm_f_b.weight",
        ),
        ("kimi-linear", RECURRENT, {"kda.head_dim": 0}, "bad-value", "kimi-linear.kda.head_dim"),
        ("kimi-k3", RECURRENT, {}, "missing-key", "kimi-k3.attn_res.block_size"),
        ("bailingmoe3", RECURRENT, {"swiglu_clamp_exp": (1.0,)}, "bad-array-length", "bailingmoe3.swiglu_clamp_exp"),
        ("glm5-next", RECURRENT, {"hyper_connection.count": 4}, "bad-value", "rope.dimension_count"),
    ],
)
def test_refusals(name: str, shapes: dict[str, tuple[int, ...]], keys: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(name, keys, shapes)
    assert (caught.value.code, caught.value.field) == (code, field)
