"""Configs of Hugging Face against llama.cpp's own conversions and transformers' own models."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

import estimator as fathom
from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.sources.catalogue import catalogue_model
from estimator.sources.compact import unpack
from estimator.sources.from_gguf import model_from_header
from estimator.sources.hf.rules import FAMILIES, RULES
from tests.estimator.sources.hf import configs

if TYPE_CHECKING:
    from estimator.model import Model

# Both configs are flat, though their class keeps the text model in a section: transformers ignores the fields and
# builds its default model of 8 billion parameters, and the conversion is of that. What the fields say is read.
FLAT = {"qwen3.5-0.8b", "qwen3.5-2b"}
# The converter drops an output matrix that is equal to the embedding. In a checkpoint of zeros it is.
UNTIED = {"falcon-mamba-7b"}
# The header says that there is a layer that predicts a further token, and has no tensors of it.
NEXTN = {"deepseek-v3.2"}

# What the other sources of a model say in their own words.
OWN_WORDS = {"name", "file_type", "tensors", "checkpoint"}


def facts(model: Model) -> dict[str, Any]:
    known: dict[str, Any] = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in OWN_WORDS}
    return known | {"tensors": {(tensor.name, tensor.shape, tensor.type) for tensor in model.tensors}}


@pytest.mark.parametrize("id", sorted(set(configs.ids()) - FLAT - UNTIED - NEXTN))
def test_a_config_reads_as_its_conversion(id: str) -> None:
    assert facts(fathom.read_hf(configs.config(id))) == facts(configs.converted(id))


def test_a_header_that_counts_a_layer_it_has_not() -> None:
    found, header = (facts(model) for model in (read("deepseek-v3.2"), configs.converted("deepseek-v3.2")))
    assert (found.pop("n_nextn_layers"), header.pop("n_nextn_layers")) == (0, 1)
    assert found == header


def test_an_output_matrix_of_its_own() -> None:
    found, converted = read("falcon-mamba-7b"), configs.converted("falcon-mamba-7b")
    more = {tensor.name: tensor.shape for tensor in found.tensors if not converted.has(tensor.name)}
    assert more == {"output.weight": (4096, 65024)}
    assert found.layers == converted.layers


@pytest.mark.parametrize(("id", "parameters"), [("qwen3.5-0.8b", 752_393_024), ("qwen3.5-2b", 1_881_825_088)])
def test_a_flat_config_of_a_nested_class(id: str, parameters: int) -> None:
    assert read(id).parameters == parameters


@pytest.mark.parametrize("id", [id for id in configs.ids() if configs.parameters(id) and id not in FLAT])
def test_parameters_are_those_that_transformers_builds(id: str) -> None:
    assert read(id).parameters == configs.parameters(id)


@pytest.mark.parametrize("repo", configs.more_converted())
def test_a_config_of_the_hub_reads_as_its_conversion(repo: str) -> None:
    record = configs.more(repo)
    assert facts(fathom.read_hf(record["config"])) == facts(model_from_header(unpack(record["header"])))


@pytest.mark.parametrize("repo", configs.more_counted())
def test_parameters_are_those_that_are_published(repo: str) -> None:
    record = configs.more(repo)
    assert fathom.read_hf(record["config"]).parameters == record["parameters"]


def read(id: str) -> Model:
    return fathom.read_hf(configs.config(id))


def test_a_model_read_from_a_config_estimates_as_its_gguf() -> None:
    settings = fathom.Settings(n_ctx=32768, cache_type_k="q8_0", cache_type_v="q8_0")
    devices = [fathom.device("rtx-4090")]
    for id in ("llama-3.1-8b-instruct", "gemma-3-4b-it", "qwen3-coder-next", "deepseek-v2-lite"):
        found = fathom.quantize(read(id), "Q4_K_M")
        assert fathom.estimate(found, settings, devices) == fathom.estimate(
            catalogue_model(id, "Q4_K_M"), settings, devices
        ), id


def test_quantizing_keeps_the_count_of_the_checkpoint() -> None:
    model = read("gemma-3-4b-it")
    quantized = fathom.quantize(model, "Q4_K_M")
    assert model.parameters == quantized.parameters == 4_300_079_472
    assert model.parameters > sum(tensor.n_elements for tensor in model.tensors)  # it sees, the GGUF does not
    assert quantized.weights_bytes == catalogue_model("gemma-3-4b-it", "Q4_K_M").weights_bytes


def test_what_a_conversion_leaves_in_f32() -> None:
    model = read("qwen3-30b-a3b")
    types = {tensor.name.rpartition(".1.")[2]: tensor.type for tensor in model.tensors}
    assert types["attn_norm.weight"] == types["ffn_gate_inp.weight"] == ElementType.F32
    assert types["attn_q.weight"] == types["ffn_up_exps.weight"] == types["output.weight"] == ElementType.BF16
    assert (model.file_type, model.architecture) == ("BF16", "qwen3moe")


def test_the_name_of_a_path() -> None:
    assert fathom.read_hf({**configs.LLAMA, "_name_or_path": "/models/tiny-llama/"}).name == "tiny-llama"
    assert fathom.read_hf(configs.LLAMA).name == "llama"


@pytest.mark.parametrize("model_type", ["llama", "qwen3_moe", "gemma3_text", "deepseek_v3"])
def test_a_model_type_where_architectures_are_missing(model_type: str) -> None:
    id = {"llama": "llama-2-7b-hf", "qwen3_moe": "qwen3-30b-a3b", "gemma3_text": "gemma-3-1b-it"}.get(
        model_type, "deepseek-v3"
    )
    config = configs.config(id)
    del config["architectures"]
    assert config["model_type"] == model_type
    assert facts(fathom.read_hf(config)) == facts(read(id))


@pytest.mark.parametrize("section", ["text_config", "llm_config", "lm_config", "language_config"])
def test_the_text_model_of_a_nested_config(section: str) -> None:
    flat = configs.LLAMA
    nested = {
        "architectures": ["SomethingThatSeesForConditionalGeneration"],
        "vocab_size": 7,  # what stands beside the section counts less
        section: flat,
    }
    assert facts(fathom.read_hf(nested)) == facts(fathom.read_hf(flat))


@pytest.mark.parametrize(
    ("changes", "code", "field", "words"),
    [
        ({"num_key_value_heads": "two"}, "bad-value", "num_key_value_heads", "'two'"),
        ({"num_key_value_heads": 2.5}, "bad-value", "num_key_value_heads", "2.5"),
        ({"num_key_value_heads": True}, "bad-value", "num_key_value_heads", "True"),
        ({"num_key_value_heads": -1}, "bad-value", "num_key_value_heads", "-1"),
        ({"hidden_size": 0}, "bad-value", "hidden_size", "from 1 to"),
        ({"hidden_size": None}, "missing-key", "hidden_size", "hidden_size"),
        ({"hidden_size": float("nan")}, "bad-value", "hidden_size", "nan"),
        ({"hidden_size": 10**400}, "bad-value", "hidden_size", "more than 18 digits"),
        ({"num_attention_heads": None}, "missing-key", "num_attention_heads", "num_attention_heads"),
        ({"num_hidden_layers": 513}, "bad-value", "num_hidden_layers", "from 1 to 512"),
        ({"max_position_embeddings": []}, "bad-value", "max_position_embeddings", "a list"),
        ({"vocab_size": None}, "missing-key", "vocab_size", "vocab_size"),
        ({"tie_word_embeddings": "yes"}, "bad-value", "tie_word_embeddings", "true or false"),
        ({"rope_scaling": 3}, "bad-value", "rope_scaling", "a section"),
        ({"text_config": "llama"}, "bad-value", "text_config", "a section"),
        ({"architectures": "LlamaForCausalLM"}, "bad-value", "architectures", "a list"),
        ({"architectures": [1]}, "bad-value", "architectures", "a list of names"),
        ({"architectures": []}, "missing-key", "architectures", "LlamaForCausalLM"),
        ({"architectures": ["Llama9ForCausalLM"]}, "unknown-architecture", "architectures", "LlamaForCausalLM"),
        ({"architectures": [], "model_type": "lama"}, "unknown-architecture", "model_type", "LlamaForCausalLM"),
    ],
)
def test_a_silly_field_is_refused_by_its_own_name(changes: dict[str, Any], code: str, field: str, words: str) -> None:
    with pytest.raises(ModelError) as refused:
        fathom.read_hf({**configs.LLAMA, **changes})
    assert (refused.value.code, refused.value.field) == (code, field)
    assert words in refused.value.message
    assert len(refused.value.message) < 500


@pytest.mark.parametrize(
    ("id", "changes", "field"),
    [
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", {"hybrid_override_pattern": "ME?"}, "hybrid_override_pattern"),
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", {"hybrid_override_pattern": ""}, "length of hybrid_override_pattern"),
        ("nvidia-nemotron-3-ultra-550b-a55b-bf16", {"layers_block_type": ["rwkv"]}, "layers_block_type"),
        ("granite-4.0-h-1b", {"layer_types": ["rwkv"] * 40}, "layer_types"),
        (
            "gemma-3-4b-it",
            {"vision_config": {"hidden_size": "wide", "image_size": 896, "patch_size": 14}},
            "hidden_size",
        ),
        ("jamba-v0.1", {"attn_layer_period": 0}, "attn_layer_period"),
        ("qwen3-coder-next", {"linear_num_value_heads": 0}, "linear_num_value_heads"),
        ("laguna-xs-2.1", {"mlp_layer_types": ["dense"]}, "mlp_layer_types"),
        ("hunyuan-a13b-instruct", {"moe_topk": [8, 4]}, "moe_topk"),
        ("deepseek-v3", {"qk_rope_head_dim": None}, "qk_rope_head_dim"),
    ],
)
def test_what_layers_are_made_of_must_be_known(id: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as refused:
        fathom.read_hf({**configs.config(id), **changes})
    assert refused.value.field == field


STEP: dict[str, Any] = {
    "architectures": ["Step3p5ForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11264,
    "num_hidden_layers": 45,
    "num_attention_heads": 64,
    "num_attention_groups": 8,
    "head_dim": 128,
    "vocab_size": 128815,
    "max_position_embeddings": 65536,
    "sliding_window": 512,
    "layer_types": ["full_attention", *["sliding_attention"] * 3] * 12,
    "moe_num_experts": 288,
    "moe_top_k": 8,
    "moe_intermediate_size": 1280,
    "share_expert_dim": 1280,
    "moe_layers_enum": ",".join(map(str, range(3, 45))),
}


def test_layers_listed_in_a_string() -> None:
    model = fathom.read_hf(STEP)
    assert model.parameters == 195_843_845_184  # the text model that transformers builds of these sizes
    assert [layer.n_expert for layer in model.layers] == [0] * 3 + [288] * 42
    assert [layer.n_swa for layer in model.layers[:5]] == [0, 512, 512, 512, 0]
    other = fathom.read_hf({**STEP, "attention_other_setting": {"num_attention_heads": 96}})
    assert [layer.n_head for layer in other.layers[:5]] == [64, 96, 96, 96, 64]
    with pytest.raises(ModelError, match="moe_layers_enum is '3-44'"):
        fathom.read_hf({**STEP, "moe_layers_enum": "3-44"})


def test_a_refusal_of_the_header_names_the_field_of_the_config() -> None:
    config = configs.config("mixtral-8x7b-v0.1") | {"num_experts_per_tok": 9}
    with pytest.raises(ModelError) as refused:
        fathom.read_hf(config)
    assert refused.value.field == "num_experts_per_tok"
    assert refused.value.message == "num_experts_per_tok is 9; it must be a whole number from 0 to 8"


def test_no_two_rules_of_an_architecture() -> None:
    assert sum(len(family.RULES) for family in FAMILIES) == len(RULES)


def test_a_config_is_an_object() -> None:
    no_object: Any = []
    with pytest.raises(ModelError) as refused:
        fathom.read_hf(no_object)
    assert refused.value.code == "bad-config"
    with pytest.raises(ModelError) as refused:
        fathom.read_hf(dict.fromkeys(map(str, range(5000)), 1))
    assert refused.value.code == "too-many-fields"
