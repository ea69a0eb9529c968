"""Published figures of quality: plausible, as their source has them, and for the engine that they are about."""

from __future__ import annotations

from itertools import permutations
from urllib.parse import urlsplit

import pytest

from estimator.engines.registry import ENGINES
from estimator.ggml import cache_type, row_bytes
from estimator.quality import Figure, figures, notes, quality
from tests.estimator import truth

LATER = {"sglang", "lmdeploy", "mlx", "transformers", "exllamav3"}
"""Engines that figures are known of; their names of types are checked where the registry has them."""

LMDEPLOY = """
MMLU  | 35.64 | 35.58 | 34.79 | 63.91 | 64    | 62.36 | 61.48 | 61.56 | 60.65
GSM8K | 28.2  | 28.05 | 27.37 | 70.13 | 69.75 | 66.87 | 54.97 | 56.41 | 54.74
"""
"""The lines of its table: Llama 2 7B Chat, InternLM2 Chat 7B and Qwen1.5 7B Chat, each in fp16, int8 and int4."""

SGLANG = """
Qwen3 235B A22B  | GSM8K        | 0.9168 | 0.9181 | 0.9186
Qwen3 235B A22B  | AIME25       | 0.7733 | 0.7333 | 0.6000
Qwen3 235B A22B  | GPQA Diamond | 0.7010 | 0.6899 | 0.6778
DeepSeek R1 0528 | GSM8K        | 0.9157 | 0.9154 | 0.9124
DeepSeek R1 0528 | AIME25       | 0.5067 | 0.4934 | 0.4000
DeepSeek R1 0528 | GPQA Diamond | 0.7707 | 0.7697 | 0.7273
gpt-oss 120B     | GSM8K        | 0.9161 | 0.9163 | 0.9152
gpt-oss 120B     | AIME25       | 0.7533 | 0.7667 | 0.3533
gpt-oss 120B     | GPQA Diamond | 0.5081 | 0.5434 | 0.3202
"""
"""KV16, KV8 (FP8 E4M3) and KV4 (FP4 E2M1, in blocks of 16)."""

TRANSFORMERS = """
LongBench TREC              | 63.0  | 63.0  | 55.0
LongBench SAMSum            | 41.12 | 41.3  | 14.04
LongBench TriviaQA          | 84.28 | 84.76 | 63.64
LongBench HotPotQA          | 30.08 | 30.04 | 17.3
LongBench passage retrieval | 8.5   | 9.5   | 4.82
"""
"""Transformers in fp16, quanto int4 and int2, of Llama 2 7B Chat."""

Known = set[tuple[str, str, str, float, float]]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def scores(model: str, metric: str, types: tuple[str, ...], sizes: list[str]) -> Known:
    """Each type of a test: ``sizes`` are 16 bits first."""
    plain, *values = map(float, sizes)
    return {(model, metric, kind, plain, value) for kind, value in zip(types, values, strict=True)}


def published() -> dict[str, Known]:
    """The scores of engines in their sources' own tables."""
    models = ("Llama 2 7B Chat", "InternLM2 Chat 7B", "Qwen1.5 7B Chat")
    lmdeploy = [
        scores(model, metric, ("int8", "int4"), sizes[3 * place : 3 * place + 3])
        for metric, *sizes in cells(LMDEPLOY)
        for place, model in enumerate(models)
    ]
    fp = ("fp8_e4m3", "fp4_mx_block16")
    sglang = [scores(model, metric, fp, sizes) for model, metric, *sizes in cells(SGLANG)]
    sglang.append(scores("Qwen3.5 35B A3B", "GSM8K", ("fp8_e4m3", "nvfp4"), ["97.10", "96.95", "97.18"]))
    quanto = ("quanto-4", "quanto-2")
    transformers = [scores("Llama 2 7B Chat", metric, quanto, sizes) for metric, *sizes in cells(TRANSFORMERS)]
    return {
        "lmdeploy": set().union(*lmdeploy),
        "sglang": set().union(*sglang),
        "transformers": set().union(*transformers),
    }


@pytest.mark.parametrize(("engine", "known"), published().items())
def test_scores_are_those_of_their_source(engine: str, known: Known) -> None:
    found = figures(engine)
    assert {(one.model, one.metric, one.k, one.plain, one.value) for one in found} == known
    assert len(found) == len(known)
    assert all(one.k == one.v and one.rotated is None for one in found)


