"""The rules by which quantize() chooses types, each on its own (llama.cpp b11434, src/llama-quant.cpp)."""

from __future__ import annotations

import pytest

from estimator.ggml import ElementType
from estimator.sources.quantize import quantize
from tests.estimator.sources.quantize_models import layers_of, matrix, model_of, types_of

T = ElementType


# --- which tensors


@pytest.mark.parametrize(
    "name",
    [
        "blk.0.attn_norm.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.ssm_conv1d.weight",
        "blk.0.time_mix_w1.weight",
        "blk.0.attn_q.bias",
        "position_embd.weight",
        "v.patch_embd.weight",
    ],
)
@pytest.mark.parametrize("file_type", ["F16", "Q4_K_M"])
def test_kept_by_name(name: str, file_type: str) -> None:
    model = model_of([matrix(name), matrix("output.weight")], n_layer=1)
    assert types_of(model, file_type)[name] == "BF16"


@pytest.mark.parametrize("shape", [(4096,), (4096, 1), (4096, 1, 1)])
def test_vectors_are_kept(shape: tuple[int, ...]) -> None:
    model = model_of([matrix("blk.0.attn_q.weight", *shape)], n_layer=1)
    assert types_of(model, "Q4_0") == {"blk.0.attn_q.weight": "BF16"}


def test_kept_only_by_one_architecture() -> None:
    tensors = [matrix("blk.0.ssm_beta.weight"), matrix("output.weight")]
    assert types_of(model_of(tensors, n_layer=1), "Q4_0")["blk.0.ssm_beta.weight"] == "Q4_0"
    assert types_of(model_of(tensors, n_layer=1, architecture="glm5-next"), "Q4_0")["blk.0.ssm_beta.weight"] == "BF16"


def test_file_types_that_are_no_mixture_convert_every_matrix_alike() -> None:
    model = model_of(
        [matrix("output.weight"), matrix("token_embd.weight", 33, 7), matrix("a_norm.weight", 9)], n_layer=1
    )
    assert types_of(model, "F16") == {"output.weight": "F16", "token_embd.weight": "F16", "a_norm.weight": "BF16"}
    assert types_of(model, "F32") == {"output.weight": "F32", "token_embd.weight": "F32", "a_norm.weight": "BF16"}


# --- rules


def test_embedding_has_the_outputs_type_where_it_serves_as_output() -> None:
    embedding, output = matrix("token_embd.weight"), matrix("output.weight")
    assert types_of(model_of([embedding], n_layer=1), "Q4_0") == {"token_embd.weight": "Q6_K"}
    untied = types_of(model_of([embedding, output], n_layer=1), "Q4_0")
    assert untied == {"token_embd.weight": "Q4_0", "output.weight": "Q6_K"}


def test_more_bits_go_to_the_first_and_last_eighth_and_every_third_between() -> None:
    assert layers_of("ffn_down", 32, "Q4_K_M") == "6666446446446446446446446446" + "6666"
    assert layers_of("attn_v", 32, "Q4_K_M") == layers_of("ffn_down", 32, "Q4_K_M")


@pytest.mark.parametrize(
    ("architecture", "n_layer", "n_head_kv", "n_expert", "is_70b"),
    [
        ("llama", 80, 8, 0, True),
        ("llama", 80, 64, 0, False),
        ("llama", 79, 8, 0, False),
        ("llama", 80, 8, 8, False),
        ("qwen2", 80, 64, 0, True),
        ("qwen3", 80, 8, 0, False),
        ("jais2", 68, 8, 0, True),
    ],
)
def test_70b(architecture: str, n_layer: int, n_head_kv: int, n_expert: int, is_70b: bool) -> None:
    facts = {"architecture": architecture, "n_head": 64, "n_head_kv": n_head_kv, "n_expert": n_expert}
    assert ("5" in layers_of("attn_v", n_layer, "Q4_K_M", **facts)) == is_70b


def test_experts_are_counted_by_block_and_dense_layers_one_by_one() -> None:
    tensors = [matrix(f"blk.{i}.ffn_down_{kind}.weight") for i in range(8) for kind in ("exps", "shexp")]
    dense = quantize(model_of(tensors, n_layer=8), "Q4_K_S").tensors
    experts = quantize(model_of(tensors, n_layer=8, n_expert=4), "Q4_K_S").tensors
    assert [tensor.type.name for tensor in dense[:3]] == ["Q5_K", "Q4_K", "Q4_K"]
    assert [tensor.type.name for tensor in experts[:3]] == ["Q5_K", "Q5_K", "Q4_K"]


@pytest.mark.parametrize(
    ("file_type", "expected"),
    [
        ("Q4_K_M", "6655445445445445445445445445" + "5555"),
        ("Q4_K_S", "4" * 32),
        ("Q3_K_L", "4" * 32),
        ("Q3_K_M", "5544334334334334334334334334" + "4444"),
    ],
)
def test_falcon_goes_its_own_way(file_type: str, expected: str) -> None:
    assert layers_of("ffn_down", 32, file_type, architecture="falcon") == expected


def test_mxfp4_moe_takes_the_experts_alone() -> None:
    names = {"blk.0.ffn_up_exps.weight": (4096, 64, 8), "blk.0.attn_q.weight": (4096, 64), "output.weight": (4096, 64)}
    model = model_of([matrix(name, *shape) for name, shape in names.items()], n_layer=1, n_expert=8)
    assert types_of(model, "MXFP4_MOE") == {
        "blk.0.ffn_up_exps.weight": "MXFP4",
        "blk.0.attn_q.weight": "Q8_0",
        "output.weight": "Q8_0",
    }


@pytest.mark.parametrize(
    ("file_type", "row", "expected"),
    [
        ("Q4_K_S", 896, "Q5_0"),
        ("Q5_K_S", 896, "Q5_1"),
        ("Q6_K", 896, "Q8_0"),
        ("Q3_K_S", 896, "Q4_0"),
        ("Q2_K_S", 896, "Q4_0"),
        ("TQ1_0", 896, "Q4_0"),
        ("IQ4_XS", 896, "IQ4_NL"),
        ("IQ1_S", 896, "IQ4_NL"),
        ("Q4_0", 896, "Q4_0"),
        ("Q8_0", 896, "Q8_0"),
        ("Q4_K_S", 900, "F16"),
        ("Q8_0", 900, "F16"),
        ("Q1_0", 896, "Q1_0"),
    ],
)
def test_rows_that_do_not_fill_blocks_fall_back(file_type: str, row: int, expected: str) -> None:
    model = model_of([matrix("blk.0.attn_q.weight", row, 64), matrix("output.weight")], n_layer=1)
    assert types_of(model, file_type)["blk.0.attn_q.weight"] == expected
