"""What would make it fit: each change is enough, and no smaller one of its kind is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from estimator.devices import device
from estimator.engines.llama_cpp import kept_on_cpu
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.inverse import best_split
from estimator.plan import UBATCHES, Change, Kind, changes
from estimator.settings import Settings
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.model import Model

GIB = 2**30
ORDER = get_args(Kind)

CASES = {
    "a large dense model": ("llama-3.3-70b-instruct", "rtx-4090", Settings(n_ctx=32768)),
    "a deep context": ("qwen3-30b-a3b", "rtx-4090", Settings(n_ctx=131072)),
    "experts": ("gpt-oss-120b", "rtx-3090", Settings(n_ctx=131072)),
    "a hybrid": ("qwen3.6-27b", "rtx-4090", Settings(n_ctx=262144)),
    "far too large": ("deepseek-v3", "rtx-4090", Settings(n_ctx=32768)),
    "a Mac": ("llama-3.3-70b-instruct", "m3-max-14c-36gb", Settings(n_ctx=8192)),
    "slots with caches of their own": ("llama-3.1-8b-instruct", "rtx-3060-12-gb", Settings(n_ctx=131072, n_parallel=8)),
}


def found_for(case: str) -> tuple[Model, Settings, list[Device], tuple[Change, ...]]:
    id, where, settings = CASES[case]
    model, devices = catalogue_model(id, "Q4_K_M"), [device(where)]
    full = catalogue_model(id, "BF16")
    return model, settings, devices, changes(model, settings, devices, full=full, file_types=QUANTIZATIONS)


@pytest.mark.parametrize("case", CASES)
def test_every_change_is_enough_and_they_come_in_order(case: str) -> None:
    *_, found = found_for(case)
    assert found
    assert all(change.estimate.fits for change in found)
    kinds = [change.kind for change in found]
    assert kinds == sorted(set(kinds), key=ORDER.index)


@pytest.mark.parametrize("case", CASES)
def test_the_estimates_are_of_the_changes(case: str) -> None:
    model, settings, devices, found = found_for(case)
    for change in found:
        assert estimate(*applied(change, model, settings, devices)) == change.estimate


@pytest.mark.parametrize("case", CASES)
def test_no_smaller_change_is_enough(case: str) -> None:
    model, settings, devices, found = found_for(case)
    for change in found:
        for smaller in less(change):
            assert not estimate(*applied(smaller, model, settings, devices)).fits


def applied(change: Change, model: Model, settings: Settings, devices: Sequence[Device]) -> tuple[Any, Any, Any]:
    """The run with a change."""
    value: Any = change.value
    if change.kind == "n_devices":
        return model, settings, [devices[0]] * value
    if change.kind == "device":
        return model, settings, [device(value)] * len(devices)
    if change.kind == "file_type":
        id = next(id for id, *_ in CASES.values() if catalogue_model(id, "Q4_K_M").name == model.name)
        return catalogue_model(id, value), settings, devices
    if change.kind == "cache_types":
        return model, replace(settings, cache_type_k=value[0], cache_type_v=value[1]), devices
    if change.kind == "n_cpu_moe":
        return model, replace(settings, cpu_tensors=kept_on_cpu(value, 0)), devices
    if change.kind == "n_parallel":
        n_ctx = settings.n_ctx if settings.is_unified else settings.n_ctx * value // settings.n_seq_max
        return model, replace(settings, n_parallel=value, kv_unified=settings.is_unified, n_ctx=n_ctx), devices
    return model, replace(settings, **{change.kind: value}), devices


def less(change: Change) -> list[Change]:
    """Smaller changes of the kind."""
    value: Any = change.value
    steps: dict[str, list[Any]] = {
        "n_ubatch": [n for n in UBATCHES if n > value] if change.kind == "n_ubatch" else [],
        "n_parallel": [value + 1] if change.kind == "n_parallel" else [],
        "n_ctx": [value + 256] if change.kind == "n_ctx" else [],
        "n_cpu_moe": [value - 1] if change.kind == "n_cpu_moe" else [],
        "n_gpu_layers": [value + 1] if change.kind == "n_gpu_layers" else [],
        "n_devices": [value - 1] if change.kind == "n_devices" else [],
    }
    return [replace(change, value=step) for step in steps.get(change.kind, []) if step > 0]


def test_nothing_is_to_be_done_where_it_fits() -> None:
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    assert changes(model, Settings(n_ctx=8192), [device("rtx-4090")]) == ()


def test_a_smaller_ubatch_comes_first() -> None:
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    settings = Settings(n_ctx=8192, n_ubatch=2048, n_parallel=1)
    least = estimate(model, replace(settings, n_ubatch=256), [samples.device()]).devices[0].total
    found = changes(model, settings, [samples.device(capacity=least)])
    assert (found[0].kind, found[0].value) == ("n_ubatch", 256)


def test_a_larger_device_is_of_the_same_form() -> None:
    *_, found = found_for("a deep context")
    other = next(device(str(change.value)) for change in found if change.kind == "device")
    assert other.form_factor == "desktop"
    assert (other.capacity or 0) > (device("rtx-4090").capacity or 0)


def test_a_mac_cannot_have_a_second_gpu() -> None:
    *_, found = found_for("a Mac")
    assert "n_devices" not in {change.kind for change in found}


def test_of_different_devices_none_is_exchanged() -> None:
    model = catalogue_model("llama-3.3-70b-instruct", "Q4_K_M")
    found = changes(model, Settings(n_ctx=8192), [device("rtx-4090"), device("rtx-3060-12-gb")])
    assert not {"n_devices", "device"} & {change.kind for change in found}


def test_another_split_harms_least() -> None:
    model = catalogue_model("gemma-3-27b-it", "Q4_K_M")
    devices = [device("rtx-3090"), device("rtx-3060-12-gb")]
    deepest = max_context(model, Settings(), devices)
    settings = Settings(n_ctx=deepest + 256)
    first = changes(model, settings, devices)[0]
    assert (first.kind, first.value) == ("tensor_split", best_split(model, settings, devices))
    assert estimate(model, replace(settings, tensor_split=best_split(model, settings, devices)), devices).fits


def test_one_device_has_no_split() -> None:
    *_, found = found_for("a deep context")
    assert "tensor_split" not in {change.kind for change in found}
