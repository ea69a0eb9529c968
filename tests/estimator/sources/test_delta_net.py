"""Layers of gated delta nets and of short convolutions: what their keys and tensors say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.mixers import GatedAttention, GatedDeltaNet, ShortConv
from estimator.model import Tensor
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.layer import Layer

SSM = {"conv_kernel": 4, "inner_size": 512, "state_size": 128, "time_step_rank": 4, "group_count": 2}
CONV_DIM = 512 + 2 * 2 * 128
DELTA_NET: dict[str, tuple[int, ...]] = {
    "ssm_conv1d.weight": (4, CONV_DIM),
    "attn_qkv.weight": (256, CONV_DIM),
    "attn_gate.weight": (256, 512),
}


def layers(name: str, keys: dict[str, Any], tensors: Sequence[Mapping[str, tuple[int, ...]]]) -> tuple[Layer, ...]:
    """The layers of a model whose blocks have the norms of their architecture and ``tensors``."""
    metadata = {
        "general.architecture": name,
        f"{name}.block_count": len(tensors),
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": 256,
        f"{name}.attention.head_count": 4,
        f"{name}.feed_forward_length": 512,
        **{f"{name}.{key}": value for key, value in keys.items()},
    }
    norm = "ffn_norm" if name.startswith("lfm2") else "post_attention_norm"
    both = {"attn_norm.weight": (256,), f"{norm}.weight": (256,)}
    found = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    for il, block in enumerate(tensors):
        found += [Tensor(f"blk.{il}.{key}", shape, ElementType.F32) for key, shape in {**both, **block}.items()]
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(found), 0)).layers


def delta_nets(name: str, n_layer: int, *, recurrent: tuple[int, ...], **keys: Any) -> tuple[Layer, ...]:
    ssm = {f"ssm.{key}": value for key, value in (SSM | keys).items() if "." not in key}
    other = {key: value for key, value in keys.items() if "." in key or key == "full_attention_interval"}
    return layers(name, ssm | other, [DELTA_NET if il in recurrent else {} for il in range(n_layer)])


@pytest.mark.parametrize("name", ["qwen35", "qwen35moe", "qwen3next"])
@pytest.mark.parametrize(
    ("keys", "recurrent"),
    [
        # every fourth layer attends to all tokens, or as the file says
        ({}, (0, 1, 2, 4)),
        ({"full_attention_interval": 2}, (0, 2, 4)),
        ({"attention.recurrent_layers": (1, 0, 0, 1, 0)}, (0, 3)),
        ({"attention.recurrent_layers": (True, False, False, False, True)}, (0, 4)),
    ],
)
def test_which_layers_are_delta_nets(name: str, keys: dict[str, Any], recurrent: tuple[int, ...]) -> None:
    found = delta_nets(name, 5, recurrent=recurrent, **keys)
    assert tuple(il for il, layer in enumerate(found) if isinstance(layer.mixer, GatedDeltaNet)) == recurrent
    for il, layer in enumerate(found):
        if il in recurrent:
            assert (layer.n_head_kv, layer.n_embd_r, layer.n_embd_s) == (0, 3 * CONV_DIM, 128 * 512)
        else:
            assert layer.mixer == GatedAttention()
            assert (layer.n_head_kv, layer.n_embd_r, layer.n_embd_s) == (4, 0, 0)


def test_qwen35_does_not_repeat_q_and_k() -> None:
    (layer,) = delta_nets("qwen35", 1, recurrent=(0,))
    assert layer.mixer == GatedDeltaNet(d_conv=4, d_inner=512, d_state=128, dt_rank=4, n_group=2)


@pytest.mark.parametrize(("n_group", "repeated"), [(2, True), (4, False)])
def test_qwen3next_repeats_q_and_k(n_group: int, repeated: bool) -> None:
    conv_dim = 512 + 2 * n_group * 128
    tensors = {"ssm_conv1d.weight": (4, conv_dim), "attn_qkv.weight": (256, conv_dim), "ssm_ba.weight": (256, 8)}
    keys = {f"ssm.{key}": value for key, value in (SSM | {"group_count": n_group}).items()}
    (layer,) = layers("qwen3next", keys, [tensors])
    assert layer.mixer == GatedDeltaNet(4, 512, 128, 4, n_group, fused_beta=True, repeated=repeated)


def test_older_files_of_qwen3next_have_one_matrix_for_q_k_v_and_z() -> None:
    tensors = {"ssm_conv1d.weight": (4, CONV_DIM), "ssm_in.weight": (256, CONV_DIM + 512), "ssm_ba.weight": (256, 8)}
    (layer,) = layers("qwen3next", {f"ssm.{key}": value for key, value in SSM.items()}, [tensors])
    assert layer.mixer == GatedDeltaNet(4, 512, 128, 4, 2, fused_beta=True, fused_qkvz=True, repeated=True)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"conv_kernel": 0}, "bad-value"),
        ({"inner_size": 640}, "bad-value"),  # not four heads of 128
        ({"group_count": 3}, "bad-value"),  # does not divide the heads of V
        ({"state_size": 0}, "bad-value"),
        ({"conv_kernel": 3}, "bad-shape"),  # not that of the weight
        ({"full_attention_interval": 0}, "bad-value"),
    ],
)
def test_bad_keys_of_a_delta_net(keys: dict[str, int], code: str) -> None:
    with pytest.raises(ModelError) as caught:
        delta_nets("qwen35", 1, recurrent=(0,), **keys)
    assert caught.value.code == code


def test_a_delta_net_without_its_weights() -> None:
    with pytest.raises(ModelError) as caught:
        delta_nets("qwen35", 1, recurrent=())
    assert caught.value.code == "bad-shape"


CONV = {"shortconv.conv.weight": (3, 256)}


@pytest.mark.parametrize("name", ["lfm2", "lfm2moe"])
def test_layers_without_heads_of_k_are_short_convolutions(name: str) -> None:
    keys = {"attention.head_count_kv": (0, 2, 0), "shortconv.l_cache": 3, "attention.sliding_window": 1024}
    found = layers(name, keys, [CONV, {}, CONV])
    assert [layer.mixer for layer in found] == [ShortConv(), None, ShortConv()]
    assert [layer.n_embd_r for layer in found] == [2 * 256, 0, 2 * 256]
    assert [layer.n_embd_s for layer in found] == [0, 0, 0]
    assert [layer.n_swa for layer in found] == [0, 1024, 0]
    assert {layer.wiring for layer in found} == {"residual_first"}


@pytest.mark.parametrize(
    ("l_cache", "code"), [(1, "bad-value"), (10**6, "bad-value"), (4, "bad-shape"), (None, "missing-key")]
)
def test_bad_lengths_of_a_short_convolution(l_cache: int | None, code: str) -> None:
    keys: dict[str, Any] = {"attention.head_count_kv": (0, 2)}
    if l_cache is not None:
        keys["shortconv.l_cache"] = l_cache
    with pytest.raises(ModelError) as caught:
        layers("lfm2", keys, [CONV, {}])
    assert caught.value.code == code


def test_experts_of_one_matrix_and_a_biased_choice() -> None:
    keys = {"expert_count": 8, "expert_used_count": 2, "shortconv.l_cache": 3, "attention.head_count_kv": 2}
    router = {"ffn_gate_inp.weight": (256, 8)}
    found = layers("lfm2moe", keys, [router | {"exp_probs_b.bias": (8,)}, router | {"ffn_gate_up_exps.weight": (256,)}])
    assert [(layer.biased_probs, layer.fused_exps) for layer in found] == [(True, False), (False, True)]
