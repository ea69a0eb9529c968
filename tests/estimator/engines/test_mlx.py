"""mlx-lm's cache by the rules of its source and by what was measured of it, what it refuses, and its recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.mlx import Mlx
from estimator.engines.recipe import Source
from estimator.errors import DeviceError, SettingsError
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples
from tests.estimator.engines.reference import keywords, listed, options, value, version

if TYPE_CHECKING:
    from estimator.engines.result import Result
    from estimator.model import Model

MLX = Mlx()
GENERIC = samples.device("generic")
DENSE = samples.model(*[samples.layer()] * 4)
AT_ONCE = {"quantized_kv_start": 0}


def found(model: Model, run: Run) -> Result:
    return MLX.estimate(model, run, [GENERIC])


def line(result: Result, label: str) -> int:
    return sum(line.bytes for line in result.lines if line.label == label)


def catalogued(id: str) -> Model:
    return catalogue_model(id, "Q4_K_M")


def test_it_is_the_version_whose_options_are_listed() -> None:
    assert MLX.version == version("mlx-lm")


# --- the cache


@pytest.mark.parametrize(
    ("kind", "size"),
    [("16bit", 256), ("8bit", 136), ("6bit", 104), ("5bit", 88), ("4bit", 72), ("3bit", 56), ("2bit", 40)],
)
def test_bytes_of_a_head_of_128(kind: str, size: int) -> None:
    """8 bits are 1.0625 B an element in groups of 64, and 4 bits 0.5625."""
    type_k = MLX.cache_type(kind)
    assert type_k
    assert type_k.k.row_bytes(128) == size


@pytest.mark.parametrize(("n_ctx", "cells"), [(1, 256), (256, 256), (257, 512), (5000, 5120), (5120, 5120)])
def test_it_grows_by_256_tokens(n_ctx: int, cells: int) -> None:
    """5,000 tokens in chunks of 512 were measured to have room for 5,120."""
    assert found(DENSE, Run(n_ctx=n_ctx)).devices[0].kv_cache == cells * 4 * 8 * 256 * 2


@pytest.mark.parametrize(("group", "row"), [("32", 40), ("64", 36), ("128", 34)])
def test_groups(group: str, row: int) -> None:
    """64 elements of 4 bits with 8, 4 and 2 B of scales and biases."""
    run = Run(n_ctx=65_536, cache_type_k="4bit", options={**AT_ONCE, "kv_group_size": group})
    assert found(DENSE, run).devices[0].kv_cache == 65_536 * 4 * 8 * 4 * row


@pytest.mark.parametrize(
    ("n_ctx", "start", "chunk", "wide", "narrow"),
    [
        (4096, 5000, 2048, 4096, 0),  # not reached
        (8192, 5000, 2048, 6144, 0),  # the chunk that reaches it ends at 6,144
        (8192, 5000, 512, 5120, 0),
        (8192, 0, 2048, 0, 8192),
        (5120, 5000, 2048, 5120, 0),
        (65_536, 5000, 2048, 0, 65_536),
    ],
)
def test_the_peak_is_before_or_after_it_is_quantized(
    n_ctx: int, start: int, chunk: int, wide: int, narrow: int
) -> None:
    run = Run(n_ctx=n_ctx, chunk=chunk, cache_type_k="8bit", options={"quantized_kv_start": start})
    assert found(DENSE, run).devices[0].kv_cache == 4 * 8 * 2 * (wide * 256 + narrow * 136)


def test_windows_hold_a_chunk_more() -> None:
    """A window of 512 was measured to hold 767 tokens after chunks of 256."""
    model = samples.model(*[samples.layer(n_swa=512)] * 3, samples.layer())
    result = found(model, Run(n_ctx=8192, chunk=256))
    assert line(result, "Cache of attention in a window of 512") == 3 * 767 * 8 * 256 * 2
    assert line(result, "Cache of attention") == 8192 * 8 * 256 * 2
    assert line(found(model, Run(n_ctx=300)), "Cache of attention in a window of 512") == 3 * 512 * 8 * 256 * 2


def test_gemma2_has_no_windows() -> None:
    result = found(catalogued("gemma-2-2b-it"), Run(n_ctx=8192))
    assert result.devices[0].kv_cache == 8192 * 26 * 4 * 512 * 2
    assert line(result, "Scores of attention") == 2048 * 8192 * (8 * 2 + 1)


@pytest.mark.parametrize(
    ("id", "per_token"),
    [
        ("deepseek-v3", 61 * 576 * 2),
        ("glm-4.7-flash", 47 * 576 * 2),
        ("kimi-linear-48b-a3b-instruct", 7 * 576 * 2),
        ("deepseek-v3.2", 61 * (576 + 2 * 128) * 2),  # the indexer's V is there, and 0
        ("deepseek-v2-lite", 27 * 16 * (192 + 128) * 2),  # K and V of every head
        ("youtu-llm-2b", 32 * 16 * (192 + 128) * 2),
        ("minicpm3-4b", 62 * 40 * (96 + 64) * 2),
    ],
)
def test_latents(id: str, per_token: int) -> None:
    assert found(catalogued(id), Run(n_ctx=4096)).devices[0].kv_cache == 4096 * per_token


def test_states() -> None:
    result = found(catalogued("qwen3.5-4b"), Run(n_ctx=4096, n_requests=2))
    assert result.devices[0].recurrent_state == 2 * 24 * (24_576 * 2 + 524_288 * 4)
    assert result.devices[0].kv_cache == 2 * 8 * 4096 * 4 * 512 * 2


def test_earlier_prompts_are_kept() -> None:
    one, kept = (found(DENSE, Run(n_ctx=4096, options={"prompt_cache_size": n})) for n in (0, 10))
    assert kept.devices[0].kv_cache == 11 * one.devices[0].kv_cache


# --- what is computed


def test_quantized_attention_holds_scores() -> None:
    """Measured once, not twice: 1.19 of it with 8 heads, 256 rows and 512 tokens."""
    run = Run(n_ctx=32_768, cache_type_k="8bit", options=AT_ONCE)
    assert line(found(DENSE, run), "Scores of attention") == 2048 * 32_768 * (32 * 2 + 1)
    assert line(found(DENSE, Run(n_ctx=32_768)), "Scores of attention") == 0
    smaller = replace(run, chunk=512)
    assert line(found(DENSE, smaller), "Scores of attention") == 512 * 32_768 * (32 * 2 + 1)


@pytest.mark.parametrize(("n_embd_head", "is_fused"), [(64, True), (80, True), (128, True), (192, False), (256, False)])
def test_heads_whose_scores_are_held(n_embd_head: int, is_fused: bool) -> None:
    model = samples.model(samples.layer(n_embd_head_k=n_embd_head, n_embd_head_v=n_embd_head))
    assert (line(found(model, Run(n_ctx=4096)), "Scores of attention") == 0) == is_fused


@pytest.mark.parametrize(
    ("id", "n_head", "held", "width", "n_indexer"),
    [
        ("deepseek-v3", 128, 1, 256, 0),
        ("mistral-small-4-119b-2603", 32, 2, 192, 0),  # K and V of unlike width: its own scores besides
        ("deepseek-v3.2", 128, 1, 256, 64),
    ],
)
def test_latents_hold_scores_of_rotated_parts_and_k_and_v(
    id: str, n_head: int, held: int, width: int, n_indexer: int
) -> None:
    size = line(found(catalogued(id), Run(n_ctx=4096, chunk=512)), "Scores of attention")
    assert size == 4096 * 2 * ((held * n_head + n_indexer) * 512 + n_head * width)


def test_eight_prompts_are_computed_together() -> None:
    sizes = [line(found(DENSE, Run(n_ctx=4096, n_requests=n)), "Activations") for n in (1, 4, 8, 16)]
    assert sizes == [sizes[0], 4 * sizes[0], 8 * sizes[0], 8 * sizes[0]]


def test_weights_close_to_the_wired_limit() -> None:
    weights = found(DENSE, Run()).devices[0].weights

    def codes(capacity: int) -> list[str]:
        mac = samples.device("metal", capacity)
        return [warning.code for warning in MLX.estimate(DENSE, Run(n_ctx=256), [mac]).warnings]

    assert "close-to-wired-limit" in codes(weights * 10 // 9 - 1)
    assert "close-to-wired-limit" not in codes(weights * 10 // 9 + 1)


def test_one_layer_is_copied_as_it_grows() -> None:
    result = found(DENSE, Run(n_ctx=4096))
    assert line(result, "Growth of one layer") * 4 == result.devices[0].kv_cache


def test_weights_have_a_scale_and_a_bias_for_64() -> None:
    model = catalogued("llama-3.1-8b-instruct")
    sizes = [
        MLX.estimate(model, Run(n_ctx=256, weight_format=f"{bits}bit"), [GENERIC]).devices[0].weights for bits in (8, 4)
    ]
    narrowed = sum(tensor.n_elements for tensor in model.tensors if len(tensor.shape) > 1)
    assert sizes[0] - sizes[1] == narrowed // 2
    assert sizes[1] == pytest.approx(narrowed * 0.5625, rel=0.001)


# --- refusals


@pytest.mark.parametrize(
    ("id", "why"),
    [
        ("gemma-3-4b-it", "windows"),
        ("gemma-4-12b-it", "windows"),
        ("gemma-3n-e4b-it", "windows"),
        ("gemma-2-2b-it", "gemma2"),
        ("gpt-oss-20b", "sinks"),
        ("deepseek-v3", "latents"),
        ("phi-3-mini-4k-instruct", "groups of 64"),
    ],
)
def test_caches_that_cannot_be_quantized(id: str, why: str) -> None:
    """They fail once the start is reached, not before."""
    model = catalogued(id)
    run = Run(n_ctx=5000, cache_type_k="8bit")
    with pytest.raises(SettingsError, match=why) as caught:
        found(model, run)
    assert (caught.value.code, caught.value.field) == ("cache-not-quantizable", "cache_type_k")
    before = found(model, replace(run, n_ctx=4999))
    assert "cache-not-yet-quantized" in [warning.code for warning in before.warnings]
    assert before.devices[0].kv_cache == found(model, Run(n_ctx=4999)).devices[0].kv_cache


def test_groups_of_32_suit_more_heads() -> None:
    run = Run(n_ctx=8192, cache_type_k="8bit", options={"kv_group_size": "32"})
    assert found(catalogued("phi-3-mini-4k-instruct"), run)


def test_lists_of_caches_stay_as_they_are() -> None:
    model = catalogued("falcon-h1-3b-instruct")
    result = found(model, Run(n_ctx=8192, cache_type_k="8bit"))
    assert result.devices[0].kv_cache == found(model, Run(n_ctx=8192)).devices[0].kv_cache
    assert "cache-not-quantized" in [warning.code for warning in result.warnings]


def test_one_request_at_a_time_with_a_quantized_cache() -> None:
    with pytest.raises(SettingsError) as caught:
        found(DENSE, Run(n_ctx=4096, n_requests=2, cache_type_k="8bit"))
    assert caught.value.field == "n_requests"


def test_what_it_has_no_module_for() -> None:
    with pytest.raises(SettingsError, match="falcon"):
        found(catalogued("falcon-7b"), Run(n_ctx=2048))
    with pytest.raises(DeviceError, match="METAL"):
        MLX.estimate(DENSE, Run(), [device("rtx-4090")])


@pytest.mark.parametrize(("asked", "near"), [("q8_0", "8bit"), ("q4_0", "4bit"), ("iq4_nl", "4bit"), ("q5_1", "5bit")])
def test_the_nearest_of_llama_cpps_types(asked: str, near: str) -> None:
    assert MLX.nearest_cache_type(asked).id == near


@hypothesis(deadline=None, max_examples=40)
@given(
    n_ctx=st.integers(1, 100_000),
    more=st.integers(0, 20_000),
    start=st.integers(0, 20_000),
    chunk=st.integers(1, 4096),
    kind=st.sampled_from(["16bit", "8bit", "2bit"]),
)
def test_more_context_never_needs_less(n_ctx: int, more: int, start: int, chunk: int, kind: str) -> None:
    run = Run(n_ctx=n_ctx, chunk=chunk, cache_type_k=kind, options={"quantized_kv_start": start})
    assert found(DENSE, run).devices[0].total <= found(DENSE, replace(run, n_ctx=n_ctx + more)).devices[0].total


# --- recipes

FULL = Run(
    n_ctx=32_768,
    chunk=512,
    cache_type_k="4bit",
    weight_format="4bit",
    options={"quantized_kv_start": 0, "kv_group_size": "32", "prompt_cache_size": 2},
)


@pytest.mark.parametrize("run", [Run(n_ctx=8192), Run(n_ctx=8192, n_requests=16, weight_format="bf16"), FULL])
def test_options_exist(run: Run) -> None:
    for recipe in MLX.recipes(MLX.job(DENSE, run, [GENERIC]), Source(repo="org/model")):
        if recipe.kind == "command":
            assert options(recipe.text) <= listed("mlx-lm", "command", recipe.text.split()[0])
        else:
            assert set(keywords(recipe.text, "generate")) <= listed("mlx-lm", "function", "generate")


def test_a_full_command() -> None:
    server, python, convert = MLX.recipes(MLX.job(DENSE, FULL, [GENERIC]), Source(repo="org/model"))
    assert server.text == (
        "mlx_lm.server --model mlx_model --prefill-step-size 512 --prompt-cache-size 2 --decode-concurrency 1 "
        "--prompt-concurrency 1 --kv-bits 4 --kv-group-size 32 --quantized-kv-start 0"
    )
    assert keywords(python.text, "generate")["kv_bits"] == "4"
    assert keywords(python.text, "generate")["max_tokens"] == "32768 - len(prompt)"
    assert value(convert.text, "--q-bits") == "4"
    assert value(convert.text, "--mlx-path") == value(server.text, "--model")


def test_weights_that_are_not_converted() -> None:
    server, _ = MLX.recipes(MLX.job(DENSE, Run(weight_format="bf16"), [GENERIC]), Source(repo="org/model"))
    assert value(server.text, "--model") == "org/model"


def test_a_wired_limit_is_set() -> None:
    mac = replace(device("m3-max-14c-36gb"), wired_limit_mib=32_768)
    found = MLX.recipes(MLX.job(DENSE, Run(), [mac]), Source())
    assert found[-1].text == "sudo sysctl iogpu.wired_limit_mb=32768"
