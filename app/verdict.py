"""The answer in words: how far it gets, what the context that was asked for takes, and what decides that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from app import text
from estimator.lines import KINDS, SAFE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator import Model, Share

NOUNS: Final = {
    "weights": "The weights decide: they take",
    "kv_cache": "The K/V cache decides: it grows to",
    "recurrent_state": "The recurrent state decides: it takes",
    "compute": "The compute buffer decides: it grows to",
    "overhead": "What the driver and others keep decides: it takes",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. ``state`` tells whether the context that was asked for fits, a shorter one, or none.

    ``headline``, ``detail`` and ``decides`` are sentences, one each but for ``detail``.
    """

    headline: str
    detail: str
    decides: str
    state: Literal["fits", "partly", "over"]


@dataclass(frozen=True, slots=True)
class Place:
    """What devices hold at a context of so many tokens."""

    n_ctx: int
    devices: Sequence[Share]
    fits: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What the verdict is about: the deepest context that loads and the one that leaves llama.cpp's margin, in tokens.

    ``now`` is the context that was asked for, ``least`` the least one, ``most`` the deepest. ``n_each`` slots, or
    requests, have a context of their own; ``is_sum`` says that contexts are those of all of them together.
    """

    deepest: int
    safe: int
    now: Place
    least: Place
    most: Place
    n_each: int = 1
    is_sum: bool = True
    each: str = "slots"


def verdict(model: Model, names: list[str], limits: Limits) -> Verdict:
    """The answer for some devices by their names."""
    full = model.context_length * (limits.n_each if limits.is_sum else 1)
    state: Literal["fits", "partly", "over"]
    state = "over" if not limits.deepest else "fits" if limits.now.fits else "partly"
    return Verdict(_headline(model, names, limits, full), _detail(limits, full), _decides(names, limits, full), state)


def _headline(model: Model, names: list[str], limits: Limits, full: int) -> str:
    where = text.joined(names)
    where = text.with_article(where) if where[0].isalpha() else where
    if limits.deepest == 0:
        return f"Does not fit {where}"
    several = limits.n_each > 1
    each = f" in each of {limits.n_each} {limits.each}" if several else ""
    if limits.deepest >= full:
        return f"Fits {where} up to its full {text.tokens(model.context_length)} tokens{each}"
    over = f" over {limits.n_each} {limits.each}" if several else ""
    return f"Fits {where} up to {text.tokens(limits.deepest)} tokens{over if limits.is_sum else each}"


def _detail(limits: Limits, full: int) -> str:
    """What a context takes on the fullest device: the one that was asked for, or the least if nothing fits."""
    now = limits.now if limits.deepest else limits.least
    share = now.devices[_fullest(now.devices)]
    at = "At" if limits.deepest else "Even at"
    asked = f"{at} {text.tokens(now.n_ctx)} tokens it takes {text.size(share.total)}"
    if len(now.devices) > 1:
        asked += f" on {share.name}"
    if share.capacity is None:
        return f"{asked}; this device has no limit."
    if not now.fits:
        more = text.size(share.total - share.capacity)
        return f"{asked}, {more} more than the {text.size(share.capacity)} there are."
    spare = f"{asked} of {text.size(share.capacity)}: {text.size(share.capacity - share.total)} stay free."
    return f"{spare}{_margin(limits, full)}"


def _margin(limits: Limits, full: int) -> str:
    """Until where llama.cpp's own margin stays free, if that is not as far as it fits."""
    if limits.safe >= min(limits.deepest, full):
        return ""
    until = f"up to {text.tokens(limits.safe)} tokens" if limits.safe else "at no context"
    return (
        f" The {text.size(SAFE_MARGIN)} that llama.cpp would leave, for what grows with long prompts, is free {until}."
    )


def _decides(names: list[str], limits: Limits, full: int) -> str:
    """What the deepest context is a matter of: one sentence."""
    if all(share.capacity is None for share in limits.now.devices):
        return "Nothing limits it but the context that is asked for."
    if limits.deepest >= full:
        beyond = f", which would last for {text.tokens(limits.deepest)} tokens" if limits.deepest > full else ""
        return f"What the model was trained for decides, not memory{beyond}."
    index = _fullest(limits.most.devices)
    share = limits.most.devices[index]
    where = f" on {text.with_article(names[index])}" if len(names) > 1 else ""
    kind = _largest(share) if not limits.deepest else _growing(share, limits.least.devices[index])
    others = share.total - getattr(share, kind)
    return f"{NOUNS[kind]} {text.size(getattr(share, kind))} beside {text.size(others)} of all else{where}."


def _fullest(shares: Sequence[Share]) -> int:
    return max(range(len(shares)), key=lambda i: shares[i].total - (shares[i].capacity or shares[i].total))


def _largest(share: Share) -> str:
    return max(KINDS, key=lambda kind: getattr(share, kind))


def _growing(most: Share, least: Share) -> str:
    """The kind that grows most from the least context to the deepest."""
    return max(KINDS, key=lambda kind: getattr(most, kind) - getattr(least, kind))
