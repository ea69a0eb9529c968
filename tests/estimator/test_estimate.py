"""The estimate as a whole: lines, totals, devices, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

import estimator as fathom
from estimator.errors import DeviceError, SettingsError
from estimator.estimate import MAX_DEVICES, Estimate, estimate
from estimator.ggml import CACHE_TYPES
from estimator.lines import KINDS
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.backends import BackendName
    from estimator.model import Model

MIB = 2**20
GENERIC = fathom.device("generic")
RTX_3090 = fathom.device("rtx-3090")
RTX_4090 = fathom.device("rtx-4090")

MODELS = tuple(
    catalogue_model(id, "Q4_K_M") for id in ("llama-3.1-8b-instruct", "gemma-3-4b-it", "gpt-oss-20b", "qwen3-30b-a3b")
)
LLAMA = MODELS[0]


def assert_adds_up(found: Estimate) -> None:
    shares = (*found.devices, found.host)
    for share in shares:
        lines = [line for line in found.lines if line.device == share.label]
        for kind in KINDS:
            assert getattr(share, kind) == sum(line.bytes for line in lines if line.kind == kind)
        assert share.total == sum(line.bytes for line in lines)
        assert 0 <= share.holes <= share.compute
    assert sum(share.total for share in shares) == sum(line.bytes for line in found.lines)
    assert {line.basis for line in found.lines} <= {"exact", "modelled", "margin"}
    assert all(line.bytes >= 0 and line.label and line.explain for line in found.lines)


def test_an_estimate_to_look_at() -> None:
    found = estimate(LLAMA, Settings(n_ctx=8192), [RTX_4090])
    assert_adds_up(found)
    share = found.devices[0]
    assert (share.id, share.label, share.name) == ("rtx-4090", "rtx-4090", RTX_4090.name)
    assert share.kv_cache == 1024 * MIB
    assert share.recurrent_state == 0
    assert share.capacity == RTX_4090.capacity
    assert share.fits
    assert (found.host.id, found.host.label, found.host.capacity) == ("host", "host", None)
    assert found.host.fits
    assert found.context.n_ctx == 8192
    assert [(line.device, line.kind, line.label, line.basis) for line in found.lines] == [
        ("rtx-4090", "weights", "32 of 32 layers", "exact"),
        ("rtx-4090", "weights", "Output layer", "exact"),
        ("host", "weights", "Input embedding", "exact"),
        ("rtx-4090", "kv_cache", "K cache, 32 layers", "exact"),
        ("rtx-4090", "kv_cache", "V cache, 32 layers", "exact"),
        ("rtx-4090", "compute", "Compute buffer", "modelled"),
        ("host", "compute", "Compute buffer", "exact"),
        ("rtx-4090", "overhead", "CUDA context", "modelled"),
        ("rtx-4090", "overhead", "cuBLAS workspace", "exact"),
        ("rtx-4090", "overhead", "CUDA kernels and pools", "margin"),
    ]


def test_a_generic_device_has_neither_overhead_nor_limit() -> None:
    found = estimate(LLAMA, Settings(n_ctx=8192), [GENERIC])
    share = found.devices[0]
    assert (share.overhead, share.capacity, share.fits, found.fits) == (0, None, True, True)
    assert {line.basis for line in found.lines} == {"exact"}
    assert found.warnings == ()


def test_weights_on_device_and_host_are_those_of_the_file() -> None:
    found = estimate(LLAMA, Settings(n_ctx=256), [GENERIC])
    # every tensor of this model is a multiple of 32 bytes
    assert found.devices[0].weights + found.host.weights == LLAMA.weights_bytes


def test_a_device_fits_up_to_its_last_byte() -> None:
    settings = Settings(n_ctx=4096)
    total = estimate(LLAMA, settings, [samples.device("metal")]).devices[0].total
    for spare in (0, 1, -1):
        found = estimate(LLAMA, settings, [samples.device("metal", total + spare)])
        assert found.devices[0].fits == found.fits == (spare >= 0)


def test_all_devices_must_fit() -> None:
    found = estimate(LLAMA, Settings(n_ctx=4096, tensor_split=(1, 1)), [RTX_4090, replace(RTX_3090, capacity=MIB)])
    assert [share.fits for share in found.devices] == [True, False]
    assert not found.fits


# --- devices


def test_equal_devices_are_told_apart() -> None:
    found = estimate(LLAMA, Settings(n_ctx=4096), [RTX_3090, RTX_4090, RTX_3090, RTX_3090])
    assert_adds_up(found)
    assert [share.label for share in found.devices] == ["rtx-3090", "rtx-4090", "rtx-3090#2", "rtx-3090#3"]
    assert [share.id for share in found.devices] == ["rtx-3090", "rtx-4090", "rtx-3090", "rtx-3090"]
    labels = [line.label for line in found.lines if line.kind == "weights" and line.device != "host"]
    counts = [int(label.split(" of ")[0]) for label in labels if label.endswith(" of 32 layers")]
    assert len(counts) == 4
    assert sum(counts) == 32
    assert labels[-1] == "Output layer"


def test_layers_are_shared_by_free_memory_or_as_told() -> None:
    large, small = samples.device("generic", 24 * 2**30), samples.device("generic", 8 * 2**30)
    weights = [share.weights for share in estimate(LLAMA, Settings(n_ctx=256), [large, small]).devices]
    assert weights[0] > 2 * weights[1]
    told = Settings(n_ctx=256, tensor_split=(3, 1))
    assert [share.weights for share in estimate(LLAMA, told, [small, small]).devices] == weights
    whole = estimate(LLAMA, Settings(n_ctx=256, tensor_split=(0, 1)), [small, large]).devices
    assert (whole[0].weights, whole[0].kv_cache) == (0, 0)


@pytest.mark.parametrize("count", [0, MAX_DEVICES + 1])
def test_device_count(count: int) -> None:
    with pytest.raises(DeviceError) as caught:
        estimate(LLAMA, Settings(), [GENERIC] * count)
    error = caught.value
    assert (error.code, error.field, error.allowed) == ("device-count", "device", "1 to 16 devices")
    assert str(count) in error.message


def test_as_many_devices_as_llama_cpp_has() -> None:
    found = estimate(LLAMA, Settings(n_ctx=4096), [RTX_3090] * MAX_DEVICES)
    assert_adds_up(found)
    assert found.devices[-1].label == "rtx-3090#16"


# --- what a backend adds


def compute(backend: BackendName, **given: Any) -> int:
    """The compute buffer of one wide layer over a long context, where attention takes the most."""
    model = samples.model(*(samples.layer(n_ff=1024),) * 3)
    settings = Settings(**{"n_ctx": 65536, "n_parallel": 1, "n_ubatch": 64, **given})
    return estimate(model, settings, [samples.device(backend)]).devices[0].compute


ONE_SIDE = 65536 * 1024 * 2
"""K or V of one layer in f16."""


@pytest.mark.parametrize("backend", ["cuda", "rocm"])
def test_cuda_adds_a_copy_of_one_layer_in_f16(backend: BackendName) -> None:
    q8_0 = {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}
    assert abs(compute(backend, **q8_0) - compute("generic", **q8_0) - 2 * ONE_SIDE) < 4 * MIB
    assert abs(compute(backend, cache_type_k="q8_0") - compute("generic", cache_type_k="q8_0") - ONE_SIDE) < 4 * MIB
    assert abs(compute(backend) - compute("generic")) < 4096


def test_metal_reserves_it_whatever_the_type() -> None:
    for name in ("f16", "q8_0"):
        both = {"cache_type_k": name, "cache_type_v": name}
        assert 2 * ONE_SIDE < compute("metal", **both) - compute("generic", **both) < 2 * ONE_SIDE + 24 * MIB


def test_without_flash_attention_backends_are_alike() -> None:
    sizes = {compute(backend, flash_attn=False) for backend in ("generic", "metal")}
    assert len(sizes) == 1
    assert abs(compute("cuda", flash_attn=False) - sizes.pop()) < 4096


# --- refusals


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"cache_type_v": "q8_0", "flash_attn": False}, "quantized-v-needs-flash-attention", "cache_type_v"),
        ({"tensor_split": (1, 1)}, "bad-tensor-split", "tensor_split"),
    ],
)
def test_refusals(given: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        estimate(LLAMA, Settings(**given), [GENERIC])
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.allowed


# --- what stays on the host


def test_no_layer_on_the_device() -> None:
    found = estimate(LLAMA, Settings(n_gpu_layers=0), [GENERIC])
    share = found.devices[0]
    assert (share.weights, share.kv_cache, share.compute) == (0, 0, 0)
    assert found.host.weights == LLAMA.weights_bytes
    whole = estimate(LLAMA, Settings(), [GENERIC])
    assert found.host.kv_cache == whole.devices[0].kv_cache
    assert found.host.compute > whole.devices[0].compute


@pytest.mark.parametrize("n_gpu_layers", [1, 5, 32])
def test_layers_take_their_weights_and_cache_along(n_gpu_layers: int) -> None:
    found, whole = (estimate(LLAMA, Settings(n_gpu_layers=n), [GENERIC]) for n in (n_gpu_layers, -1))
    cache = whole.devices[0].kv_cache
    assert found.devices[0].kv_cache == cache * (n_gpu_layers - 1) // 32
    for kind in ("weights", "kv_cache"):
        both = [getattr(run.devices[0], kind) + getattr(run.host, kind) for run in (found, whole)]
        # RoPE factors are needed in both places
        assert 0 <= both[0] - both[1] <= 256


def test_the_cache_alone_can_stay_on_the_host() -> None:
    found, whole = (estimate(LLAMA, Settings(offload_kqv=offload), [GENERIC]) for offload in (False, True))
    assert (found.host.kv_cache, found.devices[0].kv_cache) == (whole.devices[0].kv_cache, 0)
    assert found.devices[0].weights == whole.devices[0].weights
    # a layer's K and V pass through the compute buffer
    assert found.devices[0].compute > whole.devices[0].compute


def test_tensors_that_are_kept_on_the_host_have_a_line() -> None:
    found = estimate(LLAMA, Settings(cpu_tensors=r"ffn_(up|down|gate)\."), [GENERIC])
    line = next(line for line in found.lines if line.label == "Tensors kept here")
    assert (line.device, line.kind, line.basis) == ("host", "weights", "exact")
    assert line.bytes == sum(
        tensor.n_bytes for tensor in LLAMA.tensors if ".ffn_" in tensor.name and "norm" not in tensor.name
    )
    assert found.devices[0].weights + found.host.weights == LLAMA.weights_bytes


def test_all_layers_by_number() -> None:
    assert estimate(LLAMA, Settings(n_gpu_layers=33), [GENERIC]) == estimate(LLAMA, Settings(), [GENERIC])


# --- properties

RUNS = st.builds(
    Settings,
    n_ctx=st.integers(8, 2**18),  # fewer than slots are refused
    n_batch=st.sampled_from([64, 2048, 4096]),
    n_ubatch=st.sampled_from([1, 16, 512, 2048]),
    n_parallel=st.sampled_from([-1, 1, 3, 8]),
    kv_unified=st.sampled_from([None, True, False]),
    cache_type_k=st.sampled_from(CACHE_TYPES),
    cache_type_v=st.sampled_from(CACHE_TYPES),
    swa_full=st.booleans(),
    n_outputs=st.sampled_from([None, 0, 8]),
)
DEVICES = st.lists(
    st.sampled_from([RTX_4090, GENERIC, samples.device("metal", 2**35), samples.device("rocm")]), min_size=1, max_size=3
)
SMALLER = {"f32": "f16", "f16": "q8_0", "bf16": "q8_0", "q8_0": "q5_1", "q5_1": "q5_0", "q5_0": "q4_1", "q4_1": "q4_0"}


@hypothesis(deadline=None, max_examples=60)
@given(model=st.sampled_from(MODELS), settings=RUNS, devices=DEVICES)
def test_lines_add_up(model: Model, settings: Settings, devices: list[fathom.Device]) -> None:
    found = estimate(model, settings, devices)
    assert_adds_up(found)
    assert len(found.devices) == len(devices)
    assert found == estimate(model, settings, devices)


@hypothesis(deadline=None, max_examples=40)
@given(model=st.sampled_from(MODELS), settings=RUNS, side=st.sampled_from(["cache_type_k", "cache_type_v"]))
def test_a_smaller_type_never_takes_more_cache(model: Model, settings: Settings, side: str) -> None:
    smaller: dict[str, Any] = {side: SMALLER.get(getattr(settings, side), "q4_0")}
    before, after = (
        estimate(model, run, [GENERIC]).devices[0].kv_cache for run in (settings, replace(settings, **smaller))
    )
    assert after <= before


@hypothesis(deadline=None, max_examples=40)
@given(model=st.sampled_from(MODELS), settings=RUNS, more=st.integers(1, 2**18), devices=DEVICES)
def test_a_deeper_context_never_takes_less_cache(
    model: Model, settings: Settings, more: int, devices: list[fathom.Device]
) -> None:
    before = estimate(model, settings, devices)
    after = estimate(model, replace(settings, n_ctx=settings.n_ctx + more), devices)
    for low, high in zip(before.devices, after.devices, strict=True):
        assert low.kv_cache <= high.kv_cache
        assert low.weights == high.weights
        assert low.overhead == high.overhead
    assert before.host.compute <= after.host.compute
