"""The page: its query string is the whole state."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Flask, render_template, request, url_for

from app import hub, text
from app.devices import SIZES, device_text
from app.errors import RequestError
from app.query import Query, parse
from app.values import texts
from app.view import Result, answer
from estimator import device, devices
from estimator.accuracy import PLACEMENTS, bands, total
from estimator.engines.llama_cpp import PROGRAMS
from estimator.ggml import CACHE_TYPES
from estimator.sources.catalogue import QUANTIZATIONS, entries
from estimator.sources.ollama import is_library_name
from estimator.sources.quantize import FILE_TYPES
from estimator.usage import SYSTEMS, System

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.accuracy import Band
    from estimator.sources.catalogue import Entry

pages = Blueprint("pages", __name__)

HEADINGS: Final = {"cuda": "NVIDIA (CUDA)", "rocm": "AMD (ROCm)", "metal": "Apple (Metal)"}
REMOVE: Final = "remove"
"""What the list beside a device offers besides others."""

UBATCHES: Final = (128, 256, 512, 1024, 2048)
SLOTS: Final = (1, 2, 4, 8)
SYSTEM_LABELS: Final[dict[System, str]] = {
    "linux": "Linux, or macOS 26",
    "windows": "Windows",
    "wsl": "Windows with WSL 2",
    "macos-15": "macOS 15 or older",
}
USED: Final = ("os", "desktop", "ecc", "taken", "ts", "wired", "gtt", "ram")
TUNED: Final = ("engine", "fa", "ub", "np", "ngl", "ncmoe", "ncffn", "kvo", "draft", "mmproj")
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
    """What the form shows: the texts that were typed, and the choices."""

    typed: Mapping[str, Sequence[str]]
    models: tuple[Group, ...]
    devices: tuple[Group, ...]
    quantizations: tuple[str, ...]
    rare_quantizations: tuple[str, ...]
    cache_types: tuple[str, ...]
    contexts: tuple[int, ...]
    ubatches: tuple[int, ...]
    slots: tuple[int, ...]
    engines: tuple[Option, ...]
    systems: tuple[Option, ...]
    unlinked: str
    """The query without the facts of a model: the way back to the list of models."""

    def value(self, name: str) -> str:
        """The text of a field that has one."""
        values = self.typed.get(name, ())
        return values[0] if values else ""

    @property
    def is_used(self) -> bool:
        """Whether anything is said of how the devices are used."""
        return self._says(USED)

    @property
    def is_tuned(self) -> bool:
        """Whether anything is said of how the model is run."""
        return self._says(TUNED)

    def _says(self, names: Sequence[str]) -> bool:
        default = _typed(Query())
        return any(self.typed.get(name, default[name]) != default[name] for name in names)

    @property
    def fixed_quantization(self) -> str | None:
        """What stands in place of a choice where the model's name is that of a file; None where there is a choice."""
        name = self.value("model")
        if is_library_name(name):
            return "as Ollama serves it"
        file = hub.named_file(name)
        return (file.label or "that of the file") if file else None


@dataclass(frozen=True, slots=True)
class Page:
    """The template's context. One of ``result`` and ``error`` is there."""

    form: Form
    canonical: str
    api: str
    pairs: str
    result: Result | None
    error: RequestError | None


def init_app(app: Flask) -> None:
    """Add the page and the filters of its template to an application."""
    app.register_blueprint(pages)
    for name in ("size", "tokens", "parameters", "device_name", "rate"):
        app.add_template_filter(getattr(text, name), name)
    app.add_template_filter(device_text, "device_text")


