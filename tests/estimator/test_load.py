"""The numbers of the estimate without its lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.errors import DeviceError, SettingsError
from estimator.estimate import estimate
from estimator.load import Load
from estimator.settings import Settings
from tests.estimator import truth

CARDS = tuple(map(device, ("rtx-4090", "radeon-rx-7900-xtx", "m3-max-16c-64gb", "generic")))


@hypothesis(deadline=None, max_examples=100)
@given(
    name=st.sampled_from(truth.names()),
    cards=st.lists(st.sampled_from(CARDS), min_size=1, max_size=3),
    run=st.fixed_dictionaries(
        {
            "n_parallel": st.sampled_from([-1, 1, 3]),
            "n_gpu_layers": st.sampled_from([-1, -1, 1]),
            "offload_kqv": st.booleans(),
            "cpu_tensors": st.sampled_from([None, None, "ffn_"]),
            "cache_type_k": st.sampled_from(["f16", "q8_0"]),
        }
    ),
    contexts=st.lists(st.integers(1, 20000), min_size=1, max_size=3),
)
def test_it_is_what_the_estimate_says(name: str, cards: list[Any], run: dict[str, Any], contexts: list[int]) -> None:
    model, settings = truth.model(name), Settings(**run)
    load = Load(model, settings, cards)
    for n_ctx in contexts:
        try:
            found = estimate(model, replace(settings, n_ctx=n_ctx), cards)
        except SettingsError:
            with pytest.raises(SettingsError):
                load.at(n_ctx)
            continue
        for held, share in zip(load.at(n_ctx), found.devices, strict=True):
            assert held.fixed == share.weights + share.overhead
            assert held.cache == share.kv_cache + share.recurrent_state
            assert (held.compute, held.holes, held.capacity) == (share.compute, share.holes, share.capacity)
            assert (held.total, held.leaves(2**30)) == (share.total, share.is_safe)
        assert load.leaves(n_ctx, [0] * len(cards)) == found.fits


def test_no_device() -> None:
    with pytest.raises(DeviceError):
        Load(truth.model("llama-dense"), Settings(), [])
