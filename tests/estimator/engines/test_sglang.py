"""SGLang's pools against what its own logs say, its types byte by byte, its default share, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.capacity import GIB, MIB
from estimator.devices import Device, device
from estimator.engines.base import Run
from estimator.engines.recipe import Source
from estimator.engines.sglang import Sglang
from estimator.errors import DeviceError, SettingsError
from estimator.model import Checkpoint
from estimator.sources.catalogue import catalogue_model
from estimator.usage import Usage, used
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.engines.options import Value
    from estimator.engines.result import Budget, Result
    from estimator.lines import Line
    from estimator.model import Model

SGLANG = Sglang()
GENERIC = samples.device("generic")
DENSE = samples.model(*[samples.layer()] * 32)
DATA = Path(__file__).parents[2] / "data" / "engines" / "sglang-0.5.23.json"
"""Options of SGLang 0.5.23's parser, and the choices of some."""


def model(id: str) -> Model:
    return catalogue_model(id, "Q4_K_M")


def line(result: Result, label: str) -> Line:
    """The line of the first device of this label."""
    return next(one for one in result.lines if one.label == label)


def budget(result: Result) -> Budget:
    assert result.budget
    return result.budget


# --- types


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("auto", 256), ("fp8_e4m3", 128), ("fp8_e5m2", 128), ("mxfp8", 132), ("fp4_mx_block16", 72), ("nvfp4", 72)],
)
def test_bytes_of_a_head_of_128(dtype: str, size: int) -> None:
    kind = SGLANG.cache_type(dtype)
    assert kind
    assert kind.k.row_bytes(128) == kind.v.row_bytes(128) == size


def test_names_of_other_engines() -> None:
    assert SGLANG.cache_type("bf16") is SGLANG.cache_type("auto")
    assert SGLANG.cache_type("fp8") is SGLANG.cache_type("fp8_e4m3")
    assert [SGLANG.nearest_cache_type(name).id for name in ("q8_0", "q4_0")] == ["fp8_e4m3", "fp4_mx_block16"]


def test_nvfp4_on_sm120_has_a_copy_of_one_layer_at_8_bits() -> None:
    """On SM100 prefill reads NVFP4 itself."""
    sizes = {}
    for id in ("rtx-5090", "b200"):
        found = SGLANG.estimate(DENSE, Run(n_ctx=6400, cache_type_k="nvfp4"), [device(id)])
        sizes[id] = line(found, "Cache").bytes
    assert sizes["b200"] == 6400 * 32 * 8 * 2 * 72
    assert sizes["rtx-5090"] == sizes["b200"] + 6400 * 8 * 256


# --- pools, against logs: "KV Cache is allocated. #tokens: N, K size: X GB, V size: Y GB" of each device


@pytest.mark.parametrize(
    ("id", "n_devices", "dtype", "tokens", "gib"),
    [
        # sgl-project/sglang PR 18263
        ("qwen3-30b-a3b", 1, "auto", 1_669_816, 76.44 + 76.44),
        # vllm-project/vllm issue 21348: four heads, one on each device
        ("qwen3-235b-a22b", 4, "auto", 367_404, 8.23 + 8.23),
        # noonghunna/club-3090 issue 1261: 16 of 64 layers attend
        ("qwen3.6-27b", 2, "fp8_e4m3", 454_112, 3.46 + 3.46),
    ],
)
def test_caches_of_logs(id: str, n_devices: int, dtype: str, tokens: int, gib: float) -> None:
    found = SGLANG.estimate(model(id), Run(n_ctx=tokens, cache_type_k=dtype), [GENERIC] * n_devices)
    assert line(found, "Cache").bytes / GIB == pytest.approx(gib, abs=0.011)


def test_windows_have_a_pool_of_their_own() -> None:
    """MiMo-V2-Flash over four devices: "full_layer_tokens=375360, swa_layer_tokens=300288", 8.38 + 5.59 GB of windows.

    sgl-project/sglang PR 18039.
    """
    run = Run(n_ctx=375_360, options={"page_size": 64})
    found = SGLANG.estimate(model("mimo-v2-flash"), run, [GENERIC] * 4)
    assert line(found, "Cache of windows").bytes == 375_360 * 8 // 10 * 39 * 2 * (192 + 128) * 2
    assert line(found, "Cache of windows").bytes / GIB == pytest.approx(8.38 + 5.59, abs=0.011)
    assert line(found, "Cache").bytes == 375_360 * 9 * 1 * (192 + 128) * 2


