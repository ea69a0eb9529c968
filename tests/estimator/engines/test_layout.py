"""What each layer keeps, for models of every kind."""

from __future__ import annotations

from collections import Counter

import pytest

from estimator.engines.layout import Cached, counts, layout, shown
from estimator.errors import SettingsError
from estimator.mixers import Latent
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples, truth


def kinds(id: str) -> Counter[str]:
    """How many layers attend in which way, and how many have a state."""
    found: Counter[str] = Counter()
    for cached in layout(catalogue_model(id, "Q4_K_M")):
        found[cached.attention] += 1
        found["state"] += cached.is_recurrent
    return +found


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("llama-3.1-8b-instruct", {"full": 32}),
        ("gemma-3-27b-it", {"window": 52, "full": 10}),
        ("gpt-oss-20b", {"window": 12, "full": 12}),
        ("gemma-3n-e4b-it", {"window": 16, "full": 4, "none": 15}),  # 15 layers read the cache of earlier ones
        ("deepseek-v2-lite", {"latent": 27}),
        ("deepseek-v3.2", {"latent": 61}),
        ("qwen3.5-9b", {"none": 24, "full": 8, "state": 24}),
        ("kimi-linear-48b-a3b-instruct", {"none": 20, "latent": 7, "state": 20}),
    ],
)
def test_kinds_of_layers(id: str, expected: dict[str, int]) -> None:
    assert kinds(id) == expected


def test_a_layer_of_heads() -> None:
    (cached,) = counts(samples.model(samples.layer(), samples.layer()))
    assert (cached.n_head, cached.n_head_kv, cached.n_elements) == (32, 8, 8 * 256)
    assert cached.n_expanded == 8 * 256
    assert [cached.heads_of(n) for n in (1, 2, 8, 16)] == [8, 4, 1, 1]
    assert cached.tokens(1000) == 1000
    assert shown(cached) == "8 heads of 128"


def test_a_window() -> None:
    (cached,) = counts(samples.model(samples.layer(n_swa=1024)))
    assert cached.attention == "window"
    assert [cached.tokens(n) for n in (100, 1024, 5000)] == [100, 1024, 1024]
    assert cached.tokens(5000, 512) == 1536
    assert shown(cached) == "8 heads of 128 in a window of 1,024"


@pytest.mark.parametrize("absorbed", [True, False])
def test_a_latent_is_one_whether_llama_cpp_absorbs_it_or_not(absorbed: bool) -> None:
    mixer = Latent(1536, 512, 64, 192, 128, absorbed=absorbed)
    heads = {"n_head_kv": 1, "n_embd_head_k": 576} if absorbed else {"n_head_kv": 32, "n_embd_head_k": 192}
    (cached,) = counts(samples.model(samples.layer(mixer=mixer, **heads)))
    assert (cached.attention, cached.n_head_kv, cached.n_embd_head_k, cached.n_embd_head_v) == ("latent", 1, 576, 0)
    assert cached.n_elements == 576
    assert cached.n_expanded == 32 * (192 + 128)
    assert shown(cached) == "a latent of 512 + 64"


def test_an_indexer_has_keys_of_its_own() -> None:
    (cached,) = counts(catalogue_model("deepseek-v3.2", "Q4_K_M"))
    assert cached.n_indexer == 128


def test_states_are_apart() -> None:
    states = [cached for cached in counts(catalogue_model("qwen3.5-9b", "Q4_K_M")) if cached.is_recurrent]
    assert states == [Cached("none", n_conv=3 * 8192, n_state=32 * 128 * 128)]


def test_a_layer_may_attend_and_keep_a_state() -> None:
    both = [cached for cached in layout(truth.model("falcon-h1-dense")) if cached.is_recurrent]
    assert both
    assert all(cached.attention == "full" for cached in both)


def test_an_encoder_keeps_nothing() -> None:
    assert {cached.attention for cached in layout(truth.model("bert-dense"))} == {"none"}


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        layout(catalogue_model("deepseek-v4-flash", "Q4_K_M"))
    assert (caught.value.code, caught.value.field) == ("not-modelled", "engine")
