"""What single architectures read of attention and feed-forward: each value is worked out from the header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.model import Stacks, Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.model import Model

SHAPES: Mapping[str, tuple[int, ...]] = {"token_embd": (256, 10)}
NORMS: Mapping[str, tuple[int, ...]] = {"attn_norm": (256,), "ffn_norm": (256,)}


def read(
    name: str, *blocks: Mapping[str, tuple[int, ...]], keys: dict[str, Any] | None = None, **top: tuple[int, ...]
) -> Model:
    """A model of layers with these weights."""
    metadata = {
        "general.architecture": name,
        f"{name}.block_count": len(blocks),
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": 256,
        f"{name}.attention.head_count": 4,
        f"{name}.feed_forward_length": 512,
        **{f"{name}.{key}": value for key, value in (keys or {}).items()},
    }
    shapes = {**SHAPES, **top}
    shapes |= {f"blk.{il}.{weight}": shape for il, block in enumerate(blocks) for weight, shape in block.items()}
    tensors = tuple(Tensor(f"{weight}.weight", shape, ElementType.F16) for weight, shape in shapes.items())
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tensors, 0))


@pytest.mark.parametrize("name", ["bloom", "gpt2", "jais", "mpt", "refact", "starcoder"])
def test_no_rope(name: str) -> None:
    assert [layer.turned for layer in read(name, NORMS, NORMS, NORMS).layers] == [False] * 3


@pytest.mark.parametrize(("n_layer", "turned"), [(32, True), (40, False), (2, False)])
def test_only_one_size_of_baichuan_has_rope(n_layer: int, turned: bool) -> None:
    assert {layer.turned for layer in read("baichuan", *[NORMS] * n_layer).layers} == {turned}


def test_learned_positions_are_seen() -> None:
    assert read("mpt", NORMS, position_embd=(256, 8192)).has_learned_positions
    assert not read("mpt", NORMS).has_learned_positions


@pytest.mark.parametrize(("value", "parallel"), [(True, "feed_forward"), (False, None)])
def test_parallel_by_key(value: bool, parallel: str | None) -> None:
    assert read("gptneox", NORMS, keys={"use_parallel_residual": value}).traits.parallel == parallel


def test_falcon_with_one_norm_and_with_two() -> None:
    one, two = read("falcon", {"attn_norm": (256,)}, {"attn_norm": (256,), "attn_norm_2": (256,)}).layers
    assert (one.wiring, two.wiring) == ("sequential", "two_norms")
    assert not one.ffn_norm


def test_the_key_of_qwen_counts_gate_and_up() -> None:
    assert read("qwen", NORMS).layers[0].n_ff == 256


def test_experts_of_refact_are_not_read() -> None:
    block = {**NORMS, "ffn_gate_inp": (256, 8), "ffn_up_exps": (256, 64, 8)}
    dense, experts = read("refact", NORMS, block, keys={"expert_count": 8, "expert_used_count": 2}).layers
    assert (dense.feed_forward, experts.feed_forward, experts.n_expert) == ("plain", "none", 0)


@pytest.mark.parametrize("name", ["arctic", "grok"])
def test_a_dense_feed_forward_beside_experts(name: str) -> None:
    block = {**NORMS, "ffn_gate_inp": (256, 8), "ffn_up": (256, 128), "layer_output_norm": (256,)}
    layer = read(name, block, keys={"expert_count": 8, "expert_used_count": 2}).layers[0]
    assert (layer.n_ff_dense, layer.n_expert, layer.n_ff) == (128, 8, 512)
    assert layer.ffn_post_norm == ("layer_output_norm" if name == "grok" else "")


def test_experts_in_chunks() -> None:
    block = {**NORMS, "ffn_gate_inp": (256, 8), "ffn_up_chexps": (256, 32, 4)}
    layer = read("grovemoe", block, keys={"expert_count": 8, "expert_used_count": 2}).layers[0]
    assert (layer.n_chunk_expert, layer.n_ff_chexp) == (4, 32)
    single = read("grovemoe", {**block, "ffn_up_chexps": (256, 32)}, keys={"expert_count": 8}).layers[0]
    assert single.n_chunk_expert == 1


def test_pruned_layers() -> None:
    keys = {
        "attention.head_count": (4, 4, 0, 0),
        "attention.head_count_kv": (2, 0, 0, 0),
        "feed_forward_length": (512, 256, 128, 0),
    }
    layers = read("deci", NORMS, NORMS, {"ffn_norm": (256,)}, {}, keys=keys).layers
    assert [layer.wiring for layer in layers] == ["pruned"] * 4
    assert [layer.cached_without_heads for layer in layers] == [False, True, True, True]
    assert [layer.n_ff for layer in layers] == [512, 256, 128, 0]


def test_a_layer_without_tensors_is_refused_elsewhere() -> None:
    with pytest.raises(ModelError) as caught:
        read("deci", NORMS, {})
    assert (caught.value.code, caught.value.field) == ("missing-tensor", "blk.1")


def hrm(per_stack: int = 2, h_cycles: int = 1, l_cycles: int = 2, **changes: Any) -> dict[str, Any]:
    keys = {"layers_per_stack": per_stack, "h_cycles": h_cycles, "l_cycles": l_cycles, **changes}
    return {f"hrm.{key}": value for key, value in keys.items() if value is not None}


def test_stacks_share_blocks() -> None:
    blocks = [{"ffn_up": (256, 512), "attn_gate": (256, 128)}] * 4
    found = read("hrm_text", *blocks, {}, {}, keys=hrm())
    assert found.stacks == Stacks(2, 1, 2)
    assert found.n_layer == 6
    assert [Stacks(2, 2, 2).block(il) for il in range(12)] == [0, 1, 0, 1, 2, 3] * 2
    assert {layer.n_embd_attn_gate for layer in found.layers} == {128}


@pytest.mark.parametrize(
    ("keys", "code", "field"),
    [
        (hrm(h_cycles=2), "bad-value", "hrm_text.block_count"),
        (hrm(l_cycles=0), "bad-value", "hrm_text.hrm.l_cycles"),
        (hrm(per_stack=10**6), "bad-value", "hrm_text.hrm.layers_per_stack"),
        (hrm(layers_per_stack=None), "missing-key", "hrm_text.hrm.layers_per_stack"),
    ],
)
def test_stacks_that_do_not_fit(keys: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(ModelError) as caught:
        read("hrm_text", *[{"ffn_up": (256, 512)}] * 6, keys=keys)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_fewer_logits_than_tokens() -> None:
    assert read("qwen3tts", NORMS, output=(256, 4)).n_vocab_out == 4
    assert read("qwen3tts", NORMS).n_vocab_out is None
