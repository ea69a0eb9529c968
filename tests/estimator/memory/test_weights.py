"""Bytes of the weights: which part a tensor belongs to, and its padding on each backend."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from estimator.devices import GENERIC
from estimator.estimate import estimate
from estimator.ggml import ElementType
from estimator.memory.weights import weights
from estimator.model import Tensor
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.backends import BackendName
    from estimator.model import Model

T = ElementType

# 28 blocks of 34 bytes a row; CUDA adds room for 128 elements once: 4 blocks
NARROW = (896, 100)
NARROW_BYTES = 28 * 34 * 100
NARROW_ON_CUDA = 95_360  # 95,200 + 136, rounded up to 128
NORM_ON_CUDA, NORM_ELSEWHERE = 512, 416  # 100 floats, 400 bytes

TIED = samples.model(
    *(samples.layer(),) * 2,
    n_embd=896,
    n_vocab=100,
    tensors=(
        Tensor("token_embd.weight", NARROW, T.Q8_0),
        Tensor("output_norm.weight", (100,), T.F32),
        Tensor("rope_freqs.weight", (64,), T.F32),
        Tensor("blk.1.ffn_up.weight", NARROW, T.Q8_0),
        Tensor("blk.0.ffn_up.weight", NARROW, T.Q8_0),
        Tensor("blk.0.attn_norm.weight", (100,), T.F32),
        Tensor("blk.1.attn_norm.weight", (100,), T.F32),
        Tensor("blk.1.ffn_norm.weight", (100,), T.F32),
    ),
)
UNTIED = samples.model(
    *TIED.layers, n_embd=896, n_vocab=100, tensors=(*TIED.tensors, Tensor("output.weight", NARROW, T.F16))
)


@pytest.mark.parametrize("backend", ["cuda", "rocm"])
def test_parts_on_cuda(backend: BackendName) -> None:
    parts = weights(TIED, backend)
    assert parts.inputs == NARROW_ON_CUDA
    assert parts.layers == (NARROW_ON_CUDA + NORM_ON_CUDA, NARROW_ON_CUDA + 2 * NORM_ON_CUDA)
    assert (parts.output, parts.tied) == (NORM_ON_CUDA, NARROW_ON_CUDA)
    assert parts.shared == 256


@pytest.mark.parametrize("backend", ["metal", "generic"])
def test_parts_elsewhere(backend: BackendName) -> None:
    parts = weights(TIED, backend)
    assert parts.inputs == NARROW_BYTES
    assert parts.layers == (NARROW_BYTES + NORM_ELSEWHERE, NARROW_BYTES + 2 * NORM_ELSEWHERE)
    assert (parts.output, parts.tied) == (NORM_ELSEWHERE, NARROW_BYTES)
    assert parts.shared == 256


def test_an_output_matrix_takes_the_place_of_the_copy() -> None:
    parts = weights(UNTIED, "generic")
    assert (parts.inputs, parts.output, parts.tied) == (NARROW_BYTES, 2 * 896 * 100 + NORM_ELSEWHERE, 0)


def test_a_tied_embedding_is_on_the_device_and_on_the_host() -> None:
    result = estimate(TIED, Settings(n_ctx=256), [GENERIC])
    assert result.host.weights == NARROW_BYTES
    assert result.devices[0].weights == 3 * NARROW_BYTES + 4 * NORM_ELSEWHERE + 256


def test_the_host_pads_as_the_host_does() -> None:
    assert estimate(TIED, Settings(n_ctx=256), [samples.device("cuda")]).host.weights == NARROW_BYTES


def test_what_all_layers_share_is_on_every_device_with_a_layer() -> None:
    first, second = estimate(UNTIED, Settings(n_ctx=256), [GENERIC] * 2).devices
    assert first.weights == 2 * NARROW_BYTES + 3 * NORM_ELSEWHERE + 256
    assert second.weights == 2 * 896 * 100 + NORM_ELSEWHERE
    split = Settings(n_ctx=256, tensor_split=(1, 2))
    first, second = estimate(UNTIED, split, [GENERIC] * 2).devices
    assert first.weights == NARROW_BYTES + NORM_ELSEWHERE + 256
    assert second.weights == NARROW_BYTES + 2 * NORM_ELSEWHERE + 256 + 2 * 896 * 100 + NORM_ELSEWHERE


def test_layers_on_the_host_take_what_they_share_with_them() -> None:
    result = estimate(UNTIED, Settings(n_ctx=256, n_gpu_layers=2), [GENERIC])
    assert result.host.weights == NARROW_BYTES + (NARROW_BYTES + NORM_ELSEWHERE) + 256
    assert result.devices[0].weights == NARROW_BYTES + 2 * NORM_ELSEWHERE + 256 + 2 * 896 * 100 + NORM_ELSEWHERE


def test_a_tied_embedding_is_not_copied_where_the_output_is_on_the_host_too() -> None:
    result = estimate(TIED, Settings(n_ctx=256, n_gpu_layers=0), [GENERIC])
    assert result.host.weights == 3 * NARROW_BYTES + 4 * NORM_ELSEWHERE + 256
    assert result.devices[0].weights == 0


def test_tensors_kept_on_the_host_are_counted_there_alone() -> None:
    result = estimate(UNTIED, Settings(n_ctx=256, cpu_tensors=r"ffn_up|^output\.weight"), [samples.device("cuda")])
    assert result.host.weights == 3 * NARROW_BYTES + 2 * 896 * 100
    assert result.devices[0].weights == 4 * NORM_ON_CUDA + 256


def test_a_tied_embedding_that_is_kept_is_counted_once() -> None:
    result = estimate(TIED, Settings(n_ctx=256, cpu_tensors="token_embd"), [GENERIC])
    assert result.host.weights == NARROW_BYTES
    assert result.devices[0].weights == 2 * NARROW_BYTES + 4 * NORM_ELSEWHERE + 256


def on_device(model: Model, backend: BackendName) -> int:
    return estimate(model, Settings(n_ctx=256), [samples.device(backend)]).devices[0].weights


def test_metal_maps_the_embedding_where_it_lies_between_its_tensors() -> None:
    embedding, *others, output = UNTIED.tensors
    for tensors, besides in (
        ((output, embedding, *others), NARROW_BYTES),  # as llama-quantize orders them
        ((embedding, *others, output), 0),
        ((output, *others, embedding), 0),
    ):
        model = replace(UNTIED, tensors=tensors)
        assert on_device(model, "metal") - on_device(model, "generic") == besides


def test_metal_maps_nothing_besides_a_tied_embedding() -> None:
    embedding, *others = TIED.tensors
    for tensors in ((embedding, *others), (others[0], embedding, *others[1:])):
        model = replace(TIED, tensors=tensors)
        assert on_device(model, "metal") == on_device(model, "generic")


@pytest.mark.parametrize(("id", "is_mapped"), [("llama-3.1-8b-instruct", True), ("llama-3.2-1b-instruct", False)])
def test_metal_with_a_quantized_file(id: str, is_mapped: bool) -> None:
    model = catalogue_model(id, "Q4_K_M")
    embedding = next(tensor.n_bytes for tensor in model.tensors if tensor.name == "token_embd.weight")
    assert on_device(model, "metal") - on_device(model, "generic") == is_mapped * embedding
