"""What the core answers to a state: what the page shows and what the API gives are made of this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app import text
from app.errors import as_bad_request
from app.query import checked
from app.verdict import Limits, Place, Verdict, verdict
from estimator import decoding_bound, estimate, max_context, parts
from estimator.companions import ALONE
from estimator.engines.llama_cpp import PROGRAMS
from estimator.errors import FathomError
from estimator.lines import SAFE_MARGIN
from estimator.memory.context import STEP

if TYPE_CHECKING:
    from app.query import Asked, Query
    from estimator import Bound, Companions, Device, Estimate, Model, Part
    from estimator.engines.base import Engine, Job, Run
    from estimator.engines.result import Budget, Result


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

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.asked.devices

    @property
    def n_ctx(self) -> int:
        return self.estimate.context.n_ctx

    @property
    def engine_id(self) -> str:
        """What is measured of one program of llama.cpp goes for all."""
        return PROGRAMS[0].id

    @property
    def budget(self) -> None:
        return None


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
    limits = Limits(deepest, safe, _place(now), _place(least), _place(most), now.context.n_stream)
    answer = verdict(asked.model, names, limits)
    rate = bound(asked, now, host_bandwidth_gbps) if now.fits else None
    return Outcome(asked, now, deepest, safe, answer, shared, rate)


def _place(found: Estimate) -> Place:
    return Place(found.context.n_ctx, found.devices, found.fits)


@dataclass(frozen=True, slots=True)
class EngineOutcome:
    """The answer of another engine, in the same terms. ``budget`` is what it takes whatever the context is."""

    engine: Engine
    job: Job
    estimate: Result
    max_context: int
    safe_context: int
    verdict: Verdict
    parts: tuple[Part, ...] = ()
    bound: Bound | None = None

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.job.devices

    @property
    def n_ctx(self) -> int:
        return self.estimate.n_ctx

    @property
    def engine_id(self) -> str:
        return self.engine.id

    @property
    def budget(self) -> Budget | None:
        return self.estimate.budget


AnyOutcome = Outcome | EngineOutcome


def engine_outcome(engine: Engine, run: Run, asked: tuple[Model, tuple[Device, ...], Companions]) -> EngineOutcome:
    """The answer of an engine.

    Raises:
        RequestError: it refuses this, in the query's own name of the field.
    """
    model, devices, beside = asked
    try:
        job = engine.job(model, run, devices, beside)
        now = engine.lay_out(job)
        deepest = engine.max_context(model, run, devices, beside)
        safe = engine.max_context(model, run, devices, beside, spare=0 if now.budget else SAFE_MARGIN)
        least = engine.estimate(model, replace(run, n_ctx=engine.context_step), devices, beside)
        most = engine.estimate(model, replace(run, n_ctx=deepest), devices, beside) if deepest else least
    except FathomError as error:
        raise as_bad_request(error) from None
    here, low, high = (Place(found.n_ctx, found.devices, found.fits) for found in (now, least, most))
    names = [text.device_name(device) for device in devices]
    limits = Limits(deepest, safe, here, low, high, now.n_requests, engine.shares_context, "requests")
    return EngineOutcome(engine, job, now, deepest, safe, verdict(model, names, limits))


def outcome_of(query: Query, model: Model) -> AnyOutcome:
    """The answer to a query, whichever engine it asks.

    Raises:
        RequestError: the engine refuses this, in the query's own name of the field.
    """
    if query.program:
        return outcome(checked(query, model), query.host_bandwidth_gbps)
    try:
        asked = (model, query.devices(), query.companions())
    except FathomError as error:
        raise as_bad_request(error) from None
    return engine_outcome(query.known_engine, query.run(), asked)


def at(asked: Asked, n_ctx: int) -> Estimate:
    """The estimate at another context."""
    return estimate(*asked._replace(settings=replace(asked.settings, n_ctx=n_ctx)))


def bound(asked: Asked, now: Estimate, host_bandwidth_gbps: float) -> Bound | None:
    """How fast one sequence is decoded at most when the context of an estimate is full, where that is known."""
    if asked.companions != ALONE:
        return None
    return decoding_bound(asked.model, asked.settings, asked.devices, now.context.n_ctx_seq, host_bandwidth_gbps)
