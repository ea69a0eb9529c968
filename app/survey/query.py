"""The state of a survey: how models are run, which ones are looked at, and in what order; one canonical query."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from app.errors import RequestError, shown
from app.parsing import MAX_TEXT
from app.parsing import parse as parse_run
from app.query import Query
from app.values import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ELSEWHERE: Final = frozenset(
    {"model", "quant", "facts", "ngl", "ncmoe", "ncffn", "kvo", "draft", "mmproj", "weights", "options"}
)
"""Fields of a query that a survey does not have: it is of all models, each wholly on devices."""

RUN: Final = tuple(field for field in fields(Query) if field.name not in ELSEWHERE)

DEFAULT_RUN: Final = Query(ctx=32768)
"""A context to work with: what models were trained for differs from 512 tokens to 10 million."""

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "text": "All that write text",
        "dense": "Dense",
        "moe": "Mixture of experts",
        "embedding": "Embeddings",
        "all": "All",
    }
)

QUANTIZATIONS: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        16: ("BF16",),
        8: ("Q8_0",),
        6: ("Q6_K",),
        5: ("Q5_K_M",),
        4: ("Q4_K_M", "Q4_K_S", "Q4_0", "MXFP4_MOE", "IQ4_XS"),
        3: ("Q3_K_M",),
        2: ("Q2_K", "IQ2_XXS"),
    }
)
"""By the bits of a weight that they are known for; those of the catalogue."""

SORTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "parameters": "Parameters",
        "context": "Largest context",
        "bits": "Bits a weight",
        "speed": "Bound on speed",
        "name": "Name",
    }
)


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that the page shows follows from this.

    ``run`` is how each model is run, ``find`` words of its name or family, ``kind`` one of ``KINDS``, ``least`` and
    ``most`` its parameters (0 = any), ``bits`` the fewest that are acceptable, ``sort`` one of ``SORTS``.
    """

    run: Query = DEFAULT_RUN
    find: str = ""
    kind: str = "text"
    least: int = 0
    most: int = 0
    bits: int = 4
    sort: str = "parameters"

    @property
    def quantizations(self) -> tuple[str, ...]:
        """Those with enough bits."""
        return tuple(name for bits, names in QUANTIZATIONS.items() if bits >= self.bits for name in names)

    def typed(self) -> dict[str, list[str]]:
        """All fields as a query writes them."""
        run = {field.name: texts(field.name, getattr(self.run, field.name)) for field in RUN}
        return run | {name: [_text(name, getattr(self, name))] for name in OWN}

    def canonical(self) -> str:
        """The one query string of this state: fields in order, defaults left out; empty for the default state."""
        default = Survey().typed()
        pairs = [(name, text) for name, found in self.typed().items() if found != default[name] for text in found]
        return urlencode(pairs, safe="/:@")


OWN: Final = tuple(field.name for field in fields(Survey) if field.name != "run")
NAMES: Final = (*(field.name for field in RUN), *OWN)


def parse(given: Mapping[str, Sequence[str]]) -> Survey:
    """The state that names and values describe; an empty value is as good as none.

    Raises:
        RequestError: a name is unknown, given twice, or its value cannot be read.
    """
    for name in given:
        if name not in NAMES:
            raise RequestError("unknown-parameter", name, f"there is no parameter {shown(name)}", NAMES)
    of_run = {name: values for name, values in given.items() if name not in OWN}
    if not any(value.strip() for value in of_run.get("ctx", ())):
        of_run["ctx"] = texts("ctx", DEFAULT_RUN.ctx)
    state: dict[str, Any] = {"run": parse_run(of_run)}
    for name in OWN:
        if present := [value.strip() for value in given.get(name, ()) if value.strip()]:
            state[name] = _PARSERS[name](_one(name, present))
    return Survey(**state)


def _one(name: str, present: Sequence[str]) -> str:
    if len(present) > 1:
        raise RequestError("repeated", name, f"{name} is given {len(present)} times", "one value")
    if len(present[0]) > MAX_TEXT:
        message = f"{name} is {len(present[0]):,} characters long; at most {MAX_TEXT} are read"
        raise RequestError("too-long", name, message, f"at most {MAX_TEXT} characters")
    return present[0]


def _text(name: str, value: Any) -> str:
    """A field's value as a query writes it; a limit that there is not is empty."""
    if name not in ("least", "most"):
        return str(value)
    return f"{(Decimal(value) / 10**9).normalize():f}b" if value else ""


def _parameters(name: str) -> Callable[[str], int]:
    """A parser of numbers of parameters: 7b, 0.6b, 500m; billions where nothing is said."""
    allowed = "a number of parameters such as 8b or 500m"

    def parse_parameters(text: str) -> int:
        match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)([bm]?)", text.lower().replace(",", "").replace(" ", ""))
        if not match:
            raise RequestError("not-a-number", name, f"{name} is {shown(text)}; it must be {allowed}", allowed)
        return int(Decimal(match[1]) * (10**6 if match[2] == "m" else 10**9))

    return parse_parameters


def _word(name: str, allowed: Sequence[str]) -> Callable[[str], str]:
    def parse_word(text: str) -> str:
        if text.lower() not in allowed:
            message = f"{name} is {shown(text)}; it must be one of {', '.join(allowed)}"
            raise RequestError(f"unknown-{name}", name, message, tuple(allowed))
        return text.lower()

    return parse_word


def _bits(text: str) -> int:
    allowed = tuple(str(bits) for bits in QUANTIZATIONS)
    return int(_word("bits", allowed)(text))


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "find": lambda text: " ".join(text.split()),
    "kind": _word("kind", tuple(KINDS)),
    "least": _parameters("least"),
    "most": _parameters("most"),
    "bits": _bits,
    "sort": _word("sort", tuple(SORTS)),
}
