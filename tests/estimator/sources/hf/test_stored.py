"""The tensors of checkpoints: counted, weighed, and told apart from what says how they are quantized."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import estimator as fathom
from estimator.errors import ModelError
from tests.estimator.sources.hf import configs

if TYPE_CHECKING:
    from collections.abc import Callable

    Tensors = dict[str, tuple[str, tuple[int, ...]]]


def tiny() -> Tensors:
    """The checkpoint of ``configs.LLAMA``, as transformers writes it."""
    tensors: Tensors = {
        "model.embed_tokens.weight": ("BF16", (256, 64)),
        "model.norm.weight": ("BF16", (64,)),
        "lm_head.weight": ("BF16", (256, 64)),
    }
    for il in range(2):
        layer = f"model.layers.{il}"
        tensors |= {
            f"{layer}.{name}.weight": ("BF16", (64,)) for name in ("input_layernorm", "post_attention_layernorm")
        }
        for name, rows in (("q_proj", 64), ("k_proj", 32), ("v_proj", 32), ("o_proj", 64)):
            tensors[f"{layer}.self_attn.{name}.weight"] = ("BF16", (rows, 64))
        for name in ("gate_proj", "up_proj"):
            tensors[f"{layer}.mlp.{name}.weight"] = ("BF16", (192, 64))
        tensors[f"{layer}.mlp.down_proj.weight"] = ("BF16", (64, 192))
    return tensors


N_TINY = 2 * 256 * 64 + 64 + 2 * (2 * 64 + 64 * (64 + 32 + 32 + 64) + 3 * 64 * 192)


def quantized(how: Callable[[str, int, int], Tensors]) -> Tensors:
    """The same with the matrices of the layers in another form."""
    found: Tensors = {}
    for name, (dtype, shape) in tiny().items():
        is_matrix = name.startswith("model.layers.") and len(shape) == 2
        found |= how(name.removesuffix(".weight"), *shape) if is_matrix else {name: (dtype, shape)}
    return found


def fp8(base: str, n_out: int, n_in: int) -> Tensors:
    blocks = (-(-n_out // 128), -(-n_in // 128))
    return {f"{base}.weight": ("F8_E4M3", (n_out, n_in)), f"{base}.weight_scale_inv": ("F32", blocks)}


def static_fp8(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.weight": ("F8_E4M3", (n_out, n_in)),
        f"{base}.weight_scale": ("F32", ()),
        f"{base}.input_scale": ("F32", ()),
    }


def gptq(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.qweight": ("I32", (n_in // 8, n_out)),
        f"{base}.qzeros": ("I32", (n_in // 32, n_out // 8)),
        f"{base}.scales": ("F16", (n_in // 32, n_out)),
        f"{base}.g_idx": ("I32", (n_in,)),
    }


def gptq_3_bits(base: str, n_out: int, n_in: int) -> Tensors:
    return {**gptq(base, n_out, n_in), f"{base}.qweight": ("I32", (n_in * 3 // 32, n_out))}


def awq(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.qweight": ("I32", (n_in, n_out // 8)),
        f"{base}.qzeros": ("I32", (n_in // 32, n_out // 8)),
        f"{base}.scales": ("F16", (n_in // 32, n_out)),
    }


def nf4(base: str, n_out: int, n_in: int) -> Tensors:
    n = n_out * n_in
    return {
        f"{base}.weight": ("U8", (n // 2, 1)),
        f"{base}.weight.absmax": ("U8", (n // 64,)),
        f"{base}.weight.nested_absmax": ("F32", (n // 64 // 256 + 1,)),
        f"{base}.weight.nested_quant_map": ("F32", (256,)),
        f"{base}.weight.quant_map": ("F32", (16,)),
        f"{base}.weight.quant_state.bitsandbytes__nf4": ("U8", (91,)),
    }


def int8(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.weight": ("I8", (n_out, n_in)),
        f"{base}.SCB": ("F32", (n_out,)),
        f"{base}.weight_format": ("U8", ()),
    }


def nvfp4(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.weight": ("U8", (n_out, n_in // 2)),
        f"{base}.weight_scale": ("F8_E4M3", (n_out, n_in // 16)),
        f"{base}.weight_scale_2": ("F32", ()),
        f"{base}.input_scale": ("F32", ()),
    }


def packed_nvfp4(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.weight_packed": ("U8", (n_out, n_in // 2)),
        f"{base}.weight_scale": ("F8_E4M3", (n_out, n_in // 16)),
        f"{base}.weight_global_scale": ("F32", (1,)),
        f"{base}.input_global_scale": ("F32", (1,)),
    }


def packed_int4(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.weight_packed": ("I32", (n_out, n_in // 8)),
        f"{base}.weight_scale": ("BF16", (n_out, n_in // 32)),
        f"{base}.weight_zero_point": ("I32", (n_out // 8, n_in // 32)),
        f"{base}.weight_shape": ("I64", (2,)),
    }


def channel_int8(base: str, n_out: int, n_in: int) -> Tensors:
    return {f"{base}.weight": ("I8", (n_out, n_in)), f"{base}.weight_scale": ("BF16", (n_out, 1))}


def mlx_4_bits(base: str, n_out: int, n_in: int) -> Tensors:
    return {
        f"{base}.weight": ("U32", (n_out, n_in // 8)),
        f"{base}.scales": ("BF16", (n_out, n_in // 32)),
        f"{base}.biases": ("BF16", (n_out, n_in // 32)),
    }


def mlx_6_bits(base: str, n_out: int, n_in: int) -> Tensors:
    return {**mlx_4_bits(base, n_out, n_in), f"{base}.weight": ("U32", (n_out, n_in * 6 // 32))}


def bitnet(base: str, n_out: int, n_in: int) -> Tensors:
    return {f"{base}.weight": ("U8", (n_out // 4, n_in)), f"{base}.weight_scale": ("BF16", (1,))}


PACKED = {"config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "type": "int"}}}}
WAYS: list[tuple[Callable[[str, int, int], Tensors], str, dict[str, Any], str]] = [
    (fp8, "quantization_config", {"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    (static_fp8, "quantization_config", {"quant_method": "modelopt", "quant_algo": "FP8"}, "modelopt FP8"),
    (gptq, "quantization_config", {"quant_method": "gptq", "bits": 4, "group_size": 32}, "gptq"),
    (gptq_3_bits, "quantization_config", {"quant_method": "gptq", "bits": 3, "group_size": 32}, "gptq"),
    (awq, "quantization_config", {"quant_method": "awq", "bits": 4, "group_size": 32}, "awq"),
    (nf4, "quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    (int8, "quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
    (nvfp4, "quantization_config", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt NVFP4"),
    (
        packed_nvfp4,
        "quantization_config",
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
        "compressed-tensors nvfp4-pack-quantized",
    ),
    (
        packed_int4,
        "quantization_config",
        {"quant_method": "compressed-tensors", "format": "pack-quantized", **PACKED},
        "compressed-tensors pack-quantized",
    ),
    (
        channel_int8,
        "quantization_config",
        {"quant_method": "compressed-tensors", "format": "int-quantized", **PACKED},
        "compressed-tensors int-quantized",
    ),
    (mlx_4_bits, "quantization", {"group_size": 32, "bits": 4}, "mlx"),
    (mlx_6_bits, "quantization", {"group_size": 32, "bits": 6}, "mlx"),
    (bitnet, "quantization_config", {"quant_method": "bitnet"}, "bitnet"),
]


@pytest.mark.parametrize("id", configs.stored_ids())
def test_a_checkpoint_has_the_tensors_of_its_config(id: str) -> None:
    config, tensors = configs.config(id), configs.stored(id)
    config.pop("quantization_config", None)
    found, alone = fathom.read_hf(config, tensors), fathom.read_hf(config)
    n = sum(math.prod(shape) for _, shape in tensors.values())
    assert (found.parameters, found.weights_bytes) == (n, 2 * n)
    assert {(t.name, t.shape, t.type) for t in found.tensors} == {(t.name, t.shape, t.type) for t in alone.tensors}
    assert found.layers == alone.layers


@pytest.mark.parametrize(("how", "section", "quantization", "name"), WAYS, ids=lambda way: getattr(way, "__name__", ""))
def test_a_quantized_checkpoint_weighs_what_it_stores(
    how: Callable[[str, int, int], Tensors], section: str, quantization: dict[str, Any], name: str
) -> None:
    tensors = quantized(how)
    model = fathom.read_hf({**configs.LLAMA, section: quantization}, tensors)
    widths = {"F32": 4, "I32": 4, "U32": 4, "I64": 8, "BF16": 2, "F16": 2, "U8": 1, "I8": 1, "F8_E4M3": 1}
    assert model.parameters == N_TINY
    assert model.weights_bytes == sum(widths[dtype] * math.prod(shape) for dtype, shape in tensors.values())
    assert model.checkpoint is not None
    assert model.checkpoint.quantization == name


def test_estimates_are_of_the_gguf() -> None:
    config = {**configs.LLAMA, "quantization_config": {"quant_method": "fp8"}}
    model = fathom.read_hf(config, quantized(fp8))
    converted = fathom.read_hf(configs.LLAMA)
    assert model.tensors == converted.tensors
    assert model.weights_bytes < converted.weights_bytes
    found = fathom.estimate(model, fathom.Settings(n_ctx=256), [fathom.device("rtx-4090")])
    assert found.devices[0].weights + found.host.weights == converted.weights_bytes
    assert "converted-checkpoint" in {caution.code for caution in found.warnings}
    quantized_model = fathom.quantize(model, "Q8_0")
    assert quantized_model.weights_bytes == fathom.quantize(converted, "Q8_0").weights_bytes
    assert quantized_model.parameters == N_TINY
    assert not fathom.estimate(quantized_model, fathom.Settings(n_ctx=256), [fathom.device("generic")]).warnings


def test_mxfp4_experts_of_gpt_oss() -> None:
    config = configs.config("gpt-oss-20b")
    tensors: Tensors = {}
    for name, (dtype, shape) in configs.stored("gpt-oss-20b").items():
        if name.endswith(("gate_up_proj", "down_proj")):
            n_expert, n_in, n_out = shape
            tensors[f"{name}_blocks"] = ("U8", (n_expert, n_out, n_in // 32, 16))
            tensors[f"{name}_scales"] = ("U8", (n_expert, n_out, n_in // 32))
        else:
            tensors[name] = (dtype, shape)
    model = fathom.read_hf(config, tensors)
    assert model.parameters == configs.parameters("gpt-oss-20b") == 20_914_757_184
    assert 12.5e9 < model.weights_bytes < 14e9
    assert model.checkpoint is not None
    assert model.checkpoint.quantization == "mxfp4"


def test_a_quantization_is_known_without_tensors() -> None:
    model = fathom.read_hf(configs.config("deepseek-v3"))
    assert model.checkpoint == fathom.Checkpoint(671_026_419_200, None, "fp8")
    assert model.weights_bytes == configs.converted("deepseek-v3").weights_bytes


def test_an_output_matrix_that_is_stored_though_tied() -> None:
    model = fathom.read_hf({**configs.LLAMA, "tie_word_embeddings": True}, tiny())
    assert model.has("output.weight")  # llama.cpp's converter writes what is stored
    assert model.parameters == N_TINY - 256 * 64  # but they are the same numbers
    gemma = {**configs.LLAMA, "architectures": ["GemmaForCausalLM"], "head_dim": 16}
    assert not fathom.read_hf(gemma, tiny()).has("output.weight")  # except Gemma's


def test_an_output_matrix_that_is_not_stored() -> None:
    tensors = tiny()
    del tensors["lm_head.weight"]
    assert fathom.read_hf(configs.LLAMA, tensors).has_tied_output


def test_rows_of_the_vocabulary_are_those_stored() -> None:
    tensors = {**tiny(), "model.embed_tokens.weight": ("BF16", (320, 64)), "lm_head.weight": ("BF16", (320, 64))}
    assert fathom.read_hf(configs.LLAMA, tensors).n_vocab == 320


def test_biases_and_norms_that_the_config_does_not_say() -> None:
    tensors = tiny()
    for il in range(2):
        for name, width in (("q_proj.bias", 64), ("k_proj.bias", 32), ("v_proj.bias", 32)):
            tensors[f"model.layers.{il}.self_attn.{name}"] = ("BF16", (width,))
    model = fathom.read_hf(configs.LLAMA, tensors)
    assert {tensor.name for tensor in model.tensors if tensor.name.startswith("blk.1.") and "bias" in tensor.name} == {
        "blk.1.attn_q.bias",
        "blk.1.attn_k.bias",
        "blk.1.attn_v.bias",
    }
    biased = fathom.read_hf({**configs.LLAMA, "attention_bias": True}, tensors)
    assert not biased.has("blk.0.attn_output.bias")
    assert biased.layers == model.layers


def test_what_stands_beside_the_text_model_counts_but_is_not_converted() -> None:
    more: Tensors = {
        "vision_tower.encoder.layers.0.weight": ("BF16", (64, 64)),
        "model.layers.2.eh_proj.weight": ("BF16", (64, 128)),
        "mtp.fc.weight": ("F32", (64, 64)),
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (8,)),
    }
    model = fathom.read_hf(configs.LLAMA, {**tiny(), **more})
    assert model.parameters == N_TINY + 64 * 64 + 64 * 128 + 64 * 64
    assert model.weights_bytes == 2 * N_TINY + 2 * (64 * 64 + 64 * 128) + 4 * (64 * 64 + 8)
    assert model.tensors == fathom.read_hf(configs.LLAMA).tensors


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"model.norm.weight": ("BF17", (64,))}, "unknown-dtype", "'BF17'"),
        ({"model.norm.weight": ("BF16", (-1,))}, "bad-tensor", "model.norm.weight"),
        ({"model.norm.weight": ("BF16", (2.5,))}, "bad-tensor", "whole numbers"),
        ({"model.norm.weight": ("BF16", (2**39, 2**39))}, "bad-tensor", "at most"),
        ({"model.norm.weight": ("BF16", (1,) * 9)}, "bad-tensor", "up to 8"),
        ({"model.norm.weight": ("BF16", 64)}, "bad-tensor", "model.norm.weight"),
        ({"model.norm.weight": "BF16"}, "bad-tensor", "a dtype and a shape"),
        ({"x" * 600: ("BF16", (64,))}, "bad-safetensors", "512"),
        ({"model.layers.0.mlp.up_proj.weight": ("U8", (96, 64))}, "unknown-quantization", "up_proj"),
        ({"model.layers.0.mlp.up_proj.q_weight": ("I32", (96, 64))}, "unknown-quantization", "q_weight"),
        ({"model.layers.0.mlp.up_proj.qweight": ("I32", (96, 64))}, "unknown-quantization", "qweight"),
        ({"model.embed_tokens.weight": ("BF16", (256, 80))}, "tensors-differ", "hidden_size is 64"),
        ({"model.layers.1.mlp.up_proj.weight": ("BF16", (190, 64))}, "tensors-differ", "blk.1.ffn_up.weight"),
    ],
)
def test_tensors_that_make_no_sense(changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ModelError) as refused:
        fathom.read_hf(configs.LLAMA, {**tiny(), **changes})
    assert refused.value.code == code
    assert words in refused.value.message
    assert len(refused.value.message) < 600


def test_a_method_that_is_not_known() -> None:
    with pytest.raises(ModelError) as refused:
        fathom.read_hf({**configs.LLAMA, "quantization_config": {"quant_method": "exl3"}}, tiny())
    assert (refused.value.code, refused.value.field) == ("unknown-quantization", "quant_method")
    assert "'exl3'" in refused.value.message
    model = fathom.read_hf({**configs.LLAMA, "quantization_config": {"quant_method": "exl3"}})
    assert model.parameters == N_TINY  # without tensors there is nothing to unpack


def test_positions_that_the_converter_cuts_off() -> None:
    config = configs.more("BAAI/bge-m3")["config"]
    tensors: Tensors = {
        "embeddings.word_embeddings.weight": ("F32", (250002, 1024)),
        "embeddings.position_embeddings.weight": ("F32", (8194, 1024)),
        "embeddings.position_ids": ("I64", (1, 8194)),
    }
    model = fathom.read_hf(config, tensors)
    assert next(tensor.shape for tensor in model.tensors if tensor.name == "position_embd.weight") == (1024, 8192)
    assert model.parameters == (250002 + 8194) * 1024


def test_names_without_the_prefix_of_the_library() -> None:
    tensors = {name.removeprefix("transformer."): entry for name, entry in configs.stored("gpt2").items()}
    tensors["h.0.attn.bias"] = ("F32", (1, 1, 1024, 1024))  # a mask
    tensors["h.0.attn.masked_bias"] = ("F32", ())
    assert "wte.weight" in tensors
    assert fathom.read_hf(configs.config("gpt2"), tensors).parameters == configs.parameters("gpt2")
    del tensors["h.7.ln_1.weight"]
    for name in [name for name in tensors if name.startswith("h.7.")]:
        del tensors[name]
    with pytest.raises(ModelError, match="layer 7"):
        fathom.read_hf(configs.config("gpt2"), tensors)


def test_a_file_of_the_checkpoint_is_missing() -> None:
    first = {name: entry for name, entry in tiny().items() if ".layers.1." not in name}
    with pytest.raises(ModelError) as refused:
        fathom.read_hf(configs.LLAMA, first)
    assert refused.value.code == "missing-tensor"
    assert "layer 1" in refused.value.message


@pytest.mark.parametrize("tensors", [{}, [], 7, "model.safetensors"])
def test_no_tensors(tensors: Any) -> None:
    with pytest.raises(ModelError) as refused:
        fathom.read_hf(configs.LLAMA, tensors)
    assert refused.value.code == "bad-safetensors"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
)
ENTRIES = st.tuples(
    st.sampled_from(["BF16", "U8", "I32", "U32", "F8_E4M3", "I8", "F4"]), st.lists(st.integers(0, 300), max_size=3)
)
SUFFIXES = st.sampled_from(["weight", "qweight", "scales", "weight_packed", "weight_scale", "scale", "biases", "SCB"])
TENSOR_NAMES = st.builds("{}.{}".format, st.sampled_from(sorted(tiny())).map(lambda x: x.rpartition(".")[0]), SUFFIXES)


@given(
    st.dictionaries(TENSOR_NAMES, ENTRIES | ANYTHING, max_size=4),
    st.sampled_from([{}, *({section: quantization} for _, section, quantization, _ in WAYS)]),
)
@settings(max_examples=100, deadline=None)
def test_no_tensors_crash_the_reader(changes: dict[str, Any], quantization: dict[str, Any]) -> None:
    refusal = None
    try:
        model = fathom.read_hf({**configs.LLAMA, **quantization}, {**tiny(), **changes})
    except ModelError as error:
        refusal = error
    if refusal is None:
        assert model.parameters >= 0
    else:
        assert 0 < len(refusal.message) < 1000
