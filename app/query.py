"""The state of a page: what a URL query, a form or a JSON body says, checked, and back as one canonical query."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from app import hub
from app.beside import companions
from app.errors import as_bad_request
from app.library import Loaded, from_library
from app.machine import Machine
from app.values import DEFAULT_TYPE, texts
from estimator.engines.base import Run
from estimator.engines.llama_cpp import PROGRAMS, Program, kept_on_cpu, program
from estimator.engines.registry import engine
from estimator.errors import FathomError, SettingsError
from estimator.sources.catalogue import catalogue_model, full_precision
from estimator.sources.facts import checked_facts
from estimator.sources.ollama import is_library_name
from estimator.speed import HOST_BANDWIDTH_GBPS

if TYPE_CHECKING:
    from estimator import Companions, Device, Model, Settings
    from estimator.engines.base import Engine
    from estimator.engines.options import Option, Value
    from estimator.usage import System

OWN_FIELDS: Final = {
    "n_gpu_layers": "ngl",
    "num_gpu": "ngl",
    "n_cpu_moe": "ncmoe",
    "n_cpu_ffn": "ncffn",
    "offload_kqv": "kvo",
    "tensor_split": "ts",
}
"""Options of engines that the query has a field for."""


def own_options(runs: Engine) -> tuple[Option, ...]:
    """The options that a query takes by the engine's own names of them."""
    return tuple(option for option in runs.options if option.name not in OWN_FIELDS)


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
    ``quant``. ``weights`` is the format that engines of checkpoints load (empty: the nearest to ``quant``), ``options``
    what else the engine alone has; a query gives those by their own names.
    """

    model: str = "llama-3.1-8b-instruct"
    quant: str = "Q4_K_M"
    facts: str = ""
    ctx: int = 0
    kv: tuple[str, str] = (DEFAULT_TYPE, DEFAULT_TYPE)
    fa: bool = True
    ub: int = -1
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
    weights: str = ""
    draft: str = ""
    mmproj: int = 0
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def known_engine(self) -> Engine:
        """The engine that runs the model."""
        found = engine(self.engine)
        assert found
        return found

    @property
    def program(self) -> Program | None:
        """The program of llama.cpp, None where the engine is another."""
        return program(self.engine)

    @property
    def all_options(self) -> dict[str, Value | None]:
        """What is asked of the engine alone, with its defaults."""
        return {option.name: option.default for option in own_options(self.known_engine)} | dict(self.options)

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
        """How a program of llama.cpp runs it, with the program's defaults.

        Raises:
            SettingsError: a value is out of range; ``not-with-engine``: the engine is none of llama.cpp's programs.
        """
        if self.program is None:
            allowed = tuple(known.id for known in PROGRAMS)
            message = f"engine is {self.engine}; this is answered for llama.cpp's programs: {', '.join(allowed)}"
            raise SettingsError("not-with-engine", message, field="engine", allowed=allowed)
        given: dict[str, Any] = {"n_parallel": self.np} if self.np != -1 else {}
        if self.ub != -1:
            given["n_ubatch"] = self.ub
        return self.program.settings(
            n_ctx=self.ctx,
            cache_type_k=self.kv[0],
            cache_type_v=self.kv[1],
            flash_attn=self.fa,
            n_gpu_layers=self.ngl,
            cpu_tensors=kept_on_cpu(self.ncmoe, self.ncffn),
            offload_kqv=self.kvo,
            tensor_split=self.ts or None,
            **given,
            **dict(self.options),
        )

    def run(self) -> Run:
        """How any engine runs it."""
        return Run(
            n_ctx=self.ctx,
            n_requests=None if self.np == -1 else self.np,
            cache_type_k=self.kv[0],
            cache_type_v=self.kv[1],
            weight_format=self.weights or None,
            chunk=None if self.ub == -1 else self.ub,
            flash_attn=None if self.fa else False,
            options={**self._shared_options(), **dict(self.options)},
        )

    def _shared_options(self) -> dict[str, Value]:
        """Options that have a field of their own here."""
        names = {option.name for option in self.known_engine.options}
        found = {name: getattr(self, field) for name, field in OWN_FIELDS.items() if name in names}
        if not self.ts:
            found.pop("tensor_split", None)
        return {name: ",".join(map(str, value)) if isinstance(value, tuple) else value for name, value in found.items()}

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
        return companions(self.engine, self.draft, self.mmproj)

    def canonical(self) -> str:
        """The one query string of this state: fields in order, defaults left out; empty for the default state."""
        pairs: list[tuple[str, str]] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default and field.name != "options":
                pairs += [(field.name, text) for text in texts(field.name, value)]
        pairs += [(name, text) for name, value in self.options for text in texts(name, value)]
        return urlencode(pairs, safe="/:@")


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
