"""LMDeploy's blocks against what its own logs say, its types byte by byte, its two engines, and what it refuses."""

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

from estimator.capacity import MIB
from estimator.devices import Device, device
from estimator.engines.base import Run
from estimator.engines.lmdeploy import Lmdeploy
from estimator.engines.recipe import Source
from estimator.errors import DeviceError, SettingsError
from estimator.sources.catalogue import catalogue_model
from estimator.usage import Usage, used
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.engines.options import Value
    from estimator.engines.result import Budget, Result
    from estimator.lines import Line
    from estimator.model import Model

LMDEPLOY = Lmdeploy()
GENERIC = samples.device("generic")
DENSE = samples.model(*[samples.layer()] * 32)
DATA = Path(__file__).parents[2] / "data" / "engines" / "lmdeploy-0.16.0.json"
"""Options of ``lmdeploy serve api_server`` and fields of both configurations, 0.16.0."""

PYTORCH: dict[str, Value] = {"backend": "pytorch"}


def model(id: str) -> Model:
    return catalogue_model(id, "Q4_K_M")


def line(result: Result, label: str) -> Line:
    """The line of the first device of this label."""
    return next(one for one in result.lines if one.label == label)


def budget(result: Result) -> Budget:
    assert result.budget
    return result.budget


def codes(result: Result) -> set[str]:
    return {caution.code for caution in result.warnings}


# --- types


@pytest.mark.parametrize(
    ("dtype", "k", "v"),
    [
        ("none", 256, 256),
        ("int8", 132, 132),
        ("int4", 68, 68),
        ("fp8", 128, 128),
        ("fp8_e5m2", 128, 128),
        ("turbo_quant", 68, 34),
    ],
)
def test_bytes_of_a_head_of_128(dtype: str, k: int, v: int) -> None:
    """int8 is 1.03125 bytes an element, int4 0.53125."""
    kind = LMDEPLOY.cache_type(dtype)
    assert kind
    assert (kind.k.row_bytes(128), kind.v.row_bytes(128)) == (k, v)
    found = LMDEPLOY.estimate(DENSE, Run(n_ctx=640, cache_type_k=dtype), [GENERIC])
    assert line(found, "Cache").bytes == 640 * 32 * 8 * (k + v)


def test_names_of_other_engines() -> None:
    assert LMDEPLOY.cache_type("bf16") is LMDEPLOY.cache_type("none")
    assert LMDEPLOY.cache_type("fp8_e4m3") is LMDEPLOY.cache_type("fp8")
    assert [LMDEPLOY.nearest_cache_type(name).id for name in ("q8_0", "q4_0", "q5_1")] == ["int8", "int4", "int4"]


# --- blocks


@pytest.mark.parametrize(
    ("id", "mib"),
    [
        ("internlm2_5-7b-chat", 8),  # "[BlockManager] block_size = 8.000 MB": InternLM/lmdeploy issue 3411
        ("qwen3-8b", 9),  # 36 layers of 8 heads: issue 3825
    ],
)
def test_blocks_of_logs(id: str, mib: int) -> None:
    found = LMDEPLOY.estimate(model(id), Run(n_ctx=64), [GENERIC])
    assert line(found, "Cache").bytes == mib * MIB
    assert line(LMDEPLOY.estimate(model(id), Run(n_ctx=65), [GENERIC]), "Cache").bytes == 2 * mib * MIB


def test_blocks_of_other_lengths() -> None:
    found = LMDEPLOY.estimate(DENSE, Run(n_ctx=1000, options={"cache_block_seq_len": "128"}), [GENERIC])
    assert line(found, "Cache").bytes == 8 * 128 * 32 * 8 * 512


def test_pytorch_pads_each_tensor_of_a_block_to_256_bytes() -> None:
    """A head has 128 B of norms for V in a block of 64 tokens."""
    thin = samples.model(samples.layer(n_head=8, n_head_kv=1))
    found = LMDEPLOY.estimate(thin, Run(n_ctx=64, cache_type_k="turbo_quant"), [GENERIC])
    assert line(found, "Cache").bytes == 64 * (64 + 32) + 256 + 256


