"""What the values of a query mean: a parser for each kind of value, and its way back to text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from app import hub
from app.errors import RequestError, as_bad_request, shown
from estimator.engines.registry import ENGINES
from estimator.errors import FathomError
from estimator.estimate import MAX_DEVICES
from estimator.sources.hparams import MAX_LAYERS
from estimator.sources.quantize import FILE_TYPES
from estimator.usage import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.engines.base import Engine
    from estimator.engines.options import Option, Value

KIBI: Final = {"k": 1024, "m": 1024 * 1024}

DEFAULT_TYPE: Final = "f16"
"""How a query names the cache type that an engine has by default: all have one of two bytes."""

WORDS: Final[dict[str, dict[int, str]]] = {
    "ctx": {0: "auto"},
    "ub": {-1: "auto"},
    "np": {-1: "auto"},
    "ngl": {-1: "all"},
    "ncmoe": {-1: "all"},
    "ram": {0: "auto"},
}
"""Numbers that a query writes as a word."""


def texts(name: str, value: Any) -> list[str]:
    """A field's value as a query writes it: one text for each time that the name appears."""
    if name == "device":
        return list(value)
    if name == "kv":
        return [value[0] if value[0] == value[1] else ":".join(value)]
    if isinstance(value, bool):
        return ["on" if value else "off"]
    if isinstance(value, tuple):
        return [",".join(map(str, value))] if value else [""]
    return [WORDS.get(name, {}).get(value, str(value))]


def whole(name: str, word: str | None = None, meaning: int = 0) -> Callable[[str], int]:
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


def layers(name: str, word: str | None = None, meaning: int = 0) -> Callable[[str], int]:
    """A parser of a number of layers, bounded before a pattern is made of it."""
    parse_whole = whole(name, word, meaning)

    def parse_layers(text: str) -> int:
        value = parse_whole(text)
        if value > MAX_LAYERS:
            allowed = f"a whole number from 0 to {MAX_LAYERS}" + (f", or {word}" if word else "")
            raise RequestError("out-of-range", name, f"{name} is {value}; it must be {allowed}", allowed)
        return value

    return parse_layers


MAX_BANDWIDTH: Final = 10_000
"""10^9 bytes a second; a server with 24 channels of DDR5 has about 1,200."""


def bandwidth(text: str) -> int:
    """How fast the system's memory is read."""
    value = whole("ram", "auto", 0)(text)
    if value > MAX_BANDWIDTH:
        allowed = f"a whole number of GB/s from 1 to {MAX_BANDWIDTH:,}, or auto"
        raise RequestError("out-of-range", "ram", f"ram is {value}; it must be {allowed}", allowed)
    return value


def pair(text: str, known: Engine) -> tuple[str, str]:
    """Types of K and V by names or aliases that an engine has: ``f16`` is what it has by default."""
    sides = text.lower().split(":")
    allowed = tuple(one.id for one in known.cache_types)
    if len(sides) > 2:
        message = f"kv is {shown(text)}; it must be one type for both sides or TYPE_K:TYPE_V, of {', '.join(allowed)}"
        raise RequestError("unknown-cache-type", "kv", message, allowed)
    for side in sides:
        if known.cache_type(side) is None:
            near = f"the nearest is {known.nearest_cache_type(side).id}, of {', '.join(allowed)}"
            message = f"kv is {shown(text)}, but {known.name} has no type {shown(side)}; {near}"
            raise RequestError("unknown-cache-type", "kv", message, allowed)
    return cache_type(sides[0], known), cache_type(sides[-1], known)


def cache_type(name: str, known: Engine) -> str:
    """How a query calls the type of this name or alias, or the one that comes nearest to it."""
    found = known.nearest_cache_type(name)
    return DEFAULT_TYPE if found == known.cache_types[0] else found.id


def shown_type(name: str, known: Engine) -> str:
    """The engine's own name of a type."""
    found = known.cache_type(name)
    return found.id if found else name


