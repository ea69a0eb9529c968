"""Which layers are recurrent, and shapes that must be as the keys say."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError
from estimator.sources.gguf import GGUFHeader
from estimator.sources.hparams import Facts, HParams
from estimator.sources.recurrent import check_shape, recurrent_by_interval


def facts(n_layer: int, keys: dict[str, Any], shapes: dict[str, tuple[int, ...]] | None = None) -> Facts:
    metadata = {f"x.{key}": value for key, value in {"block_count": n_layer, **keys}.items()}
    return Facts(HParams(GGUFHeader(3, True, 32, metadata, {}, (), 0), "x"), shapes or {}, 64)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [True, True, True, False, True]),
        ({"full_attention_interval": 2}, [True, False, True, False, True]),
        ({"attention.recurrent_layers": (0, 1, 0, 1, 1)}, [False, True, False, True, True]),
        ({"attention.recurrent_layers": 1}, [True] * 5),
        ({"attention.recurrent_layers": 0, "full_attention_interval": 2}, [False] * 5),
    ],
)
def test_which_layers_are_recurrent(keys: dict[str, Any], expected: list[bool]) -> None:
    assert list(recurrent_by_interval(facts(5, keys), 4)) == expected


@pytest.mark.parametrize("keys", [{"full_attention_interval": 0}, {"attention.recurrent_layers": 2}])
def test_bad_intervals(keys: dict[str, int]) -> None:
    with pytest.raises(ModelError) as caught:
        recurrent_by_interval(facts(5, keys), 4)
    assert caught.value.code == "bad-value"


def test_dimensions_of_one_at_the_end_need_not_be_written() -> None:
    found = facts(1, {}, {"blk.0.a.weight": (8, 1, 1), "blk.0.b.weight": (8,)})
    check_shape(found, 0, "a", (8,))
    check_shape(found, 0, "b", (8, 1))
    with pytest.raises(ModelError):
        check_shape(found, 0, "b", (8, 2))
