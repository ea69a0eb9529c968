"""One model on the same devices by every engine: how deep each type of cache gets, and what takes the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from app import text
from app.compare.numbers import numbers_of
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

    from app.compare.numbers import Numbers
    from app.query import Query
    from estimator import Device, Model
    from estimator.engines.base import Engine
    from estimator.engines.packing import CacheType

COUNTERPARTS: Final = {16: "f16", 8: "q8_0", 4: "q4_0"}
"""Bits that engines are compared at, and the type of llama.cpp that a type is the counterpart of."""

CHOSEN_ANEW: Final = ("engine", "kv", "weights")
"""What every engine has its own counterparts of."""

UNTOLD: Final = 4096
"""What comes so near to the most that any engine is asked is no limit of memory."""

Types = tuple["CacheType", "CacheType"]


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
    """An engine with all its rows; ``refusal`` is why there is none that runs.

    ``without`` names what the state asks for and the engine has no use for.
    """

    engine: Engine
    query: str
    without: tuple[str, ...]
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
    given = {**_given(query), "engine": [engine.id]}
    found = parse(switched(given, query.engine)[0])
    if not query.ctx and engine.default_n_ctx(model, devices) != model.context_length:
        found = replace(found, ctx=model.context_length)
    return found


def _given(query: Query) -> dict[str, list[str]]:
    return parse_qs(query.canonical())


def _runner(engine: Engine, state: Query, asked: Query, model: Model) -> Runner:
    rows = tuple(_row(engine, replace(state, kv=kv), state.kv, model) for kv in _pairs(engine, state))
    taken = [row for row in rows if row.numbers]
    return Runner(
        engine=engine,
        query=state.canonical(),
        without=tuple(name for name in _given(asked) if name not in (*_given(state), *CHOSEN_ANEW)),
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
        numbers = numbers_of(engine, state, model)
        support = worst(engine, devices, (types[0].id, types[1].id), model)
    except FathomError as error:
        refusal = as_bad_request(error).message
        return Row(types, link, is_chosen, _refused(engine, refusal), None, refusal)
    return Row(types, link, is_chosen, support, numbers)


def _refused(engine: Engine, why: str) -> Support:
    return Support("refused", why, engine.version, engine.source)


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
