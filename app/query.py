"""The state of a page: what a URL query, a form or a JSON body says, checked, and back as one canonical query."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from app import hub
from app.beside import companions, parse_draft, parse_size
from app.errors import RequestError, as_bad_request, shown
from app.library import Loaded, from_library, take_library_name
from estimator import Device, Settings, device, with_wired_limit
from estimator.engines.llama_cpp import PROGRAMS, Program, kept_on_cpu, program
from estimator.errors import FathomError
from estimator.estimate import MAX_DEVICES
from estimator.ggml import CACHE_TYPES
from estimator.sources.catalogue import catalogue_model, full_precision
from estimator.sources.facts import MAX_TEXT as MAX_FACTS
from estimator.sources.facts import checked_facts
from estimator.sources.hparams import MAX_LAYERS
from estimator.sources.ollama import is_library_name
from estimator.sources.quantize import FILE_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from estimator import Companions, Model

MAX_TEXT: Final = 200
"""Characters of one value: no id, type or number is longer; names on the Hub and ``facts`` have limits of their own."""

KIBI: Final = {"k": 1024, "m": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Query:
    """Everything that a page shows follows from this. The fields are the query's names, with their defaults.

    ``ctx`` 0 is the length that the model was trained for, ``np`` -1 the program's own number of slots,
    ``ngl`` -1 all layers, ``ncmoe`` the first layers whose experts stay in system memory (-1 all) and ``ncffn`` those
    whose dense feed-forward does, ``kvo`` whether the cache is on devices, ``wired`` 0 the default of macOS (MiB
    otherwise). ``draft`` is a bundled model with its quantization, ``mmproj`` the bytes of a projector. ``facts`` hold
    all of a model that is not bundled, in place of ``model`` and ``quant``.
    """

    model: str = "llama-3.1-8b-instruct"
    quant: str = "Q4_K_M"
    facts: str = ""
    ctx: int = 0
    kv: tuple[str, str] = ("f16", "f16")
    fa: bool = True
    ub: int = 512
    np: int = -1
    ngl: int = -1
    ncmoe: int = 0
    ncffn: int = 0
    kvo: bool = True
    device: tuple[str, ...] = ("rtx-4090",)
    wired: int = 0
    engine: str = PROGRAMS[0].id
    draft: str = ""
    mmproj: int = 0

    @property
    def program(self) -> Program:
        found = program(self.engine)
        assert found
        return found

    def load(self) -> Loaded:
        """The model, bundled or on the Hub.

        Raises:
            RequestError: it, or its quantization, is not known, or it cannot be read.
        """
        if self.facts:
            return Loaded(linked_model(self.facts)[0])
        if is_library_name(self.model):
            return from_library(self.model)
        if hub.is_name(self.model):
            found = hub.find(self.model, self.quant)
            return Loaded(found.model, found.source, found.source.warnings, found.full)
        try:
            return Loaded(catalogue_model(self.model, self.quant), full=full_precision(self.model))
        except FathomError as error:
            raise as_bad_request(error) from None

    def settings(self) -> Settings:
        """How it is run, with the program's defaults.

        Raises:
            SettingsError: a value is out of range.
        """
        given: dict[str, Any] = {"n_parallel": self.np} if self.np != -1 else {}
        return self.program.settings(
            n_ctx=self.ctx,
            n_ubatch=self.ub,
            cache_type_k=self.kv[0],
            cache_type_v=self.kv[1],
            flash_attn=self.fa,
            n_gpu_layers=self.ngl,
            cpu_tensors=kept_on_cpu(self.ncmoe, self.ncffn),
            offload_kqv=self.kvo,
            **given,
        )

    def devices(self) -> tuple[Device, ...]:
        """The devices, Macs with the wired limit.

        Raises:
            DeviceError: one is not known, or the limit is asked of a device that has none.
        """
        found = tuple(device(id) for id in self.device)
        if not self.wired:
            return found
        any_metal = any(one.backend == "metal" for one in found)
        return tuple(
            with_wired_limit(one, self.wired) if one.backend == "metal" or not any_metal else one for one in found
        )

    def companions(self) -> Companions:
        """What is loaded beside the model.

        Raises:
            SettingsError: it is not known, or the program loads none.
        """
        return companions(self.program, self.draft, self.mmproj)

    def canonical(self) -> str:
        """The one query string of this state: fields in order, defaults left out; empty for the default state."""
        pairs: list[tuple[str, str]] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                pairs += [(field.name, text) for text in texts(field.name, value)]
        return urlencode(pairs, safe="/:@")


def texts(name: str, value: Any) -> list[str]:
    """A field's value as a query writes it: one text for each time that the name appears."""
    if name == "device":
        return list(value)
    if name == "kv":
        return [value[0] if value[0] == value[1] else ":".join(value)]
    if name in ("fa", "kvo"):
        return ["on" if value else "off"]
    words = {"ctx": {0: "auto"}, "np": {-1: "auto"}, "ngl": {-1: "all"}, "ncmoe": {-1: "all"}}
    return [words.get(name, {}).get(value, str(value))]


