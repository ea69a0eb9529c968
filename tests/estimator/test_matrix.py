"""Every pair of K and V types: the same as asking for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator.devices import device
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.ggml import CACHE_TYPES
from estimator.matrix import matrix
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
    for row, k in zip(matrix(model, settings, [CARD], TYPES), TYPES, strict=True):
        for cell, v in zip(row, TYPES, strict=True):
            assert (cell.k, cell.v) == (k, v)
            run = replace(settings, cache_type_k=k, cache_type_v=v)
            if cell.refusal:
                with pytest.raises(SettingsError, match=cell.refusal[:20]):
                    estimate(model, run, [CARD])
                continue
            assert cell.estimate == estimate(model, run, [CARD])
            assert cell.max_context == max_context(model, run, [CARD])
            assert (cell.kernel is not None) == (flash_attn and model.traits.flash_attention)


def test_all_types_by_all() -> None:
    rows = matrix(truth.model("llama-dense"), Settings(n_ctx=512), [CARD])
    assert [len(row) for row in rows] == [len(CACHE_TYPES)] * len(CACHE_TYPES)


def test_a_quantized_cache_saves_less_than_it_seems() -> None:
    """CUDA dequantizes the cache of a layer into the compute buffer, which f16 does without."""
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    (plain, _), (_, small) = matrix(model, Settings(n_ctx=131072), [CARD], ("f16", "q8_0"))
    assert small.cache < plain.cache
    assert small.compute > plain.compute


def test_the_slowest_device_decides() -> None:
    both = [device("rtx-3060-12-gb"), device("generic")]
    cell = matrix(truth.model("llama-dense"), Settings(n_ctx=512), both, ("q8_0", "q4_0"))[0][1]
    assert cell.kernel is not None
    assert cell.kernel.speed == "slow"
