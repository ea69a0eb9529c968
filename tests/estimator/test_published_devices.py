"""What was read on real devices, as one table each for CUDA, ROCm and Metal: the profiles reproduce it.

Sources are those of the catalogue's figures (logs, ``nvidia-smi``, drivers' documents); all sizes in MiB.
"""

from __future__ import annotations

import pytest

from estimator.capacity import GIB, MIB, macos_15_working_set
from estimator.devices import Device, device, with_gtt, with_wired_limit
from estimator.memory.overhead import overhead
from estimator.usage import Usage, used

CUDA = [
    # id, nvidia-smi's total, CUDA's total, CUDA's context, free before the model (None: not read)
    ("gtx-1650", 4096, 3716, 56, 3659),
    ("tesla-t4", 15360, 14912, None, None),
    ("rtx-3060-12-gb", 12288, 11910, None, None),
    ("rtx-3090", 24576, 24123, 256, None),
    ("rtx-4060-ti-8-gb", None, None, 107, None),
    ("rtx-4070", 12282, 11903, None, None),
    ("rtx-4090", 24564, 24210, 392, 23818),
    ("rtx-5060-ti-16-gb", 16311, 15850, None, None),
    ("rtx-5070-ti", 16303, 15842, None, None),
    ("rtx-6000-ada-generation", 49140, 48509, 426, None),
    ("rtx-pro-6000-blackwell", 97887, 97247, 555, None),
    ("tesla-v100-pcie-16-gb", None, 16160, None, None),
    ("tesla-v100-sxm2-32-gb", 32768, 32494, None, None),
    ("a100-sxm4-40-gb", 40960, 40441, None, None),
    ("a100-sxm4-80-gb", 81920, 81151, None, None),
    ("h100-sxm5-80-gb", 81559, 81081, None, None),
    ("b200", 183359, 182631, None, None),
    ("gb10", None, 124610, None, None),
    ("jetson-agx-orin-64-gb", None, 62827, None, None),
    ("jetson-orin-nano-8-gb", None, 7607, None, None),
]
ECC = {
    # what nvidia-smi shows of cards that ship with ECC on: 15/16 of GDDR, all of HBM
    **{"tesla-t4": 15360, "tesla-p4": 7680, "tesla-p40": 23040, "a10g": 23028, "a10-pcie": 23028, "l4": 23034},
    **{"a2-pcie": 15356, "a16-pcie": 15356, "a40-pcie": 46068, "l40s": 46068},
    **{"a30-pcie": 24576, "a100-sxm4-80-gb": 81920, "tesla-v100-sxm2-32-gb": 32768},
}
WINDOWS = {"rtx-4090": 24563, "rtx-4070-super": 12281, "rtx-3060-12-gb": 12287, "quadro-p6000": 24575}
WINDOWS |= {"rtx-pro-6000-blackwell": 97886, "rtx-3090": 24575, "rtx-4070-ti-super": 16375}
ROCM = {
    **{"radeon-rx-6800": 16368, "radeon-rx-7900-xt": 20464, "radeon-rx-7900-xtx": 24560, "radeon-rx-6800m": 12272},
    **{"instinct-mi50": 16368, "instinct-mi210": 65520, "radeon-rx-9070-xt": 16304, "radeon-ai-pro-r9700": 32624},
    **{"instinct-mi300x": 196288, "radeon-pro-v620": 30704, "ryzen-ai-max-395-128gb": 65536},
}
METAL = [
    # GB of memory, macOS 15 and older, macOS 26 (None: not seen)
    *((8, 5461, 5461), (16, 10923, 12124), (18, 12288, 13640), (24, 16384, 18186), (32, 21845, 25559)),
    *((36, 27648, 28754), (48, 36864, 38339), (64, 49152, 53084), (96, 73728, None), (128, 98304, 110100)),
    *((192, 147456, None), (256, 212992, None), (512, 475136, None)),
]


def context(of: Device) -> int:
    """Bytes of the CUDA context."""
    return next(line.bytes for line in overhead(of) if line.label == "CUDA context")


@pytest.mark.parametrize(("id", "reported", "total", "of_context", "free"), CUDA, ids=[row[0] for row in CUDA])
def test_cuda(id: str, reported: int | None, total: int | None, of_context: int | None, free: int | None) -> None:
    found = device(id)
    assert found.capacity is not None
    if reported:
        assert found.memory_bytes == reported * MIB
    if total:
        assert found.capacity == total * MIB
    if of_context:
        assert abs(context(found) - of_context * MIB) < 7 * MIB
    if free:
        assert abs(found.capacity - context(found) - free * MIB) < 8 * MIB


@pytest.mark.parametrize("id", ECC)
def test_cards_with_ecc(id: str) -> None:
    assert device(id).memory_bytes == ECC[id] * MIB


def test_ecc_switched_on() -> None:
    """RTX A6000 and RTX 6000 Ada drop from 49140 to about 46068 MiB."""
    for id in ("rtx-a6000", "rtx-6000-ada-generation"):
        card = used(device(id), Usage(ecc=True))
        assert card.memory_bytes
        assert round((card.memory_bytes - card.reserves[0].bytes) / MIB) == pytest.approx(46068, abs=1)


@pytest.mark.parametrize("id", WINDOWS)
def test_cuda_under_windows(id: str) -> None:
    assert used(device(id), Usage(system="windows")).capacity == WINDOWS[id] * MIB


@pytest.mark.parametrize("id", ROCM)
def test_rocm(id: str) -> None:
    assert device(id).capacity == ROCM[id] * MIB


@pytest.mark.parametrize(("gib", "macos_15", "macos_26"), METAL, ids=[f"{row[0]} GB" for row in METAL])
def test_metal(gib: int, macos_15: int, macos_26: int | None) -> None:
    mac = device(f"metal-{gib}gb")
    assert mac.capacity is not None
    assert round(mac.capacity / MIB) == (macos_26 or macos_15)
    older = used(mac, Usage(system="macos-15"))
    assert older.capacity is not None
    assert round(older.capacity / MIB) == round(macos_15_working_set(gib * GIB) / MIB) == macos_15


@pytest.mark.parametrize(("id", "mib"), [("m3-16gb", 12000), ("m3-16gb", 14000), ("m1-max-32gb", 26000)])
def test_a_wired_limit_is_what_metal_reports(id: str, mib: int) -> None:
    assert with_wired_limit(device(id), mib).capacity == mib * MIB


def test_an_apu_after_its_share_was_raised() -> None:
    """128000 MiB were seen of a 128 GB Strix Halo; 64 GiB are the default."""
    apu = device("ryzen-ai-max-395-128gb")
    assert (apu.capacity, with_gtt(apu, 128000).capacity) == (64 * GIB, 128000 * MIB)
