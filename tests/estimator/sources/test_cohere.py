"""What Cohere's mixture of experts says beside the shared keys."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError
from tests.estimator.sources.test_attention_variants import NORMS, read

KEYS = {"attention.sliding_window": 4096, "leading_dense_block_count": 1}


@pytest.mark.parametrize(
    ("keys", "layer_norm"),
    [
        ({}, True),
        ({"attention.layer_norm_rms_epsilon": 0.0}, True),
        ({"attention.layer_norm_rms_epsilon": 1e-5}, False),
    ],
)
def test_norms(keys: dict[str, Any], layer_norm: bool) -> None:
    assert read("cohere2moe", NORMS, keys={**KEYS, **keys}).traits.layer_norm is layer_norm


def test_windows_and_the_first_layers_have_rope() -> None:
    found = read("cohere2moe", *[NORMS] * 6, keys=KEYS).layers
    assert [layer.n_swa for layer in found] == [0, 4096, 4096, 4096, 0, 4096]
    assert [layer.turned for layer in found] == [True, True, True, True, False, True]


@pytest.mark.parametrize(
    ("keys", "weights"),
    [
        ({}, ("plain", False)),
        ({"expert_weights_norm": False, "expert_weights_scale": 2.5}, ("plain", True)),
        ({"expert_weights_norm": True, "expert_weights_scale": 1.0}, ("divided", False)),
    ],
)
def test_expert_weights(keys: dict[str, Any], weights: tuple[str, bool]) -> None:
    traits = read("cohere2moe", NORMS, keys={**KEYS, **keys}).traits
    assert (traits.expert_weights, traits.scaled_experts) == weights


@pytest.mark.parametrize("scale", ["2", True])
def test_a_scale_that_is_no_number(scale: object) -> None:
    with pytest.raises(ModelError) as caught:
        read("cohere2moe", NORMS, keys={**KEYS, "expert_weights_scale": scale})
    assert (caught.value.code, caught.value.field) == ("bad-value", "cohere2moe.expert_weights_scale")
