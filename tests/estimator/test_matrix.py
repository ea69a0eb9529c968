"""Every pair of K and V types: the same as asking for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator.companions import Companions, Draft, Projector
from estimator.devices import device
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.ggml import CACHE_TYPES
from estimator.matrix import cell, matrix
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from tests.estimator import truth

CARD = device("rtx-3060-12-gb")
TYPES = ("f16", "q8_0", "q4_0", "iq4_nl")


@pytest.mark.parametrize("flash_attn", [True, False])
@pytest.mark.parametrize("name", ["llama-3.1-8b-instruct", "gemma3-dense", "deepseek2-moe", "mamba-dense"])
def test_each_cell_is_what_its_pair_gives(name: str, flash_attn: bool) -> None:
    model = catalogue_model(name, "Q4_K_M") if name.startswith("llama-3") else truth.model(name)
    settings = Settings(n_ctx=16384, flash_attn=flash_attn)
    for row, k in zip(matrix(model, settings, [CARD], types=TYPES), TYPES, strict=True):
        for found, v in zip(row, TYPES, strict=True):
            assert (found.k, found.v) == (k, v)
            run = replace(settings, cache_type_k=k, cache_type_v=v)
            if found.refusal:
                with pytest.raises(SettingsError, match=found.refusal.message[:20]) as caught:
                    estimate(model, run, [CARD])
                assert caught.value.code == found.refusal.code
                assert found.state == "refused"
                continue
            assert found.estimate == estimate(model, run, [CARD])
            assert (found.state == "fits") == found.estimate.fits
            assert (found.state == "over") == (found.max_context == 0)
            assert found.max_context == max_context(model, run, [CARD])
            assert (found.kernel is not None) == (flash_attn and model.traits.flash_attention)


def test_all_types_by_all() -> None:
    rows = matrix(truth.model("llama-dense"), Settings(n_ctx=512), [CARD])
    assert [len(row) for row in rows] == [len(CACHE_TYPES)] * len(CACHE_TYPES)


@pytest.mark.parametrize(
    ("name", "flash_attn", "k", "v", "code"),
    [
        ("llama-dense", False, "f16", "q8_0", "quantized-v-needs-flash-attention"),
        ("llama-dense", False, "q8_0", "f16", None),
        ("llama-dense", True, "f16", "q8_0", None),
        ("deepseek2-moe", True, "f16", "bf16", "cache-types-must-be-equal"),
        ("deepseek2-moe", True, "bf16", "bf16", None),
        ("deepseek2-moe", True, "f32", "q8_0", "cache-types-must-be-equal"),
    ],
)
def test_what_llama_cpp_does_not_take(name: str, flash_attn: bool, k: str, v: str, code: str | None) -> None:
    found = cell(truth.model(name), Settings(n_ctx=512, flash_attn=flash_attn), [CARD], k, v)
    assert (found.refusal and found.refusal.code) == code


def test_what_no_pair_can_mend_is_refused_at_once() -> None:
    settings = Settings(n_ctx=512, n_parallel=8, n_outputs=2)
    with pytest.raises(SettingsError, match="n_parallel"):
        matrix(truth.model("llama-dense"), settings, [CARD])


def test_a_quantized_cache_saves_less_than_it_seems() -> None:
    """CUDA dequantizes the cache of a layer into the compute buffer, which f16 does without."""
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    (plain, _), (_, small) = matrix(model, Settings(n_ctx=131072), [CARD], types=("f16", "q8_0"))
    saving = small.saving(plain)
    assert saving.cache == plain.cache - small.cache > 0
    assert saving.scratch == small.compute - plain.compute > 0
    assert plain.estimate
    assert small.estimate
    assert saving.net == plain.estimate.devices[0].total - small.estimate.devices[0].total
    assert plain.saving(plain) == (0, 0)


def test_a_cache_in_system_memory_is_counted_there() -> None:
    model = truth.model("llama-dense")
    found = cell(model, Settings(n_ctx=512, offload_kqv=False), [CARD], "q8_0", "q4_0")
    assert found.estimate
    assert found.cache == found.estimate.host.kv_cache > 0


def test_the_slowest_device_decides() -> None:
    both = [device("rtx-3060-12-gb"), device("generic")]
    found = cell(truth.model("llama-dense"), Settings(n_ctx=512), both, "q8_0", "q4_0")
    assert found.kernel
    assert found.kernel.speed == "slow"


def test_companions_take_their_share() -> None:
    model, small = (catalogue_model(name, "Q4_K_M") for name in ("llama-3.1-8b-instruct", "llama-3.2-1b-instruct"))
    beside = Companions(draft=Draft(model=small), projector=Projector.of_size(1 << 30))
    settings = Settings(n_ctx=8192)
    found = cell(model, settings, [CARD], "q8_0", "q4_0", beside)
    run = replace(settings, cache_type_k="q8_0", cache_type_v="q4_0")
    assert found.estimate == estimate(model, run, [CARD], beside)
    assert 0 < found.max_context == max_context(model, run, [CARD], beside)
    assert found.max_context < cell(model, settings, [CARD], "q8_0", "q4_0").max_context
