"""The inverse questions, against the forward estimate."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

import estimator as fathom
from estimator import fit
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import MOST_POINTS, Point, curve, max_context
from estimator.load import Held
from estimator.memory.context import STEP
from estimator.settings import MAX_N_CTX, Settings
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.model import Model

GENERIC = fathom.device("generic")
IDS = ("llama-3.1-8b-instruct", "gemma-3-27b-it", "gemma-2-9b-it", "gpt-oss-20b", "qwen3-0.6b", "phi-4-mini-instruct")
MODELS = tuple(catalogue_model(id, "Q4_K_M") for id in IDS)
LLAMA, GEMMA, GPT_OSS = MODELS[0], MODELS[1], MODELS[3]


def fits(model: Model, settings: Settings, devices: Sequence[Device], n_ctx: int) -> bool:
    return estimate(model, replace(settings, n_ctx=n_ctx), devices).fits


def assert_exact(model: Model, settings: Settings, devices: Sequence[Device], far: Sequence[int] = ()) -> int:
    """The answer fits, and none of the next 64 steps nor one ``far`` above does."""
    found = max_context(model, settings, devices)
    assert found % STEP == 0 or found < settings.n_ubatch
    assert 0 <= found < MAX_N_CTX
    assert not found or fits(model, settings, devices, found)
    for steps in (*range(1, 65), *far):
        assert not fits(model, settings, devices, found + steps * STEP)
    return found


RUNS = st.builds(
    Settings,
    n_ctx=st.sampled_from([0, 999]),  # is not asked
    n_ubatch=st.sampled_from([16, 512, 2048]),
    n_parallel=st.sampled_from([-1, 1, 3, 8]),
    cache_type_k=st.sampled_from(["f32", "f16", "q8_0", "q4_0"]),
    cache_type_v=st.sampled_from(["f16", "q8_0", "q4_0"]),
    swa_full=st.booleans(),
    n_outputs=st.sampled_from([None, 0]),
)


@hypothesis(deadline=None, max_examples=15)
@given(
    model=st.sampled_from(MODELS),
    settings=RUNS,
    deepest=st.integers(1, 2**13),
    spare=st.sampled_from([0, 0, -1, 1]) | st.integers(0, 2**24),
    kind=st.sampled_from(["generic", "cuda", "metal"]),
    n_devices=st.sampled_from([1, 1, 2]),
    far=st.lists(st.integers(65, 2**14), max_size=8),
)
def test_no_deeper_context_fits(
    model: Model, settings: Settings, deepest: int, spare: int, kind: Any, n_devices: int, far: list[int]
) -> None:
    device = samples.device(kind, multiprocessors=82, compute_capability=(8, 6))
    full = estimate(model, replace(settings, n_ctx=deepest * STEP), [device] * n_devices)
    capacity = max(share.total for share in full.devices) + spare
    found = assert_exact(model, settings, [replace(device, capacity=capacity)] * n_devices, far)
    assert spare < 0 or found >= deepest * STEP


@hypothesis(deadline=None, max_examples=12)
@given(
    settings=RUNS,
    start=st.integers(1, 2**10),
    capacity_gib=st.floats(0.2, 80),
    model=st.sampled_from(MODELS),
)
def test_it_does_not_depend_on_what_the_model_was_trained_for(
    settings: Settings, start: int, capacity_gib: float, model: Model
) -> None:
    devices = [samples.device("metal", int(capacity_gib * 2**30))]
    other = replace(model, context_length=start * STEP)
    assert max_context(other, settings, devices) == max_context(model, settings, devices)


def test_a_deeper_context_may_fit_where_a_shallower_one_does_not() -> None:
    """The mask outgrows the logits at 240,128 tokens and leaves the allocator fewer holes."""
    settings = Settings(n_parallel=1, n_outputs=0)
    total = estimate(LLAMA, replace(settings, n_ctx=240_128), [GENERIC]).devices[0].total
    device = samples.device("generic", total)
    assert not fits(LLAMA, settings, [device], 240_128 - STEP)
    assert assert_exact(LLAMA, settings, [device]) >= 240_128


@pytest.mark.parametrize(
    ("id", "where"),
    [
        ("llama-3.1-8b-instruct", "rtx-3060-12-gb"),
        ("gemma-3-27b-it", "rtx-4090"),
        ("gemma-2-9b-it", "radeon-rx-7900-xtx"),
        ("gpt-oss-20b", "m3-max-14c-36gb"),
        ("qwen3-0.6b", "rtx-4090"),
    ],
)
def test_catalogue_devices(id: str, where: str) -> None:
    assert assert_exact(catalogue_model(id, "Q4_K_M"), Settings(), [fathom.device(where)])


def test_it_may_be_more_than_the_model_was_trained_for() -> None:
    assert max_context(LLAMA, Settings(), [fathom.device("h200-nvl")]) > LLAMA.context_length


@pytest.mark.parametrize("n_parallel", [-1, 1, 3])
def test_zero_where_nothing_fits(n_parallel: int) -> None:
    settings = Settings(n_parallel=n_parallel)
    least = estimate(LLAMA, replace(settings, n_ctx=1), [samples.device("metal")]).devices[0].total
    assert max_context(LLAMA, settings, [samples.device("metal", least - 1)]) == 0
    assert max_context(LLAMA, settings, [samples.device("metal", least)]) >= 1
    assert max_context(LLAMA, settings, [samples.device("metal", 1)]) == 0


def test_fewer_tokens_than_slots_are_not_tried() -> None:
    settings = Settings(n_parallel=8, n_outputs=0)
    least = estimate(LLAMA, replace(settings, n_ctx=8), [GENERIC]).devices[0].total
    assert max_context(LLAMA, settings, [samples.device("generic", least - 1)]) == 0
    assert max_context(LLAMA, settings, [samples.device("generic", least)]) >= 8


@pytest.mark.parametrize("n_ctx", [1, 100, 300, 511])
def test_below_a_batch_every_token_counts(n_ctx: int) -> None:
    """A shorter context makes the batch smaller, so the answer need not be a multiple of 256."""

    def at(n_ctx: int) -> int:
        return estimate(LLAMA, Settings(n_ctx=n_ctx), [GENERIC]).devices[0].total

    deepest = max_context(LLAMA, Settings(), [samples.device("generic", at(n_ctx))])
    assert deepest >= n_ctx
    assert at(deepest) <= at(n_ctx) < min(map(at, range(deepest + 1, 1025)))


def test_one_full_device_of_several_is_the_limit() -> None:
    large, small = samples.device("metal", 2**36), samples.device("metal", 2**32)
    settings = Settings(tensor_split=(1, 1))
    both = assert_exact(LLAMA, settings, [large, small])
    assert 0 < both < assert_exact(LLAMA, settings, [large, large])


def test_all_there_is_without_a_limit() -> None:
    assert max_context(LLAMA, Settings(), [GENERIC]) == MAX_N_CTX
    assert max_context(LLAMA, Settings(n_parallel=1), [GENERIC] * 2) == MAX_N_CTX


def test_refusals_come_through() -> None:
    for ask in (max_context, partial(curve, last=4096)):
        with pytest.raises(SettingsError) as caught:
            ask(LLAMA, Settings(flash_attn=False, cache_type_v="q8_0"), [GENERIC])
        assert caught.value.code == "quantized-v-needs-flash-attention"


# --- the curve

SHOWN = {
    "llama": (LLAMA, Settings()),
    "three slots": (LLAMA, Settings(n_parallel=3)),
    "no flash attention": (LLAMA, Settings(n_parallel=1, flash_attn=False)),
    "every row": (LLAMA, Settings(n_parallel=1, n_outputs=0, n_ubatch=2048)),
    "gemma 3": (GEMMA, Settings()),
    "gemma 3, one slot": (GEMMA, Settings(n_parallel=1, cache_type_k="q8_0", cache_type_v="q4_0")),
    "gemma 3, eight slots": (GEMMA, Settings(n_parallel=8)),
    "gemma 3, whole cache": (GEMMA, Settings(swa_full=True)),
    "gpt-oss": (GPT_OSS, Settings()),
    "gpt-oss, one slot": (GPT_OSS, Settings(n_parallel=1, n_ubatch=2048)),
}
DRAWN = {"rtx-4090": [fathom.device("rtx-4090")], "metal": [samples.device("metal")], "two": [GENERIC] * 2}


@cache
def drawn(shown: str, where: str) -> tuple[Point, ...]:
    model, settings = SHOWN[shown]
    return curve(model, settings, DRAWN[where], 131072)


@pytest.mark.parametrize("where", DRAWN)
@pytest.mark.parametrize("shown", SHOWN)
def test_points_are_estimates_in_order(shown: str, where: str) -> None:
    points = drawn(shown, where)
    places = [point.n_ctx for point in points]
    model, settings = SHOWN[shown]
    step = STEP if settings.is_unified else STEP * settings.n_seq_max
    assert (places[0], places[-1]) == (step, -(-131072 // step) * step)
    assert places == sorted(set(places))
    assert 2 <= len(points) <= 64
    for point in points[:: max(len(points) // 4, 1)]:
        assert point.estimate == estimate(model, replace(settings, n_ctx=point.n_ctx), DRAWN[where])


@hypothesis(deadline=None, max_examples=100)
@given(shown=st.sampled_from(sorted(SHOWN)), where=st.sampled_from(sorted(DRAWN)), steps=st.integers(1, 512))
def test_between_points_it_is_straight(shown: str, where: str, steps: int) -> None:
    """In what is allocated: with a cache for each slot that grows in stairs."""
    model, settings = SHOWN[shown]
    assume(steps > 1 or settings.n_parallel in (-1, 1))  # the batches of the first stair are smaller
    found = estimate(model, replace(settings, n_ctx=steps * STEP), DRAWN[where])
    points = {point.estimate.context.n_ctx: point.estimate for point in drawn(shown, where)}
    n_ctx = found.context.n_ctx
    low, high = max(x for x in points if x <= n_ctx), min(x for x in points if x >= n_ctx)
    share = (n_ctx - low) / (high - low) if high > low else 0
    for a, b, c in zip(points[low].devices, points[high].devices, found.devices, strict=True):
        assert abs(a.total + (b.total - a.total) * share - c.total) <= 8192


def test_a_window_bends_the_curve() -> None:
    assert any(1024 <= point.n_ctx <= 6144 for point in drawn("gemma 3, one slot", "metal"))
    assert len(drawn("gemma 3, whole cache", "metal")) < len(drawn("gemma 3", "metal"))


@pytest.mark.parametrize(("last", "end"), [(1, 512), (512, 512), (513, 768), (100_000, 100_096)])
def test_the_end_is_rounded_up(last: int, end: int) -> None:
    points = curve(LLAMA, Settings(), [GENERIC], last)
    assert (points[0].n_ctx, points[-1].n_ctx) == (256, end)


def test_slopes_are_what_a_token_costs() -> None:
    first, second = drawn("llama", "metal")[-2:]
    tokens = second.n_ctx - first.n_ctx
    cache_growth = second.estimate.devices[0].kv_cache - first.estimate.devices[0].kv_cache
    assert cache_growth == tokens * 32 * 2 * 1024 * 2


def held(size: int) -> tuple[Held, ...]:
    return (Held(0, 0, size, 0, None),)


@pytest.mark.parametrize("end", [2, 3, 100, 1 << 20])
def test_a_curve_that_bends_everywhere_has_only_so_many_points(end: int) -> None:
    found = fit._bends(end, lambda steps: held(steps * steps * 2**20))
    assert {1, end} <= found
    assert len(found) == min(end, MOST_POINTS)


def test_the_most_bent_stretch_gets_its_point_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MOST_POINTS", 20)
    found = fit._bends(1 << 20, lambda steps: held(min(steps, 3000) * 2**20 + max(steps - 2**19, 0)))
    assert sum(steps < 6000 for steps in found) > 8
    assert any(2**18 < steps < 2**20 for steps in found)
