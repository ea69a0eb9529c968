"""Devices by what people call them: an id, a name, a size of memory, several at once."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from app import text
from app.errors import RequestError, shown
from estimator.devices import GENERIC, device, devices
from estimator.errors import DeviceError
from estimator.estimate import MAX_DEVICES
from estimator.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZES: Final = (
    *(f"cuda-{gib}gb" for gib in (8, 12, 16, 24, 32, 48, 80)),
    *(f"rocm-{gib}gb" for gib in (8, 12, 16, 20, 24, 32)),
    *(f"metal-{gib}gb" for gib in (16, 24, 32, 64, 128)),
)
"""Devices of which only the memory is known, as examples: any other size will do."""

_MAKERS: Final = re.compile(r"\b(nvidia|geforce|amd|apple)\b")
_SEVERAL: Final = re.compile(r"([1-9]\d?)\s*[xX*]\s*(\S.*)")
_ANY: Final = re.compile(r"(?:any)?(cuda|rocm|metal|mac)(?:gpu)?(?:with)?([1-9]\d{0,3})gb")


def parse_devices(typed: Sequence[str]) -> tuple[str, ...]:
    """The ids of all devices that a query names.

    Raises:
        RequestError: one is not known, with the nearest ids; or they are too many.
    """
    _check_count(len(typed))
    found = tuple(id for one in typed for id in device_ids(one))
    _check_count(len(found))
    return found


def _check_count(n_devices: int) -> None:
    if n_devices > MAX_DEVICES:
        message = f"device is given {n_devices} times; at most {MAX_DEVICES} can share a model"
        raise RequestError("device-count", "device", message, f"1 to {MAX_DEVICES} devices")


def device_ids(typed: str) -> tuple[str, ...]:
    """The ids that a text means: ``rtx-4090``, ``RTX 4090 24 GB``, ``NVIDIA GeForce RTX 4090``, ``2 x RTX 3090``.

    Raises:
        RequestError: it is not known, with the nearest ids.
    """
    several = _SEVERAL.fullmatch(typed)
    count, name = (int(several[1]), several[2]) if several else (1, typed)
    found = _found(name)
    if found is None:
        near = nearest(_without_makers(name), [one.id for one in devices()])
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        message = f"device is {shown(name, 100)}, which is not known{hint}"
        raise RequestError("unknown-device", "device", message, near or None)
    return (found,) * count


def device_text(typed: str) -> str:
    """What a field shows for what was typed: the name of a known device, the id of one of a size, else the same."""
    found = _found(typed)
    if found is None:
        return typed
    return found if _ANY.fullmatch(_key(found)) else text.device_name(device(found))


def _found(name: str) -> str | None:
    try:
        return device(name).id
    except DeviceError:
        pass
    key = _key(name)
    if match := _ANY.fullmatch(key):
        return f"{match[1].replace('mac', 'metal')}-{match[2]}gb"
    return _by_key().get(key)


@cache
def _by_key() -> Mapping[str, str]:
    """Ids by what is left of each device's id and names where only letters and digits count."""
    return {_key(name): one.id for one in (*devices(), GENERIC) for name in (one.id, one.name, text.device_name(one))}


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _without_makers(name))


def _without_makers(name: str) -> str:
    """People leave the maker out, and so do the ids."""
    return _MAKERS.sub(" ", name.lower()).strip()