def parse(given: Mapping[str, Sequence[str]]) -> Query:
    """The state that names and values describe; an empty value is as good as none.

    Raises:
        RequestError: a name is unknown, given twice, or its value cannot be read.
    """
    names = [field.name for field in fields(Query)]
    state: dict[str, Any] = {}
    for name, values in given.items():
        if name not in names:
            raise RequestError("unknown-parameter", name, f"there is no parameter {shown(name)}", tuple(names))
        present = [value.strip() for value in values if value.strip()]
        for value in present:
            most = _most_characters(name, value)
            if len(value) > most:
                message = f"{name} is {len(value):,} characters long; at most {most:,} are read"
                raise RequestError("too-long", name, message, f"at most {most:,} characters")
        if name == "device":
            if len(present) > MAX_DEVICES:
                message = f"device is given {len(present)} times; at most {MAX_DEVICES} can share a model"
                raise RequestError("device-count", name, message, f"1 to {MAX_DEVICES} devices")
            if present:
                state[name] = tuple(_device_id(value) for value in present)
        elif len(present) > 1:
            raise RequestError("repeated", name, f"{name} is given {len(present)} times", "one value")
        elif present:
            state[name] = _PARSERS[name](present[0])
    _check_one_model(state)
    take_library_name(state)
    return Query(**state)


def _most_characters(name: str, value: str) -> int:
    if name == "facts":
        return MAX_FACTS
    return hub.MAX_NAME if name == "model" and hub.is_name(value) else MAX_TEXT


def _check_one_model(state: Mapping[str, Any]) -> None:
    """Refuse a model that is told of twice."""
    if "facts" in state and (beside := [name for name in ("model", "quant") if name in state]):
        message = f"{beside[0]} stands beside facts, which tell all of a model"
        raise RequestError("excluded", beside[0], message, "either facts, or model and quant")


linked_model = lru_cache(maxsize=32)(checked_facts)
"""The model that a link tells of, with the canonical text; few are kept, as they come from strangers."""


class Asked(NamedTuple):
    """What the core is asked: the arguments of ``estimate`` and ``max_context``."""

    model: Model
    settings: Settings
    devices: tuple[Device, ...]
    companions: Companions


def checked(query: Query, model: Model | None = None) -> Asked:
    """What the core is asked.

    Args:
        query: the state.
        model: its model, where that is loaded already.

    Raises:
        RequestError: with the query's own name of the field.
    """
    try:
        return Asked(model or query.load().model, query.settings(), query.devices(), query.companions())
    except FathomError as error:
        raise as_bad_request(error) from None


def _device_id(text: str) -> str:
    try:
        return device(text).id
    except FathomError as error:
        raise as_bad_request(error) from None


def _whole(name: str, word: str | None = None, meaning: int = 0) -> Callable[[str], int]:
    """A parser of whole numbers such as 32768, 32,768 or 32k; ``word`` stands for ``meaning``."""
    allowed = "a whole number such as 4096 or 4k" + (f", or {word}" if word else "")

    def parse_whole(text: str) -> int:
        if word and text.lower() in (word, str(meaning)):
            return meaning
        match = re.fullmatch(r"(\d{1,10})([kKmM]?)", text.replace(",", "").replace("_", ""))
        if not match:
            raise RequestError("not-a-number", name, f"{name} is {shown(text)}; it must be {allowed}", allowed)
        return int(match[1]) * KIBI.get(match[2].lower(), 1)

    return parse_whole


def _layers(name: str, word: str | None = None, meaning: int = 0) -> Callable[[str], int]:
    """A parser of a number of layers, bounded before a pattern is made of it."""
    parse_whole = _whole(name, word, meaning)

    def parse_layers(text: str) -> int:
        value = parse_whole(text)
        if value > MAX_LAYERS:
            allowed = f"a whole number from 0 to {MAX_LAYERS}" + (f", or {word}" if word else "")
            raise RequestError("out-of-range", name, f"{name} is {value}; it must be {allowed}", allowed)
        return value

    return parse_layers


def _pair(text: str) -> tuple[str, str]:
    sides = text.lower().split(":")
    if len(sides) > 2 or any(side not in CACHE_TYPES for side in sides):
        message = (
            f"kv is {shown(text)}; it must be one type for both sides or TYPE_K:TYPE_V, of {', '.join(CACHE_TYPES)}"
        )
        raise RequestError("unknown-cache-type", "kv", message, CACHE_TYPES)
    return sides[0], sides[-1]


def _switch(name: str) -> Callable[[str], bool]:
    words = {"on": True, "1": True, "off": False, "0": False}

    def parse_switch(text: str) -> bool:
        if text.lower() not in words:
            raise RequestError("not-a-switch", name, f"{name} is {shown(text)}; it must be on or off", ("on", "off"))
        return words[text.lower()]

    return parse_switch


def _model(text: str) -> str:
    return hub.parse_name(text).text if hub.is_name(text) else text.lower()


def _quantization(text: str) -> str:
    name = text.upper()
    if name not in FILE_TYPES:
        message = f"quant is {shown(text)}; it must be one of {', '.join(FILE_TYPES)}"
        raise RequestError("unknown-quantization", "quant", message, FILE_TYPES)
    return name


def _facts(text: str) -> str:
    try:
        return linked_model(text)[1]
    except FathomError as error:
        raise as_bad_request(error) from None


def _engine(text: str) -> str:
    names = tuple(known.id for known in PROGRAMS)
    if text.lower() not in names:
        message = f"engine is {shown(text)}; it must be one of {', '.join(names)}"
        raise RequestError("unknown-engine", "engine", message, names)
    return text.lower()


_PARSERS: Final = {
    "model": _model,
    "quant": _quantization,
    "facts": _facts,
    "ctx": _whole("ctx", "auto", 0),
    "kv": _pair,
    "fa": _switch("fa"),
    "ub": _whole("ub"),
    "np": _whole("np", "auto", -1),
    "ngl": _whole("ngl", "all", -1),
    "ncmoe": _layers("ncmoe", "all", -1),
    "ncffn": _layers("ncffn"),
    "kvo": _switch("kvo"),
    "wired": _whole("wired"),
    "engine": _engine,
    "draft": parse_draft,
    "mmproj": parse_size,
}
