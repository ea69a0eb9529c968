"""What an engine says of one state: what it takes, how far it gets, and what holds the memory there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.query import Query
    from estimator import Model
    from estimator.engines.base import Engine
    from estimator.engines.result import Budget, Result


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of all devices at the deepest context: ``limit`` is theirs, or the budget of them, None without any.

    ``per_token`` is what each token of it has of the cache, ``other`` all that is neither weights nor cache.
    """

    limit: int | None
    weights: int
    other: int
    cache: int
    per_token: float


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a run takes: bytes on all devices at the context that is asked for, and how far it gets.

    Args:
        max_context: as the engine's own option counts tokens; 0 if none fits.
        depth: tokens that each request has then, if all are as long; of slots that share a cache, what one can have.
        n_ctx: the same at the context that is asked for.
        n_requests: requests of that length.
        cache: of keys and values, where the cache is, in system memory too.
        per_token: of them for each token of the context, None without a cache.
        held: what the devices hold at ``max_context``, None if none fits.
    """

    max_context: int
    depth: int
    n_ctx: int
    n_requests: int
    cache: int
    per_token: float | None
    total: int
    fits: bool
    budget: Budget | None
    held: Held | None


def numbers_of(engine: Engine, state: Query, model: Model) -> Numbers:
    """What the engine says of a state.

    Raises:
        FathomError: it refuses it.
    """
    run, devices, beside = state.run(), state.devices(), state.companions()
    job = engine.job(model, run, devices, beside)
    now = engine.lay_out(job)
    deepest = engine.max_context(model, run, devices, beside)
    full = engine.estimate(model, replace(run, n_ctx=deepest), devices, beside) if deepest else None
    cache = _of_kind(now, "kv_cache")
    tokens = job.n_ctx if engine.shares_context else now.n_ctx * now.n_requests
    sharing = now.n_requests if engine.shares_context and run.n_requests else 1
    return Numbers(
        max_context=deepest,
        depth=min(full.n_ctx, deepest // sharing) if full else 0,
        n_ctx=min(now.n_ctx, job.n_ctx // sharing),
        n_requests=now.n_requests,
        cache=cache,
        per_token=cache / tokens if cache else None,
        total=sum(share.total for share in now.devices),
        fits=now.fits,
        budget=now.budget,
        held=_held(full, deepest if engine.shares_context else full.n_ctx * full.n_requests) if full else None,
    )


def _of_kind(found: Result, kind: str) -> int:
    return sum(line.bytes for line in found.lines if line.kind == kind)


def _held(full: Result, tokens: int) -> Held:
    limits = [share.capacity for share in full.devices]
    weights = sum(share.weights for share in full.devices)
    cache = sum(share.kv_cache for share in full.devices)
    total = sum(share.total for share in full.devices)
    limit = None if None in limits else sum(filter(None, limits))
    return Held(limit, weights, total - weights - cache, cache, cache / tokens)
