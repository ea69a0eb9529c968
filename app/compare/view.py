"""One model on the same devices by every engine: how deep each type of cache gets, and what takes the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from app import text
from app.errors import as_bad_request
from app.parsing import parse
from app.support import Known, engines, everywhere, worst
from app.switching import switched
from app.values import cache_type
from estimator.engines.choices import choose_format
from estimator.engines.result import Support
from estimator.errors import FathomError
from estimator.settings import MAX_N_CTX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.query import Query
    from estimator import Device, Model
    from estimator.engines.base import Engine
    from estimator.engines.packing import CacheType
    from estimator.engines.result import Budget, Result

COUNTERPARTS: Final = {16: "f16", 8: "q8_0", 4: "q4_0"}
"""Bits that engines are compared at, and the type of llama.cpp that a type is the counterpart of."""

UNTOLD: Final = 4096
"""What comes so near to the most that any engine is asked is no limit of memory."""

Types = tuple["CacheType", "CacheType"]


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


@dataclass(frozen=True, slots=True)
class Row:
    """One pair of types of an engine, and the query that leads to it. One of ``numbers`` and ``refusal`` is there."""

    types: Types
    query: str
    is_chosen: bool
    support: Support
    numbers: Numbers | None
    refusal: str = ""

    @property
    def name(self) -> str:
        return " : ".join(dict.fromkeys(one.id for one in self.types))

    @property
    def is_alike(self) -> bool:
        return self.types[0] == self.types[1]

    @property
    def bits(self) -> float:
        """Bits of an element without what blocks share, the mean of K and V."""
        return float(sum(side.bits for side in (self.types[0].k, self.types[1].v))) / 2

    @property
    def depth(self) -> int:
        return self.numbers.depth if self.numbers else 0

    @property
    def is_unlimited(self) -> bool:
        """Whether no context is too long."""
        return self.numbers is not None and self.numbers.max_context > MAX_N_CTX - UNTOLD


@dataclass(frozen=True, slots=True)
class Runner:
    """An engine with all its rows; ``refusal`` is why there is none that runs."""

    engine: Engine
    query: str
    weights: str
    rows: tuple[Row, ...]
    counterparts: dict[int, Row]
    refusal: str
    is_asked: bool

    @property
    def main(self) -> list[Row]:
        """The counterparts, and what the state asks for."""
        return [row for row in self.rows if row.is_chosen or row in self.counterparts.values()]

    @property
    def others(self) -> list[Row]:
        return [row for row in self.rows if row not in self.main]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the page and the JSON say."""

    model: Model
    devices: tuple[Device, ...]
    n_ctx: int
    n_requests: int | None
    runners: tuple[Runner, ...]
    refused: tuple[Runner, ...]
    support: tuple[Known, ...]

    @property
    def device_names(self) -> list[str]:
        return [text.device_name(device) for device in self.devices]

    @property
    def is_limited(self) -> bool:
        """Whether memory sets a limit to any engine."""
        return not any(row.is_unlimited for runner in self.runners for row in runner.rows)

    def is_capped(self, runner: Runner, row: Row) -> bool:
        """Whether an engine ends at what the model was trained for, whatever the memory is."""
        return runner.engine.caps_context and row.depth >= self.model.context_length

    @property
    def sharing(self) -> list[str]:
        """Engines that share the context among requests, where their number is asked for."""
        return [one.engine.name for one in self.runners if one.engine.shares_context] if self.n_requests else []


def answer(query: Query) -> Comparison:
    """All engines on the model and the devices of a state.

    Raises:
        RequestError: the model or a device is not known, or cannot be used as it is said.
    """
    return _answer(query, query.load().model)


@lru_cache(maxsize=64)
def _answer(query: Query, model: Model) -> Comparison:
    try:
        devices = query.devices()
    except FathomError as error:
        raise as_bad_request(error) from None
    n_ctx = query.ctx or model.context_length
    runners = [_runner(engine, _state(query, engine, model, devices), query, model) for engine in engines(query.engine)]
    return Comparison(
        model=model,
        devices=devices,
        n_ctx=n_ctx,
        n_requests=None if query.np == -1 else query.np,
        runners=tuple(one for one in runners if not one.refusal),
        refused=tuple(one for one in runners if one.refusal),
        support=everywhere(devices, query.engine),
    )


def _state(query: Query, engine: Engine, model: Model, devices: tuple[Device, ...]) -> Query:
    """The state for an engine: without what that has no use for, and at the same context."""
    given = {**parse_qs(query.canonical()), "engine": [engine.id]}
    found = parse(switched(given, query.engine)[0])
    if not query.ctx and engine.default_n_ctx(model, devices) != model.context_length:
        found = replace(found, ctx=model.context_length)
    return found


def _runner(engine: Engine, state: Query, asked: Query, model: Model) -> Runner:
    rows = tuple(_row(engine, replace(state, kv=kv), state.kv, model) for kv in _pairs(engine, state))
    taken = [row for row in rows if row.numbers]
    return Runner(
        engine=engine,
        query=state.canonical(),
        weights=_weights(engine, state, model) if taken else "",
        rows=rows,
        counterparts=_counterparts(engine, rows, state.devices()) if taken else {},
        refusal="" if taken else rows[0].refusal,
        is_asked=engine.id == asked.engine,
    )


def _pairs(engine: Engine, state: Query) -> Iterator[tuple[str, str]]:
    """All types alike, and the pair that is asked for if it is none of them."""
    alike = [cache_type(one.id, engine) for one in engine.cache_types]
    yield from ((name, name) for name in alike)
    if state.kv[0] != state.kv[1]:
        yield state.kv


def _row(engine: Engine, state: Query, chosen: tuple[str, str], model: Model) -> Row:
    types = (engine.nearest_cache_type(state.kv[0]), engine.nearest_cache_type(state.kv[1]))
    devices = state.devices()
    link, is_chosen = state.canonical(), state.kv == chosen
    try:
        numbers = _numbers(engine, state, model)
        support = worst(engine, devices, (types[0].id, types[1].id), model)
    except FathomError as error:
        refusal = as_bad_request(error).message
        return Row(types, link, is_chosen, _refused(engine, refusal), None, refusal)
    return Row(types, link, is_chosen, support, numbers)


def _refused(engine: Engine, why: str) -> Support:
    return Support("refused", why, engine.version, engine.source)


def _numbers(engine: Engine, state: Query, model: Model) -> Numbers:
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


def _weights(engine: Engine, state: Query, model: Model) -> str:
    """The format of weights that the engine loads."""
    found = choose_format(engine, model, state.weights or None)
    return found.label if found else f"GGUF, {model.file_type}" if model.file_type else "GGUF"


def _counterparts(engine: Engine, rows: tuple[Row, ...], devices: tuple[Device, ...]) -> dict[int, Row]:
    """The row that comes nearest to each of the compared types, of as many bits: one that is taken, if any is."""
    found = {}
    for bits, name in COUNTERPARTS.items():
        near = engine.nearest_cache_type(name, devices)
        same = [row for row in rows if row.is_alike and row.bits == bits]
        first = [row for row in same if row.types[0] == near]
        best = [*(row for row in first if row.numbers), *(row for row in same if row.numbers), *first, *same]
        if best:
            found[bits] = best[0]
    return found
