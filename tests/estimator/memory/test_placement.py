"""Which device holds which layer, by llama.cpp's rule worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import SettingsError
from estimator.memory.placement import layer_devices
from estimator.settings import Settings
from tests.estimator import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = samples.model(*(samples.layer(),) * 32)


def counts(free: Sequence[int], n_layer: int = 32, **given: Any) -> list[int]:
    """Layers of each device; the output layer counts as one."""
    model = samples.model(*(samples.layer(),) * n_layer)
    placed = layer_devices(model, Settings(**given), free)
    assert len(placed) == n_layer + 1
    assert list(placed) == sorted(placed)
    return [placed.count(index) for index in range(len(free))]


@pytest.mark.parametrize(
    ("free", "split", "expected"),
    [
        ([1], None, [33]),
        ([1], (5,), [33]),
        # layer i is on the first device whose share of the sum is above i / 33
        ([1, 1], None, [17, 16]),
        ([24, 8], None, [25, 8]),
        ([8, 24], None, [9, 24]),
        ([1, 1], (3, 1), [25, 8]),
        ([1, 1], (1, 3), [9, 24]),
        ([24, 8], (1, 1), [17, 16]),
        ([1, 1], (300, 100), [25, 8]),
        ([1, 1], (0.75, 0.25), [25, 8]),
        ([1, 1], (1, 0), [33, 0]),
        ([1, 1], (0, 1), [0, 33]),
        ([1, 1, 1], None, [11, 11, 11]),
        ([1, 1, 1], (1, 0, 1), [17, 0, 16]),
        ([1, 1, 1, 1], (1, 1, 1, 1), [9, 8, 8, 8]),
    ],
)
def test_layers_of_each_device(free: list[int], split: tuple[float, ...] | None, expected: list[int]) -> None:
    assert counts(free, tensor_split=split) == expected


def test_a_layer_at_the_edge_goes_to_the_next_device() -> None:
    # layer 2 of 3 and the output: 2 / 4 is not below one half
    assert counts([1, 1], n_layer=3) == [2, 2]


def test_more_devices_than_layers() -> None:
    assert counts([1] * 4, n_layer=1) == [1, 0, 1, 0]


@pytest.mark.parametrize("split", [(1,), (1, 1, 1)])
def test_a_split_needs_a_share_for_each_device(split: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        layer_devices(MODEL, Settings(tensor_split=split), [1, 1])
    error = caught.value
    assert (error.code, error.field, error.allowed) == ("bad-tensor-split", "tensor_split", "2 shares")


@pytest.mark.parametrize(
    ("given", "field", "allowed"),
    [
        ({"n_gpu_layers": 0}, "n_gpu_layers", "-1 or more than 32"),
        ({"n_gpu_layers": 10}, "n_gpu_layers", "-1 or more than 32"),
        ({"n_gpu_layers": 32}, "n_gpu_layers", "-1 or more than 32"),
        ({"offload_kqv": False}, "offload_kqv", "True"),
        ({"cpu_tensors": "exps"}, "cpu_tensors", "None"),
        ({"cpu_tensors": ""}, "cpu_tensors", "None"),
    ],
)
def test_what_stays_on_the_host_is_not_modelled(given: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        layer_devices(MODEL, Settings(**given), [1])
    error = caught.value
    assert (error.code, error.field, error.allowed) == ("not-modelled", field, allowed)
    assert repr(next(iter(given.values()))) in error.message


@pytest.mark.parametrize("n_gpu_layers", [33, 99, 10_000])
def test_as_many_gpu_layers_as_there_are_is_all(n_gpu_layers: int) -> None:
    assert counts([1], n_gpu_layers=n_gpu_layers) == [33]