def switch(name: str) -> Callable[[str], bool]:
    words = {"on": True, "1": True, "off": False, "0": False}

    def parse_switch(text: str) -> bool:
        if text.lower() not in words:
            raise RequestError("not-a-switch", name, f"{name} is {shown(text)}; it must be on or off", ("on", "off"))
        return words[text.lower()]

    return parse_switch


def model_name(text: str) -> str:
    return hub.parse_name(text).text if hub.is_name(text) else text.lower()


def quantization(text: str) -> str:
    name = text.upper()
    if name not in FILE_TYPES:
        message = f"quant is {shown(text)}; it must be one of {', '.join(FILE_TYPES)}"
        raise RequestError("unknown-quantization", "quant", message, FILE_TYPES)
    return name


def engine(text: str) -> str:
    names = tuple(known.id for known in ENGINES)
    if text.lower() not in names:
        message = f"engine is {shown(text)}; it must be one of {', '.join(names)}"
        raise RequestError("unknown-engine", "engine", message, names)
    return text.lower()


def system(text: str) -> str:
    """What the machine runs."""
    name = text.lower()
    if name not in SYSTEMS:
        message = f"os is {shown(text)}; it must be one of {', '.join(SYSTEMS)}"
        raise RequestError("unknown-system", "os", message, SYSTEMS)
    return name


def weight_format(text: str, known: Engine) -> str:
    """A format of weights that an engine loads."""
    allowed = tuple(one.id for one in known.weight_formats)
    if text.lower() not in allowed:
        offered = f"one of {', '.join(allowed)}" if allowed else f"left out: {known.name} loads the GGUF file as it is"
        message = f"weights is {shown(text)}; it must be {offered}"
        raise RequestError("unknown-weight-format", "weights", message, allowed or None)
    return text.lower()


def option(text: str, known: Option) -> Value:
    """The value of an option that an engine has.

    Raises:
        RequestError: it is not one that the option takes.
    """
    try:
        return known.checked(_option_value(text, known))
    except FathomError as error:
        raise as_bad_request(error) from None


def _option_value(text: str, known: Option) -> Value:
    if known.kind == "switch":
        return switch(known.name)(text)
    if known.kind == "choice":
        return next((choice for choice in known.choices if choice.lower() == text.lower()), text)
    plain = text.replace(",", "")
    if re.fullmatch(r"-?\d{1,18}", plain, re.ASCII):
        return int(plain)
    return float(plain) if re.fullmatch(r"-?\d{1,18}\.\d{1,18}", plain, re.ASCII) else text


SHARE: Final = "a number for each device, such as 3,1"


def shares(text: str) -> tuple[int | float, ...]:
    """``--tensor-split``: a share for each device, between commas."""
    found = text.replace(" ", "").split(",")
    if len(found) > MAX_DEVICES or not all(re.fullmatch(r"\d{1,6}(\.\d{1,4})?", share, re.ASCII) for share in found):
        raise RequestError("bad-tensor-split", "ts", f"ts is {shown(text)}; it must be {SHARE}", SHARE)
    numbers = tuple(map(float, found))
    if not any(numbers):
        raise RequestError("bad-tensor-split", "ts", f"ts is {shown(text)}: one share must be above 0", SHARE)
    return tuple(int(number) if number.is_integer() else number for number in numbers)


TAKEN: Final = "MiB for each device, such as 800 or 800,300"


def taken(text: str) -> tuple[int, ...]:
    """MiB that other programs have taken of each device, between commas; none at the end is as good as 0."""
    found = text.replace(" ", "").split(",")
    if len(found) > MAX_DEVICES or not all(re.fullmatch(r"\d{1,9}", size, re.ASCII) for size in found):
        raise RequestError("not-a-size", "taken", f"taken is {shown(text)}; it must be {TAKEN}", TAKEN)
    sizes = list(map(int, found))
    while sizes and not sizes[-1]:
        sizes.pop()
    return tuple(sizes)