def test_heads_are_shared_or_repeated() -> None:
    sizes = [
        line(LMDEPLOY.estimate(DENSE, Run(n_ctx=640), [GENERIC] * n), "Cache").bytes // (640 * 32 * 512)
        for n in (1, 2, 8, 16)
    ]
    assert sizes == [8, 4, 1, 1]


def test_windows_are_not_used() -> None:
    found = LMDEPLOY.estimate(model("gpt-oss-20b"), Run(n_ctx=64_000), [GENERIC])
    assert line(found, "Cache").bytes == 64_000 * 24 * 8 * 64 * 2 * 2
    assert "whole-windows" in codes(found)


@pytest.mark.parametrize(("dtype", "row"), [("none", 1152), ("fp8", 656)])
def test_rows_of_latents_with_an_indexer(dtype: str, row: int) -> None:
    """On every device, and 132 B for the keys of an indexer in the layers that have one."""
    cards = [device("h200-sxm-141-gb")] * 8
    found = LMDEPLOY.estimate(model("deepseek-v3.2"), Run(n_ctx=6400, cache_type_k=dtype), cards)
    assert line(found, "Cache").bytes == 6400 * 61 * (row + 132)
    shared = LMDEPLOY.estimate(model("glm-5.2"), Run(n_ctx=6400, cache_type_k=dtype), cards)
    assert line(shared, "Cache").bytes == 6400 * (78 * row + 21 * 132)


@pytest.mark.parametrize(("id", "tokens"), [("rtx-4090", 32), ("h100-sxm5-80-gb", 64)])
def test_latents_have_short_blocks_without_flashmla(id: str, tokens: int) -> None:
    found = LMDEPLOY.estimate(model("deepseek-v2-lite"), Run(n_ctx=1), [device(id)])
    assert line(found, "Cache").bytes == tokens * 27 * 1152


