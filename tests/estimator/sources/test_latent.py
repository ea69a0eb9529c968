"""What is read of latent attention and indexers: dimensions worked out from headers of real models' shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import Indexer, Latent, Mixer
from estimator.model import Model, Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSORBED = {"kv_lora_rank": 512, "key_length": 576, "value_length": 512, "key_length_mla": 192, "value_length_mla": 128}
DEEPSEEK_V3 = Latent(n_lora_q=1536, n_lora_kv=512, n_rot=64, n_embd_head_k_mla=192, n_embd_head_v_mla=128)
OLD: dict[str, Any] = {"key_length_mla": None, "value_length_mla": None, "key_length": 192, "value_length": 128}
INDEXER: dict[str, Any] = {"indexer.head_count": 64, "indexer.key_length": 128, "indexer.top_k": 2048}


def read(
    name: str = "deepseek2",
    n_layer: int = 1,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    metadata: dict[str, Any] | None = None,
    **keys: Any,
) -> Model:
    """A model of DeepSeek V3's shape; ``shapes`` of further tensors of each layer, or of one as ``"0.name"``."""
    metadata = {
        "general.architecture": name,
        f"{name}.block_count": n_layer,
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": 7168,
        f"{name}.attention.head_count": 128,
        f"{name}.attention.head_count_kv": 1,
        **{f"{name}.{key}": value for key, value in (metadata or {}).items()},
        **{f"{name}.attention.{key}": value for key, value in {**ABSORBED, **keys}.items() if value is not None},
    }
    every: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (7168,),
        "ffn_norm.weight": (7168,),
        "attn_q_a.weight": (7168, 1536),
        "attn_kv_a_mqa.weight": (7168, 576),
        **(shapes or {}),
    }
    tensors = [Tensor("token_embd.weight", (7168, 10), ElementType.F16)]
    for key, shape in every.items():
        first, _, rest = key.partition(".")
        names = [f"blk.{first}.{rest}"] if first.isdecimal() else [f"blk.{il}.{key}" for il in range(n_layer)]
        tensors += [Tensor(tensor, shape, ElementType.F32) for tensor in names if shape]
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0))


def mixers(*given: Any, **keys: Any) -> list[Mixer | None]:
    return [layer.mixer for layer in read(*given, **keys).layers]


def refusal(*given: Any, **keys: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(*given, **keys)
    return caught.value


@pytest.mark.parametrize("name", ["deepseek2", "mistral4"])
def test_heads_that_share_a_latent(name: str) -> None:
    found = read(name)
    assert found.layers[0].mixer == DEEPSEEK_V3
    assert not found.layers[0].has_v
    assert found.layers[0].n_embd_k_gqa == 576


def test_q_of_one_matrix() -> None:
    assert mixers(shapes={"attn_q_a.weight": ()}) == [replace(DEEPSEEK_V3, n_lora_q=0)]


def test_a_temperature_scales_q() -> None:
    assert mixers(temperature_scale=0.1) == [replace(DEEPSEEK_V3, tempered=True)]
    assert mixers(temperature_scale=0.0) == [DEEPSEEK_V3]
    assert refusal(temperature_scale="hot").code == "bad-value"


def test_the_old_form_keeps_k_and_v_of_every_head() -> None:
    found = read(**OLD, head_count_kv=128).layers[0]
    assert found.mixer == replace(DEEPSEEK_V3, absorbed=False)
    assert found.has_v
    assert (found.n_embd_k_gqa, found.n_embd_v_gqa) == (128 * 192, 128 * 128)
    assert mixers("minicpm3", **OLD, head_count_kv=128) == [replace(DEEPSEEK_V3, absorbed=False)]


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"shapes": {"attn_kv_a_mqa.weight": ()}}, "missing-tensor"),
        ({"shapes": {"attn_kv_a_mqa.weight": (7168,)}}, "missing-tensor"),
        ({"shapes": {"attn_kv_a_mqa.weight": (7168, 500)}}, "bad-value"),
        ({"shapes": {"attn_kv_a_mqa.weight": (7168, 600)}}, "bad-value"),
        ({"kv_lora_rank": None}, "missing-key"),
        ({"kv_lora_rank": 0}, "bad-value"),
        ({"key_length": 640}, "bad-value"),
        ({"metadata": {"expert_weights_scale": "2.5"}}, "bad-value"),
    ],
)
def test_what_does_not_fit_is_refused(keys: dict[str, Any], code: str) -> None:
    assert refusal(**keys).code == code


