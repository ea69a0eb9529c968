"""The bound on decoding: what has to be read for a token, and how long that takes at least."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.errors import SettingsError
from estimator.ggml import ElementType
from estimator.model import Tensor
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from estimator.speed import HOST_BANDWIDTH_GBPS, decoding_bound
from tests.estimator import samples, truth

if TYPE_CHECKING:
    from estimator.speed import Bound

CARD = samples.device("cuda", memory_bandwidth_gbps=1000.0)
MIB = 2**20


def bound(*, n_past: int = 0, **given: Any) -> Bound:
    model = samples.model(samples.layer(), samples.layer(n_swa=1024))
    found = decoding_bound(model, Settings(n_ctx=8192, n_parallel=1, **given), [CARD], n_past)
    assert found
    return found


def test_weights_and_cache_by_hand() -> None:
    """Two layers of 1 MiB and an output matrix of 8 MiB; 4 KiB a token in one layer, in the other 1,024 at most."""
    host, card = bound(n_past=4096).readings
    assert (host.place, host.weights, host.cache) == ("System memory", 8192, 0)  # one row of the embedding
    assert (card.place, card.weights, card.cache) == ("Sample", 10 * MIB, (4096 + 1024) * 4096)
    assert bound(n_past=4096).tokens_per_second == pytest.approx(
        1 / ((10 * MIB + 5120 * 4096) / 1e12 + 8192 / (HOST_BANDWIDTH_GBPS * 1e9))
    )


def test_what_is_on_the_host_is_read_there() -> None:
    host, card = bound(n_past=4096, n_gpu_layers=1).readings
    assert (host.weights, host.cache) == (8192 + 2 * MIB, 5120 * 4096)
    assert (card.weights, card.cache) == (8 * MIB, 0)
    host, card = bound(n_past=4096, offload_kqv=False).readings
    assert (host.cache, card.cache) == (5120 * 4096, 0)
    host, card = bound(n_past=4096, cpu_tensors="blk.0.attn_q").readings
    assert (host.weights, card.weights) == (8192 + MIB, 9 * MIB)


def test_of_experts_only_those_that_are_chosen_are_read() -> None:
    layer = samples.layer(n_expert=8, n_expert_used=2)
    model = samples.model(layer)
    exps = Tensor("blk.0.ffn_up_exps.weight", (1024, 512, 8), ElementType.F16)
    model = replace(model, tensors=(*model.tensors, exps))
    found = decoding_bound(model, Settings(n_ctx=1024), [CARD], 0)
    assert found
    assert found.readings[-1].weights == 9 * MIB + 2 * MIB


def test_a_tied_embedding_is_read_whole_as_the_output() -> None:
    model = catalogue_model("gemma-3-1b-it", "Q4_K_M")
    assert model.has_tied_output
    found = decoding_bound(model, Settings(n_ctx=1024), [CARD], 0)
    embedding = next(tensor.n_bytes for tensor in model.tensors if tensor.name == "token_embd.weight")
    assert found
    assert found.readings[-1].weights > embedding


def test_unified_memory_is_read_at_one_speed() -> None:
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    mac = device("m3-max-16c-64gb")
    whole, half = (decoding_bound(model, Settings(n_gpu_layers=n), [mac], 1000) for n in (-1, 16))
    assert whole
    assert half
    assert half.tokens_per_second == pytest.approx(whole.tokens_per_second)


@hypothesis(deadline=None, max_examples=60)
@given(name=st.sampled_from(truth.names()), n_past=st.integers(0, 30000), more=st.integers(0, 30000))
def test_a_longer_past_is_never_faster_and_a_smaller_cache_never_slower(name: str, n_past: int, more: int) -> None:
    model = truth.model(name)
    settings = Settings(n_ctx=65536, n_parallel=1)
    first = decoding_bound(model, settings, [CARD], n_past)
    if first is None:
        assert model.traits.head != "logits" or not model.traits.causal
        return
    later = decoding_bound(model, settings, [CARD], n_past + more)
    assert later
    assert later.tokens_per_second <= first.tokens_per_second
    try:
        small = decoding_bound(model, replace(settings, cache_type_k="q8_0", cache_type_v="q8_0"), [CARD], n_past)
    except SettingsError:
        return
    assert small
    assert small.tokens_per_second >= first.tokens_per_second


@pytest.mark.parametrize(
    ("id", "name", "measured"),
    [
        ("llama-3.1-8b-instruct", "m1-max-64gb", 46.2),  # brand-o/normiebench issue 40, tg128
        ("tinyllama-1.1b-chat-v1.0", "m1-ultra-128gb", 242.56),  # geerlingguy/ai-benchmarks issue 48, tg128
    ],
)
def test_what_people_measured_is_below(id: str, name: str, measured: float) -> None:
    found = decoding_bound(catalogue_model(id, "Q4_K_M"), Settings(), [device(name)], 128)
    assert found
    assert measured < found.tokens_per_second


def test_without_a_bandwidth_there_is_no_bound() -> None:
    assert decoding_bound(samples.model(samples.layer()), Settings(), [device("generic")], 0) is None
    assert decoding_bound(truth.model("bert-dense"), Settings(), [CARD], 0) is None
