"""What a query says of its devices goes to those that it is about."""

from __future__ import annotations

import pytest

from app.machine import Machine
from estimator import DeviceError
from estimator.capacity import MIB

PLAIN = Machine(os="linux", desktop=False, ecc=False, taken=(), wired=0, gtt=0)


def reserves(machine: Machine, *ids: str) -> list[dict[str, int]]:
    """MiB by label, of each device."""
    return [{kept.label: kept.bytes // MIB for kept in one.reserves} for one in machine.devices(ids)]


def made(**changes: object) -> Machine:
    """A machine that differs from a plain one."""
    return Machine(**{**{name: getattr(PLAIN, name) for name in Machine.__slots__}, **changes})


def test_the_first_device_draws_the_desktop() -> None:
    assert reserves(made(desktop=True), "rtx-3090", "rtx-3090") == [{"Desktop": 1638}, {}]


def test_windows_keeps_a_part_of_each() -> None:
    assert reserves(made(os="windows"), "rtx-3090", "rtx-3060-12-gb") == [{"Windows": 1527}] * 2


def test_what_is_taken_is_said_of_each() -> None:
    machine = made(taken=(0, 300))
    assert reserves(machine, "rtx-3090", "rtx-3090", "rtx-3090") == [{}, {"Other programs": 300}, {}]
    with pytest.raises(DeviceError) as caught:
        machine.devices(["rtx-3090"])
    assert (caught.value.code, caught.value.field) == ("device-count", "taken")


def test_error_correction_is_of_those_that_can() -> None:
    assert reserves(made(ecc=True), "rtx-4090", "rtx-a6000") == [{}, {"Error correction": 3071}]
    with pytest.raises(DeviceError) as caught:
        made(ecc=True).devices(["rtx-4090", "rtx-3090"])
    assert (caught.value.code, caught.value.field) == ("no-ecc", "ecc")


def test_limits_are_of_those_that_have_them() -> None:
    apu, mac, card = made(wired=12000, gtt=50000).devices(["radeon-780m-64gb", "m1-16gb", "rtx-4090"])
    assert (apu.capacity, mac.capacity) == (50000 * MIB, 12000 * MIB)
    assert card == PLAIN.devices(["rtx-4090"])[0]
    for changes, field in (({"wired": 12000}, "wired"), ({"gtt": 50000}, "gtt")):
        with pytest.raises(DeviceError) as caught:
            made(**changes).devices(["rtx-4090"])
        assert caught.value.field == field


def test_a_limit_is_a_limit_under_any_system() -> None:
    (mac,) = made(os="macos-15", wired=12000).devices(["m1-16gb"])
    assert mac.capacity == 12000 * MIB