@pages.get("/")
def index() -> tuple[str, int, dict[str, str]]:
    """The page of a state; a state that cannot be keeps what was typed and says what would work."""
    given = given_state()
    try:
        query = parse(given)
        result = answer(query)
    except RequestError as error:
        typed = _typed(Query()) | {name: present for name, values in given.items() if (present := _present(values))}
        return _render(Page(_form(typed), request.full_path, "", "", None, error)), error.status, error.headers
    suffix = f"?{query.canonical()}" if query.canonical() else ""
    page = Page(
        form=_form(_typed(query)),
        canonical=url_for("pages.index", _external=True) + suffix,
        api=url_for("api.api_estimate", _external=True) + suffix,
        pairs=url_for("matrix.page") + suffix,
        result=result,
        error=None,
    )
    return _render(page), 200, {}


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the report on accuracy."""

    architecture: str
    where: str
    band: Band


@pages.get("/accuracy")
def accuracy() -> str:
    """How near the estimates were to llama.cpp's own breakdowns."""
    rows = [
        Measured(name, PLACEMENTS[where], band) for name, places in bands().items() for where, band in places.items()
    ]
    return render_template("accuracy.html", rows=rows, total=total(row.band for row in rows))


def _present(values: list[str]) -> list[str]:
    """What was typed or chosen: the list that adds a device is mostly empty."""
    return [value for value in values if value.strip()]


def given_state() -> dict[str, list[str]]:
    """The query, with what was browsed for in the place of what was typed, and the lists for K and V as one pair."""
    given = {name: request.args.getlist(name) for name in request.args}
    bundled = _present(given.pop("bundled", []))
    if bundled:
        given["model"] = bundled
    if picked := given.pop("pick", []):
        given["device"] = _picked(given.get("device", []), picked)
    sides = [given.pop(name, [""])[0] for name in ("k", "v")]
    if any(sides) and not any(given.get("kv", [])):
        given["kv"] = [":".join(side or "f16" for side in sides)]
    return given


def _picked(typed: list[str], picked: list[str]) -> list[str]:
    """The devices that were typed, each with what was browsed for in the list beside it in its place."""
    pairs = zip_longest(typed, picked, fillvalue="")
    return ["" if pick == REMOVE else pick or name for name, pick in pairs]


def _typed(query: Query) -> dict[str, list[str]]:
    return {field.name: texts(field.name, getattr(query, field.name)) for field in fields(query)}


def _render(page: Page) -> str:
    context: dict[str, Any] = {field.name: getattr(page, field.name) for field in fields(page)}
    return render_template("index.html", **context)


def _form(typed: Mapping[str, Sequence[str]]) -> Form:
    return Form(
        typed=typed,
        models=_model_groups(),
        devices=_device_groups(),
        quantizations=QUANTIZATIONS,
        rare_quantizations=tuple(name for name in FILE_TYPES if name not in QUANTIZATIONS),
        cache_types=CACHE_TYPES,
        contexts=CONTEXTS,
        ubatches=UBATCHES,
        slots=SLOTS,
        engines=tuple(Option(program.id, program.summary) for program in PROGRAMS),
        systems=tuple(Option(system, SYSTEM_LABELS[system]) for system in SYSTEMS),
        unlinked=_unlinked(typed),
    )


def _unlinked(typed: Mapping[str, Sequence[str]]) -> str:
    default = _typed(Query())
    kept = {name: values for name, values in typed.items() if name != "facts" and values != default.get(name)}
    return urlencode(kept, doseq=True, safe="/:@")


def _model_groups() -> tuple[Group, ...]:
    groups = groupby(entries(), key=lambda entry: entry.family)
    return tuple(
        Group(family, tuple(Option(entry.id, _of_entry(entry)) for entry in found)) for family, found in groups
    )


def _of_entry(entry: Entry) -> str:
    """A model by what people look for: its name, size and native context; a list of a browser searches all of it."""
    return f"{entry.name} · {text.parameters(entry.parameters)} · {text.short_tokens(entry.context_length)}"


def _device_groups() -> tuple[Group, ...]:
    groups: dict[str, list[Option]] = {}
    for one in devices():
        heading = f"{HEADINGS[one.backend]}: {one.form_factor or 'other'}"
        groups.setdefault(heading, []).append(Option(one.id, text.device_name(one)))
    groups["Any device of so much memory"] = [Option(id, device(id).name) for id in SIZES]
    groups["No device"] = [Option("generic", "Generic device, no limit")]
    return tuple(Group(heading, tuple(options)) for heading, options in groups.items())