def test_experts_in_groups() -> None:
    metadata = {
        "expert_count": 256,
        "expert_used_count": 8,
        "expert_group_count": 8,
        "expert_group_used_count": 4,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
    }
    shapes: Mapping[str, tuple[int, ...]] = {"1.ffn_gate_inp.weight": (7168, 256), "1.exp_probs_b.bias": (256,)}
    found = read(n_layer=2, shapes=shapes, metadata=metadata)
    dense, experts = found.layers
    assert (dense.n_expert, dense.n_expert_groups, dense.biased_probs) == (0, 0, False)
    assert (experts.n_expert, experts.n_expert_groups, experts.n_group_used) == (256, 8, 4)
    assert experts.biased_probs
    assert (found.traits.expert_weights, found.traits.scaled_experts) == ("divided", True)
    assert read(metadata={"expert_weights_scale": 1.0}).traits.scaled_experts is False
    assert read().traits.expert_weights == "plain"
    # one group is none, and groups must be equal
    assert read(metadata={**metadata, "expert_group_count": 1}, n_layer=2, shapes=shapes).layers[1].n_expert_groups == 0
    assert refusal(metadata={**metadata, "expert_group_count": 7}).code == "bad-value"
    assert refusal(metadata={**metadata, "expert_group_used_count": 8}).code == "bad-value"


@pytest.mark.parametrize("name", ["deepseek32", "glm-dsa"])
def test_indexers_show_in_tensors(name: str) -> None:
    shapes = {"0.indexer.attn_k.weight": (7168, 128)}
    indexer = Indexer(n_head=64, n_embd_head=128, top_k=2048)
    assert mixers(name, 2, shapes=shapes, **INDEXER) == [
        replace(DEEPSEEK_V3, indexer=indexer),
        replace(DEEPSEEK_V3, indexer=replace(indexer, own=False)),
    ]
    assert refusal(name, **INDEXER).code == "missing-tensor"


def test_a_list_of_indexers_wins() -> None:
    types: dict[str, Any] = {**INDEXER, "indexer.types": (True, False, True)}
    found = read("glm-dsa", 3, **types).layers
    assert [layer.mixer.n_embd_indexer for layer in found if layer.mixer] == [128, 0, 128]
    assert refusal("glm-dsa", 3, **{**INDEXER, "indexer.types": (False, True, True)}).code == "missing-tensor"


def test_indexed_layers_need_the_new_form() -> None:
    assert refusal("deepseek32", **OLD, **INDEXER).code == "missing-key"


def test_layers_with_a_window_have_dimensions_of_their_own() -> None:
    keys: dict[str, Any] = {
        **INDEXER,
        "sliding_window": 512,
        "sliding_window_pattern": (False, True),
        "indexer.types": (True, False),
        "kv_lora_rank_swa": 256,
        "key_length_swa": 320,
        "value_length_swa": 256,
        "key_length_mla_swa": 128,
        "value_length_mla_swa": 96,
    }
    shapes = {"1.attn_kv_a_mqa.weight": (7168, 320), "attn_k_norm.weight": (64,), "attn_gate.weight": (7168, 128)}
    full, windowed = read("dots3note", 2, shapes=shapes, **keys).layers
    indexer = Indexer(n_head=64, n_embd_head=128, top_k=2048)
    assert full.mixer == replace(DEEPSEEK_V3, normed_key=True, n_gate=128, indexer=indexer)
    assert windowed.mixer == Latent(1536, 256, 64, 128, 96, normed_key=True, n_gate=128)
    assert (full.n_swa, windowed.n_swa, windowed.n_embd_k_gqa) == (0, 512, 320)


def test_residual_streams() -> None:
    shapes = {"indexer.attn_k.weight": (7168, 128), "attn_gate.weight": (7168, 128 * 128)}
    found = read("hy_v4", shapes=shapes, metadata={"hyper_connection.count": 4}, **INDEXER)
    assert found.traits.hyper_connections == 4
    assert found.layers[0].wiring == "hyper"
    indexer = Indexer(n_head=64, n_embd_head=128, top_k=2048, rotated=False)
    assert found.layers[0].mixer == replace(DEEPSEEK_V3, n_gate=16384, indexer=indexer)
    assert refusal("hy_v4", shapes=shapes, **INDEXER).code == "missing-key"
    assert refusal("hy_v4", shapes=shapes, metadata={"hyper_connection.count": 65}, **INDEXER).code == "bad-value"
    # without an indexer it is plain latent attention
    assert mixers("hy_v4", metadata={"hyper_connection.count": 2}) == [DEEPSEEK_V3]
