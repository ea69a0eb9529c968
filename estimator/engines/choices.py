"""What an engine makes of a run by its tables: types, formats, options, or a refusal that says what would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.options import MAX_SHOWN
from estimator.engines.weights import format_of, nearest_format
from estimator.errors import DeviceError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.devices import Device
    from estimator.engines.base import Engine, Run
    from estimator.engines.options import Value
    from estimator.engines.packing import CacheType
    from estimator.engines.weights import WeightFormat
    from estimator.model import Model


def choose_types(engine: Engine, run: Run, devices: Sequence[Device]) -> tuple[CacheType, CacheType]:
    """The types of K and V; V is as K unless it is asked for.

    Raises:
        SettingsError: the engine has no such type, it does not run on a device, or both have to be the same.
    """
    type_k = _type(engine, "cache_type_k", run.cache_type_k or engine.cache_types[0].id, devices)
    type_v = _type(engine, "cache_type_v", run.cache_type_v or type_k.id, devices)
    if type_k != type_v and not engine.separate_kv:
        message = f"cache_type_v is {type_v.id}, but {engine.name} has one type for both: it must be {type_k.id}"
        raise SettingsError("one-cache-type", message, field="cache_type_v", allowed=(type_k.id,))
    if why := _why_refused(engine, type_k.id, type_v.id, devices):
        near, allowed = _instead(engine, type_k.id, devices)
        message = f"cache_type_k {type_k.id} does not run on {why}; the nearest that does is {near}"
        raise SettingsError("unsupported-cache-type", message, field="cache_type_k", allowed=allowed)
    return type_k, type_v


def offered_types(engine: Engine, devices: Sequence[Device]) -> tuple[CacheType, ...]:
    """The types that run on all devices."""
    return tuple(one for one in engine.cache_types if not _why_refused(engine, one.id, one.id, devices))


def _why_refused(engine: Engine, type_k: str, type_v: str, devices: Sequence[Device]) -> str:
    """Why a pair does not run on some device; empty where it does."""
    found = ((device, engine.support(device, type_k, type_v)) for device in dict.fromkeys(devices))
    return next((f"{device.name}: {support.why}" for device, support in found if support.speed == "refused"), "")


def _type(engine: Engine, field: str, name: str, devices: Sequence[Device]) -> CacheType:
    found = engine.cache_type(name)
    if found is None:
        near, allowed = _instead(engine, name, devices)
        message = f"{field} is {name[:MAX_SHOWN]!r}, which {engine.name} does not have; the nearest is {near}"
        raise SettingsError("unknown-cache-type", f"{message} (of {', '.join(allowed)})", field=field, allowed=allowed)
    return found


def _instead(engine: Engine, name: str, devices: Sequence[Device]) -> tuple[str, tuple[str, ...]]:
    """The nearest type that runs on the devices, and all that do."""
    return engine.nearest_cache_type(name, devices).id, tuple(one.id for one in offered_types(engine, devices))


def choose_format(engine: Engine, model: Model, id: str | None) -> WeightFormat | None:
    """The format of the weights, None where the engine loads a GGUF file as it is.

    Raises:
        SettingsError: the engine has no such format.
    """
    if id is None:
        return nearest_format(engine.weight_formats, model) if engine.weight_formats else None
    found = format_of(engine.weight_formats, id)
    if found is None:
        allowed = tuple(one.id for one in engine.weight_formats) or "the quantization of the GGUF file"
        offered = allowed if isinstance(allowed, str) else ", ".join(allowed)
        message = f"weight_format is {id[:MAX_SHOWN]!r}; {engine.name} loads {offered}"
        raise SettingsError("unknown-weight-format", message, field="weight_format", allowed=allowed)
    return found


def choose_options(engine: Engine, given: Mapping[str, Value]) -> Mapping[str, Value | None]:
    """Every option of the engine, given or by default.

    Raises:
        SettingsError: it has no such option, or not with this value.
    """
    known = {option.name: option for option in engine.options}
    if strange := [name for name in given if name not in known]:
        offered = ", ".join(known) or "none of its own"
        message = f"{engine.name} has no option {strange[0][:MAX_SHOWN]!r}; it has {offered}"
        raise SettingsError("unknown-option", message, field=strange[0][:MAX_SHOWN], allowed=tuple(known) or None)
    return {name: option.checked(given[name]) if name in given else option.default for name, option in known.items()}


def check_devices(engine: Engine, devices: Sequence[Device]) -> None:
    """Refuse devices that the engine does not run on.

    Raises:
        DeviceError: there is none, there are too many, or one is of another backend.
    """
    if not 1 <= len(devices) <= engine.max_devices:
        allowed = f"1 to {engine.max_devices} devices" if engine.max_devices > 1 else "one device"
        message = f"{len(devices)} devices; for {engine.name} it must be {allowed}"
        raise DeviceError("device-count", message, field="device", allowed=allowed)
    for device in devices:
        if device.backend != "generic" and device.backend not in engine.backends:
            allowed = " or ".join(backend.upper() for backend in engine.backends)
            message = f"{engine.name} does not run on {device.name} ({device.backend.upper()}); it needs {allowed}"
            raise DeviceError("unsupported-backend", message, field="device", allowed=allowed)
    if len({device.backend for device in devices}) > 1 and not engine.mixes_backends:
        message = f"{engine.name} does not share a model among devices of different backends"
        raise DeviceError("mixed-backends", message, field="device", allowed="devices of one backend")
