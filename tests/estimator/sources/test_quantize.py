"""quantize() against what llama.cpp b11434 itself chooses: tests/data/quant/llama_quantize.json."""

from __future__ import annotations

import json
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.errors import ModelError
from estimator.ggml import ElementType, block_elements, file_type_name
from estimator.model import Layer, Model, Tensor
from estimator.sources.quantize import ALIASES, FILE_TYPES, quantize
from estimator.sources.quantize_rules import BASE

T = ElementType
TYPES = {element_type.name: element_type for element_type in ElementType}
DATA = Path(__file__).parents[2] / "data" / "quant" / "llama_quantize.json"
TRUTH: dict[str, dict[str, Any]] = json.loads(DATA.read_text())["models"]
MIXTURES = sorted(set(BASE) - {"F32", "F16", "BF16", "Q1_0"})  # Q1_0 refuses most rows


def model_of(
    tensors: list[Tensor],
    *,
    n_layer: int,
    architecture: str = "llama",
    n_head: int = 32,
    n_head_kv: int = 8,
    n_expert: int = 0,
) -> Model:
    layer = Layer(
        n_head=n_head, n_head_kv=n_head_kv, n_embd_head_k=128, n_embd_head_v=128, n_swa=0, n_ff=1024, n_expert=n_expert
    )
    return Model(
        architecture=architecture,
        name="test",
        context_length=4096,
        n_embd=4096,
        n_vocab=1024,
        layers=(layer,) * n_layer,
        tensors=tuple(tensors),
        file_type="BF16",
    )


@cache
def truth_model(name: str) -> Model:
    """A model of the data: an entry with {} stands for one tensor a layer."""
    record = TRUTH[name]
    tensors = [
        Tensor(template.format(layer), tuple(shape), TYPES[element_type])
        for template, (*shape, element_type) in record["tensors"].items()
        for layer in (range(record["n_layer"]) if "{}" in template else [0])
    ]
    facts = {key: record[key] for key in ("architecture", "n_layer", "n_head", "n_head_kv", "n_expert")}
    return model_of(tensors, **facts)


def matrix(name: str, *shape: int, element_type: ElementType = T.BF16) -> Tensor:
    return Tensor(name, shape or (4096, 1024), element_type)


def types_of(model: Model, file_type: str) -> dict[str, str]:
    return {tensor.name: tensor.type.name for tensor in quantize(model, file_type).tensors}


def layers_of(name: str, n_layer: int, file_type: str, **facts: Any) -> str:
    """Types of a tensor over the layers: one letter a layer, the digit of Q4_K."""
    tensors = [matrix(f"blk.{i}.{name}.weight") for i in range(n_layer)]
    tensors += [matrix("output.weight")]
    quantized = quantize(model_of(tensors, n_layer=n_layer, **facts), file_type)
    return "".join(tensor.type.name[1] for tensor in quantized.tensors if tensor.name.startswith("blk."))


# --- against llama.cpp


@pytest.mark.parametrize(
    ("name", "file_type"), [(name, file_type) for name, record in TRUTH.items() for file_type in record["bytes"]]
)
def test_bytes_are_llama_quantizes(name: str, file_type: str) -> None:
    assert quantize(truth_model(name), file_type).weights_bytes == TRUTH[name]["bytes"][file_type]


@pytest.mark.parametrize(
    ("name", "file_type"), [(name, file_type) for name, record in TRUTH.items() for file_type in record["types"]]
)
def test_every_tensor_has_llama_quantizes_type(name: str, file_type: str) -> None:
    record = TRUTH[name]
    quantized = quantize(truth_model(name), file_type).tensors
    chosen = {tensor.name: tensor.type.name for tensor in quantized}
    for template, (*_, source) in record["tensors"].items():
        layers = range(record["n_layer"]) if "{}" in template else [0]
        assert runs([chosen[template.format(i)] for i in layers]) == record["types"][file_type].get(
            template, runs([source] * len(layers))
        ), template


def runs(types: list[str]) -> str:
    counted = [(name, len(list(group))) for name, group in groupby(types)]
    return " ".join(name if n == 1 else f"{name}*{n}" for name, n in counted)


def test_the_data_covers_every_file_type() -> None:
    assert all(set(BASE) - {"Q1_0"} <= set(record["bytes"]) for record in TRUTH.values())


# --- the result


def test_result_is_the_same_model_but_for_types_and_file_type() -> None:
    model = truth_model("qwen2.5-0.5b-instruct")
    quantized = quantize(model, " q4_k_m ")
    assert quantized.file_type == "Q4_K_M"
    assert (quantized.architecture, quantized.layers) == (model.architecture, model.layers)
    assert {(t.name, t.shape) for t in quantized.tensors} == {(t.name, t.shape) for t in model.tensors}
    assert quantized.parameters == model.parameters
    assert model.file_type == "BF16"


def test_tensors_come_by_block_then_by_name() -> None:
    names = ["output.weight", "blk.10.b.weight", "blk.2.b.weight", "blk.2.a.weight", "a.weight"]
    quantized = quantize(model_of([matrix(name) for name in names], n_layer=11), "Q8_0")
    assert [tensor.name for tensor in quantized.tensors] == [
        *("a.weight", "output.weight", "blk.2.a.weight", "blk.2.b.weight", "blk.10.b.weight")
    ]


