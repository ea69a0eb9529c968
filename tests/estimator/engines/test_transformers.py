"""Transformers' caches by the rules of its classes, what they take while they are read, refusals and programs."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.recipe import Source
from estimator.engines.transformers import Transformers
from estimator.errors import DeviceError, SettingsError
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples
from tests.estimator.engines.reference import keywords, listed, version

if TYPE_CHECKING:
    from estimator.engines.result import Result
    from estimator.model import Model

TRANSFORMERS = Transformers()
GENERIC = samples.device("generic")
DENSE = samples.model(*[samples.layer()] * 4)
WINDOWS = samples.model(*[samples.layer(n_swa=512)] * 3, samples.layer())


def found(model: Model, run: Run) -> Result:
    return TRANSFORMERS.estimate(model, run, [GENERIC])


def line(result: Result, label: str) -> int:
    return sum(line.bytes for line in result.lines if line.label == label)


def catalogued(id: str) -> Model:
    return catalogue_model(id, "Q4_K_M")


def test_it_is_the_version_whose_parameters_are_listed() -> None:
    assert TRANSFORMERS.version == version("transformers")


# --- the cache


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("16bit", 256),
        ("fp8", 128),
        ("hqq-8", 136),
        ("hqq-4", 72),
        ("hqq-3", 64),  # 64 elements are 28 B and 4 B of scale and zero
        ("hqq-2", 40),
        ("hqq-1", 24),
        ("quanto-4", 72),
        ("quanto-2", 40),
    ],
)
def test_bytes_of_a_head_of_128(kind: str, size: int) -> None:
    type_k = TRANSFORMERS.cache_type(kind)
    assert type_k
    assert type_k.k.row_bytes(128) == size
    result = found(DENSE, Run(n_ctx=1000, cache_type_k=kind))
    assert line(result, "Cache of attention") == 1000 * 4 * 8 * 2 * size


@pytest.mark.parametrize("n_ctx", [1, 1000, 1001])
def test_a_dynamic_cache_is_as_long_as_its_tokens(n_ctx: int) -> None:
    assert found(DENSE, Run(n_ctx=n_ctx, n_requests=3)).devices[0].kv_cache == 3 * n_ctx * 4 * 8 * 256 * 2


@pytest.mark.parametrize(("group", "row"), [("32", 80), ("64", 72), ("128", 68)])
def test_groups(group: str, row: int) -> None:
    run = Run(n_ctx=1024, cache_type_k="quanto-4", options={"q_group_size": group})
    assert line(found(DENSE, run), "Cache of attention") == 1024 * 4 * 8 * 2 * row


@pytest.mark.parametrize(("kind", "length", "tokens"), [("hqq-4", 128, 127), ("quanto-2", 64, 63), ("fp8", 128, 0)])
def test_the_last_tokens_are_not_quantized_yet(kind: str, length: int, tokens: int) -> None:
    run = Run(n_ctx=4096, cache_type_k=kind, options={"residual_length": length})
    assert line(found(DENSE, run), "Residual") == tokens * 4 * 8 * 256 * 2


def test_windows_save_nothing_while_a_prompt_is_computed() -> None:
    """A layer keeps a view of what it was given, and with it all of it."""
    run = Run(n_ctx=8192)
    whole = found(WINDOWS, run)
    assert whole.devices[0].kv_cache == 8192 * 4 * 8 * 256 * 2
    assert "windows-save-nothing" in [warning.code for warning in whole.warnings]
    parts = found(WINDOWS, replace(run, chunk=256))
    assert parts.devices[0].kv_cache == (3 * (512 + 255) + 8192) * 8 * 256 * 2
    static = found(WINDOWS, Run(n_ctx=8192, options={"cache_implementation": "static"}))
    assert static.devices[0].kv_cache == (3 * 512 + 8192) * 8 * 256 * 2


def test_offloaded_caches_are_on_the_host() -> None:
    result = found(DENSE, Run(n_ctx=8192, options={"cache_implementation": "offloaded"}))
    assert result.host.kv_cache == 8192 * 4 * 8 * 256 * 2
    assert result.devices[0].kv_cache == 8192 * 2 * 8 * 256 * 2


@pytest.mark.parametrize(
    ("id", "per_token"),
    [
        ("deepseek-v2-lite", 27 * 576),
        ("deepseek-v3", 61 * 576),
        ("minicpm3-4b", 62 * 288),
        ("mistral-small-4-119b-2603", 36 * 320),
        ("youtu-llm-2b", 32 * 576),
    ],
)
def test_latents_are_cached_as_such_and_expanded_for_one_layer(id: str, per_token: int) -> None:
    model = catalogued(id)
    result = found(model, Run(n_ctx=1000))
    assert line(result, "Cache of attention") == 1000 * per_token * 2
    heads = {"deepseek-v2-lite": 16 * 320, "deepseek-v3": 128 * 320}.get(id)
    if heads:
        assert line(result, "Heads of one layer") == 2 * 1000 * heads * 2


def test_states_have_the_column_to_come() -> None:
    result = found(catalogued("qwen3.5-4b"), Run(n_ctx=1000))
    assert result.devices[0].recurrent_state == 24 * (32_768 * 2 + 524_288 * 4)


def test_shared_caches_are_counted_once() -> None:
    result = found(catalogued("gemma-3n-e2b-it"), Run(n_ctx=256))
    assert result.devices[0].kv_cache == 256 * 20 * 2 * 512 * 2


# --- what is computed


def test_a_quantized_cache_is_read_layer_by_layer() -> None:
    """K and V of a layer at 16 bits, once as they are read and once with new tokens, and K as it is quantized."""
    wide = 4096 * 8 * 256 * 2
    sizes = {kind: line(found(DENSE, Run(n_ctx=4096, cache_type_k=kind)), "One layer at 16 bits") for kind in KINDS}
    assert sizes == {
        "16bit": 0,
        "fp8": wide // 2 + wide // 4 * 10,
        "hqq-4": 2 * wide + wide // 4 * 14,
        "quanto-4": 2 * wide + wide // 4 * 6,
    }


KINDS = ("16bit", "fp8", "hqq-4", "quanto-4")


def test_a_dynamic_layer_is_copied_as_it_grows() -> None:
    assert line(found(DENSE, Run(n_ctx=4096)), "Growth of one layer") == 4096 * 8 * 128 * 2
    static = Run(n_ctx=4096, options={"cache_implementation": "static"})
    assert line(found(DENSE, static), "Growth of one layer") == 0


def test_logits_of_the_last_token_only() -> None:
    assert line(found(DENSE, Run(n_ctx=4096, n_requests=2)), "Logits") == 2 * 1024 * 6


@pytest.mark.parametrize(
    ("model", "run", "mask"),
    [
        (DENSE, Run(n_ctx=4096), 0),
        (DENSE, Run(n_ctx=4096, chunk=512), 512 * 4096 * 3),
        (DENSE, Run(n_ctx=4096, n_requests=2), 2 * 4096 * 4096 * 3),
        (WINDOWS, Run(n_ctx=4096), 4096 * 4096 * 3),
        (WINDOWS, Run(n_ctx=512), 0),
        (WINDOWS, Run(n_ctx=4096, options={"attn_implementation": "flash_attention_2"}), 0),
    ],
)
def test_masks(model: Model, run: Run, mask: int) -> None:
    result = found(model, run)
    assert line(result, "Attention mask") == mask
    assert (line(result, "Heads of one layer") > 0) == (mask > 0)


def test_heads_are_repeated_only_where_q_has_more() -> None:
    model = samples.model(samples.layer(n_head_kv=32))
    assert line(found(model, Run(n_ctx=1024, n_requests=2)), "Heads of one layer") == 0
    assert line(found(DENSE, Run(n_ctx=1024, n_requests=2)), "Heads of one layer") == 2 * 1024 * 32 * 256 * 2


def test_eager_attention_holds_scores() -> None:
    run = Run(n_ctx=2048, options={"attn_implementation": "eager"})
    assert line(found(DENSE, run), "Scores of attention") == 32 * 2048 * 2048 * 8


def test_pytorch_rounds_large_tensors() -> None:
    result = TRANSFORMERS.estimate(DENSE, Run(n_ctx=8192), [device("rtx-4090")])
    assert line(result, "Allocator") == (8 * 2 + 20) * 2**20
    assert {row.basis for row in result.lines if row.label == "Allocator"} == {"margin"}


def test_experts_stay_at_16_bits_with_bitsandbytes() -> None:
    result = found(catalogued("qwen3-30b-a3b"), Run(n_ctx=256, weight_format="nf4"))
    experts = next(row for row in result.lines if row.label == "Experts")
    assert experts.explain.endswith("16 bits")
    assert "experts-not-quantized" in [warning.code for warning in result.warnings]


# --- refusals


@pytest.mark.parametrize(
    "id", ["gemma-3-4b-it", "qwen3.5-4b", "gpt-oss-20b", "falcon-h1-3b-instruct", "gemma-3n-e2b-it"]
)
@pytest.mark.parametrize("kind", ["hqq-8", "quanto-4", "fp8"])
def test_models_with_other_layers_have_no_quantized_cache(id: str, kind: str) -> None:
    with pytest.raises(SettingsError) as caught:
        found(catalogued(id), Run(n_ctx=1024, cache_type_k=kind))
    assert (caught.value.code, caught.value.field) == ("cache-not-quantizable", "cache_type_k")
    assert found(catalogued(id), Run(n_ctx=1024))


def test_a_quantized_cache_is_no_static_one() -> None:
    with pytest.raises(SettingsError) as caught:
        found(DENSE, Run(cache_type_k="hqq-4", options={"cache_implementation": "static"}))
    assert caught.value.field == "cache_implementation"


@pytest.mark.parametrize(
    ("id", "code"),
    [
        ("deepseek-v3.2", "not-modelled"),
        ("glm-5", "not-modelled"),
        ("orion-14b-chat", "not-in-engine"),
        ("bge-m3", "not-in-engine"),
    ],
)
def test_what_is_not_known(id: str, code: str) -> None:
    with pytest.raises(SettingsError) as caught:
        found(catalogued(id), Run(n_ctx=512))
    assert (caught.value.code, caught.value.field) == (code, "engine")


def test_one_device() -> None:
    with pytest.raises(DeviceError, match="one device"):
        TRANSFORMERS.estimate(DENSE, Run(), [device("rtx-4090")] * 2)


@pytest.mark.parametrize(
    ("asked", "near"),
    [("q8_0", "hqq-8"), ("q4_0", "quanto-4"), ("fp8_e4m3", "fp8"), ("q5_0", "quanto-4"), ("bf16", "16bit")],
)
def test_the_nearest_of_other_engines_types(asked: str, near: str) -> None:
    assert TRANSFORMERS.nearest_cache_type(asked).id == near


@hypothesis(deadline=None, max_examples=40)
@given(
    n_ctx=st.integers(1, 100_000),
    more=st.integers(0, 20_000),
    n_requests=st.integers(1, 4),
    kind=st.sampled_from(KINDS),
)
def test_more_context_never_needs_less(n_ctx: int, more: int, n_requests: int, kind: str) -> None:
    run = Run(n_ctx=n_ctx, n_requests=n_requests, cache_type_k=kind)
    assert found(DENSE, run).devices[0].total <= found(DENSE, replace(run, n_ctx=n_ctx + more)).devices[0].total


# --- programs

RUNS = (
    Run(n_ctx=8192),
    Run(n_ctx=8192, cache_type_k="hqq-4", weight_format="nf4", options={"q_group_size": "32", "residual_length": 64}),
    Run(n_ctx=8192, cache_type_k="fp8", weight_format="hqq4", chunk=512),
    Run(n_ctx=8192, n_requests=4, weight_format="int8", options={"cache_implementation": "offloaded_static"}),
)


def program(run: Run) -> str:
    (recipe,) = TRANSFORMERS.recipes(TRANSFORMERS.job(DENSE, run, [GENERIC]), Source(repo="org/mo'del"))
    return recipe.text


@pytest.mark.parametrize("run", RUNS)
def test_parameters_exist(run: Run) -> None:
    text = program(run)
    for function in ("generate", "from_pretrained", "BitsAndBytesConfig", "HqqConfig"):
        assert set(keywords(text, function)) <= listed("transformers", "function", function)
    config = ast.literal_eval(keywords(text, "generate").get("cache_config", "{}"))
    assert set(config) <= listed("transformers", "function", "cache_config")
    assert 'name = "org/mo\'del"' in text


def test_what_a_program_asks_for() -> None:
    text = program(RUNS[1])
    given = keywords(text, "generate")
    assert given["cache_implementation"] == "'quantized'"
    assert ast.literal_eval(given["cache_config"]) == {
        "backend": "hqq",
        "nbits": 4,
        "q_group_size": 32,
        "residual_length": 64,
    }
    assert "load_in_4bit=True" in keywords(text, "from_pretrained")["quantization_config"]
    assert ast.literal_eval(keywords(program(RUNS[2]), "generate")["cache_config"]) == {"backend": "fp8"}
    assert keywords(program(RUNS[2]), "generate")["prefill_chunk_size"] == "512"
    assert "prefill_chunk_size" not in program(RUNS[0])
