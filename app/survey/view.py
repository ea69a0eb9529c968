"""What a survey shows: the models that run, those that run with a smaller cache, and why the others do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from app import text
from app.errors import RequestError, as_bad_request
from app.survey.query import QUANTIZATIONS, Survey
from estimator.bundled import is_quick
from estimator.errors import FathomError
from estimator.sources.catalogue import entries
from estimator.stored_runs import stored_run
from estimator.survey import smaller_pairs, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from app.query import Query
    from estimator import Device
    from estimator.sources.catalogue import Entry
    from estimator.stored_runs import Pair
    from estimator.survey import Choice, Found

ENOUGH: Final = 2
"""Pairs of cache types that are told of a model: the one that is asked for, and the next that fits."""

MOST_DEVICES: Final = 4
"""Of more each graph takes long to lay out, and there is one for every model."""

BITS: Final[Mapping[str, int]] = {name: bits for bits, names in QUANTIZATIONS.items() for name in names}


@dataclass(frozen=True, slots=True)
class Row:
    """A model that runs. ``link`` is the query of its own page; ``other`` is what a smaller cache gives."""

    found: Found
    choice: Choice
    link: str
    other: Choice | None = None
    other_link: str = ""

    @property
    def total(self) -> int:
        """Bytes on all devices."""
        return sum(self.choice.totals)

    @property
    def is_whole(self) -> bool:
        """Whether it gets as deep as the model was trained for."""
        return self.choice.max_context >= self.found.entry.context_length


@dataclass(frozen=True, slots=True)
class Refused:
    """A model that does not run, why, and the query of its own page."""

    found: Found
    why: str
    link: str


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a survey that can be answered."""

    devices: tuple[Device, ...]
    device_names: list[str]
    pair: Pair
    n_ctx: int
    n_models: int
    headline: str
    detail: str
    rows: list[Row]
    smaller: list[Row]
    refused: list[Refused]

    @property
    def capacity(self) -> int | None:
        """Bytes of all devices, None where one has no limit."""
        sizes = [device.capacity for device in self.devices]
        return sum(size for size in sizes if size) if all(sizes) else None

    @property
    def has_others(self) -> bool:
        """Whether a smaller cache has been tried for what runs."""
        return any(row.other for row in self.rows)


def answer(state: Survey) -> Result:
    """Everything that the page says about a state.

    Raises:
        RequestError: the state cannot be: with the query's own name of the field.
    """
    if len(state.run.device) > MOST_DEVICES:
        allowed = f"1 to {MOST_DEVICES} devices"
        message = f"device is given {len(state.run.device)} times; what runs can be told of at most {MOST_DEVICES}"
        raise RequestError("device-count", "device", message, allowed)
    ids = tuple(entry.id for entry in entries() if _is_looked_for(state, entry))
    try:
        devices = state.run.devices()
        known = surveyed(state.run, state.quantizations, ids)
    except FathomError as error:
        raise as_bad_request(error) from None
    rows, smaller, refused = [], [], []
    for found in known:
        if found.entry.context_length < found.n_ctx or not found.choices:
            refused.append(Refused(found, why_not(found, len(devices)), _link(state, found, None)))
        elif found.choices[0].pair == state.run.kv:
            rows.append(_row(state, found))
        else:
            smaller.append(_row(state, found))
    key = _ORDERS[state.sort]
    rows.sort(key=key)
    smaller.sort(key=key)
    refused.sort(key=_nearness)
    names = [text.device_name(device) for device in devices]
    return Result(
        devices=devices,
        device_names=names,
        pair=state.run.kv,
        n_ctx=state.run.ctx,
        n_models=len(ids),
        headline=_headline(state, names, len(rows), len(ids)),
        detail=_detail(rows, len(smaller)),
        rows=rows,
        smaller=smaller,
        refused=refused,
    )


