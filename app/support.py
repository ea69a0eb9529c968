"""Which types of K and V run where: every engine on devices, for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, Response, jsonify, request

from app.errors import RequestError, as_bad_request, shown
from app.parsing import parse
from app.values import texts
from estimator.engines.choices import check_devices
from estimator.engines.llama_cpp import PROGRAMS
from estimator.engines.registry import ENGINES
from estimator.engines.result import Support
from estimator.errors import DeviceError, FathomError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.query import Query
    from estimator import Device, Model
    from estimator.engines.base import Engine

SPEEDS: Final = ("supported", "slow", "cpu", "refused")
"""The best first."""

Pair = tuple[str, str]

blueprint = Blueprint("support", __name__)


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs of an engine of which the same is known; ``is_apart``: K and V are of two types."""

    is_apart: bool
    support: Support
    names: tuple[str, ...]

    @property
    def says(self) -> str:
        """The names, or of many pairs how many there are."""
        n = len(self.names)
        return ", ".join(self.names) if n == 1 or not self.is_apart else f"{n} pairs such as {self.names[0]}"


@dataclass(frozen=True, slots=True)
class Known:
    """What an engine has on devices: its pairs, alike on both sides first, each with what is known of it."""

    engine: Engine
    refusal: str
    pairs: tuple[tuple[Pair, Support], ...]

    @property
    def groups(self) -> list[Group]:
        """The pairs by what is known of them: types of both sides first, then pairs of two types, the best first."""
        found: dict[tuple[bool, Support], list[str]] = {}
        for (k, v), support in self.pairs:
            found.setdefault((k != v, support), []).append(k if k == v else f"{k} : {v}")
        ordered = sorted(found, key=lambda key: (key[0], SPEEDS.index(key[1].speed)))
        return [Group(*key, tuple(found[key])) for key in ordered]


def init_app(app: Flask) -> None:
    """Add the JSON to an application."""
    app.register_blueprint(blueprint)


@blueprint.get("/api/v1/support")
def api_support() -> Response:
    """Every engine and pair of types on devices."""
    given = {name: request.args.getlist(name) for name in request.args}
    if strange := [name for name in given if name != "device"]:
        message = f"there is no parameter {shown(strange[0])} here: it must be device"
        raise RequestError("unknown-parameter", strange[0], message, ("device",))
    return jsonify(_body(parse(given)))


def _body(query: Query) -> dict[str, Any]:
    try:
        devices = query.devices()
    except FathomError as error:
        raise as_bad_request(error) from None
    return {
        "devices": [{"id": one.id, "name": one.name, "backend": one.backend} for one in devices],
        "engines": [
            {
                "id": known.engine.id,
                "name": known.engine.name,
                "version": known.engine.version,
                "separate_kv": known.engine.separate_kv,
                "pairs": [_pair_body(pair, support) for pair, support in known.pairs],
            }
            for known in everywhere(devices)
        ],
    }


def _pair_body(pair: Pair, support: Support) -> dict[str, Any]:
    return {"cache_type_k": pair[0], "cache_type_v": pair[1], "kv": texts("kv", pair)[0], **support._asdict()}


def engines(asked: str = "") -> tuple[Engine, ...]:
    """Those that are compared: of llama.cpp's programs, which differ in slots only, the one that is asked for."""
    programs = [program.id for program in PROGRAMS]
    which = asked if asked in programs else programs[0]
    return tuple(engine for engine in ENGINES if engine.id == which or engine.id not in programs)


@lru_cache(maxsize=64)
def everywhere(devices: tuple[Device, ...], asked: str = "") -> tuple[Known, ...]:
    """What every engine has on devices."""
    return tuple(_known(engine, devices) for engine in engines(asked))


def _known(engine: Engine, devices: tuple[Device, ...]) -> Known:
    refusal = ""
    try:
        check_devices(engine, devices)
    except DeviceError as error:
        refusal = error.message
    pairs = sorted(_pairs(engine), key=lambda pair: pair[0] != pair[1])
    if refusal:
        refused = Support("refused", refusal, engine.version, engine.source)
        return Known(engine, refusal, tuple((pair, refused) for pair in pairs))
    return Known(engine, "", tuple((pair, worst(engine, devices, pair)) for pair in pairs))


def _pairs(engine: Engine) -> Iterator[Pair]:
    """Types alike, and apart where the engine can."""
    names = [one.id for one in engine.cache_types]
    return product(names, names) if engine.separate_kv else zip(names, names, strict=True)


def worst(engine: Engine, devices: tuple[Device, ...], pair: Pair, model: Model | None = None) -> Support:
    """That of the device that does worst, for the heads of a model where it is told."""
    found = (engine.support_for(model, one, *pair) if model else engine.support(one, *pair) for one in devices)
    return max(found, key=lambda support: SPEEDS.index(support.speed))
