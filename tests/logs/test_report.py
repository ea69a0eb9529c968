"""The section on users' logs says what the comparison found, and worse figures are named."""

from __future__ import annotations

import pytest

from tests.logs.report import Sum, section, sums, worse


def test_the_section_names_what_was_compared() -> None:
    text = section()
    assert "64 of all kinds" in text
    assert "| K/V cache as a whole | 187 | 187 | 177 | 187 | 0.00% |" in text
    assert "[23861](https://github.com/ggml-org/llama.cpp/pull/23861)" in text


def test_the_grid_is_in_the_figures() -> None:
    found = sums()
    assert found["K/V cache as a whole"].sizes == 64
    assert sum(figures.sizes for name, figures in found.items() if name.startswith("grid: ")) == 123 * 18


GOOD = Sum(10, 9, 0.02)


@pytest.mark.parametrize(
    ("now", "count"),
    [
        (GOOD, 0),
        (Sum(11, 10, 0.01), 0),
        (Sum(9, 9, 0.02), 1),
        (Sum(11, 8, 0.02), 1),
        (Sum(11, 9, 0.03), 1),
        (None, 1),
    ],
)
def test_what_is_worse(now: Sum | None, count: int) -> None:
    complaints = list(worse({"compute": list(GOOD)}, {"compute": now} if now else {}))
    assert len(complaints) == count
    assert all("logs, compute" in text for text in complaints)
