"""Costs outside of llama.cpp's buffers, against what was measured."""

from __future__ import annotations

import pytest

from estimator.capacity import MIB
from estimator.devices import Device, device, devices
from estimator.memory.overhead import OverheadLine, overhead


def line(found: Device, label: str) -> OverheadLine:
    return {entry.label: entry for entry in overhead(found)}[label]


@pytest.mark.parametrize(
    ("device_id", "sm", "measured_mib"),
    [
        ("gtx-1650", 14, 56),
        ("rtx-4060-ti-8-gb", 34, 107),
        ("rtx-3090", 82, 256),
        ("rtx-4090", 128, 392),
        ("rtx-6000-ada-generation", 142, 426),
        ("rtx-pro-6000-blackwell", 188, 555),
    ],
)
def test_the_cuda_context_is_within_7_mib_of_measurements(device_id: str, sm: int, measured_mib: int) -> None:
    context = line(device(device_id), "CUDA context")
    assert abs(context.bytes - measured_mib * MIB) < 7 * MIB
    assert context.basis == "modelled"
    assert f"{sm} SM" in context.explain


@pytest.mark.parametrize(
    ("device_id", "mib"),
    [("gtx-1080", 4), ("rtx-4090", 4), ("h100-sxm5-80-gb", 32), ("b200", 32), ("rtx-5090", 32), ("gb10", 32)],
)
def test_the_cublas_workspace_grows_at_compute_capability_9(device_id: str, mib: int) -> None:
    workspace = line(device(device_id), "cuBLAS workspace")
    assert (workspace.bytes, workspace.basis) == (mib * MIB, "exact")
    assert f"{mib} MiB" in workspace.explain


@pytest.mark.parametrize(
    ("device_id", "measured_mib"),
    [("tesla-p100-pcie-16-gb", 295.7), ("a40-pcie", 298), ("h100-sxm5-80-gb", 593.8), ("rtx-pro-6000-blackwell", 712)],
)
def test_the_whole_covers_a_process_less_its_buffers(device_id: str, measured_mib: float) -> None:
    total = sum(entry.bytes for entry in overhead(device(device_id)))
    assert measured_mib - 1 <= total / MIB <= measured_mib + 135


def test_an_unknown_gpu_costs_what_the_largest_does() -> None:
    unknown = Device(id="mine", name="Mine", backend="cuda")
    costs = overhead(unknown)
    assert {entry.label: entry.bytes for entry in costs} == {
        entry.label: entry.bytes for entry in overhead(device("rtx-pro-6000-blackwell"))
    }
    assert {entry.basis for entry in costs} == {"margin"}
    assert overhead(device("gb200-per-gpu"))[0].basis == "margin"


def test_no_card_of_the_catalogue_costs_more_than_the_fallback() -> None:
    fallback = line(Device(id="mine", name="Mine", backend="cuda"), "CUDA context").bytes
    assert max(line(found, "CUDA context").bytes for found in devices() if found.backend == "cuda") == fallback


def test_rocm_costs_about_what_ollama_holds_back() -> None:
    costs = overhead(device("radeon-rx-7900-xtx"))
    assert {entry.basis for entry in costs} == {"margin"}
    assert 126 * MIB <= line(device("radeon-rx-7900-xtx"), "HIP context").bytes <= 180 * MIB
    assert 400 * MIB <= sum(entry.bytes for entry in costs) <= 457 * MIB


@pytest.mark.parametrize("device_id", ["generic", "m4-16gb", "m3-ultra-512gb"])
def test_metal_and_generic_cost_nothing(device_id: str) -> None:
    assert overhead(device(device_id)) == ()


@pytest.mark.parametrize("found", devices(), ids=lambda found: found.id)
def test_costs_are_whole_bytes_and_leave_room(found: Device) -> None:
    costs = overhead(found)
    assert all(type(entry.bytes) is int and entry.bytes > 0 and entry.explain for entry in costs)
    assert found.capacity is not None
    assert sum(entry.bytes for entry in costs) < found.capacity // 8
