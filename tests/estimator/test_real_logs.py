"""What users' logs show of real backends: MiB as printed, with two digits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from estimator.devices import GENERIC, Device, device
from estimator.estimate import estimate, placed
from estimator.memory import attention
from estimator.memory.context import resolve
from estimator.memory.graph import buffers
from estimator.memory.scratch import scratch
from estimator.memory.target import Target
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model

if TYPE_CHECKING:
    from estimator.backends import BackendName
    from estimator.layer import Layer
    from estimator.memory.builder import Graph

MIB = 2**20


@pytest.mark.parametrize(
    ("model", "device_id", "n_ctx", "weights", "kv_cache"),
    [
        # llama.cpp of October 2026 on a CUDA card of 12 GB, four slots that share the context
        ("qwen3-4b-instruct-2507", "rtx-3060-12-gb", 8192, 2375.91, 1152.0),
        # llama.cpp's Metal allocation report of September 2026; the file holds its embedding behind the output matrix
        ("qwen3-8b", "m4-pro-24gb", 4096, 4789.19, 576.0),
        # the same; a tied embedding is in the buffer once
        ("qwen2.5-1.5b", "m4-pro-24gb", 4096, 934.69, 112.0),
    ],
)
def test_buffers_of_real_logs(model: str, device_id: str, n_ctx: int, weights: float, kv_cache: float) -> None:
    share = estimate(catalogue_model(model, "Q4_K_M"), Settings(n_ctx=n_ctx), [device(device_id)]).devices[0]
    assert share.weights / MIB == pytest.approx(weights, abs=0.02)
    assert share.kv_cache / MIB == kv_cache


def test_the_compute_buffer_of_a_cuda_log() -> None:
    settings = Settings(n_ctx=8192)
    share = estimate(catalogue_model("qwen3-4b-instruct-2507", "Q4_K_M"), settings, [device("rtx-3060-12-gb")]).devices[
        0
    ]
    assert share.compute / MIB == pytest.approx(85.01, abs=0.01)


@pytest.mark.parametrize(
    ("quant", "n_ctx", "n_ubatch", "compute"),
    [
        # ggml-org/llama.cpp issue 6787: Llama 3 8B Q5_K_M, no layer on the GPU
        ("Q5_K_M", 512, 512, 669.48),
        # issue 8458: Llama 3.1 8B Q4_K_M
        ("Q4_K_M", 256, 128, 475.60),
    ],
)
def test_a_gpu_without_layers_fetches_the_weights_for_its_products(
    quant: str, n_ctx: int, n_ubatch: int, compute: float
) -> None:
    settings = Settings(
        n_ctx=n_ctx, n_batch=n_ubatch, n_ubatch=n_ubatch, n_parallel=1, n_outputs=0, flash_attn=False, n_gpu_layers=0
    )
    model = catalogue_model("llama-3.1-8b-instruct", quant)
    share = estimate(model, settings, [device("rtx-4090")]).devices[0]
    # those builds had no branch for mixed batches, which takes three times the rows of the embedding
    since = 3 * n_ubatch * model.n_embd * 4 / MIB
    assert share.weights == share.kv_cache == 0
    assert share.compute / MIB - since == pytest.approx(compute, abs=0.01)


@pytest.mark.parametrize(("reduces", "compute"), [(15, 1_678_541_184), (0, 1_141_113_216)])
def test_what_experts_gave_is_kept_for_the_kernel_that_adds_it_up(
    reduces: int, compute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GenerelSchwerz/llama.cpp issue 80: the allocator asked on an RTX 5070 Ti, with and without fusion. That fork has
    # masks of next to no bytes and batches of text alone.
    class Masked(attention.CacheInputs):
        def __init__(self, graph: Graph, layer: Layer) -> None:
            super().__init__(graph, layer)
            self.mask = graph.input(128)

    monkeypatch.setattr(attention, "CacheInputs", Masked)
    model = catalogue_model("qwen3.5-35b-a3b", "Q8_0")
    model = replace(model, traits=replace(model.traits, mixed_batches=False))
    settings = Settings(n_ctx=65536, n_batch=8192, n_ubatch=8192, n_parallel=1)
    card = device("rtx-5070-ti")
    target = Target(scratch(card.backend), 128, "everything", reduces, is_real=True)
    found = buffers(model, resolve(model, settings), [target], placed(model, settings, [card]))
    assert found[0].total == compute


@pytest.mark.parametrize(
    ("model", "n_used", "backend", "is_kept"),
    [
        ("qwen3.5-35b-a3b", 8, "cuda", True),
        ("qwen3.5-35b-a3b", 8, "rocm", True),
        ("qwen3.5-35b-a3b", 8, "metal", True),
        ("qwen3-coder-next", 10, "cuda", True),
        ("qwen3-coder-next", 10, "metal", False),
    ],
)
def test_each_backend_keeps_what_so_many_experts_gave(
    model: str, n_used: int, backend: BackendName, is_kept: bool
) -> None:
    known, settings = catalogue_model(model, "Q8_0"), Settings(n_ctx=4096, n_parallel=1)
    assert known.layers[0].n_expert_used == n_used
    card = Device(id="card", name="Card", backend=backend)
    least, found = (estimate(known, settings, [device]).devices[0].compute for device in (GENERIC, card))
    assert (found - least > 0.7 * n_used * 512 * known.n_embd * 4) is is_kept
