"""What the JSON of a link says, checked piece by piece until it is a header: nothing in it is trusted."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gguf.constants import GGMLQuantizationType, Keys

from estimator.errors import ModelError
from estimator.sources.compact import is_relevant
from estimator.sources.gguf import GGUFHeader, Value, made_header
from estimator.sources.hparams import MAX_LAYERS, HParams
from estimator.sources.runs import from_runs
from estimator.sources.tensors import MAX_NAME_BYTES, described

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from estimator.model import Tensor

MAX_TENSORS: Final = 4096
"""Tensors; bundled models have less than 2,000."""

MAX_KEYS: Final = 256
"""Metadata keys; bundled models have less than 50."""

MAX_ARRAY: Final = 2 * MAX_LAYERS
"""Elements of a metadata array: the longest have one for each layer."""

MAX_TITLE: Final = 100
"""Characters of ``general.name``; a longer one is cut, as nothing depends on it."""

ALLOWED: Final = "the text of a link that Fathom made"

_TENSOR_NAME: Final = re.compile(rf"[!-)+-~]{{1,{MAX_NAME_BYTES}}}", re.ASCII)
"""Printable, and without the star that stands for a layer."""

_OF_LAYERS: Final = re.compile(r"(?:enc\.|dec\.)?blk\.\*\.[!-)+-~]+", re.ASCII)
_KEY: Final = re.compile(r"[!-~]{1,200}", re.ASCII)
_UINT64: Final = 1 << 64
_GENERAL: Final = (Keys.General.ARCHITECTURE, Keys.General.NAME, Keys.General.FILE_TYPE)


def linked_metadata(metadata: Mapping[str, Value]) -> dict[str, Value]:
    """What a link says of a header's metadata: the architecture's own numbers that bytes depend on, and a name."""
    prefix = f"{metadata[Keys.General.ARCHITECTURE]}."
    kept = {key: metadata[key] for key in _GENERAL if key in metadata}
    if isinstance(name := kept.get(Keys.General.NAME), str):
        kept[Keys.General.NAME] = "".join(filter(str.isprintable, name))[:MAX_TITLE]
    for key, value in metadata.items():
        if key.startswith(prefix) and is_relevant(key) and not isinstance(value, str):
            kept[key] = value
    return kept


def header_of_facts(said: Any) -> GGUFHeader:
    """The header that the JSON of a link describes.

    Raises:
        ModelError: with the code ``"bad-facts"``, or that of the rule that a key or tensor breaks.
    """
    if not isinstance(said, dict) or said.keys() != {"metadata", "tensors"}:
        raise bad("does not hold metadata and tensors, and nothing else")
    metadata = _metadata(said["metadata"])
    header = made_header(metadata, ())
    n_layer = HParams(header, str(metadata[Keys.General.ARCHITECTURE])).n_layer_all
    return replace(header, tensors=_tensors(said["tensors"], n_layer))


def bad(what: str) -> ModelError:
    """The refusal of a text that no link of ours has."""
    return ModelError("bad-facts", f"facts {what}; it must be {ALLOWED}", field="facts", allowed=ALLOWED)


def _metadata(given: Any) -> dict[str, Value]:
    if not isinstance(given, dict) or len(given) > MAX_KEYS:
        raise bad(f"has metadata that is no object of at most {MAX_KEYS} keys")
    if not isinstance(given.get(Keys.General.ARCHITECTURE), str):
        raise bad(f"does not say {Keys.General.ARCHITECTURE}")
    metadata = {key: _value(key, value) for key, value in given.items()}
    for key, value in linked_metadata(metadata).items():
        if metadata.pop(key) != value:
            raise bad(f"has a {key} that is too long, or cannot be printed")
    if metadata:
        raise bad(f"has {next(iter(metadata))}, which no link has")
    return {key: _value(key, value) for key, value in given.items()}


def _value(key: str, value: Any) -> Value:
    if not _KEY.fullmatch(key):
        raise bad(f"has the key {key!r:.100}")
    if isinstance(value, list):
        if len(value) > MAX_ARRAY or not all(map(_is_number, value)):
            raise bad(f"has under {key} no array of at most {MAX_ARRAY} numbers")
        return tuple(value)
    if isinstance(value, str) or _is_number(value):
        known: Value = value
        return known
    raise bad(f"has under {key} neither a number nor an array")


def _is_number(value: Any) -> bool:
    """Whether a GGUF header can hold it: a number or a truth value."""
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and -_UINT64 < value < _UINT64


def _tensors(given: Any, n_layer: int) -> tuple[Tensor, ...]:
    if not isinstance(given, list):
        raise bad("has tensors that are no list")
    tensors: dict[str, Tensor] = {}
    for entry in given:
        for tensor in _of_entry(entry, n_layer):
            if tensor.name in tensors:
                raise bad(f"has the tensor {tensor.name!r} twice")
            tensors[tensor.name] = tensor
        if len(tensors) > MAX_TENSORS:
            raise bad(f"has more than {MAX_TENSORS:,} tensors")
    return tuple(tensors.values())


def _of_entry(entry: Any, n_layer: int) -> Iterator[Tensor]:
    """The tensors of ``[name, type, shape]``, with layers behind it if not all have it."""
    if not isinstance(entry, list) or not 3 <= len(entry) <= 4:
        raise bad("has a tensor that is not written as [name, type, shape, layers]")
    name, type_name, shape, *layers = entry
    if not isinstance(type_name, str) or type_name not in GGMLQuantizationType.__members__:
        raise bad(f"has a tensor of the element type {str(type_name)[:40]!r}")
    if not isinstance(shape, list) or not shape or not all(map(_is_length, shape)):
        raise bad(f"has a tensor of the shape {str(shape)[:40]}")
    lengths = tuple(shape)
    for full_name in _names(name, layers, n_layer):
        yield described(full_name, lengths, GGMLQuantizationType[type_name])


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _UINT64


def _names(name: Any, layers: list[Any], n_layer: int) -> Iterator[str]:
    if isinstance(name, str) and _OF_LAYERS.fullmatch(name) and all(isinstance(text, str) for text in layers):
        numbers = from_runs(layers[0]) if layers else range(n_layer)
        for number in numbers:
            yield _named(name.replace("*", str(number)))
    elif layers:
        raise bad(f"has layers for {str(name)[:80]!r}, which is in none")
    else:
        yield _named(name)


def _named(name: Any) -> str:
    if not isinstance(name, str) or not _TENSOR_NAME.fullmatch(name):
        raise bad(f"has a tensor with the name {str(name)[:80]!r}")
    return name
