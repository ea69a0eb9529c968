"""How much memory a process can use on a device in total: a figure seen in logs, else derived by the backend's rule.

It is what the runtime itself reports as the device's total: ``cudaDeviceProp.totalGlobalMem`` (CUDA, HIP) or
``recommendedMaxWorkingSetSize`` (Metal). The driver's own reserve is outside of it and must not be subtracted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, NotRequired, TypedDict

from estimator.ggml import pad

if TYPE_CHECKING:
    from estimator.backends import BackendName

MIB: Final = 2**20
GIB: Final = 2**30

Basis = Literal["seen", "derived", "set", "none"]
"""``seen``: read on such a device. ``derived``: a rule over figures of its kind, so it has an error.
``set``: somebody's own figure. ``none``: there is no limit."""


class Profile(TypedDict):
    """One line of ``data/devices.json``; memory in MiB is as the tools print it, in whole MiB."""

    id: str
    name: str
    backend: BackendName
    architecture: str
    form_factor: str
    released_year: NotRequired[int]
    nominal_gib: NotRequired[int]
    reported_mib: NotRequired[int]
    total_linux_mib: NotRequired[int]
    total_windows_mib: NotRequired[int]
    multiprocessors: NotRequired[int]
    compute_capability: NotRequired[str]
    gfx_target: NotRequired[str]
    unified_memory: NotRequired[bool]
    memory_bandwidth_gbps: NotRequired[float]
    note: NotRequired[str]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class Capacity:
    """``bytes`` a process can use in total, and how that is known."""

    bytes: int
    basis: Basis
    source: str


def capacity(profile: Profile) -> Capacity:
    """The ceiling of a catalogue device under Linux or, for Metal, macOS 26."""
    if profile["backend"] == "metal":
        return working_set(profile["nominal_gib"] * GIB)
    if "total_linux_mib" in profile:
        return _seen(profile)
    if profile["backend"] == "cuda":
        return _cuda_unified(profile) if profile.get("unified_memory") else _cuda_discrete(profile)
    return _rocm_apu(profile) if profile["form_factor"] == "integrated" else _rocm(profile)


# CUDA ----------------------------------------------------------------------------------------------------------------

Reserves = tuple[tuple[int, int], ...]

PASCAL_RESERVES: Final[Reserves] = ((24, 115),)
VOLTA_RESERVES: Final[Reserves] = ((16, 224), (32, 274))
RESERVES: Final[Reserves] = ((4, 380), (16, 461), (32, 498), (48, 631), (288, 769))
"""(card of up to so many GiB, MiB that driver and firmware keep: ``nvidia-smi`` total less ``totalGlobalMem``).

The largest reading of each class, so that a derived ceiling is not above the real one. Pascal: 58 (GTX 1050 Ti) to
115 (P100); Volta: 224 and 274 (V100 16 and 32 GB). Turing and later, drivers with GSP firmware: 380 (GTX 1650;
RTX A400 328, A2000 Laptop 326), 461 (RTX 5070 Ti, 5060 Ti; others 378-457), 498 (RTX 5090; RTX 4090 354-487,
3090 453, L4 471), 631 (RTX 6000 Ada; L40S 601, A100 40 GB 519), 769 (A100 80 GB; H100 478, RTX PRO 6000 637-640,
B200 728).
"""

OLD_DRIVER_RESERVE: Final = 300
"""MiB; a smaller reserve on Turing or later was read with a driver before GSP firmware (they kept 199-275 MiB)."""

NVML_TOTALS: Final = {
    "Ada Lovelace": {8: 8188, 12: 12282, 16: 16376, 20: 20475, 24: 24564, 32: 32760, 48: 49140},
    "Blackwell 2.0": {8: 8151, 12: 12227, 16: 16303, 24: 24463, 32: 32607, 48: 48935, 96: 97887},
}
"""MiB that ``nvidia-smi`` shows by nominal GiB, where every card of that generation that was seen agrees (or the
smaller of two that differ by 24 MiB at most). Older generations show the nominal size; Ampere's workstation cards
follow Ada's (RTX A4000 16376, A5000 24564, A6000 49140)."""

UNIFIED_SHARE: Final = Fraction(7607, 8192)
"""Share of a Jetson module's memory that CUDA sees: 7607 MiB of the Orin 8 GB, the smallest of the readings
(AGX Orin 64 GB 62827, AGX Thor 125748, GB10 124610 of 128 GiB)."""


def _seen(profile: Profile) -> Capacity:
    total = profile["total_linux_mib"]
    source = f"{total:,} MiB read on Linux"
    if profile["backend"] == "cuda" and not profile.get("unified_memory"):
        reserve = _nvml_total(profile)[0] - total
        usual = _driver_reserve(profile)
        if reserve < OLD_DRIVER_RESERVE < usual:
            source += f" with a driver that kept {reserve} MiB; drivers since keep up to {usual} MiB"
    return Capacity(total * MIB, "seen", source)


def _cuda_discrete(profile: Profile) -> Capacity:
    nvml, how = _nvml_total(profile)
    reserve = _driver_reserve(profile)
    source = f"{nvml:,} MiB ({how}) less {reserve} MiB, the most that the driver keeps on cards of this size"
    return Capacity((nvml - reserve) * MIB, "derived", source)


def _cuda_unified(profile: Profile) -> Capacity:
    memory = profile["nominal_gib"] * GIB
    total = int(memory * UNIFIED_SHARE) // MIB * MIB
    return Capacity(
        total, "derived", f"{float(UNIFIED_SHARE):.1%} of {profile['nominal_gib']} GiB, as on the Orin 8 GB"
    )


