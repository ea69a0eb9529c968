"""Which device holds which layer, by llama.cpp's rule worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.errors import SettingsError
from estimator.memory.alloc import HOST
from estimator.memory.placement import OUTPUT, kept_on_host, places
from estimator.settings import Settings
from tests.estimator import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = samples.model(*(samples.layer(),) * 32)


def counts(free: Sequence[int], n_layer: int = 32, **given: Any) -> list[int]:
    """Layers of each device; the output layer counts as one."""
    model = samples.model(*(samples.layer(),) * n_layer)
    found = places(model, Settings(**given), free)
    placed = [place.device for place in (*found.layers, found.output)]
    assert len(placed) == n_layer + 1
    assert placed == sorted(placed)
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
        places(MODEL, Settings(tensor_split=split), [1, 1])
    error = caught.value
    assert (error.code, error.field, error.allowed) == ("bad-tensor-split", "tensor_split", "2 shares")


@pytest.mark.parametrize(
    ("n_gpu_layers", "host", "output"),
    [
        (0, 32, HOST),
        (1, 32, 0),
        (2, 31, 0),
        (10, 23, 0),
        (32, 1, 0),
        (33, 0, 0),
        (99, 0, 0),
        (10_000, 0, 0),
        (-1, 0, 0),
    ],
)
def test_the_last_layers_come_first(n_gpu_layers: int, host: int, output: int) -> None:
    found = places(MODEL, Settings(n_gpu_layers=n_gpu_layers), [1])
    assert [place.device for place in found.layers] == [HOST] * host + [0] * (32 - host)
    assert found.output.device == output
    assert found.is_full == (n_gpu_layers < 0 or n_gpu_layers > 32)
    assert found.is_whole == found.is_full


def test_devices_share_the_layers_that_are_not_on_the_host() -> None:
    found = places(MODEL, Settings(n_gpu_layers=11), [1, 1])
    # 10 layers and the output, which is the eleventh: layer i of them is on the first while i / 11 is below one half
    assert [place.device for place in found.layers] == [HOST] * 22 + [0] * 6 + [1] * 4
    assert found.output.device == 1


@pytest.mark.parametrize(
    ("given", "free", "expected"),
    [
        ({}, [1, 1], True),
        ({}, [1], False),
        ({"n_gpu_layers": 32}, [1, 1], False),
        ({"offload_kqv": False}, [1, 1], False),
        ({"cpu_tensors": "no such tensor"}, [1, 1], False),
    ],
)
def test_what_makes_a_pipeline(given: dict[str, Any], free: list[int], expected: bool) -> None:
    assert places(MODEL, Settings(**given), free).is_pipelined is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, {}),
        ("exps", {}),
        (r"blk\.3\.attn_q", {3: {"attn_q"}}),
        (r"blk\.(3|30)\.", {3: {"attn_q"}, 30: {"attn_q"}}),
        ("^output", {OUTPUT: {"output"}}),
    ],
)
def test_a_pattern_keeps_tensors_on_the_host(pattern: str | None, expected: dict[int, set[str]]) -> None:
    assert kept_on_host(MODEL, pattern) == expected
    found = places(MODEL, Settings(cpu_tensors=pattern), [1])
    assert found.is_full
    assert found.is_whole == (not expected)
    assert {il: set(place.on_host) for il, place in enumerate(found.layers) if place.on_host} == {
        il: names for il, names in expected.items() if il != OUTPUT
    }


def test_a_tied_embedding_is_kept_from_the_output_by_its_own_name() -> None:
    tied = samples.model(samples.layer(), tensors=MODEL.tensors[:1] + MODEL.tensors[2:3])
    assert kept_on_host(tied, "token_embd") == {OUTPUT: {"output"}}
    assert kept_on_host(MODEL, "token_embd") == {OUTPUT: {"token_embd"}}


def test_equal_layers_are_in_equal_places() -> None:
    assert len(set(places(MODEL, Settings(cpu_tensors="attn_q"), [1]).layers)) == 1
