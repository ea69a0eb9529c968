"""vLLM's cache against what its own logs say, its types byte by byte, and what it refuses."""

from __future__ import annotations

import shlex
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import pytest

from estimator.devices import Device, device
from estimator.engines.base import Run
from estimator.engines.recipe import Source
from estimator.engines.vllm import Vllm
from estimator.errors import DeviceError, SettingsError
from estimator.sources.catalogue import catalogue_model
from estimator.usage import Usage, used
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.engines.options import Value
    from estimator.engines.result import Result

VLLM = Vllm()
GENERIC = samples.device("generic")
NO_PREFIXES = {"enable_prefix_caching": False}
DENSE = samples.model(*[samples.layer()] * 32)


def cache(result: Result) -> int:
    """Bytes of the cache of the first device, without the block that is held back."""
    return sum(
        line.bytes
        for line in result.lines
        if line.device == result.devices[0].label
        and line.kind in ("kv_cache", "recurrent_state")
        and line.label != "Null block"
    )


@pytest.mark.parametrize(
    ("dtype", "k", "v"),
    [
        ("auto", 256, 256),
        ("fp8", 128, 128),
        ("fp8_e5m2", 128, 128),
        ("int8_per_token_head", 132, 132),
        ("fp8_per_token_head", 132, 132),
        ("int4_per_token_head", 68, 68),
        ("nvfp4", 72, 72),
        ("turboquant_k8v4", 128, 68),
        ("turboquant_4bit_nc", 66, 68),
        ("turboquant_k3v4_nc", 50, 68),
        ("turboquant_3bit_nc", 50, 52),
        ("ultraquant_4bit", 68, 68),
    ],
)
def test_bytes_of_a_head_of_128(dtype: str, k: int, v: int) -> None:
    """turboquant: 196, 134, 118 and 102 B together (quantization/turboquant/config.py); ultraquant: 136."""
    kind = VLLM.cache_type(dtype)
    assert kind
    assert (kind.k.row_bytes(128), kind.v.row_bytes(128)) == (k, v)


def test_a_dense_cache_is_pages_of_16_tokens() -> None:
    found = VLLM.estimate(DENSE, Run(n_ctx=1000), [GENERIC])
    assert cache(found) == ceil(1000 / 16) * 16 * 32 * 8 * (128 + 128) * 2
    twice = VLLM.estimate(DENSE, Run(n_ctx=1000, n_requests=2), [GENERIC])
    assert cache(twice) == 2 * cache(found)


def test_the_first_and_last_layers_stay_at_16_bits_with_turboquant() -> None:
    found = VLLM.estimate(DENSE, Run(n_ctx=16_000, cache_type_k="turboquant_3bit_nc"), [GENERIC])
    assert cache(found) == 16_000 * 8 * (28 * 102 + 4 * 512)
    assert [warning.code for warning in found.warnings if warning.code == "boundary-layers"]


