"""Names of the Ollama library: what they stand for, and how near the published sizes are."""

from __future__ import annotations

import json

import pytest

from estimator.errors import ModelError
from estimator.sources.catalogue import catalogue_model
from estimator.sources.ollama import LIBRARY, Served, is_library_name, served

TAGS = {
    f"{name}:{tag}": Served(*facts)
    for name, entry in json.loads(LIBRARY.read_text(encoding="utf-8")).items()
    for tag, facts in entry["tags"].items()
}

OTHER_FILES = {
    *("qwen3:0.6b", "qwen3:8b", "qwen3:14b", "gemma:2b", "gemma3:270m", "gemma3:4b", "gemma3:12b"),
    *("gpt-oss:20b", "gpt-oss:120b", "granite3.1-dense:2b", "starcoder2:7b"),
}
"""Whose published size is not that of a file as llama-quantize would write it (gemma3 comes with its projector)."""


@pytest.mark.parametrize("name", TAGS)
def test_published_sizes(name: str) -> None:
    found = served(name)
    assert found == TAGS[name]
    model = catalogue_model(found.id, found.file_type)
    assert found.differs_from(model.weights_bytes) == (name in OTHER_FILES)


@pytest.mark.parametrize(
    ("name", "id", "file_type"),
    [
        ("llama3.1", "llama-3.1-8b-instruct", "Q4_K_M"),
        ("LLAMA3.1:Latest", "llama-3.1-8b-instruct", "Q4_K_M"),
        ("llama3.1:8b-instruct-q8_0", "llama-3.1-8b-instruct", "Q8_0"),
        ("llama3.1:8b-text-q4_K_M", "llama-3.1-8b-instruct", "Q4_K_M"),
        ("llama3.1:70b-q3_K_S", "meta-llama-3.1-70b", "Q3_K_S"),
        ("llama3.2:1b", "llama-3.2-1b-instruct", "Q8_0"),
        ("qwen2.5:0.5b-instruct-fp16", "qwen2.5-0.5b-instruct", "F16"),
        ("gpt-oss", "gpt-oss-20b", "MXFP4_MOE"),
        ("mixtral:8x22b", "mixtral-8x22b-v0.1", "Q4_0"),
    ],
)
def test_names(name: str, id: str, file_type: str) -> None:
    assert is_library_name(name)
    assert served(name)[:2] == (id, file_type)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("llama3.1:9b", "llama3.1:8b"),
        ("llama3.1:8b-vision", "llama3.1:8b"),
        ("llama3.1:8b-q9_9", "llama3.1:8b"),
        ("llama4", "llama4:maverick"),
        ("lama3:8b", "llama3"),
        ("llama3.1:8b:8b", "llama3.1:8b"),
        ("nobody-knows:1b", None),
    ],
)
def test_what_is_not_at_hand_is_refused(name: str, allowed: str | None) -> None:
    with pytest.raises(ModelError) as caught:
        served(name)
    assert caught.value.code == "unknown-model"
    assert caught.value.field == "model"
    if allowed:
        assert allowed in caught.value.message
        assert allowed in (caught.value.allowed or ())


@pytest.mark.parametrize(
    "text", ["llama-3.1-8b-instruct", "gpt2", "qwq-32b", "org/repo", "org/repo:8b", "hf.co/a/b:q4"]
)
def test_other_names_are_left_alone(text: str) -> None:
    assert not is_library_name(text)


def test_of_another_file_type_no_size_is_published() -> None:
    assert not served("gpt-oss:20b-q8_0").differs_from(1)
