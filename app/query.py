"""The state of a page: what a URL query, a form or a JSON body says, checked, and back as one canonical query."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from app import hub, values
from app.beside import companions, parse_draft, parse_size
from app.devices import parse_devices
from app.errors import RequestError, as_bad_request, shown
from app.library import Loaded, from_library, take_library_name
from app.machine import Machine
from app.values import texts
from estimator.engines.llama_cpp import PROGRAMS, Program, kept_on_cpu, program
from estimator.errors import FathomError
from estimator.sources.catalogue import catalogue_model, full_precision
from estimator.sources.facts import MAX_TEXT as MAX_FACTS
from estimator.sources.facts import checked_facts
from estimator.sources.ollama import is_library_name
from estimator.speed import HOST_BANDWIDTH_GBPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator import Companions, Device, Model, Settings
    from estimator.usage import System

MAX_TEXT: Final = 200
"""Characters of one value: no id, type or number is longer; names on the Hub and ``facts`` have limits of their own."""


@dataclass(frozen=True, slots=True)
class Query:
    """Everything that a page shows follows from this. The fields are the query's names, with their defaults.

    ``ctx`` 0 is the length that the model was trained for, ``np`` -1 the program's own number of slots,
    ``ngl`` -1 all layers, ``ncmoe`` the first layers whose experts stay in system memory (-1 all) and ``ncffn`` those
    whose dense feed-forward does, ``kvo`` whether the cache is on devices, ``ts`` the share of each device (none: by
    free memory). ``os``, ``desktop``, ``ecc``, ``taken`` (MiB of each device), ``wired`` and ``gtt`` (MiB, 0 is the
    system's default) say how the devices are used, see ``app.machine``, and ``ram`` how fast the system's memory is
    read (10^9 bytes a second, 0 is two channels of DDR5). ``draft`` is a bundled model with its quantization,
    ``mmproj`` the bytes of a projector. ``facts`` hold all of a model that is not bundled, in place of ``model`` and
    ``quant``.
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
    ts: tuple[float, ...] = ()
    os: System = "linux"
    desktop: bool = False
    ecc: bool = False
    taken: tuple[int, ...] = ()
    wired: int = 0
    gtt: int = 0
    ram: int = 0
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
            tensor_split=self.ts or None,
            **given,
        )

    def devices(self) -> tuple[Device, ...]:
        """The devices as they are used.

        Raises:
            DeviceError: one is not known, or what is said of its use does not go with it.
        """
        return Machine(self.os, self.desktop, self.ecc, self.taken, self.wired, self.gtt).devices(self.device)

    @property
    def host_bandwidth_gbps(self) -> float:
        """How fast the system's memory is read, in 10^9 bytes a second."""
        return self.ram or HOST_BANDWIDTH_GBPS

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


def parse(given: Mapping[str, Sequence[str]]) -> Query:
    """The state that names and values describe; an empty value is as good as none.

    Raises:
        RequestError: a name is unknown, given twice, or its value cannot be read.
    """
    names = [field.name for field in fields(Query)]
    state: dict[str, Any] = {}
    for name, said in given.items():
        if name not in names:
            raise RequestError("unknown-parameter", name, f"there is no parameter {shown(name)}", tuple(names))
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
    "kv": values.pair,
    "fa": values.switch("fa"),
    "ub": values.whole("ub"),
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
