"""What the measurements say about an estimate depends on the architecture and on where the model lies."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.accuracy import PLACEMENTS, band, placement
from estimator.settings import Settings
from estimator.sources.architectures import ARCHITECTURES
from tests.estimator import samples

MODEL = samples.model(*(samples.layer(),) * 4)


@pytest.mark.parametrize(
    ("given", "n_devices", "expected"),
    [
        ({}, 1, "device"),
        ({}, 2, "devices"),
        ({"n_gpu_layers": 5}, 1, "device"),
        ({"n_gpu_layers": 4}, 1, "host"),
        ({"n_gpu_layers": 0}, 2, "host"),
        ({"offload_kqv": False}, 1, "host"),
        ({"cpu_tensors": "exps"}, 2, "host"),
    ],
)
def test_placement(given: dict[str, Any], n_devices: int, expected: str) -> None:
    assert placement(MODEL, Settings(**given), n_devices) == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_was_measured_on_one_device(architecture: str) -> None:
    found = band(samples.model(samples.layer(), architecture=architecture), Settings(), 1)
    assert found
    assert 0 < found.exact <= found.near <= found.cases
    assert 0 <= found.worst < 0.05


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert band(samples.model(samples.layer(), architecture="unheard-of"), Settings(), 1) is None


def test_places_are_named_for_people() -> None:
    assert list(PLACEMENTS) == ["device", "devices", "host"]