def _driver_reserve(profile: Profile) -> int:
    reserves = {"Pascal": PASCAL_RESERVES, "Volta": VOLTA_RESERVES}.get(profile["architecture"], RESERVES)
    nvml = _nvml_total(profile)[0]
    return next(mib for gib, mib in reserves if nvml <= gib * 1024)


def _nvml_total(profile: Profile) -> tuple[int, str]:
    """MiB that ``nvidia-smi`` shows, and how that is known."""
    if "reported_mib" in profile:
        is_read = profile["sources"]["reported_mib"] != "gddr-ecc"
        return profile["reported_mib"], "nvidia-smi" if is_read else "as other cards of its kind show, ECC being on"
    if "total_windows_mib" in profile:
        # CUDA on Windows shows NVML's total less 1 MiB
        return profile["total_windows_mib"] + 1, "CUDA's total on Windows and 1 MiB"
    nominal = profile["nominal_gib"]
    like = profile["architecture"]
    if like == "Ampere" and profile["form_factor"] == "workstation" and nominal in NVML_TOTALS["Ada Lovelace"]:
        like = "Ada Lovelace"
    if like not in NVML_TOTALS:
        return nominal * 1024, "nominal"
    totals = NVML_TOTALS[like]
    if nominal in totals:
        return totals[nominal], f"as other {nominal} GB cards of its kind show"
    least = min(Fraction(mib, gib * 1024) for gib, mib in totals.items())
    return int(nominal * 1024 * least), f"{float(least):.1%} of {nominal} GiB, the least that its kind shows"


# ROCm ----------------------------------------------------------------------------------------------------------------

HIP_RESERVE: Final = 16
"""MiB below nominal on GCN 5, CDNA 1 and 2, RDNA 2 and 3: 16368, 20464, 24560, 12272, 8176, 32752, 65520."""

RDNA4_RESERVES: Final[Reserves] = ((16, 80), (32, 144))
"""RDNA 4: 16304 of 16384 (RX 9070 XT, 9060 XT), 32624 of 32768 (R9700)."""

CDNA3_SHARE: Final = Fraction(196288, 196608)
"""CDNA 3, also used for CDNA 4: the MI300X (a virtual function) shows 196288 of 192 GiB."""


def _rocm(profile: Profile) -> Capacity:
    nominal = profile["nominal_gib"]
    if profile["architecture"].startswith(("CDNA 3", "CDNA 4")):
        total = int(nominal * 1024 * CDNA3_SHARE)
        return Capacity(total * MIB, "derived", f"{float(CDNA3_SHARE):.2%} of {nominal} GiB, as on the MI300X")
    reserve = HIP_RESERVE
    if profile["architecture"] == "RDNA 4.0":
        reserve = next(mib for gib, mib in RDNA4_RESERVES if nominal <= gib)
    source = f"{nominal} GiB less {reserve} MiB, as HIP shows on other cards of its kind"
    return Capacity((nominal * 1024 - reserve) * MIB, "derived", source)


def _rocm_apu(profile: Profile) -> Capacity:
    """GTT, not the firmware's carve-out: Linux maps half its memory by default (ttm_device.c, ``num_pages /= 2``)."""
    nominal = profile["nominal_gib"]
    source = f"half of {nominal} GiB: Linux's default GTT; at most, for the firmware's carve-out comes off first"
    return Capacity(nominal * GIB // 2, "derived", source)


# Metal ---------------------------------------------------------------------------------------------------------------

PAGE: Final = 16384
"""Bytes of a page on Apple silicon; the working set is rounded up to it."""

MACOS_26_SHARES: Final = {
    **dict.fromkeys((8,), Fraction(2, 3)),
    **dict.fromkeys((16, 18, 24), Fraction(74, 100)),
    **dict.fromkeys((32, 36, 48), Fraction(78, 100)),
    **dict.fromkeys((64,), Fraction(81, 100)),
    **dict.fromkeys((128,), Fraction(84, 100)),
}
"""Share of the memory, by its GiB, that macOS 26 lets a process wire for the GPU. Every reading fits to the byte:
5726633984 (8 GB), 19069665280 (24), 40200896512 (48), 55662788608 (64), 115448725504 (128). It depends on the memory
size alone. The label "macOS 26" is inferred from the Metal version in the logs; the pairs are facts."""


def working_set(memory_bytes: int) -> Capacity:
    """``recommendedMaxWorkingSetSize`` of a Mac under macOS 26, or under macOS 15 for a size not yet seen there.

    The older rule gives less for every size of which both are known, so it is the careful choice.
    """
    gib = memory_bytes // GIB
    share = MACOS_26_SHARES.get(gib) if memory_bytes % GIB == 0 else None
    if share is None:
        size = macos_15_working_set(memory_bytes)
        return Capacity(size, "derived", f"rule of macOS 15 and older for {gib} GiB; no reading under macOS 26")
    size = pad(int(memory_bytes * share), PAGE)
    return Capacity(size, "seen", f"macOS 26: {float(share):.1%} of {gib} GiB of memory")


def macos_15_working_set(memory_bytes: int) -> int:
    """``recommendedMaxWorkingSetSize`` in bytes under macOS 15 and older.

    Two thirds up to 32 GiB, three quarters above (36-192 GiB seen), all but 48 GiB from 192 GiB on (M3 Ultra:
    212992 of 256 GiB, 475136 of 512 GiB).
    """
    if memory_bytes >= 192 * GIB:
        return memory_bytes - 48 * GIB
    share = Fraction(2, 3) if memory_bytes <= 32 * GIB else Fraction(3, 4)
    return pad(int(memory_bytes * share), PAGE)
