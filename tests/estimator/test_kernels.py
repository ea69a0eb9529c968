"""Which pairs of K and V types a backend reads fast."""

from __future__ import annotations

from typing import get_args

import pytest

from estimator.backends import BackendName
from estimator.ggml import CACHE_TYPES, cache_type
from estimator.kernels import Speed, cached_head_sizes, kernel, odd_head_size
from tests.estimator import samples


@pytest.mark.parametrize(
    ("backend", "k", "v", "speed"),
    [
        ("cuda", "f16", "f16", "fast"),
        ("cuda", "bf16", "bf16", "fast"),
        ("cuda", "q8_0", "q8_0", "fast"),
        ("rocm", "q4_0", "q4_0", "fast"),
        ("cuda", "q8_0", "q4_0", "slow"),
        ("rocm", "q5_1", "q5_1", "slow"),
        ("cuda", "f32", "f32", "slow"),
        ("cuda", "iq4_nl", "iq4_nl", "cpu"),
        ("cuda", "f16", "iq4_nl", "cpu"),
        ("metal", "q5_1", "q5_1", "fast"),
        ("metal", "q8_0", "q4_0", "cpu"),
        ("metal", "iq4_nl", "iq4_nl", "cpu"),
        ("metal", "f32", "f32", "slow"),
        ("metal", "f32", "f16", "slow"),
        ("metal", "f32", "q8_0", "cpu"),
        ("cuda", "f32", "f16", "slow"),
        ("generic", "iq4_nl", "q4_0", "fast"),
    ],
)
def test_pairs(backend: BackendName, k: str, v: str, speed: Speed) -> None:
    found = kernel(backend, cache_type(k), cache_type(v))
    assert found.speed == speed
    assert found.why


@pytest.mark.parametrize(
    ("backend", "k", "sizes", "speed"),
    [
        ("cuda", "q8_0", {128}, "fast"),
        ("cuda", "q8_0", {64, 128, 256}, "fast"),
        ("cuda", "q8_0", {128, 96}, "slow"),
        ("rocm", "bf16", {576}, "slow"),
        ("rocm", "f16", {576}, "fast"),
        ("cuda", "f32", {96}, "slow"),
        ("metal", "q8_0", {96}, "fast"),
        ("generic", "q8_0", {96}, "fast"),
    ],
)
def test_cuda_reads_a_quantized_cache_as_it_is_for_some_heads_only(
    backend: BackendName, k: str, sizes: set[int], speed: Speed
) -> None:
    assert kernel(backend, cache_type(k), cache_type(k), sizes).speed == speed


def test_head_sizes_are_those_of_layers_with_a_cache() -> None:
    layers = (samples.layer(n_embd_head_k=128), samples.layer(n_embd_head_k=96, n_head_kv=0))
    assert cached_head_sizes(samples.model(*layers)) == {128}


@pytest.mark.parametrize("backend", get_args(BackendName))
def test_every_backend_has_a_fast_pair(backend: BackendName) -> None:
    types = [cache_type(name) for name in CACHE_TYPES]
    assert any(kernel(backend, one, one).speed == "fast" for one in types)


@pytest.mark.parametrize(
    ("backend", "sizes", "odd"),
    [
        ("cuda", [128], None),
        ("cuda", [128, 192], 192),
        ("metal", [192], None),
        ("metal", [100, 52], 52),
        ("generic", [7], None),
    ],
)
def test_head_sizes(backend: BackendName, sizes: list[int], odd: int | None) -> None:
    model = samples.model(*(samples.layer(n_embd_head_k=size) for size in sizes))
    assert odd_head_size(backend, model) == odd
