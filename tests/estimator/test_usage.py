"""What a system, a desktop and other programs keep of a device."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.capacity import GIB, MIB
from estimator.devices import device, with_wired_limit
from estimator.errors import DeviceError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.lines import SAFE_MARGIN
from estimator.memory.overhead import overhead
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from estimator.usage import Usage, used
from tests.estimator import samples

LLAMA = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")


def kept(id: str, **usage: Any) -> dict[str, float]:
    """MiB by label."""
    return {reserve.label: reserve.bytes / MIB for reserve in used(device(id), Usage(**usage)).reserves}


@pytest.mark.parametrize(
    ("id", "usage", "expected"),
    [
        ("rtx-4090", {}, {}),
        ("rtx-4090", {"desktop": True}, {"Desktop": 1638.4}),
        ("rtx-4090", {"system": "windows"}, {"Windows": 1527}),
        ("rtx-4090", {"system": "windows", "desktop": True}, {"Windows": 1527}),
        ("rtx-pro-6000-blackwell", {"system": "windows"}, {"Windows": 2529}),
        ("rtx-3090", {"system": "wsl"}, {"Windows and WSL": 1331.2}),
        ("radeon-rx-7900-xtx", {"system": "wsl"}, {"Windows and WSL": 2560}),
        ("radeon-rx-7900-xtx", {"system": "windows"}, {"Windows": 409.6}),
        ("rtx-a6000", {"ecc": True}, {"Error correction": 49140 / 16}),
        ("m3-max-16c-64gb", {"system": "windows", "desktop": True, "taken_mib": 2048}, {"Other programs": 2048}),
        ("rtx-4090", {"desktop": True, "taken_mib": 100}, {"Desktop": 1638.4, "Other programs": 100}),
    ],
)
def test_reserves(id: str, usage: dict[str, object], expected: dict[str, float]) -> None:
    assert kept(id, **usage) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("id", "free_mib"),
    [("rtx-4090", 23036), ("rtx-4070-super", 11069), ("rtx-3060-12-gb", 11253), ("quadro-p6000", 23490)],
)
def test_under_windows_no_more_is_free_than_was_read(id: str, free_mib: int) -> None:
    """``cudaMemGetInfo`` before a model was loaded (reference readings of WDDM)."""
    windows = used(device(id), Usage(system="windows"))
    free = (windows.capacity or 0) - sum(reserve.bytes for reserve in windows.reserves)
    assert free <= free_mib * MIB
    assert free >= (free_mib - 500) * MIB


def test_reserves_are_lines_of_the_estimate() -> None:
    card = used(device("rtx-4090"), Usage(desktop=True, taken_mib=300))
    found = estimate(LLAMA, Settings(n_ctx=8192), [card])
    lines = {line.label: line for line in found.lines if line.kind == "overhead"}
    assert (lines["Desktop"].basis, lines["Desktop"].bytes) == ("margin", 16 * GIB // 10)
    assert lines["Other programs"].bytes == 300 * MIB
    assert [line.label for line in found.lines if line.kind == "overhead"] == [line.label for line in overhead(card)]


def test_a_reserve_costs_context() -> None:
    card = device("rtx-3060-12-gb")
    run = Settings(n_ctx=8192)
    assert max_context(LLAMA, run, [used(card, Usage(desktop=True))]) < max_context(LLAMA, run, [card])


def test_only_what_loads_is_not_yet_safe() -> None:
    needed = estimate(LLAMA, Settings(n_ctx=8192), [samples.device()]).devices[0].total
    for spare, fits, is_safe in (
        (-1, False, False),
        (0, True, False),
        (SAFE_MARGIN - 1, True, False),
        (SAFE_MARGIN, True, True),
    ):
        found = estimate(LLAMA, Settings(n_ctx=8192), [samples.device(capacity=needed + spare)])
        assert (found.fits, found.is_safe) == (fits, is_safe)
        assert (found.devices[0].fits, found.devices[0].is_safe) == (fits, is_safe)


def test_the_deepest_safe_context_leaves_the_margin() -> None:
    card = device("rtx-3060-12-gb")
    safe = max_context(LLAMA, Settings(), [card], spare=SAFE_MARGIN)
    assert 0 < safe < max_context(LLAMA, Settings(), [card])
    assert estimate(LLAMA, Settings(n_ctx=safe), [card]).is_safe
    assert not estimate(LLAMA, Settings(n_ctx=safe + 256), [card]).is_safe


@pytest.mark.parametrize("id", ["rtx-4090", "m3-max-16c-64gb", "radeon-rx-7900-xtx"])
def test_ecc_is_for_cards_that_have_it(id: str) -> None:
    with pytest.raises(DeviceError) as caught:
        used(device(id), Usage(ecc=True))
    assert (caught.value.code, caught.value.field) == ("no-ecc", "ecc")


@pytest.mark.parametrize("mib", [-1, 2**20 + 1])
def test_what_is_taken_is_bounded(mib: int) -> None:
    with pytest.raises(DeviceError) as caught:
        Usage(taken_mib=mib)
    assert (caught.value.code, caught.value.field) == ("out-of-range", "taken")


def test_older_macos_lets_less_be_wired() -> None:
    """Readings of section "Metal": 49152 MiB of 64 GB under macOS 15, 53084 under macOS 26."""
    mac = device("m3-max-16c-64gb")
    older = used(mac, Usage(system="macos-15"))
    assert (older.capacity, mac.capacity) == (49152 * MIB, 55662788608)
    assert "macOS 15" in older.capacity_source
    assert used(with_wired_limit(mac, 60000), Usage(system="macos-15")).capacity == 60000 * MIB
    assert used(device("rtx-4090"), Usage(system="macos-15")) == device("rtx-4090")
