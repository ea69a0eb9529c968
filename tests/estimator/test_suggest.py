"""What somebody may have meant."""

from __future__ import annotations

import pytest

from estimator.devices import devices
from estimator.sources.catalogue import entries
from estimator.suggest import MOST, nearest

MODELS = [entry.id for entry in entries()]
DEVICES = [device.id for device in devices()]


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("llama3.1", MODELS, "llama-3.1-8b-instruct"),
        ("qwen3 14b", MODELS, "qwen3-14b"),
        ("Gemma-3-27B", MODELS, "gemma-3-27b-it"),
        ("rtx4090", DEVICES, "rtx-4090"),
        ("3060", DEVICES, "rtx-3060-12-gb"),
        ("M4 Max", DEVICES, "m4-max-16c-128gb"),
        ("rtx-5900", DEVICES, "rtx-5090"),
    ],
)
def test_the_right_one_is_among_them(text: str, names: list[str], expected: str) -> None:
    found = nearest(text, names)
    assert expected in found
    assert len(found) <= MOST


@pytest.mark.parametrize("text", ["", "  ", "zzzzzzzz", "x" * 1_000_000])
def test_nothing_is_suggested_for_nothing_alike(text: str) -> None:
    assert nearest(text, MODELS) == ()
