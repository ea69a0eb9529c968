"""llama.cpp's programs, the patterns that their options stand for, and what they answer as engines."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from estimator.companions import Companions, Draft, Projector
from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.llama_cpp import PROGRAMS, LlamaCpp, below, kept_on_cpu, program
from estimator.engines.recipe import Source
from estimator.engines.registry import engine
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import curve, max_context
from estimator.settings import MAX_PATTERN, Settings
from estimator.sources.catalogue import catalogue_model
from estimator.sources.hparams import MAX_LAYERS


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 17, 20, 37, 62, 99, 100, 101, 128, 200, 512])
def test_a_pattern_of_the_numbers_below(n: int) -> None:
    assert [i for i in range(1200) if re.fullmatch(below(n), str(i))] == list(range(n))


def kept(pattern: str | None, *names: str) -> list[str]:
    return [name for name in names if pattern is not None and re.search(pattern, name)]


NAMES = (
    "blk.0.ffn_up_exps.weight",
    "blk.3.ffn_gate_up_exps.weight",
    "blk.3.ffn_gate.weight",
    "blk.3.ffn_gate_inp.weight",
    "blk.3.ffn_up_shexp.weight",
    "blk.30.ffn_down_exps.weight",
    "blk.30.ffn_down.weight",
    "blk.30.attn_q.weight",
)


@pytest.mark.parametrize(
    ("n_cpu_moe", "n_cpu_ffn", "expected"),
    [
        (0, 0, []),
        (-1, 0, [NAMES[0], NAMES[1], NAMES[5]]),
        (1, 0, [NAMES[0]]),
        (4, 0, [NAMES[0], NAMES[1]]),
        (31, 0, [NAMES[0], NAMES[1], NAMES[5]]),
        (0, 4, [NAMES[2]]),
        (0, 31, [NAMES[2], NAMES[6]]),
        (1, 31, [NAMES[0], NAMES[2], NAMES[6]]),
    ],
)
def test_what_stays_in_host_memory(n_cpu_moe: int, n_cpu_ffn: int, expected: list[str]) -> None:
    assert kept(kept_on_cpu(n_cpu_moe, n_cpu_ffn), *NAMES) == expected


def test_every_pattern_is_taken() -> None:
    for n in (1, 100, MAX_LAYERS):
        pattern = kept_on_cpu(n, n)
        assert pattern is not None
        assert len(pattern) < MAX_PATTERN
        assert Settings(cpu_tensors=pattern).cpu_tensors == pattern


def test_programs_by_name() -> None:
    assert [program(one.id) for one in PROGRAMS] == list(PROGRAMS)
    assert program("ollama") is None


# --- as engines

SERVER, CLI, BENCH = (LlamaCpp(one) for one in PROGRAMS)
LLAMA = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
MOE = catalogue_model("qwen3-30b-a3b", "Q4_K_M")
CARD = [device("rtx-4090")]

RUNS: dict[str, tuple[Run, dict[str, Any]]] = {
    "defaults": (Run(), {}),
    "two slots": (Run(n_ctx=8192, n_requests=2), {"n_ctx": 8192, "n_parallel": 2}),
    "mixed": (Run(cache_type_k="q8_0", cache_type_v="q4_0"), {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}),
    "v as k": (Run(cache_type_k="q8_0"), {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
    "no flash attention": (Run(flash_attn=False), {"flash_attn": False}),
    "batches": (Run(chunk=128, options={"n_batch": 256}), {"n_ubatch": 128, "n_batch": 256}),
    "layers": (Run(options={"n_gpu_layers": 10}), {"n_gpu_layers": 10}),
    "cache here": (Run(options={"offload_kqv": False}), {"offload_kqv": False}),
    "dense here": (Run(options={"n_cpu_ffn": 3}), {"cpu_tensors": kept_on_cpu(0, 3)}),
}


@pytest.mark.parametrize("shown", RUNS)
@pytest.mark.parametrize("one", [SERVER, CLI, BENCH], ids=lambda one: one.id)
def test_an_engine_answers_as_the_estimate(one: LlamaCpp, shown: str) -> None:
    run, given = RUNS[shown]
    settings = one.program.settings(**given)
    found, own = one.estimate(LLAMA, run, CARD), estimate(LLAMA, settings, CARD)
    assert (found.devices, found.host, found.lines, found.warnings) == (own.devices, own.host, own.lines, own.warnings)
    assert (found.n_ctx, found.n_requests) == (own.context.n_ctx_seq, own.context.n_seq_max)
    assert found.fits == own.fits
    assert found.is_safe == own.is_safe
    assert one.max_context(LLAMA, run, CARD) == max_context(LLAMA, settings, CARD)


def test_a_curve_is_llama_cpps() -> None:
    points = SERVER.curve(LLAMA, Run(), CARD, 32_768)
    assert [(point.n_ctx, point.estimate.devices) for point in points] == [
        (point.n_ctx, point.estimate.devices) for point in curve(LLAMA, Settings(), CARD, 32_768)
    ]


def test_windows_in_full() -> None:
    gemma = catalogue_model("gemma-3-4b-it", "Q4_K_M")
    found = SERVER.estimate(gemma, Run(n_ctx=16_384, options={"swa_full": True}), CARD)
    assert found.devices == estimate(gemma, Settings(n_ctx=16_384, swa_full=True), CARD).devices
    assert "swa_full" not in [option.name for option in BENCH.options]


def test_its_own_refusals_come_through() -> None:
    with pytest.raises(SettingsError) as caught:
        SERVER.estimate(LLAMA, Run(cache_type_k="q8_0", flash_attn=False), CARD)
    assert caught.value.code == "quantized-v-needs-flash-attention"
    with pytest.raises(SettingsError) as caught:
        SERVER.estimate(LLAMA, Run(weight_format="awq"), CARD)
    assert caught.value.allowed == "the quantization of the GGUF file"


@pytest.mark.parametrize(
    ("id", "k", "v", "speed"),
    [
        ("rtx-4090", "q8_0", "q8_0", "supported"),
        ("rtx-4090", "q8_0", "q4_0", "slow"),
        ("rtx-4090", "iq4_nl", "iq4_nl", "cpu"),
        ("m3-max-14c-36gb", "q8_0", "q8_0", "supported"),
        ("m3-max-14c-36gb", "q8_0", "q4_0", "cpu"),
        ("generic", "q5_1", "q4_0", "supported"),
    ],
)
def test_support(id: str, k: str, v: str, speed: str) -> None:
    assert SERVER.support(device(id), k, v).speed == speed


# --- recipes

OPTIONS = {"-m", "-hf", "-c", "-np", "-ngl", "-fa", "-ctk", "-ctv", "-b", "-ub"}
OPTIONS |= {"-cmoe", "-ncmoe", "-ncffn", "-nkvo", "--swa-full"}
"""Of llama-server and llama-cli b11434 (common/arg.cpp) that a recipe may use."""

BENCH_OPTIONS = {"-m", "-p", "-n", "-d", "-ngl", "-fa", "-ctk", "-ctv", "-b", "-ub", "-nkvo", "-ot"}
"""Of llama-bench b11434 (tools/llama-bench/llama-bench.cpp:614-941)."""

FULL = Run(
    n_ctx=32_768,
    n_requests=2,
    cache_type_k="q8_0",
    cache_type_v="q4_0",
    chunk=256,
    options={"n_gpu_layers": 30, "n_cpu_moe": 20, "n_cpu_ffn": 4, "offload_kqv": False, "n_batch": 512},
)


def recipe(one: LlamaCpp, run: Run, **source: str) -> str:
    (found,) = one.recipes(one.job(MOE, run, CARD), Source(**source))
    return found.text


@pytest.mark.parametrize("run", [Run(), Run(n_ctx=8192), FULL])
@pytest.mark.parametrize("one", [SERVER, CLI, BENCH], ids=lambda one: one.id)
def test_options_exist(one: LlamaCpp, run: Run) -> None:
    words = shlex.split(recipe(one, run))
    assert words[0] == one.id
    known = BENCH_OPTIONS if one is BENCH else OPTIONS
    assert {word for word in words[1:] if re.match(r"-+[a-z]", word)} <= known


def test_a_server() -> None:
    assert recipe(SERVER, Run(n_ctx=8192)) == (
        "llama-server -m model.gguf -c 8192 -ngl all -fa on -ctk f16 -ctv f16 -b 2048 -ub 512"
    )
    assert recipe(SERVER, FULL, file="a b.gguf") == (
        "llama-server -m 'a b.gguf' -c 32768 -np 2 -ngl 30 -fa on -ctk q8_0 -ctv q4_0 -b 512 -ub 256 -ncmoe 20 "
        "-ncffn 4 -nkvo"
    )
    all_experts = Run(options={"n_cpu_moe": -1, "swa_full": True})
    assert recipe(SERVER, all_experts).endswith(" -cmoe --swa-full")


def test_a_chat_with_a_model_of_the_hub() -> None:
    assert recipe(CLI, Run(n_ctx=4096), repo="org/name").startswith("llama-cli -hf org/name -c 4096 ")
    found = recipe(CLI, Run(n_ctx=4096), repo="org/name", file="q4/a b.gguf")
    assert found.startswith("llama-cli -hf org/name -hff 'q4/a b.gguf' -c 4096 ")


def test_what_shares_and_stands_beside_the_model_is_in_the_command() -> None:
    run = Run(n_ctx=4096, options={"tensor_split": "3,1", "swa_full": True})
    beside = Companions(draft=Draft(model=LLAMA), projector=Projector.of_size(2**20))
    job = SERVER.job(LLAMA, run, [device("rtx-3090")] * 2, beside)
    words = shlex.split(SERVER.recipes(job, Source())[0].text)
    for option, value in (("-ts", "3,1"), ("-md", "draft.gguf"), ("--mmproj", "mmproj.gguf")):
        assert words[words.index(option) + 1] == value
    assert "--swa-full" in words
    bench = BENCH.recipes(BENCH.job(LLAMA, Run(options={"tensor_split": "3,1"}), [device("rtx-3090")] * 2), Source())
    assert "-ts 3/1" in bench[0].text


def test_a_measurement_at_the_end_of_the_context() -> None:
    assert recipe(BENCH, Run(n_ctx=8192, flash_attn=False)) == (
        "llama-bench -m model.gguf -p 512 -n 0 -d 7680 -ngl 999 -fa 0 -ctk f16 -ctv f16 -b 2048 -ub 512"
    )
    words = shlex.split(recipe(BENCH, FULL))
    pattern = words[words.index("-ot") + 1].removesuffix("=CPU")
    assert kept(pattern, "blk.19.ffn_up_exps.weight", "blk.20.ffn_up_exps.weight", "blk.3.ffn_up.weight") == [
        "blk.19.ffn_up_exps.weight",
        "blk.3.ffn_up.weight",
    ]


def test_programs_are_engines() -> None:
    for one in PROGRAMS:
        found = engine(one.id)
        assert isinstance(found, LlamaCpp)
        assert found.program is one


@pytest.mark.parametrize("name", ["llama-server", "ollama"])
@pytest.mark.parametrize(("model", "speed"), [("llama-3.2-1b-instruct", "supported"), ("deepseek-v2-lite", "slow")])
def test_support_for_a_model_goes_by_its_heads(name: str, model: str, speed: str) -> None:
    runs, card = engine(name), device("rtx-4090")
    assert runs
    found = runs.support_for(catalogue_model(model, "Q4_K_M"), card, "q8_0", "q8_0")
    assert found.speed == speed
    assert found.version == runs.support(card, "q8_0", "q8_0").version
    assert runs.support(card, "q8_0", "q8_0").speed == "supported"
