"""Which contexts a page shows."""

from __future__ import annotations

import pytest

from app.contexts import end, noted


@pytest.mark.parametrize(
    ("trained", "asked", "deepest", "last"),
    [
        (8192, 0, 0, 8192),
        (8192, 32768, 0, 32768),
        (8192, 0, 8000, 9000),
        (8192, 0, 16384, 8192),
        (512, 0, 0, 1024),
    ],
)
def test_how_far_a_chart_goes(trained: int, asked: int, deepest: int, last: int) -> None:
    assert end(trained, asked, deepest) == last


def test_rows_say_what_they_are() -> None:
    assert noted(8192, 8192, 8192, 5120) == {
        2048: "",
        4096: "",
        5120: "the most that fits",
        8192: "trained for, asked for",
    }
    assert noted(2048, 3000, 3072, 99_999) == {2048: "trained for", 3000: "asked for"}