def test_the_figure_of_the_article_is_the_article_s() -> None:
    (found,) = [one for one in figures("llama-server", "q8_0", "q8_0") if one.model.startswith("Qwen 2.5 Coder")]
    assert (found.plain, found.value) == (8.3891, 8.3934)
    assert found.change == pytest.approx(0.0043)


@pytest.mark.parametrize("figure", figures("llama.cpp"), ids=lambda figure: f"{figure.k}-{figure.v}")
def test_a_perplexity_is_of_a_pair_and_worse_than_f16(figure: Figure) -> None:
    assert figure.metric == "perplexity"
    assert (figure.k, figure.v) != ("f16", "f16")
    assert 0 < figure.change < figure.plain / 4
    assert figure.model
    assert figure.rotated in (True, False)


def test_engines_and_types_are_called_as_the_registry_calls_them() -> None:
    families: dict[str, set[str]] = {}
    for one in ENGINES:
        for name in {one.id, one.family}:
            families.setdefault(name, set()).update(kind.id for kind in one.cache_types)
    named = [(figure.engine, {figure.k, figure.v}) for figure in quality().figures]
    named += [(note.engine, set(note.types)) for note in quality().notes if note.engine]
    assert {engine for engine, _ in named} <= families.keys() | LATER
    for engine, types in named:
        if engine in families:
            assert types <= families[engine], engine
    assert not [note for note in quality().notes if note.types and not note.engine]


def test_every_statement_has_a_source() -> None:
    sources = {figure.source for figure in quality().figures} | {note.source for note in quality().notes}
    assert all(urlsplit(source.url).scheme == "https" and source.title for source in sources)
    assert len({source.url for source in sources}) == len(sources)
    assert all(len(set(every)) == len(every) for every in quality())
    assert all(note.text.endswith(".") for note in quality().notes)


def test_within_one_test_fewer_bits_are_worse() -> None:
    compared = 0
    for more, fewer in permutations(figures("llama.cpp"), 2):
        same = all(getattr(more, name) == getattr(fewer, name) for name in ("source", "model", "rotated"))
        if same and n_bytes(more.k) > n_bytes(fewer.k) and n_bytes(more.v) >= n_bytes(fewer.v):
            compared += 1
            assert more.change < fewer.change
    assert compared > 3


def n_bytes(name: str) -> int:
    """Bytes of 256 elements."""
    return row_bytes(cache_type(name), 256)


def test_figures_are_those_of_the_engine_s_family_and_of_the_types_asked_for() -> None:
    assert figures("llama-server") == figures("ollama") == figures("llama.cpp")
    assert not figures("vllm")
    assert not figures("no-such-engine")
    asked = figures("llama-server", "q4_0")
    assert {one.k for one in asked} == {"q4_0"}
    assert {one.v for one in asked} == {"q4_0", "f16"}
    assert {(one.k, one.v) for one in figures("llama-server", "q4_0", "f16")} == {("q4_0", "f16")}


def test_a_note_about_one_architecture_is_for_its_models_only() -> None:
    every = notes("llama-server", model=truth.model("llama-dense"))
    assert every == notes("llama-server")
    assert all(note.architecture is None for note in every)
    special = [note for note in quality().notes if note.architecture]
    assert {note.architecture for note in special} == {"gpt-oss"}
    assert set(notes("llama-server", model=truth.model("gpt-oss-moe"))) == {*every, *special}
    assert not set(notes("vllm", model=truth.model("gpt-oss-moe"))) & set(special)


def test_notes_are_those_of_all_engines_the_family_and_the_engine() -> None:
    general = [note for note in quality().notes if note.engine is None]
    assert len(general) > 1
    for one in ENGINES:
        found = notes(one.id)
        assert {note.engine for note in found} <= {None, one.id, one.family}
        assert set(general) <= set(found)
    assert set(notes("llama-server")) < set(notes("ollama"))
    assert set(notes("no-such-engine")) == set(general)


def test_a_note_about_a_type_is_for_runs_with_it() -> None:
    def texts(engine: str, *types: str) -> str:
        return " ".join(note.text for note in notes(engine, *types))

    assert "calibrat" in texts("vllm")
    assert "calibrat" in texts("vllm", "fp8_e4m3")  # an alias of fp8
    assert "calibrat" not in texts("vllm", "int8_per_token_head", "int8_per_token_head")
    assert "small to medium" in texts("ollama", "f16", "q4_0")
    assert "small to medium" not in texts("ollama", "q8_0", "q8_0")
    assert "embedding models" in texts("ollama", "q8_0")
