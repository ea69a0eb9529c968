"""What runs on devices: the same as asking for each model at each quantization with each pair of cache types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.errors import DeviceError, SettingsError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.inverse import PAIRS
from estimator.settings import Settings
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model, entries, full_precision
from estimator.speed import decoding_bound
from estimator.stored_runs import stored_run
from estimator.survey import smaller_pairs, survey
from estimator.usage import Usage, used
from tests.estimator import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.survey import Found

IDS = [entry.id for entry in entries()]
SOME = IDS[::29]
NAMES = ("Q8_0", "Q6_K", "Q4_K_M", "MXFP4_MOE", "Q2_K")
UNUSUAL = [
    "deepseek-v2-lite",
    "qwen3.5-9b",
    "gemma-3-1b-it",
    "gpt-oss-20b",
    "phi-2",
    "jamba-v0.1",
    "bge-m3",
    "glm-4.5v",
]
PLACES: dict[str, tuple[str, ...]] = {
    "one card": ("rtx-4090",),
    "a Mac": ("m3-pro-18gb",),
    "a card of AMD": ("radeon-rx-7900-gre",),
    "two equal cards": ("rtx-3090", "rtx-3090"),
    "two that differ": ("rtx-4090", "rtx-3060-12-gb"),
    "three": ("rtx-3090", "rtx-3090", "rtx-3090"),
}


def check(found: Found, settings: Settings, devices: Sequence[Device], names: Sequence[str] = NAMES) -> None:
    """Compare what is found of a model with the forward estimate of each of its quantizations."""
    known = {name: catalogue_model(found.entry.id, name) for name in names}
    for choice in found.choices:
        k, v = choice.pair
        run = Settings(
            n_ctx=settings.n_ctx,
            n_parallel=settings.n_parallel,
            n_ubatch=settings.n_ubatch,
            cache_type_k=k,
            cache_type_v=v,
        )
        best = known[choice.quantization]
        now = estimate(best, run, devices)
        assert now.fits
        assert choice.totals == tuple(share.total for share in now.devices)
        assert choice.max_context == max_context(best, run, devices)
        larger = [model for model in known.values() if model.weights_bytes > best.weights_bytes * 1.01]
        if not found.facts.has_experts:
            larger = [model for model in larger if model.file_type != "MXFP4_MOE"]
        assert not any(estimate(model, run, devices).fits for model in larger)
        bound = decoding_bound(best, run, devices, now.context.n_ctx_seq)
        assert choice.tokens_per_second == (bound and pytest.approx(bound.tokens_per_second))
    if found.refusal:
        with pytest.raises(SettingsError) as caught:
            estimate(known["Q8_0"], settings, devices)
        assert caught.value.message == found.refusal
    if found.miss:
        k, v = found.miss.pair
        run = Settings(n_ctx=settings.n_ctx, cache_type_k=k, cache_type_v=v)
        missed = estimate(known[found.miss.quantization], run, devices)
        assert not missed.fits
        total = sum(share.total for share in missed.devices)
        assert total >= found.miss.needed if found.miss.at_least else total == found.miss.needed
        assert found.miss.lacking > 0


@pytest.mark.parametrize("place", PLACES)
def test_it_is_what_estimates_say(place: str) -> None:
    devices = [device(id) for id in PLACES[place]]
    ids = SOME[::2] if len(devices) > 1 else [*SOME, *UNUSUAL]
    settings = Settings(n_ctx=16384)
    found = list(survey(settings, devices, NAMES, [("q8_0", "q8_0"), ("q4_0", "q4_0")], ids))
    assert [one.entry.id for one in found] == [id for id in IDS if id in ids]
    for one in found:
        check(one, settings, devices)


@hypothesis(max_examples=25, deadline=None)
@given(
    id=st.sampled_from(IDS),
    cards=st.sampled_from([("rtx-4090",), ("m4-max-14c-36gb",), ("rtx-3090", "rtx-3090")]),
    n_ctx=st.integers(1, 200_000),
    pair=st.sampled_from(PAIRS),
    n_parallel=st.sampled_from([-1, -1, 1]),
)
def test_any_model_context_and_pair(
    id: str, cards: tuple[str, ...], n_ctx: int, pair: tuple[str, str], n_parallel: int
) -> None:
    if full_precision(id).has_leaves:
        return  # each of its contexts takes a graph of its own
    devices = [device(card) for card in cards]
    settings = Settings(n_ctx=n_ctx, n_parallel=n_parallel, cache_type_k=pair[0], cache_type_v=pair[1])
    (found,) = survey(settings, devices, ["Q8_0", "Q4_K_M"], ids=[id])
    if not found.miss:
        check(found, settings, devices, ["Q8_0", "Q4_K_M"])


def test_what_is_kept_of_a_card_is_counted() -> None:
    devices = [used(device("rtx-4090"), Usage(system="windows"))]
    settings = Settings(n_ctx=8192)
    for one in survey(settings, devices, NAMES, ids=SOME[:6]):
        check(one, settings, devices)


def test_the_context_of_each_model_is_the_default() -> None:
    for one in survey(Settings(), [device("rtx-5090")], QUANTIZATIONS, ids=SOME):
        assert one.n_ctx == one.entry.context_length


def test_nothing_fits_nowhere() -> None:
    tiny = samples.device("cuda", 2**28)
    for one in survey(Settings(n_ctx=512), [tiny], QUANTIZATIONS, ids=SOME):
        assert not one.choices
        assert one.miss
        assert one.miss.lacking > 0


def test_everything_fits_where_there_is_no_limit() -> None:
    (one,) = survey(Settings(n_ctx=4096), [device("generic")], QUANTIZATIONS, ids=["llama-3.1-8b-instruct"])
    assert one.choices[0].quantization == "BF16"
    assert one.choices[0].max_context == 2**31 - 256


def test_of_fewer_quantizations_the_best_is_another() -> None:
    card = [device("rtx-4090")]
    (one,) = survey(Settings(n_ctx=4096), card, ["Q4_0", "Q2_K"], ids=["llama-3.1-8b-instruct"])
    assert one.choices[0].quantization == "Q4_0"


def test_mxfp4_is_for_experts() -> None:
    ids = ["llama-3.1-8b-instruct", "gpt-oss-20b"]
    dense, experts = survey(Settings(n_ctx=4096), [device("rtx-4090")], ["MXFP4_MOE"], ids=ids)
    assert (dense.choices, dense.miss) == ((), None)
    assert "quantizations" in (dense.refusal or "")
    assert experts.choices[0].quantization == "MXFP4_MOE"


def test_no_more_pairs_are_tried_than_are_enough() -> None:
    pairs = [("q8_0", "q8_0"), ("q4_0", "q4_0")]
    ask = (Settings(n_ctx=4096), [device("rtx-4090")], QUANTIZATIONS, pairs, ["llama-3.1-8b-instruct"])
    assert [[choice.pair for choice in one.choices] for one in survey(*ask, enough=2)] == [[("f16", "f16"), pairs[0]]]
    assert [len(one.choices) for one in survey(*ask)] == [3]


def test_a_part_in_system_memory_is_refused() -> None:
    for settings in (Settings(n_gpu_layers=3), Settings(cpu_tensors="exps"), Settings(offload_kqv=False)):
        with pytest.raises(SettingsError, match="wholly on devices"):
            survey(settings, [device("rtx-4090")], QUANTIZATIONS)


def test_a_number_of_devices_that_cannot_be_is_refused() -> None:
    for count in (0, 17):
        with pytest.raises(DeviceError):
            survey(Settings(), [device("rtx-4090")] * count, QUANTIZATIONS)
    with pytest.raises(SettingsError, match="tensor_split"):
        survey(Settings(tensor_split=(1, 2)), [device("rtx-4090")], QUANTIZATIONS)


def test_smaller_pairs_are_fast_ones() -> None:
    card, mac = [device("rtx-4090")], [device("m1-16gb")]
    assert smaller_pairs(("f16", "f16"), card) == [("q8_0", "q8_0"), ("q4_0", "q4_0")]
    assert smaller_pairs(("q8_0", "q8_0"), card) == [("q4_0", "q4_0")]
    assert [pair[0] for pair in smaller_pairs(("f16", "f16"), mac)] == ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
    assert smaller_pairs(("f16", "f16"), [*card, *mac]) == [("q8_0", "q8_0"), ("q4_0", "q4_0")]


def test_the_default_run_makes_no_model() -> None:
    """Nothing but the first model, whose layers tell whether a split can be, is read from the catalogue."""
    full_precision.cache_clear()
    found = list(survey(Settings(n_ctx=8192), [device("rtx-4090")], QUANTIZATIONS))
    assert len(found) == len(IDS)
    laid_out = [id for id in IDS if not stored_run(id).lines(1, "cuda", ("f16", "f16"))]
    assert full_precision.cache_info().currsize <= 1 + len(laid_out)
