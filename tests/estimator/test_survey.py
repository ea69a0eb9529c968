"""What runs on a device: the same as asking for each model at each quantization."""

from __future__ import annotations

import pytest

from estimator.devices import device
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.settings import Settings
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model, entries
from estimator.survey import survey
from tests.estimator import samples

SOME = [entry.id for entry in entries()[::13]]


@pytest.mark.parametrize("where", ["rtx-4090", "m3-pro-18gb", "radeon-rx-7900-gre"])
def test_it_is_what_estimates_say(where: str) -> None:
    card = device(where)
    settings = Settings(n_ctx=16384, cache_type_k="q8_0", cache_type_v="q8_0")
    found = list(survey(settings, card, QUANTIZATIONS, SOME))
    assert [one.entry.id for one in found] == SOME
    for one in found:
        models = {name: catalogue_model(one.entry.id, name) for name in QUANTIZATIONS}
        if one.refusal:
            with pytest.raises(SettingsError):
                estimate(models["BF16"], settings, [card])
            continue
        if one.quantization is None:
            smallest = min(models.values(), key=lambda model: model.weights_bytes)
            assert not estimate(smallest, settings, [card]).fits
            continue
        best = models[one.quantization]
        now = estimate(best, settings, [card])
        assert now.fits
        assert now.devices[0].total == one.total
        assert one.max_context == max_context(best, settings, [card])
        larger = [model for model in models.values() if model.weights_bytes > best.weights_bytes * 1.01]
        assert not any(estimate(model, settings, [card]).fits for model in larger)


def test_the_context_of_each_model_is_the_default() -> None:
    for one in survey(Settings(), device("rtx-5090"), QUANTIZATIONS, SOME):
        assert one.n_ctx == one.entry.context_length


def test_nothing_fits_nowhere() -> None:
    tiny = samples.device("cuda", 2**28)
    assert {one.quantization for one in survey(Settings(n_ctx=512), tiny, QUANTIZATIONS, SOME)} == {None}


def test_of_fewer_quantizations_the_best_is_another() -> None:
    card = device("rtx-4090")
    (one,) = survey(Settings(n_ctx=4096), card, ["Q4_0", "Q2_K"], ["llama-3.1-8b-instruct"])
    assert one.quantization == "Q4_0"
