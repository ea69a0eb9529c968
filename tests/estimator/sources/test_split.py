"""A model in several files is read as the one that it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from estimator import ModelError, read_gguf
from estimator.sources.gguf import GGUFHeader, read_header
from estimator.sources.split import MAX_SHARDS, joined
from tests.estimator.sources.gguf_bytes import split_up

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = Path(__file__).parents[2] / "data" / "gguf" / "qwen3moe-moe.gguf"


def shards(count: int = 3) -> list[GGUFHeader]:
    return [read_header(shard) for shard in split_up(PATH.read_bytes(), count)]


def changed(header: GGUFHeader, **metadata: Any) -> GGUFHeader:
    given = {f"split.{name.replace('__', '.')}": value for name, value in metadata.items()}
    return replace(header, metadata={**header.metadata, **given})


def refusal(headers: Sequence[GGUFHeader]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        joined(headers)
    return caught.value


@pytest.mark.parametrize("count", [2, 3, MAX_SHARDS])
@pytest.mark.parametrize("step", [1, -1], ids=["in order", "the last first"])
def test_the_files_are_one_model(count: int, step: int) -> None:
    whole = read_gguf(PATH)
    found = read_gguf(*split_up(PATH.read_bytes(), count)[::step])
    assert found.tensors == whole.tensors
    assert found.layers == whole.layers
    assert (found.name, found.context_length, found.file_type) == (whole.name, whole.context_length, whole.file_type)


def test_a_model_in_one_file_is_left_as_it_is() -> None:
    header = read_header(PATH)
    assert joined([header]) is header
    alone = changed(header, count=1, no=0)
    assert joined([alone]) is alone
    unsplit = changed(header, count=0)
    assert joined([unsplit]) is unsplit


@pytest.mark.parametrize(
    ("kept", "missing"), [([0], "2, 3"), ([1], "1, 3"), ([2, 0], "2")], ids=["the first", "one", "two"]
)
def test_what_is_missing_is_named(kept: list[int], missing: str) -> None:
    found = shards()
    error = refusal([found[number] for number in kept])
    assert error.code == "incomplete-split"
    assert error.message.endswith(f"missing: {missing}")
    assert error.allowed == "all 3 files of the model"


def test_many_that_are_missing_are_not_all_named() -> None:
    message = refusal(shards(40)[:1]).message
    assert message.endswith("missing: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and more")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (lambda: [shards()[0], *shards()[:2]], "repeated-shard"),
        (lambda: [*shards()[:2], shards(4)[2]], "mixed-split"),
        (lambda: [read_header(PATH), *shards()[1:]], "mixed-split"),
        (lambda: [read_header(PATH)] * 2, "mixed-split"),
        (lambda: [*shards()[:2], changed(shards()[1], no=2)], "duplicate-tensor"),
        (lambda: [*shards()[:2], replace(shards()[2], tensors=())], "mixed-split"),
        (lambda: [*shards()[:2], changed(shards()[2], no=3)], "bad-split"),
        (lambda: [*shards()[:2], changed(shards()[2], no=-1)], "bad-split"),
        (lambda: [*shards()[:2], changed(shards()[2], no="2")], "bad-split"),
        (lambda: [changed(shards()[0], tensors__count=True), *shards()[1:]], "bad-split"),
        (lambda: [changed(read_header(PATH), count=1.5)], "bad-split"),
        (lambda: [changed(read_header(PATH), count=MAX_SHARDS + 1, no=0)], "too-many-shards"),
    ],
)
def test_files_that_are_no_model(headers: Any, code: str) -> None:
    assert refusal(headers()).code == code
