"""A graph under construction: where weights are fetched from, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.backends import BACKENDS
from estimator.devices import GENERIC
from estimator.estimate import estimate, placed
from estimator.ggml import ElementType
from estimator.memory.builder import Graph
from estimator.memory.context import resolve
from estimator.memory.fetching import FETCHING, fetched_bytes
from estimator.memory.target import target
from estimator.model import Tensor
from estimator.settings import Settings
from tests.estimator import samples

MIB = 2**20


def tensor(name: str, n_rows: int, element_type: ElementType = ElementType.F16) -> Tensor:
    return Tensor(f"{name}.weight", (4096, n_rows), element_type)


TENSORS = (
    tensor("token_embd", 1024),
    *(tensor(f"blk.{il}.ffn_down", 14336) for il in range(3)),
    tensor("blk.3.ffn_down", 14336, ElementType.F32),
    *(tensor(f"blk.{il}.attn_q", 4096) for il in range(4)),
)
MODEL = samples.model(*(samples.layer(),) * 4, tensors=TENSORS)


def test_the_largest_weight_of_a_name_is_fetched() -> None:
    assert fetched_bytes(MODEL, "ffn_down") == 4096 * 14336 * 4
    assert fetched_bytes(MODEL, "attn_q") == 4096 * 4096 * 2
    assert fetched_bytes(MODEL, "output") == 4096 * 1024 * 2  # tied
    assert fetched_bytes(MODEL, "no such weight") == 0


def compute(backend: Any, **given: Any) -> tuple[int, int]:
    found = estimate(MODEL, Settings(n_ctx=4096, n_parallel=1, **given), [samples.device(backend)])
    return found.devices[0].compute, found.host.compute


@pytest.mark.parametrize("backend", ["cuda", "rocm", "metal"])
def test_a_device_computes_with_weights_of_the_host(backend: str) -> None:
    device, host = compute(backend, n_gpu_layers=0)
    generic, host_alone = compute("generic", n_gpu_layers=0)
    assert generic == 0
    assert device > fetched_bytes(MODEL, "ffn_down") > device // 2
    assert host < host_alone


def test_few_rows_are_left_to_the_host() -> None:
    few = {"n_gpu_layers": 0, "n_ubatch": 31}
    assert compute("cuda", **few)[0] == 0
    assert compute("cuda", **few)[1] == compute("generic", **few)[1]
    assert compute("cuda", **few | {"n_ubatch": 32})[0] > fetched_bytes(MODEL, "ffn_down")


def test_single_tokens_are_left_to_the_host() -> None:
    """While a batch is computed by the device, what many slots add one token each to is not, and takes more there."""
    slots: dict[str, Any] = {"n_ctx": 4096, "n_parallel": 16, "kv_unified": True, "n_gpu_layers": 0}
    batch = estimate(MODEL, Settings(**slots, n_ubatch=32), [samples.device("cuda")])
    single = estimate(MODEL, Settings(**slots, n_ubatch=16), [GENERIC])
    assert batch.devices[0].compute > fetched_bytes(MODEL, "ffn_down")
    assert batch.host.compute == single.host.compute > 16 * 3 * 14336 * 4


@pytest.mark.parametrize(("backend", "is_fetched"), [("cuda", True), ("rocm", True), ("metal", False)])
def test_metal_fetches_weights_of_products_only(backend: Any, is_fetched: bool) -> None:
    """Without flash attention the softmax of all scores reads the sinks."""
    layers = (samples.layer(sinks=True),) * 4
    sinks = tuple(Tensor(f"blk.{il}.attn_sinks.weight", (32,), ElementType.F32) for il in range(4))
    model = samples.model(*layers, tensors=(*TENSORS, *sinks))
    settings = Settings(n_ctx=4096, n_parallel=1, flash_attn=False, cpu_tensors="attn_sinks")
    found = estimate(model, settings, [samples.device(backend)])
    scores = 4096 * 512 * 32 * 4
    assert (found.host.compute < scores) == is_fetched


def test_a_whole_model_fetches_nothing() -> None:
    whole, generic = compute("cuda"), compute("generic")
    assert abs(whole[0] - generic[0]) < 64 * 1024
    assert whole[1] == generic[1]


def test_a_run_keeps_the_norm_beside_its_layer() -> None:
    # llama.cpp's own breakdown has it behind the layer before, so that two results pass to the next device, four times
    whole = Settings(n_ctx=4096, n_parallel=1, flash_attn=False)
    measured, run = (estimate(MODEL, whole, [device] * 2).devices[1] for device in (GENERIC, samples.device("cuda")))
    row = 512 * 4096 * 4
    assert 4 * row - 64 * 1024 < measured.compute - run.compute < 4 * row + 64 * 1024


def test_a_norm_is_beside_its_layer_though_its_weight_is_on_the_host() -> None:
    settings = Settings(n_ctx=4096, n_parallel=1, cpu_tensors="attn_norm", tensor_split=(1, 1))
    model = samples.model(*(samples.layer(),) * 4, tensors=(*TENSORS, tensor("blk.3.attn_norm", 1)))
    devices = [samples.device("cuda")] * 2
    where = placed(model, settings, devices)
    graph = Graph(model, resolve(model, settings), [target(BACKENDS["cuda"])] * 2, where)
    graph.enter(where.layers[3])
    graph.norm(graph.input(graph.n_tokens * graph.row), graph.n_tokens, "attn_norm")
    norm, weighed = graph.nodes
    assert (norm.device, norm.fetches) == (1, False)
    assert (weighed.device, weighed.fetches) == (FETCHING, True)


def test_a_run_reads_the_cache_where_it_lies_without_flash_attention() -> None:
    given = {"flash_attn": False, "offload_kqv": False}
    scores = 4096 * 512 * 32 * 4
    assert compute("generic", **given)[0] > scores > compute("cuda", **given)[0]
    assert compute("generic", **given)[1] < scores < compute("cuda", **given)[1]


def test_generic_devices_fetch_nothing() -> None:
    found = estimate(MODEL, Settings(n_ctx=4096, n_parallel=1, n_gpu_layers=2), [GENERIC])
    assert found.devices[0].compute < fetched_bytes(MODEL, "ffn_down")