@lru_cache(maxsize=64)
def surveyed(run: Query, quantizations: tuple[str, ...], ids: tuple[str, ...]) -> tuple[Found, ...]:
    """Some models, run in one way; with a second pair of cache types where that takes no graph.

    Raises:
        FathomError: the run cannot be.
    """
    devices = run.devices()
    has_limit = any(device.capacity is not None for device in devices)
    pairs = smaller_pairs(run.kv, devices) if has_limit else []
    alike = [pair for pair in pairs if pair[0] == pair[1]]
    settings = run.settings()
    enough = ENOUGH if is_quick(settings, devices) else 1
    return tuple(survey(settings, devices, quantizations, alike, ids, enough))


def why_not(found: Found, n_devices: int) -> str:
    """Why a model does not run, in words."""
    if found.entry.context_length < found.n_ctx:
        return f"trained for {text.tokens(found.entry.context_length)} tokens only"
    miss = found.miss
    if miss is None:
        return found.refusal or ""
    cache = f" with a cache of {' : '.join(dict.fromkeys(miss.pair))}" if not miss.at_least else ""
    needs = f"{miss.quantization}{cache} takes {'at least ' if miss.at_least else ''}{text.size(miss.needed)}"
    where = " on one device" if n_devices > 1 else ""
    return f"{needs}, {text.size(miss.lacking)} more than there are{where}"


def _is_looked_for(state: Survey, entry: Entry) -> bool:
    facts = stored_run(entry.id)
    kinds = {
        "text": facts.decodes,
        "dense": facts.decodes and not facts.has_experts,
        "moe": facts.decodes and facts.has_experts,
        "embedding": not facts.decodes,
        "all": True,
    }
    named = f"{entry.id} {entry.name} {entry.family} {entry.repo or ''}".lower()
    return (
        kinds[state.kind]
        and state.least <= entry.parameters <= (state.most or entry.parameters)
        and all(word in named for word in state.find.lower().split())
    )


def _row(state: Survey, found: Found) -> Row:
    choice, *others = found.choices
    other = others[0] if others else None
    link = _link(state, found, choice)
    return Row(found, choice, link, other, _link(state, found, other) if other else "")


def _link(state: Survey, found: Found, choice: Choice | None) -> str:
    """The query of a model's own page."""
    if choice:
        return replace(state.run, model=found.entry.id, quant=choice.quantization, kv=choice.pair).canonical()
    if found.miss:
        return replace(state.run, model=found.entry.id, quant=found.miss.quantization, kv=found.miss.pair).canonical()
    return replace(state.run, model=found.entry.id, quant=state.quantizations[-1]).canonical()


_ORDERS: Final[Mapping[str, Callable[[Row], tuple[float | str, ...]]]] = {
    "parameters": lambda row: (-row.found.entry.parameters, row.found.entry.name),
    "context": lambda row: (-row.choice.max_context, -row.found.entry.parameters),
    "bits": lambda row: (-BITS[row.choice.quantization], -row.found.entry.parameters),
    "speed": lambda row: (-(row.choice.tokens_per_second or 0), -row.found.entry.parameters),
    "name": lambda row: (row.found.entry.name.lower(),),
}


def _nearness(refused: Refused) -> tuple[int, int]:
    """What lacks little comes first, then what is not about memory."""
    miss = refused.found.miss
    is_short = refused.found.entry.context_length < refused.found.n_ctx
    return (1, -refused.found.entry.parameters) if is_short or miss is None else (0, miss.lacking)


def _headline(state: Survey, names: Sequence[str], n_rows: int, n_models: int) -> str:
    where = text.joined(list(names))
    where = text.with_article(where) if where[0].isalpha() else where
    context = f"{text.tokens(state.run.ctx)} tokens" if state.run.ctx else "the context that each was trained for"
    what = "model runs" if n_models == 1 else "models run"
    return f"{n_rows} of {n_models} {what} on {where} with {context}"


def _detail(rows: Sequence[Row], n_smaller: int) -> str:
    """The largest of them, and what a smaller cache adds."""
    said = []
    if rows:
        largest = max(rows, key=lambda row: row.found.entry.parameters)
        name = f"{largest.found.entry.name} ({text.parameters(largest.found.entry.parameters)})"
        said.append(f"The largest is {name} as {largest.choice.quantization}.")
    if n_smaller:
        said.append(f"{n_smaller} more {'runs' if n_smaller == 1 else 'run'} with a smaller cache.")
    return " ".join(said)
