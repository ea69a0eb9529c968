"""Ollama's defaults: context by memory, batch by context and memory, and what it hands to llama-server."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from estimator.companions import Companions, Draft
from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.ollama import Ollama, shown_by_ps
from estimator.engines.recipe import Source
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.devices import Device

OLLAMA = Ollama()
GIB = 2**30
LLAMA = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
HUGE = replace(LLAMA, context_length=2**20)


def card(gib: float, **facts: object) -> Device:
    return samples.device("cuda", int(gib * GIB), **{"compute_capability": (8, 6), "multiprocessors": 28, **facts})


@pytest.mark.parametrize(
    ("memory", "n_ctx"),
    [
        ([22.9], 4096),
        ([23], 32_768),
        ([46.9], 32_768),
        ([47], 262_144),
        ([12, 12], 32_768),
        ([24, 24], 262_144),
    ],
)
def test_the_context_follows_from_the_memory(memory: list[float], n_ctx: int) -> None:
    assert OLLAMA.job(HUGE, Run(), [card(gib) for gib in memory]).n_ctx == n_ctx


def test_what_is_left_to_others_lowers_it() -> None:
    run = Run(options={"gpu_overhead": GIB})
    assert OLLAMA.job(HUGE, run, [card(24)]).n_ctx == 32_768
    assert OLLAMA.job(HUGE, run, [card(23.9)]).n_ctx == 4096
    assert OLLAMA.job(HUGE, run, [card(23.9), card(23.9)]).n_ctx == 32_768


def test_no_context_is_longer_than_the_training_one() -> None:
    short = replace(LLAMA, context_length=8192)
    found = OLLAMA.estimate(short, Run(n_ctx=16_384), [card(24)])
    assert found.n_ctx == 8192
    assert "context-capped" in [warning.code for warning in found.warnings]
    assert OLLAMA.max_context(short, Run(), [card(24)]) == 8192


@pytest.mark.parametrize(
    ("gib", "n_ctx", "batch"),
    [
        (80, 4096, 512),
        (80, 4097, 1024),
        (80, 32_768, 1024),
        (80, 32_769, 2048),
        # the prediction is 4.58 GiB of weights and 4 GiB of cache at 32,768 tokens, 4.58 and 8 at 65,536
        (12, 32_768, 1024),
        (11.4, 32_768, 512),  # 8.58 GiB is more than 75 %
        (21.5, 65_536, 2048),
        (20.5, 65_536, 1024),  # 12.58 GiB is more than 60 %
        (16.5, 65_536, 512),
    ],
)
def test_the_batch_follows_from_context_and_memory(gib: float, n_ctx: int, batch: int) -> None:
    assert OLLAMA.job(LLAMA, Run(n_ctx=n_ctx), [card(gib)]).chunk == batch


@pytest.mark.parametrize(("gib", "batch"), [(6, 2048), (5, 1024), (4.3, 1024), (4.1, 512)])
def test_a_batch_needs_room_of_its_own(gib: float, batch: int) -> None:
    """The prediction is 2.6 GiB: 2 GiB more, or 768 MiB, have to stay below 80 %."""
    model = catalogue_model("qwen3-0.6b", "Q4_K_M")
    assert OLLAMA.job(model, Run(n_ctx=40_960), [card(gib)]).chunk == batch


@pytest.mark.parametrize(("gib", "n_ctx", "batch"), [(8, 4096, 512), (8, 8192, 256), (9, 8192, 512)])
def test_without_flash_attention(gib: float, n_ctx: int, batch: int) -> None:
    assert OLLAMA.job(LLAMA, Run(n_ctx=n_ctx, flash_attn=False), [card(gib)]).chunk == batch


def test_an_asked_batch_stays() -> None:
    assert OLLAMA.job(LLAMA, Run(n_ctx=65_536, chunk=300), [card(8)]).chunk == 300


@pytest.mark.parametrize(("version", "flash_attn"), [((5, 2), False), ((6, 1), True), ((7, 2), False), ((8, 9), True)])
def test_old_cards_have_no_flash_attention(version: tuple[int, int], flash_attn: bool) -> None:
    where = [card(24, compute_capability=version)]
    assert OLLAMA.job(LLAMA, Run(), where).flash_attn is flash_attn
    assert OLLAMA.job(LLAMA, Run(flash_attn=True), where).flash_attn is True


def test_a_quantized_cache_needs_flash_attention() -> None:
    with pytest.raises(SettingsError, match="OLLAMA_FLASH_ATTENTION=1") as caught:
        OLLAMA.estimate(LLAMA, Run(cache_type_k="q8_0", flash_attn=False), [card(24)])
    assert (caught.value.field, caught.value.allowed) == ("cache_type_k", ("f16",))


@pytest.mark.parametrize("n_requests", [1, 3])
def test_it_is_llama_server_with_a_cache_for_each_request(n_requests: int) -> None:
    devices = [device("rtx-4090")]
    found = OLLAMA.estimate(LLAMA, Run(n_ctx=8192, n_requests=n_requests, cache_type_k="q8_0"), devices)
    settings = Settings(
        n_ctx=8192 * n_requests,
        n_batch=1024,
        n_ubatch=1024,
        n_parallel=n_requests,
        cache_type_k="q8_0",
        cache_type_v="q8_0",
    )
    own = estimate(LLAMA, settings, devices)
    assert (found.devices, found.host, found.lines) == (own.devices, own.host, own.lines)
    assert (found.n_ctx, found.n_requests) == (8192, n_requests)


def test_hybrids_run_one_request_at_a_time() -> None:
    found = OLLAMA.estimate(catalogue_model("qwen3.5-4b", "Q4_K_M"), Run(n_ctx=4096, n_requests=4), [card(24)])
    assert found.n_requests == 1
    assert "one-request-at-a-time" in [warning.code for warning in found.warnings]


@pytest.mark.parametrize("gib", [6, 7, 8, 10, 12, 16, 24])
@pytest.mark.parametrize("n_requests", [1, 2])
def test_the_deepest_context_fits_with_the_batch_that_is_chosen_for_it(gib: int, n_requests: int) -> None:
    devices, run = [card(gib)], Run(n_requests=n_requests)

    def fits(n_ctx: int) -> bool:
        return OLLAMA.estimate(LLAMA, replace(run, n_ctx=n_ctx), devices).fits

    deepest = OLLAMA.max_context(LLAMA, run, devices)
    assert fits(deepest)
    for more in (1, 256, 2048, 8192, 40_000):
        if deepest + more <= LLAMA.context_length:
            assert not fits(deepest + more)


def test_a_curve_has_the_batch_of_each_context() -> None:
    points = OLLAMA.curve(LLAMA, Run(), [card(48)], 131_072)
    for point in points:
        assert point.estimate.devices == OLLAMA.estimate(LLAMA, Run(n_ctx=point.n_ctx), [card(48)]).devices
    assert {4096, 32_768} < {point.n_ctx for point in points}


def test_what_ps_shows() -> None:
    found = OLLAMA.estimate(LLAMA, Run(n_ctx=8192), [device("rtx-4090")])
    share = found.devices[0]
    size, on_devices = shown_by_ps(found)
    assert on_devices == share.weights + share.kv_cache + share.compute
    assert size == on_devices + found.host.weights + found.host.compute
    text = next(warning.text for warning in found.warnings if warning.code == "ollama-ps")
    assert f"{size / 1e9:.1f} GB and 100% GPU" in text


def test_layers_that_will_not_fit() -> None:
    codes = [warning.code for warning in OLLAMA.estimate(LLAMA, Run(n_ctx=8192), [card(6)]).warnings]
    assert "layers-in-system-memory" in codes


def test_drafts_are_not_modelled() -> None:
    with pytest.raises(SettingsError, match="draft"):
        OLLAMA.estimate(LLAMA, Run(), [card(24)], Companions(draft=Draft(model=LLAMA)))


# --- recipes


def test_a_server_and_a_modelfile() -> None:
    run = Run(n_ctx=16_384, n_requests=2, cache_type_k="q8_0", options={"num_gpu": 20, "gpu_overhead": GIB})
    job = OLLAMA.job(LLAMA, run, [card(24)] * 2)
    serve, modelfile, create = OLLAMA.recipes(job, Source(file="llama 3.gguf"))
    assert serve.text == (
        "OLLAMA_CONTEXT_LENGTH=16384 OLLAMA_NUM_PARALLEL=2 OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=q8_0 "
        "OLLAMA_GPU_OVERHEAD=1073741824 OLLAMA_SCHED_SPREAD=1 ollama serve"
    )
    assert modelfile.kind == "file"
    assert modelfile.text == (
        "FROM ./llama 3.gguf\nPARAMETER num_ctx 16384\nPARAMETER num_batch 1024\nPARAMETER num_gpu 20\n"
    )
    assert shlex.split(create.text)[:3] == ["ollama", "create", "my-model"]


def test_a_name_of_the_library() -> None:
    modelfile = OLLAMA.recipes(OLLAMA.job(LLAMA, Run(), [card(24)]), Source(library="llama3.1:8b"))[1]
    assert modelfile.text.startswith("FROM llama3.1:8b\n")
