"""Layers with a state space, as headers describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import InterleavedMamba, Mamba, Mamba2
from estimator.model import Model, Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

if TYPE_CHECKING:
    from estimator.layer import Layer

Weights = Mapping[str, tuple[int, ...]]

WIDTH, D_INNER, D_STATE, D_CONV = 256, 512, 16, 4
SSM = {"conv_kernel": D_CONV, "inner_size": D_INNER, "state_size": D_STATE}
DT_RANK, N_HEAD, N_GROUP = 8, 32, 2
CONV_DIM = D_INNER + 2 * N_GROUP * D_STATE

SELECTIVE: dict[str, tuple[int, ...]] = {
    "ssm_in": (WIDTH, 2 * D_INNER),
    "ssm_conv1d": (D_CONV, D_INNER),
    "ssm_x": (D_INNER, DT_RANK + 2 * D_STATE),
}
GROUPED: dict[str, tuple[int, ...]] = {"ssm_in": (WIDTH, D_INNER + CONV_DIM + N_HEAD), "ssm_conv1d": (D_CONV, CONV_DIM)}
NORMS: dict[str, tuple[int, ...]] = {"ssm_dt_norm": (DT_RANK,), "ssm_b_norm": (D_STATE,), "ssm_c_norm": (D_STATE,)}


def read(name: str, *layers: Weights, **keys: Any) -> Model:
    """A model with these weights in each layer; ``keys`` go without the architecture, ``__`` for a dot."""
    given = {"block_count": len(layers), "context_length": 8192, "embedding_length": WIDTH, "attention__head_count": 4}
    metadata = {f"{name}.{key.replace('__', '.')}": value for key, value in (given | keys).items() if value is not None}
    tensors = [Tensor("token_embd.weight", (WIDTH, 10), ElementType.F16)]
    for il, weights in enumerate(layers):
        norms = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
        shapes = {**norms, **weights}.items()
        tensors += [Tensor(f"blk.{il}.{weight}.weight", shape, ElementType.F32) for weight, shape in shapes]
    metadata["general.architecture"] = name
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0))


def selective(name: str, *layers: Weights, **keys: Any) -> Model:
    ssm = {f"ssm__{key}": value for key, value in (SSM | {"time_step_rank": DT_RANK}).items()}
    return read(name, *layers, **ssm | keys)


def grouped(name: str, *layers: Weights, **keys: Any) -> Model:
    ssm = {f"ssm__{key}": value for key, value in (SSM | {"time_step_rank": N_HEAD, "group_count": N_GROUP}).items()}
    return read(name, *layers, **ssm | keys)


def state(layer: Layer) -> tuple[int, int]:
    return layer.n_embd_r, layer.n_embd_s


def refusal(make: Any, *args: Any, **keys: Any) -> tuple[str, str | None]:
    with pytest.raises(ModelError) as caught:
        make(*args, **keys)
    return caught.value.code, caught.value.field


@pytest.mark.parametrize("n_head", [0, 4])
def test_mamba_has_no_attention_whatever_the_header_says(n_head: int) -> None:
    (layer,) = selective("mamba", SELECTIVE, attention__head_count=n_head).layers
    assert layer.mixer == Mamba(D_CONV, D_INNER, D_STATE, DT_RANK, "none")
    assert (layer.n_head_kv, layer.wiring) == (0, "mixer_only")
    assert state(layer) == ((D_CONV - 1) * D_INNER, D_STATE * D_INNER)


def test_norms_of_b_c_and_the_time_step() -> None:
    def norms(found: Model) -> str:
        mixer = found.layers[0].mixer
        assert isinstance(mixer, Mamba)
        return mixer.norms

    assert norms(selective("mamba", SELECTIVE, ssm__dt_b_c_rms=True)) == "plain"
    assert norms(selective("mamba", SELECTIVE | NORMS)) == "weighed"
    without_one = {name: shape for name, shape in NORMS.items() if name != "ssm_c_norm"}
    assert norms(selective("mamba", SELECTIVE | without_one)) == "none"
    refused = refusal(selective, "mamba", SELECTIVE, ssm__dt_b_c_rms=1)
    assert refused == ("bad-value", "mamba.ssm.dt_b_c_rms")


def test_jamba_has_a_state_space_where_there_are_no_heads() -> None:
    space, attention = selective("jamba", SELECTIVE | NORMS, {}, attention__head_count_kv=(0, 2)).layers
    assert (space.n_head_kv, state(space)) == (0, (1536, 8192))
    assert (attention.mixer, attention.n_head_kv, state(attention)) == (None, 2, (0, 0))
    assert not attention.turned


def test_mamba_2_counts_the_groups_of_its_convolution() -> None:
    (layer,) = grouped("mamba2", GROUPED | {"ssm_norm": (256, 2)}, attention__head_count=0).layers
    assert layer.mixer == Mamba2(D_INNER, D_STATE, N_HEAD, N_GROUP, normed=True)
    assert state(layer) == (3 * (512 + 2 * 2 * 16), 16 * 512)


@pytest.mark.parametrize(("tuned", "turned"), [(None, True), (True, True), (False, False)])
def test_granite_has_rope_if_it_was_tuned_with_it(tuned: bool | None, turned: bool) -> None:
    keys = {"attention__head_count_kv": (0, 2), "rope__scaling__finetuned": tuned}
    space, attention = grouped("granitehybrid", GROUPED, {}, **keys).layers
    assert (attention.turned, attention.n_head_kv) == (turned, 2)
    assert state(space) == (1728, 8192)


def test_falcon_h1_has_both_in_every_layer() -> None:
    (layer,) = grouped("falcon-h1", GROUPED, attention__head_count_kv=2).layers
    assert (layer.n_head_kv, state(layer), layer.wiring) == (2, (1728, 8192), "side_by_side")


def test_nemotron_h_layers_are_one_thing_each() -> None:
    experts: dict[str, tuple[int, ...]] = {
        "ffn_gate_inp": (WIDTH, 8),
        "ffn_up_exps": (128, 96, 8),
        "ffn_latent_down": (WIDTH, 128),
    }
    shared = {"ffn_up_shexp": (WIDTH, 192), "ffn_down_shexp": (192, WIDTH)}
    keys = {
        "attention__head_count_kv": (0, 2, 2, 2),
        "feed_forward_length": (0, 0, 384, 192),
        "expert_count": 8,
        "expert_used_count": 2,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
    }
    found = grouped("nemotron_h_moe", GROUPED, {}, {"ffn_up": (WIDTH, 384)}, experts | shared, **keys)
    space, attention, dense, mixture = found.layers
    assert (space.wiring, attention.wiring, state(space), state(attention)) == ("mixer_only",) * 2 + (
        (1728, 8192),
        (0, 0),
    )
    assert [layer.n_head_kv for layer in found.layers] == [0, 2, 0, 0]
    assert (dense.wiring, dense.n_ff, dense.n_expert, dense.feed_forward) == ("feed_forward_only", 384, 0, "plain")
    assert (mixture.n_ff, mixture.n_embd_latent, mixture.n_ff_shexp) == (96, 128, 192)
    assert (mixture.n_expert, mixture.n_expert_used, mixture.feed_forward) == (8, 2, "plain")
    assert (found.traits.expert_weights, found.traits.scaled_experts) == ("divided", True)
    del experts["ffn_up_exps"]
    keys = keys | {"attention__head_count_kv": (0,), "feed_forward_length": (192,)}
    assert refusal(grouped, "nemotron_h_moe", experts, **keys) == ("missing-tensor", "blk.0.ffn_up_exps")


def test_plamo_2_takes_the_width_of_its_time_step_from_the_embedding() -> None:
    weights = SELECTIVE | {"ssm_x": (D_INNER, 64 + 2 * D_STATE), "ssm_dt": (64, N_HEAD)}
    keys = {"attention__head_count_kv": (0, 2), "ssm__time_step_rank": N_HEAD, "ssm__group_count": 0}
    space, attention = selective("plamo2", weights, {}, **keys).layers
    assert space.mixer == InterleavedMamba(D_INNER, D_STATE, 64, N_HEAD)
    assert (state(space), attention.mixer) == ((1536, 8192), None)
    assert refusal(selective, "plamo2", weights, {}, **keys | {"ssm__group_count": 1}) == (
        "bad-value",
        "plamo2.ssm.group_count",
    )


@pytest.mark.parametrize("key", ["conv_kernel", "inner_size", "state_size", "time_step_rank"])
def test_keys_that_must_be_there_and_in_range(key: str) -> None:
    field = f"mamba.ssm.{key}"
    assert refusal(selective, "mamba", SELECTIVE, **{f"ssm__{key}": None}) == ("missing-key", field)
    for value in (0, -1, 2**40, "4"):
        assert refusal(selective, "mamba", SELECTIVE, **{f"ssm__{key}": value}) == ("bad-value", field)


def test_a_state_space_of_groups_must_say_how_many() -> None:
    for value, code in ((None, "missing-key"), (0, "bad-value")):
        assert refusal(grouped, "mamba2", GROUPED, ssm__group_count=value) == (code, "mamba2.ssm.group_count")


@pytest.mark.parametrize("weight", SELECTIVE)
def test_weights_of_another_shape_than_the_keys_say(weight: str) -> None:
    field = f"blk.0.{weight}.weight"
    assert refusal(selective, "mamba", SELECTIVE | {weight: (3, 3)}) == ("bad-shape", field)
    without = {name: shape for name, shape in SELECTIVE.items() if name != weight}
    assert refusal(selective, "mamba", without) == ("bad-shape", field)


def test_models_that_must_have_heads() -> None:
    assert refusal(read, "llama", {}, attention__head_count=0) == ("bad-value", "attention.head_count")
