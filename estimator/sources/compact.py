"""A GGUF header without its tokenizer, small enough to bundle: equal tensors of all layers are written once.

    {"metadata": {"general.architecture": "llama", "llama.block_count": 32, ...},
     "tensors": [["token_embd.weight", "BF16", [4096, 128256]],
                 ["blk.*.attn_q.weight", "BF16", [4096, 4096]],
                 ["blk.*.ffn_gate.weight", "BF16", [4096, 14336], [0, 1, 2]]]}

``*`` stands for every layer, or for the layers listed behind the shape.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gguf.constants import GGMLQuantizationType, Keys

from estimator.model import Tensor
from estimator.sources.gguf import GGUFHeader, made_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LAYER: Final = re.compile(r"^((?:enc\.|dec\.)?blk\.)(\d+)\.")

_IRRELEVANT: Final = re.compile(
    r"^(tokenizer|general\.(?!architecture$|name$|file_type$))|\.rope\.(?!dimension_sections|scaling\.finetuned)"
    r"|(?<!rms_)epsilon|logit|(?<!expert_weights_)(?<!temperature_)(?<!embedding_)scale"
)
"""Keys that no byte depends on."""


def is_relevant(key: str) -> bool:
    """Whether bytes may depend on a metadata key, or people know a model by it."""
    return not _IRRELEVANT.search(key)


def pack(header: GGUFHeader) -> dict[str, Any]:
    """The parts of a header that memory follows from, as JSON can hold them."""
    metadata = {key: value for key, value in header.metadata.items() if is_relevant(key)}
    n_layer = _n_layer(metadata)
    groups: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for tensor in header.tensors:
        match = _LAYER.match(tensor.name)
        name = _LAYER.sub(r"\1*.", tensor.name)
        groups.setdefault((name, tensor.type.name, tensor.shape), []).extend([int(match[2])] if match else [])
    tensors = [
        [name, type_name, list(shape), *([layers] if layers and not _are_all(layers, n_layer) else [])]
        for (name, type_name, shape), layers in groups.items()
    ]
    return {"metadata": metadata, "tensors": tensors}


def unpack(packed: Mapping[str, Any]) -> GGUFHeader:
    """The header that ``pack`` was given, less what it left out; tensors in another order."""
    metadata = {key: tuple(value) if isinstance(value, list) else value for key, value in packed["metadata"].items()}
    every_layer = range(_n_layer(metadata))
    return made_header(metadata, _tensors(packed["tensors"], every_layer))


def _n_layer(metadata: Mapping[str, Any]) -> int:
    key = Keys.LLM.BLOCK_COUNT.format(arch=metadata[Keys.General.ARCHITECTURE])
    return int(metadata[key])


def _are_all(layers: list[int], n_layer: int) -> bool:
    return len(layers) == n_layer and sorted(layers) == list(range(n_layer))


def _tensors(entries: Iterable[list[Any]], every_layer: range) -> Iterable[Tensor]:
    for name, type_name, shape, *layers in entries:
        element_type = GGMLQuantizationType[type_name]
        if "*" not in name:
            yield Tensor(name, tuple(shape), element_type)
            continue
        for layer in layers[0] if layers else every_layer:
            yield Tensor(name.replace("*", str(layer), 1), tuple(shape), element_type)
