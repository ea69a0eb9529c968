"""Ceilings, against totals that were read on real machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from estimator.capacity import (
    GIB,
    MIB,
    OLD_DRIVER_RESERVE,
    PASCAL_RESERVES,
    RESERVES,
    VOLTA_RESERVES,
    Profile,
    capacity,
    macos_15_working_set,
    working_set,
)
from estimator.devices import CATALOGUE

PROFILES: dict[str, Any] = {
    profile["id"]: profile for profile in json.loads(Path(CATALOGUE).read_text(encoding="utf-8"))["devices"]
}


ODD = {"radeon-rx-7800-xt", "radeon-pro-v620"}


def without_reading(device_id: str) -> Profile:
    """The profile as if nobody had read its total."""
    profile: Profile = PROFILES[device_id].copy()
    profile.pop("total_linux_mib", None)
    return profile


@pytest.mark.parametrize(
    ("gib", "macos_26", "macos_15"),
    [
        (8, 5461, 5461),
        (16, 12124, 10923),
        (18, 13640, 12288),
        (24, 18186, 16384),
        (32, 25559, 21845),
        (36, 28754, 27648),
        (48, 38339, 36864),
        (64, 53084, 49152),
        (96, None, 73728),
        (128, 110100, 98304),
        (192, None, 147456),
        (256, None, 212992),
        (512, None, 475136),
    ],
)
def test_metal_working_set_by_memory_size(gib: int, macos_26: int | None, macos_15: int) -> None:
    found = working_set(gib * GIB)
    assert round(macos_15_working_set(gib * GIB) / MIB) == macos_15
    assert round(found.bytes / MIB) == (macos_26 or macos_15)
    assert found.basis == ("seen" if macos_26 else "derived")


@pytest.mark.parametrize(
    ("gib", "reading"),
    [(8, 5726633984), (24, 19069665280), (48, 40200896512), (64, 55662788608), (128, 115448725504)],
)
def test_metal_readings_fit_to_the_byte(gib: int, reading: int) -> None:
    assert working_set(gib * GIB).bytes == reading


@pytest.mark.parametrize("gib", [8, 16, 18, 24, 32, 36, 48, 64, 128])
def test_newer_macos_never_gives_less(gib: int) -> None:
    assert working_set(gib * GIB).bytes >= macos_15_working_set(gib * GIB)


def test_an_odd_memory_size_falls_back_to_the_older_rule() -> None:
    assert working_set(20 * GIB).basis == "derived"
    assert working_set(24 * GIB + 4096).bytes == macos_15_working_set(24 * GIB + 4096)


def _with_reading(backend: str) -> list[str]:
    """Devices whose total was read, without old drivers, the one odd sighting, and the one card with ECC on."""
    ids: list[str] = []
    for profile in PROFILES.values():
        if profile["backend"] != backend or "total_linux_mib" not in profile or profile["id"] in ODD:
            continue
        if "with a driver that kept" not in capacity(profile).source:
            ids.append(profile["id"])
    return ids


@pytest.mark.parametrize("device_id", _with_reading("cuda"))
def test_a_derived_cuda_total_is_close_and_never_above_the_one_read(device_id: str) -> None:
    derived = capacity(without_reading(device_id))
    read = PROFILES[device_id]["total_linux_mib"] * MIB
    assert derived.basis == "derived"
    assert derived.bytes <= read
    # the AGX Thor and the GB10 are 3 % from the smallest Jetson
    assert read - derived.bytes <= read // 20


@pytest.mark.parametrize("device_id", _with_reading("rocm"))
def test_the_rocm_rule_gives_the_total_that_was_read(device_id: str) -> None:
    profile = without_reading(device_id)
    assert capacity(profile).bytes == PROFILES[device_id]["total_linux_mib"] * MIB


def test_an_old_driver_is_told() -> None:
    source = capacity(PROFILES["rtx-2080-ti"]).source
    assert "244 MiB" in source
    assert "461 MiB" in source
    assert "kept" not in capacity(PROFILES["rtx-4090"]).source


def test_reserves_grow_with_the_card() -> None:
    for reserves in (PASCAL_RESERVES, VOLTA_RESERVES, RESERVES):
        assert list(reserves) == sorted(reserves)
        assert [mib for _, mib in reserves] == sorted(mib for _, mib in reserves)
    assert RESERVES[0][1] > OLD_DRIVER_RESERVE


@pytest.mark.parametrize(
    ("device_id", "mib", "says"),
    [
        ("rtx-5080", 16303 - 461, "nvidia-smi"),
        ("rtx-3080", 10240 - 461, "Windows"),
        ("rtx-4090-d", 24564 - 498, "as other 24 GB cards"),
        ("rtx-a5500", 24564 - 498, "as other 24 GB cards"),
        ("rtx-3090-ti", 24564 - 498, "nvidia-smi"),
        ("l40", 46068 - 631, "ECC"),
        ("rtx-pro-5000-72-gb-blackwell", 73728 * 8151 // 8192 - 769, "99.5% of 72 GiB"),
        ("quadro-p5000", 16384 - 115, "nominal"),
        ("titan-v", 12288 - 224, "nominal"),
        ("jetson-orin-nx-8-gb", 7607, "Orin 8 GB"),
        ("radeon-rx-7600", 8176, "16 MiB"),
        ("radeon-rx-9070-gre", 12208, "80 MiB"),
        ("instinct-mi355x", 294432, "MI300X"),
        ("radeon-780m-32gb", 16384, "half of 32 GiB"),
    ],
)
def test_a_total_nobody_read_is_derived_and_says_how(device_id: str, mib: int, says: str) -> None:
    found = capacity(PROFILES[device_id])
    assert (found.bytes, found.basis) == (mib * MIB, "derived")
    assert says in found.source
