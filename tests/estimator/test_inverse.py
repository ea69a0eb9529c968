"""Inverse questions about one setting, against the forward estimate of every value."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.engines.llama_cpp import kept_on_cpu
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.inverse import (
    PAIRS,
    best_pair,
    best_split,
    fewest_expert_layers,
    is_fast,
    largest_quantization,
    most_layers,
    most_slots,
    quantized,
)
from estimator.settings import Settings
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model
from tests.estimator import samples, truth

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from estimator.devices import Device
    from estimator.model import Model

MIB = 2**20
TINY = st.sampled_from(
    ["llama-dense", "qwen3moe-moe", "gemma3-dense", "deepseek2-moe", "jamba-dense", "nemotron_h-dense"]
)
MOE = st.sampled_from(["qwen3moe-moe", "deepseek2-moe", "gpt-oss-moe", "lfm2moe-moe"])
BACKENDS = st.sampled_from(["generic", "cuda", "metal"])
SHARES = st.floats(0.05, 1.1)
"""Capacity as a share of what the whole model takes."""


def fits(model: Model, settings: Settings, devices: Sequence[Device]) -> bool:
    try:
        return estimate(model, settings, devices).fits
    except SettingsError:
        return False


def cramped(model: Model, settings: Settings, backend: Any, shares: Iterable[float]) -> list[Device]:
    """Devices of a backend with shares of what the model takes on one that has no limit."""
    whole = estimate(model, settings, [samples.device(backend)]).devices[0].total
    return [samples.device(backend, max(int(whole * share), 1)) for share in shares]


@hypothesis(deadline=None, max_examples=60)
@given(name=TINY, backend=BACKENDS, shares=st.lists(SHARES, min_size=1, max_size=2), n_ctx=st.integers(1, 4096))
def test_most_layers(name: str, backend: Any, shares: list[float], n_ctx: int) -> None:
    model, settings = truth.model(name), Settings(n_ctx=n_ctx, n_parallel=1)
    devices = cramped(model, settings, backend, shares)
    values = range(model.n_layer_all + 2)
    fitting = [n for n in values if fits(model, replace(settings, n_gpu_layers=n), devices)]
    assert most_layers(model, settings, devices) == max(fitting, default=None)


@hypothesis(deadline=None, max_examples=40)
@given(name=MOE, backend=BACKENDS, share=SHARES, n_cpu_ffn=st.sampled_from([0, 0, 1]))
def test_fewest_expert_layers(name: str, backend: Any, share: float, n_cpu_ffn: int) -> None:
    model, settings = truth.model(name), Settings(n_ctx=1024, n_parallel=1)
    devices = cramped(model, settings, backend, [share])

    def kept(n: int) -> Settings:
        return replace(settings, cpu_tensors=kept_on_cpu(n, n_cpu_ffn))

    fitting = [n for n in range(model.n_layer_all + 1) if fits(model, kept(n), devices)]
    assert fewest_expert_layers(model, settings, devices, n_cpu_ffn) == min(fitting, default=None)


@hypothesis(deadline=None, max_examples=30)
@given(name=TINY, backend=BACKENDS, share=st.floats(0.8, 3), n_ctx_slot=st.sampled_from([256, 1000, 4096]))
def test_most_slots(name: str, backend: Any, share: float, n_ctx_slot: int) -> None:
    model = truth.model(name)
    devices = cramped(model, Settings(n_ctx=2 * n_ctx_slot, n_parallel=2, kv_unified=False), backend, [share])

    def slots(n: int) -> Settings:
        return Settings(n_ctx=n * n_ctx_slot, n_parallel=n, kv_unified=False)

    fitting = [n for n in range(1, 257) if fits(model, slots(n), devices)]
    assert most_slots(model, Settings(), devices, n_ctx_slot) == max(fitting, default=None)


@hypothesis(deadline=None, max_examples=60)
@given(name=TINY, backend=BACKENDS, share=st.floats(0.7, 1.05), flash_attn=st.booleans())
def test_best_pair(name: str, backend: Any, share: float, flash_attn: bool) -> None:
    model, settings = truth.model(name), Settings(n_ctx=32768, n_parallel=1, flash_attn=flash_attn)
    devices = cramped(model, settings, backend, [share])
    fitting = [
        (k, v)
        for k, v in PAIRS
        if (not flash_attn or is_fast((k, v), devices))
        and fits(model, replace(settings, cache_type_k=k, cache_type_v=v), devices)
    ]
    assert best_pair(model, settings, devices) == next(iter(fitting), None)


def test_pairs_keep_at_least_as_many_bits_of_k() -> None:
    assert PAIRS[0] == ("f16", "f16")
    assert ("q8_0", "q4_0") in PAIRS
    assert ("q4_0", "q8_0") not in PAIRS
    assert len(set(PAIRS)) == len(PAIRS)


@pytest.mark.parametrize(
    ("id", "gib"), [("qwen3-0.6b", 1), ("gpt-oss-20b", 16), ("llama-3.1-8b-instruct", 8), ("phi-2", 2)]
)
def test_largest_quantization(id: str, gib: int) -> None:
    full = catalogue_model(id, "BF16")
    settings, devices = Settings(n_ctx=4096), [samples.device("cuda", gib * 2**30)]
    found = largest_quantization(full, settings, devices, QUANTIZATIONS)
    sizes = {
        name: model.weights_bytes
        for name in QUANTIZATIONS
        if (model := quantized(full, name)) and fits(model, settings, devices)
    }
    assert (sizes[found] if found else 0) == max(sizes.values(), default=0)


@hypothesis(deadline=None, max_examples=15)
@given(
    id=st.sampled_from(["llama-3.1-8b-instruct", "gemma-3-12b-it", "gpt-oss-20b"]),
    gib=st.lists(st.integers(2, 24), min_size=2, max_size=3),
)
def test_best_split(id: str, gib: list[int]) -> None:
    """It is never worse than llama.cpp's own, and no layer can leave the fullest device with gain."""
    model, settings = catalogue_model(id, "Q4_K_M"), Settings(n_ctx=16384)
    devices = [samples.device("cuda", size * 2**30, id=f"card-{index}") for index, size in enumerate(gib)]

    def spare(split: Sequence[float] | None) -> list[int]:
        shares = estimate(model, replace(settings, tensor_split=split), devices).devices
        return [(share.capacity or 0) - share.total for share in shares]

    found = best_split(model, settings, devices)
    assert sum(found) == model.n_layer_all + 1
    free = spare(found)
    full = free.index(min(free))
    for there in range(len(found)):
        if there != full and found[full]:
            moved = [count - (index == full) + (index == there) for index, count in enumerate(found)]
            assert min(spare(moved)) <= min(free)


def test_a_split_of_unequal_cards_follows_their_memory() -> None:
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    first, second = best_split(model, Settings(n_ctx=8192), [device("rtx-4090"), device("rtx-3060-12-gb")])
    assert first > 1.5 * second


def test_without_a_limit_the_split_is_llama_cpps() -> None:
    model = truth.model("llama-dense")
    found = best_split(model, Settings(n_ctx=1024), [device("generic")] * 2)
    assert sum(found) == model.n_layer_all + 1


def test_a_split_of_no_layers_is_even() -> None:
    model = truth.model("llama-dense")
    assert best_split(model, Settings(n_ctx=1024, n_gpu_layers=0), [device("generic")] * 2) == (1, 1)
