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
from estimator.model import Model, Tensor
from estimator.sources.quantize import ALIASES, FILE_TYPES, quantize
from estimator.sources.quantize_rules import BASE
from tests.estimator.sources.quantize_models import matrix, model_of, types_of

T = ElementType
TYPES = {element_type.name: element_type for element_type in ElementType}
DATA = Path(__file__).parents[2] / "data" / "quant" / "llama_quantize.json"
TRUTH: dict[str, dict[str, Any]] = json.loads(DATA.read_text())["models"]
MIXTURES = sorted(set(BASE) - {"F32", "F16", "BF16", "Q1_0"})  # Q1_0 refuses most rows


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