def test_a_pool_as_large_as_one_that_was_seen() -> None:
    """DeepSeek-R1 in fp8 on eight H200 with 0.82 of each: some 509,000 tokens (ai-dynamo/aisimulate PR 263)."""
    card = device("h200-sxm-141-gb")
    run = Run(n_ctx=8192, weight_format="fp8", options={"mem_fraction_static": 0.82})
    found = budget(SGLANG.estimate(model("deepseek-r1"), run, [card] * 8))
    assert found.pool_tokens == pytest.approx(509_000, rel=0.02)


def test_other_windows_cache_the_whole_context() -> None:
    found = SGLANG.estimate(model("gemma-3-4b-it"), Run(n_ctx=8192), [GENERIC])
    sizes = [one.bytes for one in found.lines if one.kind == "kv_cache"]
    assert sum(sizes) == 8192 * 34 * 4 * 512 * 2
    assert "whole-windows" in [caution.code for caution in found.warnings]


def test_layers_that_read_anothers_cache_have_slots_too() -> None:
    found = SGLANG.estimate(model("gemma-4-e2b-it"), Run(n_ctx=10_000), [GENERIC])
    assert line(found, "Cache").bytes == 10_000 * 7 * 1024 * 2
    assert line(found, "Cache of windows").bytes == 8_000 * 28 * 512 * 2


def test_windows_of_a_short_context_need_more_slots_than_the_context() -> None:
    """Eight tenths of 1,000 tokens are no whole window: the pool has to be larger to start at all."""
    layers = (samples.layer(), samples.layer(n_swa=1024))
    found = SGLANG.estimate(samples.model(*layers, architecture="gpt-oss"), Run(n_ctx=1000), [GENERIC])
    slots = line(found, "Cache").bytes // (8 * 512)
    assert slots * 8 // 10 >= 1024 + 1 > (slots - 2) * 8 // 10


def test_windows_by_the_most_requests_without_prefixes() -> None:
    """8 x (128 + 128 + 2) + 2 x 4,096 + 1 slots (pool_configurator.py:905-968)."""
    layers = (samples.layer(), samples.layer(n_swa=128))
    options: dict[str, Value] = {"disable_radix_cache": True, "max_running_requests": 8}
    gpt = samples.model(*layers, architecture="gpt-oss")
    found = SGLANG.estimate(gpt, Run(n_ctx=100_000, options=options), [device("rtx-4090")])
    assert line(found, "Cache of windows").bytes == (8 * 258 + 2 * 4096 + 1) * 8 * 512
    assert line(found, "Cache").bytes == 100_000 * 8 * 512


@pytest.mark.parametrize(
    ("id", "dtype", "row"),
    [
        ("h200-sxm-141-gb", "auto", 1152),
        ("h200-sxm-141-gb", "fp8_e4m3", 656),
        ("b200", "auto", 576),
        ("instinct-mi300x", "fp8_e4m3", 576),
    ],
)
def test_rows_of_latents_with_an_indexer(id: str, dtype: str, row: int) -> None:
    """Pages of 64; keys of the indexer take 132 B in the layers that have one."""
    found = SGLANG.estimate(model("deepseek-v3.2"), Run(n_ctx=6400, cache_type_k=dtype), [device(id)] * 8)
    assert line(found, "Cache of latents").bytes == 6400 * 61 * row
    assert line(found, "Indexer").bytes == 6400 * 61 * 132
    shared = SGLANG.estimate(model("glm-5.2"), Run(n_ctx=6400, cache_type_k=dtype), [device(id)] * 8)
    assert line(shared, "Indexer").bytes == 6400 * 21 * 132


def test_latents_are_on_every_device() -> None:
    one, two = (SGLANG.estimate(model("deepseek-v2-lite"), Run(n_ctx=8192), [GENERIC] * n) for n in (1, 2))
    assert line(one, "Cache of latents").bytes == line(two, "Cache of latents").bytes == 8192 * 27 * 1152


