"""What Granite with windows says beside the shared keys."""

from __future__ import annotations

import pytest

from estimator.errors import ModelError
from tests.estimator.sources.test_attention_variants import NORMS, read

KEYS = {"attention.sliding_window": 128, "attention.sliding_window_pattern": (True, False, True)}


@pytest.mark.parametrize(
    ("pattern", "has_rope"), [(None, [True] * 3), (1, [True] * 3), ((True, False, True), [True, False, True])]
)
def test_rope(pattern: object, has_rope: list[bool]) -> None:
    keys = {**KEYS, **({} if pattern is None else {"attention.rope_pattern": pattern})}
    found = read("granite_swa", *[NORMS] * 3, keys=keys).layers
    assert [layer.turned for layer in found] == [layer.placed for layer in found] == has_rope


def test_one_matrix_for_gate_and_up_of_a_shared_expert() -> None:
    block = {**NORMS, "ffn_gate_inp": (256, 4), "ffn_up_shexp": (256, 128), "ffn_down_shexp": (64, 256)}
    keys = {**KEYS, "expert_count": 4, "expert_used_count": 2, "attention.sliding_window_pattern": (True,)}
    layer = read("granite_swa", block, keys=keys).layers[0]
    assert (layer.n_ff_shexp, layer.fused_shexp) == (64, True)


def test_parts_of_the_embedding_for_single_layers_are_refused() -> None:
    assert read("granite_swa", *[NORMS] * 3, keys={**KEYS, "deepstack_mapping": (-1, -1, -1)}).n_layer == 3
    with pytest.raises(ModelError) as caught:
        read("granite_swa", *[NORMS] * 3, keys={**KEYS, "deepstack_mapping": (-1, 0, -1)})
    assert caught.value.code == "unknown-layout"
