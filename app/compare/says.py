"""What a comparison says in sentences: only what its numbers say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.compare.view import COUNTERPARTS
from app.text import size, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.compare.numbers import Held
    from app.compare.view import Comparison, Row, Runner

WORTH: Final = 100
"""A difference is worth a word from this part of the limit, or of the bytes of a token, on."""


@dataclass(frozen=True, slots=True)
class Apart:
    """How far engines are apart at the same bits."""

    bits: int
    says: str


def headline(found: Comparison) -> str:
    """Who gets deepest with what."""
    if not found.runners:
        return "No engine runs it so"
    if not found.is_limited:
        return "Memory does not limit the context here"
    runner, row = max(_all(found), key=lambda both: both[1].depth)
    if not row.depth:
        return "It fits with no engine"
    each = f" in each of {found.n_requests} requests" if found.n_requests else ""
    return f"{runner.engine.name} gets deepest: {tokens(row.depth)} tokens with {row.name}{each}"


def detail(found: Comparison) -> str:
    """Which type is enough for what the model was trained for."""
    trained = found.model.context_length
    if not found.runners or not found.is_limited:
        return ""
    says: list[str] = []
    told: set[str] = set()
    for bits in COUNTERPARTS:
        names = [
            one.engine.name
            for one in found.runners
            if one.engine.id not in told and bits in one.counterparts and one.counterparts[bits].depth >= trained
        ]
        told |= {one.engine.id for one in found.runners if one.engine.name in names}
        if names:
            says.append(f"with {bits} bits in {_listed(names)}")
    if not says:
        return f"No type of 16, 8 or 4 bits holds the {tokens(trained)} tokens that the model was trained for."
    short = [one.engine.name for one in found.runners if one.engine.id not in told]
    rest = f"; in {_listed(short)} with none of 16, 8 and 4" if short else ""
    return f"All {tokens(trained)} tokens that the model was trained for fit {', '.join(says)}{rest}."


def apart(found: Comparison) -> list[Apart]:
    """For each number of bits: the deepest engine, the least deep one, and what sets them apart."""
    return [Apart(bits, says) for bits in COUNTERPARTS if (says := _apart(found, bits))]


def _all(found: Comparison) -> Iterator[tuple[Runner, Row]]:
    return ((runner, row) for runner in found.runners for row in runner.rows if row.numbers)


def _apart(found: Comparison, bits: int) -> str:
    there = [(runner, runner.counterparts[bits]) for runner in found.runners if bits in runner.counterparts]
    free = [both for both in there if both[1].depth and not found.is_capped(*both)]
    if not free or not found.is_limited:
        return ""
    best, least = max(free, key=_depth), min(free, key=_depth)
    says = f"{best[0].engine.name} with {best[1].name} gets to {tokens(best[1].depth)} tokens"
    if least[1].depth < best[1].depth:
        says += f", {least[0].engine.name} with {least[1].name} to {tokens(least[1].depth)}"
        says += _because(least, best)
    says += "." + _span(free)
    capped = [runner.engine.name for runner, row in there if found.is_capped(runner, row)]
    if capped:
        says += f" {_listed(capped)} goes no further than the training, {tokens(found.model.context_length)}."
    none = [runner.engine.name for runner, row in there if row.numbers and not row.depth]
    return f"{says} Nothing fits in {_listed(none)}." if none else says


def _depth(both: tuple[Runner, Row]) -> int:
    return both[1].depth


def _because(least: tuple[Runner, Row], best: tuple[Runner, Row]) -> str:
    """What keeps the lesser one back: less that it may take, or more that it needs; what weighs most first."""
    low, high = (both[1].numbers and both[1].numbers.held for both in (least, best))
    if not low or not high or not low.limit or not high.limit:
        return ""
    parts = sorted(_parts(low, high, least[0], best[0]), reverse=True)
    says = [words for lost, words in parts if lost * WORTH >= high.limit]
    if (low.per_token - high.per_token) * WORTH >= high.per_token:
        says.append(f"{low.per_token:,.0f} B of cache a token against {high.per_token:,.0f} B")
    return f": {least[0].engine.name} has {'; '.join(says)}" if says else ""


def _span(rows: Sequence[tuple[Runner, Row]]) -> str:
    """The least and the most that a token takes, with the engines' names: scales of blocks, and what is not cached."""
    found = [
        (row.numbers.held.per_token, f"{runner.engine.name} {row.name}")
        for runner, row in rows
        if row.numbers and row.numbers.held
    ]
    (least, first), (most, last) = min(found), max(found)
    if (most - least) * WORTH < most:
        return ""
    return f" A token takes {least:,.0f} B ({first}) to {most:,.0f} B ({last})."


def _parts(low: Held, high: Held, least: Runner, best: Runner) -> Iterator[tuple[int, str]]:
    """Bytes by which each keeps the lesser one back, and its words."""
    assert low.limit
    assert high.limit
    yield high.limit - low.limit, f"{size(low.limit)} that it may take against {size(high.limit)}"
    formats = f" ({least.weights}; {best.weights})" if least.weights != best.weights else ""
    yield low.weights - high.weights, f"{size(low.weights)} of weights against {size(high.weights)}{formats}"
    yield low.other - high.other, f"{size(low.other)} of buffers and overhead against {size(high.other)}"


def _listed(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
