"""How a device is used beside the model: what the system, a desktop or other programs keep of its memory.

Each reserve is a margin: the most that was read on machines of its kind, with the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

from estimator.capacity import GIB, MIB, macos_15_working_set
from estimator.devices import Device, Reserve
from estimator.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

System = Literal["linux", "windows", "wsl", "macos-15"]
SYSTEMS: Final[tuple[System, ...]] = get_args(System)

DESKTOP: Final = 16 * GIB // 10
"""A Linux desktop on the same card took 0.6 to 1.6 GiB (1.6: KDE with Firefox, ollama/ollama issue 8723)."""

WDDM: Final = ((24, 1527), (1024, 2529))
"""(card of up to so many GiB, MiB that Windows had taken of ``memory.total`` before a model was loaded): RTX 4090 1527,
RTX 4070 SUPER 1212, Quadro P6000 1085, RTX 3060 1034; RTX PRO 6000 2529. The driver's own reserve is part of it."""

WSL_CUDA: Final = 13 * GIB // 10
"""About 1.3 GiB before the engine starts (noonghunna/club-3090, docs/HARDWARE.md)."""

HIP_WINDOWS: Final = 4 * GIB // 10
HIP_WSL: Final = 25 * GIB // 10
"""Taken before any work on a card of 24 GB (ggml-org/llama.cpp issue 23999)."""

ECC_SHARE: Final = 16
"""One in so many bytes of GDDR memory goes to ECC: 46068 of 49140 MiB (A40, L40S), 15360 of 16384 (T4)."""

MAX_TAKEN_MIB: Final = 2**20
"""MiB (1 TiB): our bound on what is already taken, above any device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How a device is used.

    Args:
        system: what the machine runs. Macs run macOS whatever is said here: ``macos-15`` is that version or an older
            one, anything else macOS 26.
        desktop: a desktop is drawn by this device. Windows always has one.
        ecc: error correction is switched on for a card that ships without.
        taken_mib: MiB that other programs have taken.

    Raises:
        DeviceError: ``taken_mib`` is out of range.
    """

    system: System = "linux"
    desktop: bool = False
    ecc: bool = False
    taken_mib: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.taken_mib <= MAX_TAKEN_MIB:
            allowed = f"a whole number of MiB from 0 to {MAX_TAKEN_MIB:,}"
            message = f"taken is {self.taken_mib!r}; it must be {allowed}"
            raise DeviceError("out-of-range", message, field="taken", allowed=allowed)


def used(device: Device, usage: Usage) -> Device:
    """The device with what is kept of it. Under Windows CUDA's total is the whole memory, of which WDDM keeps a part.

    macOS 15 and older let less of the memory be wired, but where a limit is set that holds.

    Raises:
        DeviceError: ``no-ecc``: its memory has no ECC to switch on.
    """
    if usage.ecc and not has_switchable_ecc(device):
        message = f"ecc cannot be switched on for {device.name}; it can for workstation cards of NVIDIA"
        raise DeviceError("no-ecc", message, field="ecc", allowed="a workstation card of NVIDIA")
    reserves = tuple(_reserves(device, usage))
    if usage.system == "windows" and _is_discrete(device, "cuda") and device.memory_bytes:
        return replace(
            device,
            capacity=device.memory_bytes - MIB,
            capacity_basis="derived",
            capacity_source=f"{device.memory_bytes // MIB - 1:,} MiB, the whole memory less 1 MiB under WDDM",
            reserves=reserves,
        )
    if usage.system == "macos-15" and device.backend == "metal" and not device.wired_limit_mib and device.memory_bytes:
        return replace(
            device,
            capacity=macos_15_working_set(device.memory_bytes),
            capacity_basis="seen",
            capacity_source=f"macOS 15 and older for {device.memory_bytes // GIB} GiB of memory",
            reserves=reserves,
        )
    return replace(device, reserves=reserves)


def _reserves(device: Device, usage: Usage) -> Iterator[Reserve]:
    if usage.ecc and device.memory_bytes:
        explain = f"1/{ECC_SHARE} of {device.memory_bytes // MIB:,} MiB"
        yield Reserve("Error correction", device.memory_bytes // ECC_SHARE, explain)
    if usage.system == "windows" and _is_discrete(device, "cuda"):
        size = next(mib for gib, mib in WDDM if (device.nominal_gib or 0) <= gib) * MIB
        yield Reserve("Windows", size, "taken before a model was loaded: 1,034 to 1,527 MiB, 2,529 of 96 GB")
    elif usage.system == "windows" and _is_discrete(device, "rocm"):
        yield Reserve("Windows", HIP_WINDOWS, "taken before any work: about 0.4 GiB of a card of 24 GB")
    elif usage.system == "wsl" and _is_discrete(device, "cuda"):
        yield Reserve("Windows and WSL", WSL_CUDA, "taken before the engine starts: about 1.3 GiB")
    elif usage.system == "wsl" and _is_discrete(device, "rocm"):
        yield Reserve("Windows and WSL", HIP_WSL, "taken before any work: about 2.5 GiB of a card of 24 GB")
    elif usage.desktop and (_is_discrete(device, "cuda") or _is_discrete(device, "rocm")):
        yield Reserve("Desktop", DESKTOP, "0.6 to 1.6 GiB seen, the most taken")
    if usage.taken_mib:
        yield Reserve("Other programs", usage.taken_mib * MIB, "as you said")


def _is_discrete(device: Device, backend: str) -> bool:
    return device.backend == backend and not device.unified_memory


def has_switchable_ecc(device: Device) -> bool:
    """Whether error correction is off as it ships and can be switched on."""
    return device.backend == "cuda" and device.form_factor == "workstation"
