"""Lines become shares; a budget takes the place of what a device holds."""

from __future__ import annotations

import pytest

from estimator.engines.result import Budget, Result, result
from estimator.lines import HOST, Line
from tests.estimator import samples

GIB = 2**30
CARD = samples.device("cuda", 10 * GIB)
BUDGET = Budget(
    field="share", share=0.9, taken=(9 * GIB,), pool=(4 * GIB,), pool_tokens=1, requests=1.0, explain="0.9 of it"
)


def of(size: int, budget: Budget | None = None) -> Result:
    lines = [
        Line("sample", "weights", "Weights", size - GIB, "exact", "so many"),
        Line("sample", "kv_cache", "Cache", GIB, "exact", "so many"),
        Line(HOST, "weights", "Embedding", 5, "exact", "so many"),
    ]
    capacities = budget.taken if budget else None
    return result([CARD], lines, (), n_ctx=1, n_requests=1, budget=budget, capacities=capacities)


def test_lines_become_shares() -> None:
    found = of(4 * GIB)
    assert (found.devices[0].weights, found.devices[0].kv_cache, found.devices[0].total) == (3 * GIB, GIB, 4 * GIB)
    assert found.host.weights == 5
    assert found.devices[0].capacity == CARD.capacity


@pytest.mark.parametrize(
    ("gib", "budget", "fits", "is_safe"),
    [
        (9, None, True, True),
        (10, None, True, False),
        (11, None, False, False),
        (9, BUDGET, True, True),
        (10, BUDGET, False, False),
    ],
)
def test_a_budget_needs_no_margin(gib: int, budget: Budget | None, fits: bool, is_safe: bool) -> None:
    found = of(gib * GIB, budget)
    assert (found.fits, found.is_safe) == (fits, is_safe)
    assert found.leaves(GIB) == (gib <= (8 if budget else 9))
