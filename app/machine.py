"""How the devices of a query are used: what it says of all of them, and what of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from estimator import DeviceError, Usage, device, used, with_gtt, with_wired_limit
from estimator.devices import is_apu
from estimator.usage import has_switchable_ecc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from estimator import Device
    from estimator.usage import System


@dataclass(frozen=True, slots=True)
class Machine:
    """What holds the devices.

    Args:
        os: what it runs.
        desktop: the first device draws a desktop.
        ecc: error correction is on for those that ship without.
        taken: MiB that others have taken of each device, from the first; no more of the rest.
        wired: ``iogpu.wired_limit_mb`` of Macs, 0 = the default.
        gtt: MiB of memory that APUs may use, 0 = the default.
    """

    os: System
    desktop: bool
    ecc: bool
    taken: tuple[int, ...]
    wired: int
    gtt: int

    def devices(self, ids: Sequence[str]) -> tuple[Device, ...]:
        """Devices by their ids, as they are used.

        Raises:
            DeviceError: one is not known; a limit or error correction that none of them has; more is taken than there
                are devices.
        """
        found = [device(id) for id in ids]
        if len(self.taken) > len(found):
            allowed = f"at most {len(found)} numbers"
            said = ",".join(map(str, self.taken))
            message = f"taken is {said}: {len(self.taken)} devices, but there are {len(found)}"
            raise DeviceError("device-count", message, field="taken", allowed=allowed)
        if self.wired:
            found = _changed(found, _is_metal, lambda one: with_wired_limit(one, self.wired))
        if self.gtt:
            found = _changed(found, is_apu, lambda one: with_gtt(one, self.gtt))
        ecc = [self.ecc and has_switchable_ecc(one) for one in found]
        if self.ecc and not any(ecc):
            ecc[0] = True
        return tuple(used(one, self._usage(index, ecc=ecc[index])) for index, one in enumerate(found))

    def _usage(self, index: int, *, ecc: bool) -> Usage:
        taken = self.taken[index] if index < len(self.taken) else 0
        return Usage(system=self.os, desktop=self.desktop and index == 0, ecc=ecc, taken_mib=taken)


def _is_metal(one: Device) -> bool:
    return one.backend == "metal"


def _changed(
    found: list[Device], applies: Callable[[Device], bool], change: Callable[[Device], Device]
) -> list[Device]:
    """Those that it applies to changed; where it applies to none, the change says why."""
    if not any(map(applies, found)):
        return [change(one) for one in found]
    return [change(one) if applies(one) else one for one in found]
