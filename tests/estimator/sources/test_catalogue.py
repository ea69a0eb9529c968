"""The bundled models: every one reads, and every quantization has llama-quantize's bytes."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from estimator.errors import ModelError
from estimator.sources.architectures import ARCHITECTURES
from estimator.sources.catalogue import CATALOGUE, QUANTIZATIONS, Entry, catalogue_model, entries
from estimator.sources.quantize_rules import BASE

QUANTIZED = json.loads((Path(__file__).parents[2] / "data" / "quant" / "bundled.json").read_text())
BY_ID = {entry.id: entry for entry in entries()}


def test_what_is_bundled() -> None:
    assert len(entries()) == len(BY_ID) >= 250
    assert len({entry.name for entry in entries()}) == len(BY_ID)
    assert sum(file.stat().st_size for file in CATALOGUE.parent.iterdir()) < 2_000_000


def test_sizes_are_what_names_say() -> None:
    """As far as names round: a "1B" has up to 1.67 billion parameters. Names of experts' sizes are left out."""
    for entry in entries():
        match = re.search(r"(?<![\dxEA.])(\d+(?:\.\d+)?)B\b(?! 16E| 128E)", entry.name)
        if match and not re.search(r"\dx\d|\bE\dB|OLMoE", entry.name):
            assert 0.7 < entry.parameters / (float(match[1]) * 1e9) < 1.7, entry.id


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.id)
def test_an_entry_says_what_its_model_does(entry: Entry) -> None:
    model = catalogue_model(entry.id, "BF16")
    assert (model.parameters, model.context_length) == (entry.parameters, entry.context_length)
    assert model.architecture in ARCHITECTURES
    assert model.file_type == "BF16"
    assert entry.id == entry.id.lower()
    assert entry.name.strip() == entry.name != ""
    assert entry.family
    assert entry.repo is None or entry.repo.lower().endswith(f"/{entry.id}")


def test_families_are_together() -> None:
    families = [entry.family for entry in entries()]
    assert len(dict.fromkeys(families)) == 1 + sum(a != b for a, b in pairwise(families))
    assert families[0] == "Llama"
    assert families[-1] == "Other"


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_quantization_has_llama_quantizes_bytes(quantization: str) -> None:
    index = QUANTIZED["file_types"].index(quantization)
    expected = {id: sizes[index] for id, sizes in QUANTIZED["bytes"].items()}
    assert {id: catalogue_model(id, quantization).weights_bytes for id in expected} == expected
    assert len(expected) == 188


def test_quantizations_are_llama_quantizes() -> None:
    assert QUANTIZED["file_types"] == list(QUANTIZATIONS)
    assert set(QUANTIZATIONS) <= set(BASE)
    assert catalogue_model("qwen3-0.6b", "q4_k_m").file_type == "Q4_K_M"


@pytest.mark.parametrize(
    ("id", "name", "family", "repo"),
    [
        ("llama-3.1-8b-instruct", "Llama 3.1 8B Instruct", "Llama", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama31-8b", "Llama 3.1 8B base", "Llama", None),
        ("gemma-3-270m-it", "Gemma 3 270M IT", "Gemma 3 and 4", "google/gemma-3-270m-it"),
        ("gpt-oss-20b", "gpt-oss 20B", "gpt-oss", "openai/gpt-oss-20b"),
        ("codellama-7b-hf", "CodeLlama 7B", "Code Llama", "codellama/CodeLlama-7b-hf"),
    ],
)
def test_names(id: str, name: str, family: str, repo: str | None) -> None:
    entry = BY_ID[id]
    assert (entry.name, entry.family, entry.repo) == (name, family, repo)


@pytest.mark.parametrize(
    ("id", "near"),
    [("llama-3.1-8b", "llama-3.1-8b-instruct"), ("gemma3-27b-it", "gemma-3-27b-it"), ("gpt-oss", "gpt-oss-20b")],
)
def test_an_unknown_id_suggests_near_ones(id: str, near: str) -> None:
    with pytest.raises(ModelError) as caught:
        catalogue_model(id, "Q4_K_M")
    error = caught.value
    assert (error.code, error.field) == ("unknown-model", "model")
    assert near in (error.allowed or ())
    assert repr(id) in error.message
    assert near in error.message


def test_an_id_like_no_other() -> None:
    with pytest.raises(ModelError) as caught:
        catalogue_model("?" * 5000, "Q4_K_M")
    assert (caught.value.code, caught.value.allowed) == ("unknown-model", None)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("quantization", ["Q4_K_XL", "", "4"])
def test_an_unknown_quantization(quantization: str) -> None:
    with pytest.raises(ModelError) as caught:
        catalogue_model("qwen3-0.6b", quantization)
    assert (caught.value.code, caught.value.field) == ("unknown-file-type", "quant")
    assert "Q4_K_M" in (caught.value.allowed or ())


def test_models_are_made_once() -> None:
    assert catalogue_model("qwen3-0.6b", "Q8_0") is catalogue_model("qwen3-0.6b", "Q8_0")
