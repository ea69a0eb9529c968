"""What Gemma 4 says about single layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import ModelError
from tests.estimator.sources.test_attention_variants import NORMS, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.model import Model

KEYS = {
    "attention.sliding_window": 512,
    "attention.sliding_window_pattern": (True, False, True, False),
    "attention.key_length": 512,
    "attention.value_length": 512,
    "attention.key_length_swa": 256,
    "attention.value_length_swa": 256,
    "embedding_length_per_layer_input": 0,
}
V = {"attn_v": (256, 512)}


def gemma4(*blocks: Mapping[str, tuple[int, ...]], **keys: Any) -> Model:
    changed = {key.replace("__", "."): value for key, value in keys.items()}
    return read("gemma4", *(blocks or [{**NORMS, **V}] * 4), keys={**KEYS, **changed})


def test_heads_are_narrower_in_windows() -> None:
    found = gemma4(attention__head_count_kv=(8, 2, 8, 2)).layers
    assert [(layer.n_swa, layer.n_embd_head_k, layer.n_embd_k_gqa) for layer in found[:2]] == [
        (512, 256, 2048),
        (0, 512, 1024),
    ]


def test_the_last_layers_look_at_earlier_caches() -> None:
    assert [layer.own_cache for layer in gemma4(attention__shared_kv_layers=2).layers] == [True, True, False, False]
    assert all(layer.own_cache for layer in gemma4().layers)


@pytest.mark.parametrize(
    ("n_shared", "pattern", "code"),
    [
        (3, (True, False, True, False), "bad-value"),  # too few caches of their own
        (-1, (True, False, True, False), "bad-value"),
        (2, (False, True, True, False), "bad-value"),  # the wrong ones
        (2, (True, True, True, False), "bad-value"),
    ],
)
def test_caches_that_would_not_be_found(n_shared: int, pattern: tuple[bool, ...], code: str) -> None:
    with pytest.raises(ModelError) as caught:
        gemma4(attention__shared_kv_layers=n_shared, attention__sliding_window_pattern=pattern)
    assert (caught.value.code, caught.value.field) == (code, "gemma4.attention.shared_kv_layers")


def test_v_is_normed_and_may_come_from_k() -> None:
    found = gemma4({**NORMS, **V}, NORMS, attention__sliding_window_pattern=(True, False)).layers
    assert [(layer.v_from_k, layer.normed_v) for layer in found] == [(False, True), (True, True)]


def test_experts_stand_beside_a_dense_feed_forward() -> None:
    experts = {**NORMS, **V, "ffn_gate_inp": (256, 8), "ffn_gate_up_exps": (256, 128, 8), "layer_output_scale": (1,)}
    found = gemma4(
        experts,
        {**NORMS, **V},
        attention__sliding_window_pattern=(True, False),
        expert_count=8,
        expert_used_count=2,
        expert_feed_forward_length=64,
    ).layers
    assert (found[0].wiring, found[0].n_ff, found[0].n_ff_shexp, found[0].fused_exps) == (
        "beside_experts",
        64,
        512,
        True,
    )
    assert (found[1].wiring, found[1].n_ff, found[1].n_ff_shexp) == ("sequential", 512, 0)
    assert [layer.scaled_output for layer in found] == [True, False]


def test_embeddings_of_single_layers() -> None:
    assert {layer.n_embd_per_layer for layer in gemma4(embedding_length_per_layer_input=256).layers} == {256}


@pytest.mark.parametrize("key", ["attention.sliding_window", "attention.key_length_swa", "attention.value_length_swa"])
def test_keys_that_the_loader_needs(key: str) -> None:
    keys = {name: value for name, value in KEYS.items() if name != key}
    with pytest.raises(ModelError) as caught:
        read("gemma4", *[NORMS] * 4, keys=keys)
    assert (caught.value.code, caught.value.field) == ("missing-key", f"gemma4.{key}")


def test_heads_of_k_and_v_must_be_alike() -> None:
    with pytest.raises(ModelError) as caught:
        gemma4(attention__value_length=256)
    assert caught.value.code == "bad-value"


def test_rope_factors_are_made_where_a_full_layer_is() -> None:
    found = gemma4()
    assert not found.share_rope_factors([0, 2])
    assert found.share_rope_factors([0, 1])
    assert read("llama", NORMS).share_rope_factors([0])
