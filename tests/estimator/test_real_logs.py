"""What users' logs show of real backends: MiB as printed, with two digits."""

from __future__ import annotations

import pytest

from estimator.devices import device
from estimator.estimate import estimate
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model

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