def test_order_of_the_source_does_not_matter() -> None:
    model = truth_model("gemma-3-4b-it")
    turned = model_of(list(reversed(model.tensors)), n_layer=34, architecture="gemma3", n_head=8, n_head_kv=4)
    assert quantize(turned, "Q4_K_M").tensors == quantize(model, "Q4_K_M").tensors


@pytest.mark.parametrize(("alias", "file_type"), ALIASES.items())
def test_aliases(alias: str, file_type: str) -> None:
    assert quantize(truth_model("smollm2-360m-instruct"), alias).file_type == file_type


def test_file_types_have_numbers_in_gguf() -> None:
    known = {file_type_name(number) for number in range(64)}
    assert set(BASE) <= known


def test_file_types_are_offered_most_bytes_first() -> None:
    sizes = [TRUTH["qwen3-30b-a3b"]["bytes"][file_type] for file_type in FILE_TYPES]
    assert sizes[0] == sizes[1]
    assert sizes == sorted(sizes, reverse=True)


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


# --- refusals


@pytest.mark.parametrize("file_type", ["", "Q9_K", "Q4_K_XL", "NVFP4", "15"])
def test_unknown_file_type_is_refused_by_name(file_type: str) -> None:
    with pytest.raises(ModelError, match="Q4_K_M") as refusal:
        quantize(truth_model("smollm2-360m-instruct"), file_type)
    assert (refusal.value.code, refusal.value.field) == ("unknown-file-type", "quant")
    assert repr(file_type) in refusal.value.message
    assert refusal.value.allowed == tuple(BASE)


def test_a_quantized_tensor_is_not_quantized_again() -> None:
    model = quantize(truth_model("smollm2-360m-instruct"), "Q8_0")
    with pytest.raises(ModelError, match="already Q8_0") as refusal:
        quantize(model, "Q4_0")
    assert refusal.value.code == "already-quantized"


def test_a_tensor_that_has_its_type_already_is_copied() -> None:
    model = quantize(truth_model("smollm2-360m-instruct"), "Q8_0")
    assert quantize(model, "Q8_0").tensors == model.tensors


def test_integers_are_kept_or_refused() -> None:
    routing = matrix("blk.0.ffn_gate_tid2eid.weight", element_type=T.I32)
    assert types_of(model_of([routing], n_layer=1), "Q4_0") == {routing.name: "I32"}
    with pytest.raises(ModelError, match="I32") as refusal:
        quantize(model_of([matrix("blk.0.ids.weight", element_type=T.I32)], n_layer=1), "Q4_0")
    assert refusal.value.code == "tensor-not-convertible"


def test_q1_0_has_no_fallback() -> None:
    with pytest.raises(ModelError, match="960 elements") as refusal:
        quantize(truth_model("smollm2-360m-instruct"), "Q1_0")
    assert refusal.value.code == "row-not-divisible"


def test_a_feed_forward_outside_blocks_is_refused_among_experts() -> None:
    tensors = [matrix("mtp.ffn_down.weight"), matrix("output.weight")]
    assert types_of(model_of(tensors, n_layer=1), "Q4_0")["mtp.ffn_down.weight"] == "Q4_0"
    with pytest.raises(ModelError, match=r"mtp\.ffn_down") as refusal:
        quantize(model_of(tensors, n_layer=1, n_expert=4), "Q4_0")
    assert refusal.value.code == "tensor-outside-blocks"


# --- properties

PARTS = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_up",
    "ffn_gate",
    "ffn_down",
    "attn_norm",
    "other",
]
ROWS = st.integers(1, 16).map(lambda n: 32 * n)


@st.composite
def models(draw: st.DrawFn) -> Model:
    n_layer = draw(st.integers(1, 12))
    parts = draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=6, unique=True))
    rows = {part: draw(ROWS) for part in [*parts, "whole"]}
    whole = draw(st.sampled_from([("token_embd",), ("token_embd", "output")]))
    tensors = [matrix(f"{name}.weight", rows["whole"], 5) for name in whole]
    tensors += [matrix(f"blk.{i}.{part}.weight", rows[part], 3) for i in range(n_layer) for part in parts]
    return model_of(
        draw(st.permutations(tensors)),
        n_layer=n_layer,
        architecture=draw(st.sampled_from(["llama", "qwen2", "gemma3", "falcon"])),
        n_head_kv=draw(st.sampled_from([4, 16, 32])),
        n_expert=draw(st.sampled_from([0, 4, 8])),
    )


@given(model=models(), file_type=st.sampled_from([*MIXTURES, "F16", "BF16"]))
def test_names_and_shapes_stay_rows_fill_blocks_and_no_tensor_grows(model: Model, file_type: str) -> None:
    before = {tensor.name: tensor for tensor in model.tensors}
    quantized = quantize(model, file_type)
    assert len(quantized.tensors) == len(before)
    for tensor in quantized.tensors:
        assert tensor.shape == before[tensor.name].shape
        assert tensor.shape[0] % block_elements(tensor.type) == 0
        assert tensor.n_bytes <= before[tensor.name].n_bytes


@given(model=models(), file_type=st.sampled_from(MIXTURES))
def test_a_mixture_leaves_no_matrix_in_its_source_type_but_those_kept(model: Model, file_type: str) -> None:
    kept = {tensor.name for tensor in quantize(model, file_type).tensors if tensor.type is T.BF16}
    assert kept == {tensor.name for tensor in model.tensors if "_norm" in tensor.name}
