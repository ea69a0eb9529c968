"""A query read: names and values of a URL, a form or a JSON body become a state, or a refusal that says what works."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from app import hub, values
from app.beside import parse_draft, parse_size
from app.devices import parse_devices
from app.errors import RequestError, as_bad_request, shown
from app.library import take_library_name
from app.query import OWN_FIELDS, Query, linked_model, own_options
from app.values import texts
from estimator import Settings
from estimator.engines.llama_cpp import program
from estimator.engines.registry import ENGINES, engine
from estimator.errors import FathomError
from estimator.sources.facts import MAX_TEXT as MAX_FACTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.engines.base import Engine
    from estimator.engines.options import Value

MAX_TEXT: Final = 200
"""Characters of one value: no id, type or number is longer; names on the Hub and ``facts`` have limits of their own."""

OF_LLAMA_CPP: Final = frozenset({"fa", "draft", "mmproj"})
"""Fields that only llama.cpp's programs, and what runs them underneath, have a use for."""

UBATCH: Final = Settings().n_ubatch
"""What programs of llama.cpp have unless told otherwise: a query that says so says nothing."""

NAMES: Final = tuple(field.name for field in fields(Query) if field.name != "options")
"""What every query may have; options of its engine come to it."""


def parse(given: Mapping[str, Sequence[str]]) -> Query:
    """The state that names and values describe; an empty value is as good as none.

    Raises:
        RequestError: a name is unknown, given twice, or its value cannot be read.
    """
    state: dict[str, Any] = {}
    runs = engine_of(given)
    options = {option.name: option for option in own_options(runs)}
    chosen: dict[str, Value] = {}
    for name, said in given.items():
        if name not in NAMES and name not in options:
            message = f"there is no parameter {shown(name)} for {runs.name}"
            raise RequestError("unknown-parameter", name, message, (*NAMES, *options))
        present = [value.strip() for value in said if value.strip()]
        for value in present:
            most = _most_characters(name, value)
            if len(value) > most:
                message = f"{name} is {len(value):,} characters long; at most {most:,} are read"
                raise RequestError("too-long", name, message, f"at most {most:,} characters")
        if name == "device":
            if present:
                state[name] = parse_devices(present)
        elif len(present) > 1:
            raise RequestError("repeated", name, f"{name} is given {len(present)} times", "one value")
        elif present and name in options:
            option = values.option(present[0], options[name])
            if option != options[name].default:
                chosen[name] = option
        elif present:
            state[name] = _read(name, present[0], runs)
    _check_one_model(state)
    take_library_name(state)
    query = Query(**state, options=tuple((name, chosen[name]) for name in options if name in chosen))
    _check_fields(query, runs)
    return query


def takes(runs: Engine, field: str) -> bool:
    """Whether an engine has any use for a field of the query."""
    if field in OWN_FIELDS.values():
        return any(OWN_FIELDS.get(option.name) == field for option in runs.options)
    if field == "weights":
        return bool(runs.weight_formats)
    return field not in OF_LLAMA_CPP or runs.family == "llama.cpp"


def _check_fields(query: Query, runs: Engine) -> None:
    """Refuse what the engine has no use for: a link that says it would not mean what it says."""
    for field in fields(Query):
        if getattr(query, field.name) != field.default and not takes(runs, field.name):
            message = f"{field.name} is {texts(field.name, getattr(query, field.name))[0]}, but {runs.name} has no such"
            raise RequestError("not-with-engine", field.name, f"{message} option: leave it out", "another engine")


def engine_of(given: Mapping[str, Sequence[str]]) -> Engine:
    """The engine that a query asks for; the default where it asks for none, or for one that is not known."""
    names = [value.strip().lower() for value in given.get("engine", ()) if value.strip()]
    return engine(names[0] if names else ENGINES[0].id) or ENGINES[0]


def _read(name: str, text: str, runs: Engine) -> Any:
    if name == "kv":
        return values.pair(text, runs)
    if name == "weights":
        return values.weight_format(text, runs)
    value = _PARSERS[name](text)
    return -1 if name == "ub" and program(runs.id) and value == UBATCH else value


def _most_characters(name: str, value: str) -> int:
    if name == "facts":
        return MAX_FACTS
    return hub.MAX_NAME if name == "model" and hub.is_name(value) else MAX_TEXT


def _check_one_model(state: Mapping[str, Any]) -> None:
    """Refuse a model that is told of twice."""
    if "facts" in state and (beside := [name for name in ("model", "quant") if name in state]):
        message = f"{beside[0]} stands beside facts, which tell all of a model"
        raise RequestError("excluded", beside[0], message, "either facts, or model and quant")


def _facts(text: str) -> str:
    try:
        return linked_model(text)[1]
    except FathomError as error:
        raise as_bad_request(error) from None


_PARSERS: Final = {
    "model": values.model_name,
    "quant": values.quantization,
    "facts": _facts,
    "ctx": values.whole("ctx", "auto", 0),
    "fa": values.switch("fa"),
    "ub": values.whole("ub", "auto", -1),
    "np": values.whole("np", "auto", -1),
    "ngl": values.whole("ngl", "all", -1),
    "ncmoe": values.layers("ncmoe", "all", -1),
    "ncffn": values.layers("ncffn"),
    "kvo": values.switch("kvo"),
    "ts": values.shares,
    "os": values.system,
    "desktop": values.switch("desktop"),
    "ecc": values.switch("ecc"),
    "taken": values.taken,
    "wired": values.whole("wired"),
    "gtt": values.whole("gtt"),
    "ram": values.bandwidth,
    "engine": values.engine,
    "draft": parse_draft,
    "mmproj": parse_size,
}
