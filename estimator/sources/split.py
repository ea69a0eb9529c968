"""A model in several files, as ``llama-gguf-split`` writes it (llama-model-loader.cpp:595-670, llama.cpp b11434).

The first file has the metadata, each has some of the tensors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gguf.constants import Keys

from estimator.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.sources.gguf import GGUFHeader

MAX_SHARDS: Final = 100
"""Our bound on the files of one model; large ones are released in fewer than 60."""


def joined(headers: Sequence[GGUFHeader]) -> GGUFHeader:
    """The header of a whole model: the first file's metadata with the tensors of all files.

    Args:
        headers: of all files of one model, in any order; at least one.

    Raises:
        ModelError: a file is missing, there twice, or of another model.
    """
    counts = {_number(header, Keys.Split.LLM_KV_SPLIT_COUNT, 1) or 1 for header in headers}
    if len(counts) > 1:
        raise ModelError("mixed-split", f"these files are of different models: of sets of {_listed(counts)} files")
    (count,) = counts
    if count > MAX_SHARDS:
        raise ModelError("too-many-shards", f"the model is in {count:,} files; at most {MAX_SHARDS} are read")
    if count == 1:
        if len(headers) > 1:
            raise ModelError("mixed-split", f"these are {len(headers)} models; only the files of one can be joined")
        return headers[0]
    return _in_order(headers, count)


def _in_order(headers: Sequence[GGUFHeader], count: int) -> GGUFHeader:
    shards: dict[int, GGUFHeader] = {}
    for header in headers:
        number = _number(header, Keys.Split.LLM_KV_SPLIT_NO, None)
        if not 0 <= number < count:
            raise ModelError("bad-split", f"a file says that it is number {number + 1} of {count}")
        if number in shards:
            raise ModelError("repeated-shard", f"file {number + 1} of {count} is there twice")
        shards[number] = header
    if missing := [number + 1 for number in range(count) if number not in shards]:
        allowed = f"all {count} files of the model"
        message = f"this model is in {count} files; missing: {_listed(missing)}"
        raise ModelError("incomplete-split", message, allowed=allowed)
    tensors = tuple(tensor for number in range(count) for tensor in shards[number].tensors)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ModelError("duplicate-tensor", "a tensor occurs in two of the files: they are of different models")
    announced = _number(shards[0], Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT, None)
    if announced != len(tensors):
        message = (
            f"the files have {len(tensors):,} tensors and the first says {announced:,}: they do not belong together"
        )
        raise ModelError("mixed-split", message)
    return replace(shards[0], tensors=tensors)


def _number(header: GGUFHeader, key: str, default: int | None) -> int:
    value = header.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError("bad-split", f"{key} is {str(value)[:64]}; it must be a whole number", field=key)
    return value


def _listed(numbers: set[int] | list[int]) -> str:
    """Up to ten numbers."""
    few = [str(number) for number in sorted(numbers)[:10]]
    return ", ".join(few) + (" and more" if len(numbers) > len(few) else "")
