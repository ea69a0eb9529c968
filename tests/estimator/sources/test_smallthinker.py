"""What SmallThinker says about single layers."""

from __future__ import annotations

import pytest

from tests.estimator.sources.test_attention_variants import NORMS, read


@pytest.mark.parametrize(
    ("n_layer", "window", "has_rope"),
    [
        (6, 4096, [False, True, True, True, False, True]),
        (6, 0, [True] * 6),
        (6, None, [True] * 6),
        (4, 4096, [True] * 4),  # as many layers as the step: llama.cpp takes them for a model without windows
    ],
)
def test_rope(n_layer: int, window: int | None, has_rope: list[bool]) -> None:
    keys = {} if window is None else {"attention.sliding_window": window}
    found = read("smallthinker", *[NORMS] * n_layer, keys=keys).layers
    assert [layer.turned for layer in found] == [layer.placed for layer in found] == has_rope
    assert {layer.wiring for layer in found} == {"router_first"}
