"""Which contexts a page shows: how far its chart goes, and the rows of the table below it."""

from __future__ import annotations

from typing import Final

LADDER: Final = tuple(2**power for power in range(11, 24))
"""Contexts of the table, in tokens: 2K, 4K, ... 8M."""

LEAST: Final = 1024
"""Tokens that a chart shows at least."""


def end(trained: int, asked: int, deepest: int) -> int:
    """How far the chart goes: to the trained length, to what was asked for, and beyond the limit if that is near."""
    asked = max(trained, asked, LEAST)
    return max(asked, deepest + deepest // 8) if deepest < 2 * asked else asked


def noted(trained: int, asked: int, last: int, deepest: int) -> dict[int, str]:
    """Round contexts up to the last, what was trained for and asked for, and the deepest; each with what it is."""
    notes = {n_ctx: "" for n_ctx in LADDER if n_ctx <= last}
    notes[trained] = "trained for"
    if 0 < deepest <= last:
        notes[deepest] = "the most that fits"
    notes[asked] = ", ".join(filter(None, (notes.get(asked, ""), "asked for")))
    return {n_ctx: notes[n_ctx] for n_ctx in sorted(notes)}