@pytest.mark.parametrize(
    ("id", "n_ctx", "pool_gib", "requests"),
    [
        # v0.19.0 on an L40S: blocks of 528 tokens, states padded by 0.76 %, "Maximum concurrency: 2.52x"
        ("qwen3.5-9b", 262_144, 20.27, 2.52),
        # v0.22.0: "Maximum concurrency for 1,024 tokens per request: 137.80x"
        ("qwen3.5-4b", 1024, 11.11, 137.80),
    ],
)
def test_hybrids_hold_as_many_requests_as_logs_say(id: str, n_ctx: int, pool_gib: float, requests: float) -> None:
    model = catalogue_model(id, "Q4_K_M")
    found = VLLM.estimate(model, Run(n_ctx=n_ctx, options=NO_PREFIXES), [device("l40s")])
    assert found.budget
    assert "a block of 528 tokens is 2,162,688 B" in next(
        line.explain for line in found.lines if line.kind == "kv_cache"
    )
    per_block = next(line.bytes for line in found.lines if line.label == "Null block")
    per_request = cache(found) // per_block
    pools = (int((pool_gib + rounded) * 2**30) for rounded in (-0.005, 0, 0.005))  # GiB are logged with two digits
    assert requests in [round(pool // per_block / per_request, 2) for pool in pools]


@pytest.mark.parametrize(
    ("id", "dtype", "block"),
    [
        ("qwen3.5-9b", "auto", 528),
        ("qwen3.5-9b", "fp8", 1056),
        ("qwen3.5-27b", "auto", 784),
        ("qwen3.5-27b", "fp8", 1568),
    ],
)
def test_blocks_beside_recurrent_layers(id: str, dtype: str, block: int) -> None:
    """As "Setting attention block size to N tokens" in logs (noonghunna/club-3090 issue 1047 among them)."""
    found = VLLM.estimate(catalogue_model(id, "Q4_K_M"), Run(n_ctx=8192, cache_type_k=dtype), [device("l40s")])
    assert f"a block of {block:,} tokens" in next(line.explain for line in found.lines if line.kind == "kv_cache")


@pytest.mark.parametrize(
    ("id", "quantization", "card", "options", "pool_gib"),
    [
        # v0.19.0, whose graphs were not counted: "Model loading took 13.72 GiB", "Available KV cache memory: 36.56 GiB"
        (
            "gpt-oss-20b",
            "MXFP4_MOE",
            "a100-sxm4-80-gb",
            {"gpu_memory_utilization": 0.65, "enforce_eager": True},
            36.56,
        ),
        # v0.22.0 on a card of 44.4 GiB: "Model loading took 14.29 GiB", "Available KV cache memory: 26.32 GiB"
        ("qwen2.5-7b-instruct", "BF16", "l40s", {"gpu_memory_utilization": 0.95, "max_num_seqs": 128}, 26.32),
    ],
)
def test_pools_come_near_to_those_of_logs(
    id: str, quantization: str, card: str, options: dict[str, Value], pool_gib: float
) -> None:
    found = VLLM.estimate(catalogue_model(id, quantization), Run(n_ctx=4096, options=options), [device(card)])
    assert found.budget
    assert found.budget.pool[0] / 2**30 == pytest.approx(pool_gib, rel=0.03)


def test_prefix_caching_keeps_a_second_state() -> None:
    model = catalogue_model("qwen3.5-9b", "Q4_K_M")
    with_it = VLLM.estimate(model, Run(n_ctx=8192), [GENERIC]).devices[0].recurrent_state
    without = VLLM.estimate(model, Run(n_ctx=8192, options=NO_PREFIXES), [GENERIC]).devices[0].recurrent_state
    assert with_it == 2 * without


def test_windows_hold_what_is_in_flight() -> None:
    """gpt-oss: 12 windows of 128 and 12 whole layers are two groups; two batches are in flight."""
    model = catalogue_model("gpt-oss-20b", "Q4_K_M")
    found = VLLM.estimate(model, Run(n_ctx=32_768, chunk=2048), [GENERIC])
    per_block = 12 * 16 * 8 * (64 + 64) * 2
    assert cache(found) == per_block * (32_768 // 16 + ceil((128 - 1 + 2 * 2048) / 16) + 1)
    assert not [warning for warning in found.warnings if warning.code == "padding-layers"]


def test_groups_are_padded() -> None:
    """52 windows beside 10 whole layers are six groups of ten, eight of which are nobody's."""
    found = VLLM.estimate(catalogue_model("gemma-3-27b-it", "Q4_K_M"), Run(n_ctx=4096), [GENERIC])
    assert "8 layers" in next(warning.text for warning in found.warnings if warning.code == "padding-layers")


@pytest.mark.parametrize(("n_window", "n_layer", "padding"), [(24, 12, 0), (13, 13, 1), (18, 12, 6), (17, 17, 5)])
def test_groups_are_as_large_as_the_smallest_kind_or_the_largest_if_that_is_near(
    n_window: int, n_layer: int, padding: int
) -> None:
    """12 whole layers beside windows: groups of 12, or of all windows where they are fewer than 18."""
    layers = [*[samples.layer()] * 12, *[samples.layer(n_swa=128)] * n_window]
    found = VLLM.estimate(samples.model(*layers), Run(n_ctx=4096), [GENERIC])
    assert next(line.bytes for line in found.lines if line.label == "Null block") == n_layer * 16 * 8 * 512
    texts = [warning.text for warning in found.warnings if warning.code == "padding-layers"]
    assert bool(texts) == bool(padding)
    assert all(f" {padding} layers" in text for text in texts)


def test_hybrids_have_no_layers_at_16_bits_with_turboquant() -> None:
    model = catalogue_model("qwen3.5-9b", "Q4_K_M")
    found = VLLM.estimate(model, Run(n_ctx=8192, cache_type_k="turboquant_4bit_nc"), [GENERIC])
    (line,) = [line for line in found.lines if line.kind == "kv_cache" and line.label != "Null block"]
    assert "8 layers, 4 heads x 262 B" in line.explain
    assert "boundary-layers" not in [warning.code for warning in found.warnings]


def test_latents_beside_recurrent_layers_have_blocks_of_128() -> None:
    found = VLLM.estimate(catalogue_model("kimi-linear-48b-a3b-instruct", "Q4_K_M"), Run(n_ctx=8192), [GENERIC])
    assert "a block of 1,920 tokens" in next(line.explain for line in found.lines if line.kind == "kv_cache")


@pytest.mark.parametrize(("dtype", "size"), [("auto", 4), ("float32", 4), ("bfloat16", 2)])
def test_types_of_states(dtype: str, size: int) -> None:
    model = catalogue_model("qwen3.5-9b", "Q4_K_M")
    found = VLLM.estimate(model, Run(n_ctx=8192, options={"mamba_ssm_cache_dtype": dtype}), [GENERIC])
    assert f"524,288 x {size} B" in next(line.explain for line in found.lines if line.kind == "recurrent_state")


@pytest.mark.parametrize(("dtype", "row"), [("auto", 1152), ("fp8", 576)])
def test_latents(dtype: str, row: int) -> None:
    model = catalogue_model("deepseek-v2-lite", "Q4_K_M")
    one = VLLM.estimate(model, Run(n_ctx=16_000, cache_type_k=dtype), [GENERIC])
    two = VLLM.estimate(model, Run(n_ctx=16_000, cache_type_k=dtype), [GENERIC] * 2)
    assert cache(one) == cache(two) == 16_000 * 27 * row  # each device has all of a latent


def test_latents_with_an_indexer() -> None:
    """fp8 is the packed form of 656 B, beside a key of 128 and its scale for each token."""
    model = catalogue_model("deepseek-v3.2", "Q4_K_M")
    n_layer = model.n_layer
    assert cache(VLLM.estimate(model, Run(n_ctx=16_000, cache_type_k="fp8"), [GENERIC])) == 16_000 * n_layer * 788
    assert cache(VLLM.estimate(model, Run(n_ctx=16_000), [GENERIC])) == 16_000 * n_layer * (1152 + 132)


def test_latents_that_are_cached_by_head() -> None:
    """MiniCPM3 has 40 heads of 96; V has 64, and is padded."""
    model = catalogue_model("minicpm3-4b", "Q4_K_M")
    assert cache(VLLM.estimate(model, Run(n_ctx=1600), [GENERIC])) == 1600 * model.n_layer * 40 * (96 + 96) * 2


def test_devices_share_heads_until_there_are_none_left() -> None:
    def share(n: int) -> int:
        return cache(VLLM.estimate(DENSE, Run(n_ctx=1600), [GENERIC] * n))

    assert share(1) == 2 * share(2) == 8 * share(8) == 8 * share(16)


# --- weights and activations


def test_devices_share_matrices_but_not_norms() -> None:
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    whole, half = (VLLM.estimate(model, Run(n_ctx=1024), [GENERIC] * n) for n in (1, 2))
    norms = next(line.bytes for line in whole.lines if line.label == "Norms, routers, biases")
    assert half.devices[0].weights - norms == (whole.devices[0].weights - norms) // 2


def test_latents_are_kept_twice() -> None:
    """27 layers x 16 heads x 512 x (128 + 128) elements at two bytes."""
    found = VLLM.estimate(catalogue_model("deepseek-v2-lite", "Q4_K_M"), Run(n_ctx=1024), [GENERIC])
    assert [line.bytes for line in found.lines if line.label == "Absorbed matrices"] == [27 * 16 * 512 * 256 * 2]


def test_activations_are_the_larger_of_two_peaks() -> None:
    def peak(chunk: int, seqs: int) -> int:
        run = Run(n_ctx=1024, chunk=chunk, options={"max_num_seqs": seqs})
        return VLLM.estimate(DENSE, run, [GENERIC]).devices[0].compute

    assert peak(2048, 1) == 2048 * (2 * 4096 + 3 * 14_336) * 2
    assert peak(16, 16) == 16 * (2 * 4096 + 3 * 14_336) * 2  # 1,024 logits are few
    assert VLLM.estimate(DENSE_WIDE, Run(chunk=512), [GENERIC]).devices[0].compute == 512 * 8192 + 256 * 256_000 * 10


# --- the budget


def test_it_takes_its_share_whatever_the_context() -> None:
    card = device("rtx-4090")
    small, large = (VLLM.estimate(DENSE, Run(n_ctx=n), [card]) for n in (1024, 65_536))
    assert small.budget
    assert large.budget
    assert small.budget.taken == large.budget.taken == (ceil((card.capacity or 0) * 0.92),)
    assert small.budget.pool == large.budget.pool
    assert small.devices[0].capacity == small.budget.taken[0]
    assert small.devices[0].total < large.devices[0].total
    assert small.budget.requests > large.budget.requests


def test_the_pool_is_what_is_left() -> None:
    found = VLLM.estimate(DENSE, Run(n_ctx=8192), [device("rtx-4090")])
    assert found.budget
    share = found.devices[0]
    assert found.budget.pool[0] == found.budget.taken[0] - share.weights - share.compute - share.overhead
    per_block = 16 * 32 * 8 * 512
    assert found.budget.requests == pytest.approx(found.budget.pool[0] // per_block / 512)


def test_a_budget_has_its_margin_in_it() -> None:
    """Nothing more has to stay free for a start to be safe."""
    card = device("rtx-4090")
    deepest = VLLM.max_context(DENSE, Run(), [card])
    assert VLLM.estimate(DENSE, Run(n_ctx=deepest), [card]).is_safe


def test_no_limit_no_budget() -> None:
    assert VLLM.estimate(DENSE, Run(n_ctx=8192), [GENERIC]).budget is None


def test_a_share_that_is_not_free_is_refused_with_one_that_is() -> None:
    card = used(device("rtx-4060"), Usage(system="windows"))
    with pytest.raises(SettingsError) as caught:
        VLLM.estimate(DENSE, Run(), [card])
    assert (caught.value.code, caught.value.field) == ("budget-not-free", "gpu_memory_utilization")
    most = float(str(caught.value.allowed).split()[-1])
    assert VLLM.estimate(DENSE, Run(options={"gpu_memory_utilization": most}), [card]).budget


def test_fewer_requests_in_a_batch_leave_more_for_the_pool() -> None:
    def pool(**options: int | bool) -> int:
        budget = VLLM.estimate(DENSE_WIDE, Run(n_ctx=4096, options=options), [device("rtx-4090")]).budget
        assert budget
        return budget.pool[0]

    assert pool(max_num_seqs=16) > pool()
    assert pool(enforce_eager=True) > pool()


DENSE_WIDE = replace(DENSE, n_vocab=256_000)


@pytest.mark.parametrize(
    ("id", "chunk", "seqs"),
    [("rtx-4090", 2048, 256), ("a100-sxm4-80-gb", 2048, 256), ("h100-sxm5-80-gb", 8192, 1024), ("b200", 16384, 1024)],
)
def test_batches_by_device(id: str, chunk: int, seqs: int) -> None:
    job = VLLM.job(DENSE, Run(), [device(id)])
    words = shlex.split(VLLM.recipes(job, Source())[0].text)
    assert words[words.index("--max-num-batched-tokens") + 1] == str(chunk)
    assert words[words.index("--max-num-seqs") + 1] == str(seqs)


# --- refusals


@pytest.mark.parametrize(
    ("asked", "near"),
    [("q8_0", "fp8"), ("q4_0", "int4_per_token_head"), ("iq4_nl", "int4_per_token_head"), ("f32", "auto")],
)
def test_the_nearest_of_llama_cpps_types(asked: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"the nearest is {near} "):
        VLLM.estimate(DENSE, Run(cache_type_k=asked), [GENERIC])
    assert VLLM.nearest_cache_type("f16").id == VLLM.nearest_cache_type("bf16").id == "auto"


@pytest.mark.parametrize(
    ("dtype", "id"),
    [
        ("fp8", "tesla-t4"),
        ("nvfp4", "tesla-t4"),
        ("fp8_per_token_head", "rtx-3090"),
        ("nvfp4_4over6", "rtx-4090"),
        ("nvfp4", "radeon-rx-7900-xtx"),
        ("ultraquant_4bit", "rtx-4090"),
    ],
)
def test_types_that_a_device_lacks(dtype: str, id: str) -> None:
    where = device(id)
    support = VLLM.support(where, dtype, dtype)
    assert support.speed == "refused"
    with pytest.raises(SettingsError, match=where.name):
        VLLM.estimate(DENSE, Run(n_ctx=1024, cache_type_k=dtype), [where])


@pytest.mark.parametrize(("asked", "near"), [("q8_0", "int8_per_token_head"), ("fp8", "int8_per_token_head")])
def test_the_nearest_that_the_device_has(asked: str, near: str) -> None:
    """A T4 has no fp8."""
    with pytest.raises(SettingsError, match=f"is {near}") as caught:
        VLLM.estimate(DENSE, Run(n_ctx=1024, cache_type_k=asked), [device("tesla-t4")])
    assert "fp8" not in (caught.value.allowed or ())


@pytest.mark.parametrize(
    ("dtype", "id", "facts"),
    [
        ("fp8", "rtx-3090", {"n_embd_head_k": 96, "n_embd_head_v": 96}),
        ("fp8", "rtx-3090", {"sinks": True}),
        ("nvfp4", "rtx-4090", {"n_embd_head_k": 64, "n_embd_head_v": 64}),
        ("nvfp4", "rtx-4090", {"sinks": True}),
    ],
)
def test_heads_that_no_backend_reads(dtype: str, id: str, facts: dict[str, int]) -> None:
    run = Run(n_ctx=1024, cache_type_k=dtype)
    with pytest.raises(SettingsError) as caught:
        VLLM.estimate(samples.model(samples.layer(**facts)), run, [device(id)])
    assert (caught.value.code, caught.value.allowed) == ("no-attention-backend", ("auto",))
    assert VLLM.estimate(samples.model(samples.layer()), run, [device(id)])


def test_heads_that_devices_do_not_divide() -> None:
    with pytest.raises(DeviceError, match="can be 1, 2, 4, 8, 16, 32"):
        VLLM.estimate(DENSE, Run(), [GENERIC] * 3)


def test_types_that_latents_lack() -> None:
    with pytest.raises(SettingsError) as caught:
        VLLM.estimate(catalogue_model("deepseek-v2-lite", "Q4_K_M"), Run(cache_type_k="nvfp4"), [GENERIC])
    assert caught.value.allowed == ("auto", "fp8", "fp8_e5m2")


@pytest.mark.parametrize("field", ["max_num_seqs", "n_requests"])
def test_more_requests_than_a_batch_has_room_for(field: str) -> None:
    run = Run(chunk=64, options={"max_num_seqs": 65}) if field == "max_num_seqs" else Run(chunk=64, n_requests=65)
    with pytest.raises(SettingsError) as caught:
        VLLM.estimate(DENSE, run, [GENERIC])
    assert caught.value.field == field


# --- recipes

OPTIONS = frozenset(
    {
        "--max-model-len",
        "--kv-cache-dtype",
        "--gpu-memory-utilization",
        "--max-num-batched-tokens",
        "--max-num-seqs",
        "--tensor-parallel-size",
        "--quantization",
        "--block-size",
        "--mamba-ssm-cache-dtype",
        "--enforce-eager",
        "--no-enable-prefix-caching",
    }
)
"""Those of vLLM 0.33.0's parser (engine/arg_utils.py:977-1754) that a recipe may use."""

FULL = Run(
    n_ctx=32_768,
    cache_type_k="fp8",
    weight_format="fp8",
    options={
        "gpu_memory_utilization": 0.8,
        "block_size": "32",
        "max_num_seqs": 16,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "mamba_ssm_cache_dtype": "float32",
    },
)


def recipes(run: Run, devices: list[Device]) -> tuple[str, str]:
    serve, python = VLLM.recipes(VLLM.job(DENSE, run, devices), Source(repo="org/model"))
    return serve.text, python.text


@pytest.mark.parametrize("run", [Run(n_ctx=8192), FULL])
def test_options_exist(run: Run) -> None:
    words = shlex.split(recipes(run, [device("rtx-4090")] * 2)[0])
    assert words[:3] == ["vllm", "serve", "org/model"]
    assert {word for word in words if word.startswith("-")} <= OPTIONS


def test_a_full_command() -> None:
    assert recipes(FULL, [device("rtx-4090")] * 2)[0] == (
        "vllm serve org/model --max-model-len 32768 --kv-cache-dtype fp8 --gpu-memory-utilization 0.8 "
        "--max-num-batched-tokens 2048 --max-num-seqs 16 --tensor-parallel-size 2 --quantization fp8 --block-size 32 "
        "--mamba-ssm-cache-dtype float32 --enforce-eager --no-enable-prefix-caching"
    )


def test_a_snippet() -> None:
    line = recipes(FULL, [device("rtx-4090")])[1].splitlines()[2]
    assert line == (
        "llm = LLM('org/model', max_model_len=32768, kv_cache_dtype='fp8', gpu_memory_utilization=0.8, "
        "max_num_batched_tokens=2048, max_num_seqs=16, quantization='fp8', block_size=32, "
        "mamba_ssm_cache_dtype='float32', enforce_eager=True, enable_prefix_caching=False)"
    )
