"""What Llama 4 says about single layers."""

from __future__ import annotations

import pytest

from tests.estimator.sources.test_attention_variants import NORMS, read


@pytest.mark.parametrize(
    ("keys", "has_rope"),
    [
        ({}, [True, True, True, False, True]),
        ({"attention.sliding_window": 4096}, [True, True, True, False, True]),
        # without chunks only the last layer has none
        ({"attention.sliding_window": 0}, [True, True, True, True, False]),
    ],
)
def test_rope(keys: dict[str, int], has_rope: list[bool]) -> None:
    found = read("llama4", *[NORMS] * 5, keys=keys).layers
    assert [(layer.turned, layer.placed, layer.scaled_q) for layer in found] == [
        (has, has, not has) for has in has_rope
    ]


def test_experts_read_weighed_rows() -> None:
    assert read("llama4", NORMS).layers[0].weighed_first
