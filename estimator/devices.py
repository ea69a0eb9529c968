"""Devices: the catalogue, and what a user may change about one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast, get_args

from estimator.backends import BackendName as BackendName  # re-exported: part of a Device
from estimator.capacity import GIB, MIB, Basis, Capacity, Profile, capacity, working_set
from estimator.errors import DeviceError
from estimator.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

CATALOGUE: Final = Path(__file__).parent / "data" / "devices.json"

CALLED: Final = {"cuda": "CUDA GPU", "rocm": "ROCm GPU", "metal": "Mac"}
"""What people call a device of a backend."""

MAX_LIMIT_MIB: Final = 4 * 2**20
"""MiB (4 TiB): our bound on limits that a user sets, far above any machine."""


class Reserve(NamedTuple):
    """Bytes of a device that are kept for something else, and where the figure comes from."""

    label: str
    bytes: int
    explain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device, or one GPU of a board that holds several.

    Args:
        id: stable, lower case; what links and the API use.
        name: for people.
        backend: the llama.cpp backend that drives it; ``generic`` has no peculiarities and costs nothing.
        capacity: bytes that a process can use in total, the ceiling to chart against; None = no limit.
        capacity_basis: ``seen`` in logs, ``derived`` by rule, ``set`` by somebody, ``none`` where there is no limit.
        capacity_source: where the capacity comes from, with its numbers.
        memory_bytes: what the driver shows, else the nominal size; where memory is unified, the system's memory.
        nominal_gib: the number on the box.
        multiprocessors: SM (CUDA) or CU (ROCm) count.
        compute_capability: CUDA's (major, minor).
        gfx_target: LLVM's name of an AMD GPU (``"gfx1100"``).
        unified_memory: the memory is shared with the CPU.
        memory_bandwidth_gbps: 10^9 bytes a second, as specified.
        wired_limit_mib: Metal's ``iogpu.wired_limit_mb`` where set.
        note: what a user should know about the figures.
        reserves: what is kept of it for others (``estimator.usage``).
        sources: (figure, where it comes from) of each catalogue figure.

    Raises:
        DeviceError: no such backend, or a capacity that is not positive.
    """

    id: str
    name: str
    backend: BackendName
    capacity: int | None = None
    capacity_basis: Basis = "set"
    capacity_source: str = "set by the user"
    memory_bytes: int | None = None
    nominal_gib: int | None = None
    architecture: str | None = None
    form_factor: str | None = None
    released_year: int | None = None
    multiprocessors: int | None = None
    compute_capability: tuple[int, int] | None = None
    gfx_target: str | None = None
    unified_memory: bool = False
    memory_bandwidth_gbps: float | None = None
    wired_limit_mib: int | None = None
    note: str | None = None
    reserves: tuple[Reserve, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        backends = get_args(BackendName)
        if self.backend not in backends:
            message = f"backend is {self.backend!r}; it must be one of {', '.join(backends)}"
            raise DeviceError("unknown-backend", message, field="backend", allowed=backends)
        if self.capacity is not None and self.capacity <= 0:
            allowed = "a positive number of bytes, or None for no limit"
            message = f"capacity is {self.capacity!r}; it must be {allowed}"
            raise DeviceError("bad-capacity", message, field="capacity", allowed=allowed)


GENERIC: Final = Device(
    id="generic",
    name="Generic device (no limit)",
    backend="generic",
    capacity_basis="none",
    capacity_source="no limit: it reproduces llama.cpp's own memory breakdown",
)


def device(id: str) -> Device:
    """The catalogue's device of this id, ``generic``, or one of N GiB (``cuda-24gb``); in upper or lower case.

    Raises:
        DeviceError: ``unknown-device``; ``allowed`` holds the nearest ids, if any is near.
    """
    by_id = _by_id()
    found = by_id.get(id.lower()) or _custom(id.lower())
    if found is None:
        near = nearest(id, by_id)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise DeviceError(
            "unknown-device", f"device is {id[:100]!r}, which is not known{hint}", field="device", allowed=near or None
        )
    return found


def _custom(id: str) -> Device | None:
    """A device of which only the backend and the memory are known, if that is what an id says."""
    match = re.fullmatch(r"(cuda|rocm|metal)-([1-9]\d{0,3})gb", id)
    if not match:
        return None
    backend, gib = cast("BackendName", match[1]), int(match[2])
    is_metal = backend == "metal"
    limit = working_set(gib * GIB) if is_metal else Capacity(gib * GIB, "set", f"{gib} GiB as you said")
    return Device(
        id=id,
        name=f"{CALLED[backend]} with {gib} GB",
        backend=backend,
        capacity=limit.bytes,
        capacity_basis=limit.basis,
        capacity_source=limit.source,
        memory_bytes=gib * GIB,
        nominal_gib=gib,
        unified_memory=is_metal,
    )


@cache
def devices() -> tuple[Device, ...]:
    """All catalogue devices, as a picker shows them: by backend and form, the newest generation and fastest first."""
    catalogue: dict[str, Any] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return tuple(_device(profile, catalogue["sources"]) for profile in catalogue["devices"])


def with_wired_limit(device: Device, mib: int) -> Device:
    """The Mac after ``sudo sysctl iogpu.wired_limit_mb=mib``: Metal then reports exactly that, even above its memory.

    0 is the default again, as it is for macOS.

    Raises:
        DeviceError: ``not-metal``; ``out-of-range``; ``unknown-memory`` if 0 is asked of a Mac of unknown memory.
    """
    if device.backend != "metal":
        message = f"{device.name} has no wired limit; only Metal devices do"
        raise DeviceError("not-metal", message, field="wired", allowed="a Metal device")
    _check_limit("wired", mib)
    if mib:
        source = f"iogpu.wired_limit_mb={mib}"
        return replace(device, capacity=mib * MIB, capacity_basis="set", capacity_source=source, wired_limit_mib=mib)
    if device.memory_bytes is None:
        message = f"the default wired limit follows from the memory size, and that of {device.name} is not known"
        raise DeviceError("unknown-memory", message, field="wired", allowed="a limit above 0")
    limit = working_set(device.memory_bytes)
    return replace(
        device, capacity=limit.bytes, capacity_basis=limit.basis, capacity_source=limit.source, wired_limit_mib=None
    )


def is_apu(device: Device) -> bool:
    """Whether it is a part of a processor of AMD, whose share of the memory is a matter of configuration."""
    return device.backend == "rocm" and device.unified_memory


def with_gtt(device: Device, mib: int) -> Device:
    """The APU that may use ``mib`` MiB of the system's memory; 0 is the default, half of it under Linux.

    It is set by ``ttm.pages_limit`` in pages of 4 KiB under Linux, by the firmware under Windows.

    Raises:
        DeviceError: ``not-an-apu``; ``out-of-range``.
    """
    if not is_apu(device):
        message = f"gtt is {mib}, but {device.name} has no such share of the system's memory; only APUs of AMD do"
        raise DeviceError("not-an-apu", message, field="gtt", allowed="an APU of AMD")
    _check_limit("gtt", mib)
    if not mib:
        return device
    source = f"{mib:,} MiB as you said: ttm.pages_limit={mib * MIB // 4096}"
    return replace(device, capacity=mib * MIB, capacity_basis="set", capacity_source=source)


def _check_limit(field: str, mib: int) -> None:
    if isinstance(mib, bool) or not isinstance(mib, int) or not 0 <= mib <= MAX_LIMIT_MIB:
        allowed = f"a whole number of MiB from 1 to {MAX_LIMIT_MIB:,}, or 0 for the default"
        raise DeviceError("out-of-range", f"{field} is {mib!r}; it must be {allowed}", field=field, allowed=allowed)


@cache
def _by_id() -> Mapping[str, Device]:
    return {found.id: found for found in (*devices(), GENERIC)}


def _device(profile: Profile, sources: Mapping[str, str]) -> Device:
    ceiling = capacity(profile)
    return Device(
        id=profile["id"],
        name=profile["name"],
        backend=profile["backend"],
        capacity=ceiling.bytes,
        capacity_basis=ceiling.basis,
        capacity_source=ceiling.source,
        memory_bytes=_memory_bytes(profile),
        nominal_gib=profile.get("nominal_gib"),
        architecture=profile["architecture"],
        form_factor=profile["form_factor"],
        released_year=profile.get("released_year"),
        multiprocessors=profile.get("multiprocessors"),
        compute_capability=_version(profile.get("compute_capability")),
        gfx_target=profile.get("gfx_target"),
        unified_memory=profile.get("unified_memory", False),
        memory_bandwidth_gbps=profile.get("memory_bandwidth_gbps"),
        note=profile.get("note"),
        sources=tuple((figure, sources[key]) for figure, key in profile["sources"].items()),
    )


def _memory_bytes(profile: Profile) -> int:
    return profile["reported_mib"] * MIB if "reported_mib" in profile else profile["nominal_gib"] * GIB


def _version(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    major, minor = text.split(".")
    return int(major), int(minor)