STATE = 24 * (24_576 // 3 * 4 + 524_288) * 2
"""Of Qwen3.5 4B: four taps of the convolutions, and the recurrent state, at 16 bits."""


def test_turbomind_takes_states_from_the_pool() -> None:
    found = LMDEPLOY.estimate(model("qwen3.5-4b"), Run(n_ctx=6400, n_requests=3), [GENERIC])
    assert line(found, "States").bytes == 3 * STATE
    assert line(found, "Cache").bytes == 3 * 6400 * 8 * 4 * 512 * 2


def test_pytorch_makes_states_for_the_largest_batch() -> None:
    for batch in (4, 16):
        options: dict[str, Value] = {**PYTORCH, "max_batch_size": batch}
        found = LMDEPLOY.estimate(model("qwen3.5-4b"), Run(n_ctx=6400, n_requests=3, options=options), [GENERIC])
        assert line(found, "States").bytes == (batch + 2) * STATE


# --- the pool


def test_the_pool_is_a_share_of_what_weights_leave() -> None:
    card = used(device("rtx-4090"), Usage(system="windows"))
    found = LMDEPLOY.estimate(DENSE, Run(n_ctx=8192), [card])
    share, whole = found.devices[0], budget(found)
    free = (card.capacity or 0) - share.overhead - share.weights
    assert whole.pool == (free * 8 // 10,)
    assert whole.taken == (share.overhead + share.weights + whole.pool[0],)
    assert whole.pool_tokens == whole.pool[0] // (64 * 32 * 8 * 512) * 64
    assert line(found, "Left for computing").bytes == free - whole.pool[0]


def test_pytorch_keeps_rows_of_logits() -> None:
    """(8,192 + 2 x 128) rows of 1,024 logits, before the share is taken."""
    card = device("rtx-4090")
    found = LMDEPLOY.estimate(DENSE, Run(n_ctx=8192, options=PYTORCH), [card])
    share = found.devices[0]
    logits = (8192 + 2 * 128) * 1024 * 2
    assert line(found, "Reserve for logits").bytes == logits
    free = (card.capacity or 0) - share.overhead - share.weights
    assert budget(found).pool == ((free - logits) * 8 // 10,)


def test_pytorch_halves_the_rows_until_16_blocks_fit() -> None:
    """Below some 2.2 GiB free only 2,048 + 256 rows of a million logits are kept of 8,192."""
    wide = replace(DENSE, n_vocab=2**20)
    card = samples.device("cuda", 2**33)
    found = LMDEPLOY.estimate(wide, Run(n_ctx=64, options=PYTORCH), [card])
    rows = line(found, "Reserve for logits").bytes // 2**21
    assert rows == 2048 + 256
    assert budget(found).pool_tokens >= 16 * 64


@pytest.mark.parametrize(
    ("id", "batch"),
    [("rtx-4090", 128), ("a100-sxm4-80-gb", 384), ("h100-sxm5-80-gb", 1024), ("h200-sxm-141-gb", 1024), ("b200", 128)],
)
def test_batches_by_device(id: str, batch: int) -> None:
    job = LMDEPLOY.job(DENSE, Run(), [device(id)])
    words = shlex.split(LMDEPLOY.recipes(job, Source())[0].text)
    assert words[words.index("--max-batch-size") + 1] == str(batch)
    assert words[words.index("--max-prefill-token-num") + 1] == "8192"
    with pytest.raises(SettingsError) as caught:
        LMDEPLOY.estimate(DENSE, Run(n_requests=batch + 1), [device(id)])
    assert caught.value.field == "n_requests"


def test_no_limit_no_budget() -> None:
    assert LMDEPLOY.estimate(DENSE, Run(n_ctx=8192), [GENERIC]).budget is None


@hypothesis(deadline=None, max_examples=30)
@given(
    id=st.sampled_from(["llama-3.1-8b-instruct", "gemma-3-4b-it", "qwen3.5-4b", "deepseek-v2-lite"]),
    n_ctx=st.integers(1, 300_000),
    n_requests=st.integers(1, 12),
    share=st.sampled_from([0.1, 0.5, 0.8]),
)
def test_what_fits_is_what_the_blocks_hold(id: str, n_ctx: int, n_requests: int, share: float) -> None:
    run = Run(n_ctx=n_ctx, n_requests=n_requests, options={"cache_max_entry_count": share})
    found = LMDEPLOY.estimate(model(id), run, [device("rtx-4090")])
    assert found.fits == (budget(found).requests >= n_requests)


# --- engines and refusals


@pytest.mark.parametrize(
    ("id", "dtype", "engine"),
    [
        ("llama-3.1-8b-instruct", "int8", "turbomind"),
        ("llama-3.1-8b-instruct", "fp8", "pytorch"),
        ("gemma-3-4b-it", "none", "pytorch"),
        ("deepseek-v2-lite", "none", "pytorch"),
        ("gpt-oss-20b", "none", "turbomind"),
    ],
)
def test_turbomind_where_it_can(id: str, dtype: str, engine: str) -> None:
    job = LMDEPLOY.job(model(id), Run(n_ctx=4096, cache_type_k=dtype), [GENERIC])
    words = shlex.split(LMDEPLOY.recipes(job, Source())[0].text)
    assert words[words.index("--backend") + 1] == engine
    assert ("pytorch-backend" in codes(LMDEPLOY.lay_out(job))) == (engine == "pytorch")


def refusal(one: Model, run: Run, devices: list[Device]) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        LMDEPLOY.estimate(one, run, devices)
    return caught.value


@pytest.mark.parametrize("dtype", ["fp8", "fp8_e5m2", "turbo_quant"])
def test_types_that_turbomind_lacks(dtype: str) -> None:
    found = refusal(DENSE, Run(cache_type_k=dtype, options={"backend": "turbomind"}), [GENERIC])
    assert (found.field, found.allowed) == ("cache_type_k", ("none", "int8", "int4"))


def test_models_that_it_lacks() -> None:
    found = refusal(model("gemma-3-4b-it"), Run(options={"backend": "turbomind"}), [GENERIC])
    assert (found.field, found.allowed) == ("backend", ("pytorch",))
    assert refusal(replace(DENSE, architecture="falcon"), Run(), [GENERIC]).field == "engine"


@pytest.mark.parametrize(
    ("id", "dtype", "allowed"),
    [
        ("deepseek-v2-lite", "turbo_quant", ("none",)),
        ("deepseek-v2-lite", "int8", ("none",)),
        ("deepseek-v3.2", "int4", ("none", "fp8")),
    ],
)
def test_types_that_latents_lack(id: str, dtype: str, allowed: tuple[str, ...]) -> None:
    assert refusal(model(id), Run(n_ctx=1024, cache_type_k=dtype), [GENERIC]).allowed == allowed


def test_turbo_quant_needs_heads_of_a_power_of_two() -> None:
    odd = samples.model(samples.layer(n_embd_head_k=96, n_embd_head_v=96))
    assert refusal(odd, Run(cache_type_k="turbo_quant"), [GENERIC]).code == "odd-head-size"
    assert LMDEPLOY.estimate(odd, Run(cache_type_k="int4"), [GENERIC])


def test_what_devices_lack() -> None:
    for dtype, id, kind in (("fp8", "rtx-3090", SettingsError), ("none", "tesla-p40", DeviceError)):
        where = device(id)
        assert LMDEPLOY.support(where, dtype, dtype).speed == "refused"
        with pytest.raises(kind, match=re.escape(where.name)):
            LMDEPLOY.estimate(DENSE, Run(n_ctx=1024, cache_type_k=dtype), [where])
    fp8 = Run(n_ctx=1024, weight_format="fp8", options=PYTORCH)
    assert refusal(DENSE, fp8, [device("rtx-4090")]).field == "weight_format"
    assert LMDEPLOY.estimate(DENSE, fp8, [device("h100-sxm5-80-gb")])


def test_heads_that_devices_do_not_divide() -> None:
    with pytest.raises(DeviceError, match="can be 1, 2, 4, 8, 16, 32"):
        LMDEPLOY.estimate(DENSE, Run(), [GENERIC] * 3)
    six = samples.model(samples.layer(n_head=12, n_head_kv=4))
    with pytest.raises(DeviceError, match="can be 1, 2, 4, 12"):
        LMDEPLOY.estimate(six, Run(), [GENERIC] * 6)


def test_layers_that_differ() -> None:
    mixed = samples.model(samples.layer(), samples.layer(n_head_kv=4))
    assert refusal(mixed, Run(), [GENERIC]).code == "not-modelled"


# --- recipes

FULL = Run(
    n_ctx=32_768,
    cache_type_k="fp8",
    weight_format="fp8",
    options={"cache_max_entry_count": 0.5, "cache_block_seq_len": "128", "max_batch_size": 8},
)


def recipes(run: Run, devices: list[Device]) -> tuple[str, str]:
    serve, python = LMDEPLOY.recipes(LMDEPLOY.job(DENSE, run, devices), Source(repo="org/model"))
    return serve.text, python.text


@pytest.mark.parametrize("run", [Run(n_ctx=8192), FULL, replace(FULL, cache_type_k="int4")])
def test_options_exist(run: Run) -> None:
    known = json.loads(DATA.read_text(encoding="utf-8"))
    serve, python = recipes(run, [device("h100-sxm5-80-gb")] * 2)
    words = shlex.split(serve)
    assert words[:4] == ["lmdeploy", "serve", "api_server", "org/model"]
    for name, value in zip(words[4::2], words[5::2], strict=True):
        kind = known["options"][name]
        assert kind == "value" or value in kind
    found = re.search(r"config = (\w+)\((.*)\)", python)
    assert found
    assert {pair.partition("=")[0] for pair in found[2].split(", ")} <= set(known["fields"][found[1]])


def test_every_name_of_a_type_is_a_choice() -> None:
    known = json.loads(DATA.read_text(encoding="utf-8"))["options"]
    assert {kind.id for kind in LMDEPLOY.cache_types} < set(known["--quant-policy"])
    assert {form.option for form in LMDEPLOY.weight_formats} - {""} < set(known["--model-format"])
    assert all(option.flag in known for option in LMDEPLOY.options)


def test_a_full_command() -> None:
    serve, python = recipes(FULL, [device("h100-sxm5-80-gb")] * 2)
    assert serve == (
        "lmdeploy serve api_server org/model --backend pytorch --session-len 32768 --quant-policy fp8 "
        "--cache-max-entry-count 0.5 --max-batch-size 8 --max-prefill-token-num 8192 --cache-block-seq-len 128 --tp 2 "
        "--model-format fp8"
    )
    assert python.splitlines()[3] == (
        "    config = PytorchEngineConfig(session_len=32768, quant_policy=16, cache_max_entry_count=0.5, "
        "max_batch_size=8, max_prefill_token_num=8192, tp=2, model_format='fp8', block_size=128)"
    )
