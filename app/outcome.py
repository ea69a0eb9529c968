"""What the core answers to a state: what the page shows and what the API gives are made of this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app import text
from app.errors import as_bad_request
from app.verdict import Limits, Verdict, verdict
from estimator import decoding_bound, estimate, max_context, parts
from estimator.companions import ALONE
from estimator.errors import FathomError
from estimator.fit import STEP
from estimator.lines import SAFE_MARGIN

if TYPE_CHECKING:
    from app.query import Asked
    from estimator import Bound, Estimate, Part


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to what was asked.

    ``max_context`` is the deepest context that loads, ``safe_context`` the deepest that leaves llama.cpp's own margin;
    ``parts`` is what each of several devices has, ``bound`` how fast one sequence is decoded at most when its context
    is full, None where that is not known or does not fit.
    """

    asked: Asked
    estimate: Estimate
    max_context: int
    safe_context: int
    verdict: Verdict
    parts: tuple[Part, ...]
    bound: Bound | None


def outcome(asked: Asked, host_bandwidth_gbps: float) -> Outcome:
    """The answer.

    Args:
        host_bandwidth_gbps: how fast the system's memory is read, in 10^9 bytes a second.

    Raises:
        RequestError: llama.cpp refuses this, in the query's own name of the field.
    """
    try:
        now = estimate(*asked)
        deepest = max_context(*asked)
        safe = max_context(*asked, spare=SAFE_MARGIN)
        least = at(asked, STEP)
        most = at(asked, deepest) if deepest else least
        shared = parts(*asked) if len(asked.devices) > 1 else ()
    except FathomError as error:
        raise as_bad_request(error) from None
    names = [text.device_name(device) for device in asked.devices]
    answer = verdict(asked.model, names, Limits(deepest, safe, now, least, most))
    rate = bound(asked, now, host_bandwidth_gbps) if now.fits else None
    return Outcome(asked, now, deepest, safe, answer, shared, rate)


def at(asked: Asked, n_ctx: int) -> Estimate:
    """The estimate at another context."""
    return estimate(*asked._replace(settings=replace(asked.settings, n_ctx=n_ctx)))


def bound(asked: Asked, now: Estimate, host_bandwidth_gbps: float) -> Bound | None:
    """How fast one sequence is decoded at most when the context of an estimate is full, where that is known."""
    if asked.companions != ALONE:
        return None
    return decoding_bound(asked.model, asked.settings, asked.devices, now.context.n_ctx_seq, host_bandwidth_gbps)
