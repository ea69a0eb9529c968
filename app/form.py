"""The form: what was typed, what there is to choose, and which fields the engine has any use for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from app import hub, text
from app.devices import SIZES
from app.parsing import engine_of, takes
from app.query import Query, own_options
from app.values import shown_type, texts
from estimator import device, devices
from estimator.engines.registry import ENGINES
from estimator.sources.catalogue import QUANTIZATIONS, entries
from estimator.sources.ollama import is_library_name
from estimator.sources.quantize import FILE_TYPES
from estimator.usage import SYSTEMS, System

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.engines import options
    from estimator.engines.base import Engine
    from estimator.sources.catalogue import Entry

HEADINGS: Final = {"cuda": "NVIDIA (CUDA)", "rocm": "AMD (ROCm)", "metal": "Apple (Metal)"}
UBATCHES: Final = (128, 256, 512, 1024, 2048)
SLOTS: Final = (1, 2, 4, 8)
SYSTEM_LABELS: Final[dict[System, str]] = {
    "linux": "Linux, or macOS 26",
    "windows": "Windows",
    "wsl": "Windows with WSL 2",
    "macos-15": "macOS 15 or older",
}
USED: Final = ("os", "desktop", "ecc", "taken", "ts", "wired", "gtt", "ram")
TUNED: Final = ("fa", "ub", "np", "ngl", "ncmoe", "ncffn", "kvo", "draft", "mmproj")
"""Fields of the two parts of the form that are folded away unless one of them is set."""

CONTEXTS: Final = (4096, 8192, 16384, 32768, 65536, 131072, 262144)


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a list."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Group:
    """Choices under one heading."""

    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """What the form shows: the texts that were typed, and the choices that the engine leaves."""

    typed: Mapping[str, Sequence[str]]
    runs: Engine
    models: tuple[Group, ...]
    devices: tuple[Group, ...]
    quantizations: tuple[str, ...]
    rare_quantizations: tuple[str, ...]
    contexts: tuple[int, ...]
    ubatches: tuple[int, ...]
    slots: tuple[int, ...]
    engines: tuple[Group, ...]
    systems: tuple[Option, ...]
    unlinked: str
    """The query without the facts of a model: the way back to the list of models."""

    def value(self, name: str) -> str:
        """The text of a field that has one."""
        values = self.typed.get(name, ())
        return values[0] if values else ""

    def shows(self, name: str) -> bool:
        """Whether a field is there: where the engine has a use for it, or something was typed that it refuses."""
        return takes(self.runs, name) or self._says((name,))

    @property
    def cache_types(self) -> tuple[Option, ...]:
        """Types of K and V that the engine has."""
        return tuple(Option(one.id, one.label) for one in self.runs.cache_types)

    @property
    def formats(self) -> tuple[Option, ...]:
        """Formats of weights that the engine loads, if it loads checkpoints."""
        return tuple(Option(one.id, one.label) for one in self.runs.weight_formats)

    @property
    def options(self) -> tuple[options.Option, ...]:
        """What the engine alone has."""
        return own_options(self.runs)

    @property
    def is_used(self) -> bool:
        """Whether anything is said of how the devices are used."""
        return self._says(USED)

    @property
    def is_tuned(self) -> bool:
        """Whether anything is said of how the model is run."""
        return self._says((*TUNED, *(option.name for option in self.options)))

    @property
    def used(self) -> dict[str, str]:
        """What is said of how the devices are used, apart from how a model is shared."""
        return {name: self.value(name) for name in USED if name != "ts" and self._says((name,))}

    def _says(self, names: Sequence[str]) -> bool:
        default = typed(Query(engine=self.runs.id))
        return any(self.typed.get(name, default.get(name)) != default.get(name) for name in names)

    @property
    def fixed_quantization(self) -> str | None:
        """What stands in place of a choice where the model's name is that of a file; None where there is a choice."""
        name = self.value("model")
        if is_library_name(name):
            return "as Ollama serves it"
        file = hub.named_file(name)
        return (file.label or "that of the file") if file else None


def typed(query: Query) -> dict[str, list[str]]:
    """A state as texts of the form: types of the cache by the engine's own names."""
    found = {field.name: texts(field.name, getattr(query, field.name)) for field in fields(query)}
    found.pop("options")
    runs = query.known_engine
    found["kv"] = texts("kv", tuple(shown_type(name, runs) for name in query.kv))
    for name, value in query.all_options.items():
        found[name] = [""] if value is None else texts(name, value)
    return found


def form(said: Mapping[str, Sequence[str]]) -> Form:
    """The form with what was typed."""
    return Form(
        typed=said,
        runs=engine_of(said),
        models=_model_groups(),
        devices=device_groups(),
        quantizations=QUANTIZATIONS,
        rare_quantizations=tuple(name for name in FILE_TYPES if name not in QUANTIZATIONS),
        contexts=CONTEXTS,
        ubatches=UBATCHES,
        slots=SLOTS,
        engines=_engine_groups(),
        systems=tuple(Option(system, SYSTEM_LABELS[system]) for system in SYSTEMS),
        unlinked=_unlinked(said),
    )


def _unlinked(said: Mapping[str, Sequence[str]]) -> str:
    default = typed(Query(engine=engine_of(said).id))
    kept = {
        name: values
        for name, values in said.items()
        if name != "facts" and (values != default.get(name) or name == "engine")
    }
    if kept.get("engine") == [ENGINES[0].id]:
        kept.pop("engine")
    return urlencode(kept, doseq=True, safe="/:@")


@cache
def _engine_groups() -> tuple[Group, ...]:
    groups = groupby(ENGINES, key=lambda engine: engine.family)
    return tuple(Group(family, tuple(Option(engine.id, engine.name) for engine in found)) for family, found in groups)


@cache
def _model_groups() -> tuple[Group, ...]:
    groups = groupby(entries(), key=lambda entry: entry.family)
    return tuple(
        Group(family, tuple(Option(entry.id, _of_entry(entry)) for entry in found)) for family, found in groups
    )


def _of_entry(entry: Entry) -> str:
    """A model by what people look for: its name, size and native context; a list of a browser searches all of it."""
    return f"{entry.name} · {text.parameters(entry.parameters)} · {text.short_tokens(entry.context_length)}"


@cache
def device_groups() -> tuple[Group, ...]:
    groups: dict[str, list[Option]] = {}
    for one in devices():
        heading = f"{HEADINGS[one.backend]}: {one.form_factor or 'other'}"
        groups.setdefault(heading, []).append(Option(one.id, text.device_name(one)))
    groups["Any device of so much memory"] = [Option(id, device(id).name) for id in SIZES]
    groups["No device"] = [Option("generic", "Generic device, no limit")]
    return tuple(Group(heading, tuple(options)) for heading, options in groups.items())