def test_states_and_cache_share_the_pool() -> None:
    """Whichever needs more decides; the other gets its share as well."""
    qwen = model("qwen3.5-4b")
    state = 24 * (24_576 * 2 + 524_288 * 4)
    for n_ctx, n_requests in ((1024, 8), (200_000, 1)):
        found = SGLANG.estimate(qwen, Run(n_ctx=n_ctx, n_requests=n_requests), [GENERIC])
        share = found.devices[0]
        assert line(found, "States").bytes == (5 * n_requests + 1) * state
        assert share.recurrent_state / share.kv_cache == pytest.approx(0.9)
        assert share.kv_cache >= n_requests * n_ctx * 8 * 4 * 512 * 2


def test_states_by_the_most_requests_without_prefixes() -> None:
    options: dict[str, Value] = {"disable_radix_cache": True, "max_running_requests": 4, "mamba_ssm_dtype": "bfloat16"}
    found = SGLANG.estimate(model("qwen3.5-4b"), Run(n_ctx=4096, options=options), [GENERIC])
    assert found.devices[0].recurrent_state == 5 * 24 * (24_576 * 2 + 524_288 * 2)
    assert found.devices[0].kv_cache == 4096 * 8 * 4 * 512 * 2


@pytest.mark.parametrize(("id", "page"), [("rtx-4090", 1), ("h100-sxm5-80-gb", 1), ("b200", 64)])
def test_pages_by_device(id: str, page: int) -> None:
    found = SGLANG.estimate(DENSE, Run(n_ctx=1001), [device(id)])
    assert line(found, "Cache").bytes == -(-1001 // page) * page * 32 * 8 * 512


# --- the share


@pytest.mark.parametrize(
    ("id", "n_devices", "chunk", "reserve"),
    [
        # 512 + 1.5 x chunk + devices / 8 x 1,024 + 2 x batch of graphs + 8 x sizes of prefill graphs
        ("rtx-4060", 1, 2048, 512 + 3072 + 128 + 2 * 8 + 8 * 42),
        ("rtx-4090", 1, 4096, 512 + 6144 + 128 + 2 * 48 + 8 * 50),
        ("l40s", 1, 4096, 512 + 6144 + 128 + 2 * 32 + 8 * 50),
        ("l40s", 4, 4096, 512 + 6144 + 512 + 2 * 160 + 8 * 50),
        ("h100-sxm5-80-gb", 1, 8192, 512 + 12_288 + 128 + 2 * 256 + 8 * 58),
        ("b200", 1, 16_384, 512 + 24_576 + 128 + 2 * 512 + 8 * 74),
    ],
)
def test_default_share(id: str, n_devices: int, chunk: int, reserve: int) -> None:
    card = device(id)
    job = SGLANG.job(DENSE, Run(n_ctx=4096), [card] * n_devices)
    assert job.chunk == chunk
    size = (card.memory_bytes or 0) // MIB
    found = budget(SGLANG.estimate(DENSE, Run(n_ctx=4096), [card] * n_devices))
    assert found.share == round((size - reserve) / size, 3)


def test_a_small_chunk_keeps_as_much_as_one_of_2048() -> None:
    """But for the graphs: prefill has 22 sizes up to 256 tokens, 42 up to 2,048."""
    card = device("rtx-4090")
    size = (card.memory_bytes or 0) // MIB
    found = budget(SGLANG.estimate(DENSE, Run(n_ctx=4096, chunk=256), [card]))
    assert found.share == round((size - (512 + 3072 + 128 + 2 * 48 + 8 * 22)) / size, 3)


def test_large_devices_keep_ten_gib_free() -> None:
    card = device("h100-sxm5-80-gb")
    found = budget(SGLANG.estimate(DENSE, Run(n_ctx=4096, chunk=2048), [card]))
    size = (card.memory_bytes or 0) // MIB
    assert found.share == round((size - 10_240) / size, 3)


def test_aiter_keeps_more_beyond_8192_tokens() -> None:
    card = device("instinct-mi300x")
    short, deep = (budget(SGLANG.estimate(DENSE, Run(n_ctx=n), [card])).share for n in (8192, 8193))
    assert deep == pytest.approx(short * 0.85)


def test_encoders_of_images_take_from_the_share() -> None:
    """An encoder of ViT-L's size: 0.95 of the rule, and 100 MiB less."""
    weights = sum(tensor.n_elements for tensor in DENSE.tensors)
    seeing = replace(DENSE, checkpoint=Checkpoint(weights + 12 * 24 * 1024**2))
    card = device("rtx-4090")
    plain, less = (budget(SGLANG.estimate(one, Run(n_ctx=4096), [card])) for one in (DENSE, seeing))
    assert less.share == pytest.approx(plain.share * 0.95)
    assert less.taken[0] < plain.taken[0] * 0.95 - 99 * MIB


def test_the_pool_is_what_weights_leave_of_the_share() -> None:
    card = used(device("rtx-4090"), Usage(system="windows"))
    run = Run(n_ctx=8192, options={"mem_fraction_static": 0.8})
    found = SGLANG.estimate(DENSE, run, [card])
    share, whole = found.devices[0], budget(found)
    free = (card.capacity or 0) - share.overhead
    assert whole.taken == (int(free * 0.8),)
    assert share.compute == free - whole.taken[0]
    assert whole.pool == (whole.taken[0] - share.weights,)
    assert whole.pool_tokens == whole.pool[0] // (32 * 8 * 512)
    assert line(found, "Reserve for computing").basis == "margin"


def test_no_limit_no_budget() -> None:
    found = SGLANG.estimate(DENSE, Run(n_ctx=8192), [GENERIC])
    assert found.budget is None
    assert found.devices[0].compute == 0


def test_fewer_requests_and_no_graphs_leave_more_for_the_pool() -> None:
    def pool(**options: int | bool) -> int:
        return budget(SGLANG.estimate(DENSE, Run(n_ctx=4096, options=options), [device("rtx-4090")])).pool[0]

    assert pool() < pool(max_running_requests=4) < pool(disable_cuda_graph=True)


@hypothesis(deadline=None, max_examples=30)
@given(
    id=st.sampled_from(["llama-3.1-8b-instruct", "gpt-oss-20b", "qwen3.5-4b", "deepseek-v2-lite"]),
    n_ctx=st.integers(300, 300_000),
    n_requests=st.integers(1, 12),
    options=st.sampled_from(
        [
            {},
            {"disable_radix_cache": True, "max_running_requests": 12},
            {"page_size": 16},
            {"mamba_full_memory_ratio": 3},
        ]
    ),
)
def test_what_fits_is_what_the_pools_hold(id: str, n_ctx: int, n_requests: int, options: dict[str, int]) -> None:
    run = Run(n_ctx=n_ctx, n_requests=n_requests, options=options)
    found = SGLANG.estimate(model(id), run, [device("rtx-4090")])
    assert found.fits == (budget(found).requests >= n_requests)


# --- refusals


@pytest.mark.parametrize(
    ("dtype", "id"),
    [
        ("mxfp8", "h100-sxm5-80-gb"),
        ("nvfp4", "rtx-4090"),
        ("nvfp4", "jetson-t5000"),
        ("fp4_mx_block16", "instinct-mi300x"),
    ],
)
def test_types_that_a_device_lacks(dtype: str, id: str) -> None:
    where = device(id)
    assert SGLANG.support(where, dtype, dtype).speed == "refused"
    with pytest.raises(SettingsError, match=re.escape(where.name)):
        SGLANG.estimate(DENSE, Run(n_ctx=1024, cache_type_k=dtype), [where])


@pytest.mark.parametrize("id", ["tesla-p40", "titan-v", "radeon-rx-7900-xtx"])
def test_devices_without_kernels(id: str) -> None:
    assert SGLANG.support(device(id), "auto", "auto").speed == "refused"
    with pytest.raises(DeviceError, match="does not run on"):
        SGLANG.estimate(DENSE, Run(n_ctx=1024), [device(id)])


@pytest.mark.parametrize(
    ("id", "dtype", "allowed"),
    [
        ("deepseek-v2-lite", "nvfp4", ("auto", "fp8_e4m3", "fp8_e5m2")),
        ("deepseek-v3.2", "fp8_e5m2", ("auto", "fp8_e4m3")),
    ],
)
def test_types_that_latents_lack(id: str, dtype: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        SGLANG.estimate(model(id), Run(n_ctx=1024, cache_type_k=dtype), [GENERIC])
    assert caught.value.allowed == allowed


@pytest.mark.parametrize(
    ("model_", "run", "field"),
    [
        (samples.model(samples.layer(n_embd_head_k=80)), Run(cache_type_k="mxfp8"), "cache_type_k"),
        (samples.model(samples.layer(n_swa=128), architecture="gpt-oss"), Run(cache_type_k="nvfp4"), "cache_type_k"),
        (samples.model(samples.layer(), samples.layer(n_head_kv=4)), Run(), "engine"),
        (samples.model(samples.layer(n_embd_s=1024), architecture="jamba"), Run(), "engine"),
        (DENSE, Run(n_requests=3, options={"max_running_requests": 2}), "n_requests"),
    ],
)
def test_what_is_refused_by_name(model_: Model, run: Run, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SGLANG.estimate(model_, run, [GENERIC])
    assert caught.value.field == field


def test_devices_that_do_not_go_together() -> None:
    with pytest.raises(DeviceError, match="can be 1, 2, 4, 8, 16, 32"):
        SGLANG.estimate(DENSE, Run(), [GENERIC] * 3)
    with pytest.raises(DeviceError, match="alike"):
        SGLANG.estimate(DENSE, Run(), [device("rtx-4090"), device("rtx-4060")])


# --- recipes

FULL = Run(
    n_ctx=32_768,
    cache_type_k="fp4_mx_block16",
    weight_format="fp8",
    options={
        "mem_fraction_static": 0.8,
        "max_running_requests": 16,
        "page_size": 16,
        "swa_full_tokens_ratio": 0.5,
        "mamba_full_memory_ratio": 0.5,
        "mamba_ssm_dtype": "bfloat16",
        "disable_radix_cache": True,
        "disable_cuda_graph": True,
    },
)


def recipes(run: Run, devices: list[Device]) -> tuple[str, str]:
    serve, python = SGLANG.recipes(SGLANG.job(DENSE, run, devices), Source(repo="org/model"))
    return serve.text, python.text


@pytest.mark.parametrize("run", [Run(n_ctx=8192), FULL, replace(FULL, cache_type_k="mxfp8")])
def test_options_exist(run: Run) -> None:
    known = json.loads(DATA.read_text(encoding="utf-8"))["options"]
    words = shlex.split(recipes(run, [device("rtx-5090")] * 2)[0])
    start = words.index("--model-path")
    options = [index for index in range(start, len(words)) if words[index].startswith("--")]
    for here, following in zip(options, [*options[1:], len(words)], strict=True):
        values = words[here + 1 : following]
        kind = known[words[here]]
        assert len(values) == (0 if kind == "switch" else 1)
        assert not isinstance(kind, list) or values[0] in kind


def test_every_name_of_a_type_is_a_choice() -> None:
    known = json.loads(DATA.read_text(encoding="utf-8"))["options"]
    assert {kind.id for kind in SGLANG.cache_types} < set(known["--kv-cache-dtype"])
    assert {form.option for form in SGLANG.weight_formats} - {""} < set(known["--quantization"])
    for option in SGLANG.options:
        assert (known[option.flag] == "switch") == (option.kind == "switch")


def test_a_full_command() -> None:
    assert recipes(FULL, [device("rtx-4090")] * 2)[0] == (
        "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 python -m sglang.launch_server --model-path org/model "
        "--context-length 32768 --kv-cache-dtype fp4_mx_block16 --chunked-prefill-size 4096 --tp-size 2 "
        "--quantization fp8 --attention-backend triton --mem-fraction-static 0.8 --max-running-requests 16 "
        "--page-size 16 --swa-full-tokens-ratio 0.5 --mamba-full-memory-ratio 0.5 --mamba-ssm-dtype bfloat16 "
        "--disable-radix-cache --disable-decode-cuda-graph --disable-prefill-cuda-graph"
    )


def test_a_plain_command_and_snippet() -> None:
    serve, python = recipes(Run(n_ctx=8192), [device("rtx-4090")])
    assert serve == (
        "python -m sglang.launch_server --model-path org/model --context-length 8192 --chunked-prefill-size 4096"
    )
    assert python.splitlines()[3] == (
        "    llm = sglang.Engine(model_path='org/model', context_length=8192, chunked_prefill_size=4096)"
    )
    assert "os.environ" in recipes(Run(n_ctx=8193), [device("rtx-4090")])[1]
