"""What the values of a query mean: a parser for each kind of value, and its way back to text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from app import hub
from app.errors import RequestError, shown
from estimator.engines.llama_cpp import PROGRAMS
from estimator.estimate import MAX_DEVICES
from estimator.ggml import CACHE_TYPES
from estimator.sources.hparams import MAX_LAYERS
from estimator.sources.quantize import FILE_TYPES
from estimator.usage import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable

KIBI: Final = {"k": 1024, "m": 1024 * 1024}

WORDS: Final[dict[str, dict[int, str]]] = {
    "ctx": {0: "auto"},
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


def pair(text: str) -> tuple[str, str]:
    sides = text.lower().split(":")
    if len(sides) > 2 or any(side not in CACHE_TYPES for side in sides):
        message = (
            f"kv is {shown(text)}; it must be one type for both sides or TYPE_K:TYPE_V, of {', '.join(CACHE_TYPES)}"
        )
        raise RequestError("unknown-cache-type", "kv", message, CACHE_TYPES)
    return sides[0], sides[-1]


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
    names = tuple(known.id for known in PROGRAMS)
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
