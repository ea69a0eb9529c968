"""What a checkpoint's tensors say that its config does not: output matrices, biases, norms, and rows of the vocabulary.

Names are mapped as llama.cpp's converter maps them, with the tables of the ``gguf`` package. What the converter splits,
merges or reshapes has no single counterpart and follows from the config.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gguf import get_tensor_name_map
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES

from estimator.errors import ModelError
from estimator.model import Tensor
from estimator.sources.hf.build import converted_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gguf.tensor_mapping import TensorNameMap

    from estimator.sources.hf.stored import Weight

EMBEDDING: Final = "token_embd.weight"
OUTPUT: Final = "output.weight"

_BY_NAME: Final = {name: key for key, name in MODEL_ARCH_NAMES.items()}

_NOT_TEXT: Final = re.compile(
    r"^(mlp|vit\.|vpm\.|siglip2\.|conformer\.|merger\.|resampler\.|sound_encoder\.|sound_projection\.|mtp\.|model\.mtp\.)"
    r"|visual\.|vision\.|audio\.|talker\.|vision_|audio_|token2wav\.|code2wav\.|projector\.|image_newline|view_seperator"
    r"|patch_embed|patch_merger\.|patch_merge_mlp\.|model\.connector\.|embed_vision\."
)
"""Tensors that are not the text model's (conversion/base.py:1389, ``TextModel.filter_tensors``)."""

_WHOLE: Final = re.compile(
    r"^output_norm\.weight$|^blk\.\d+\.(attn_(q|k|v|qkv|output|norm)|ffn_(gate|up|down|norm))\.weight$"
)
"""Tensors that hold one of the checkpoint's as it is: others are merged, split, padded or cut."""

_OPTIONAL: Final = re.compile(r"^blk\.\d+\.(attn_q_norm|attn_k_norm)\.weight$|\.bias$")
"""Tensors that a checkpoint has or has not, whatever its config says."""


def names_in_gguf(weights: Mapping[str, Weight], architecture: str, n_layer: int) -> dict[str, Weight]:
    """The weights of the text model by their names in GGUF; those without a single counterpart are left out."""
    table = _table(architecture, n_layer)
    found = {}
    for name, weight in weights.items():
        if ".experts." in name or _NOT_TEXT.search(name):
            continue  # single experts are merged
        plain = name.removeprefix("bert.").removeprefix("roberta.").replace("language_model.", "")
        plain = plain.replace("e_score_correction_bias", "e_score_correction.bias")
        names = (f"{prefix}{plain}" for prefix in ("", "model.", "transformer."))
        mapped = next((new for old in names if (new := table.get_name(old, (".weight", ".bias")))), None)
        if mapped is not None:
            found[mapped] = weight
    return found


@lru_cache(maxsize=64)
def _table(architecture: str, n_layer: int) -> TensorNameMap:
    """The names of an architecture; of one that the package does not know, those of a mixture that has them all."""
    return get_tensor_name_map(_BY_NAME.get(architecture, MODEL_ARCH.GLM4_MOE), n_layer)


def rows(weight: Weight | None, width: int) -> int | None:
    """Rows of a matrix that is so wide, None without one.

    Raises:
        ModelError: it is not so wide.
    """
    if weight is None:
        return None
    if not width or weight.n_elements % width or (weight.shape is not None and weight.shape[-1] != width):
        raise ModelError(
            "tensors-differ",
            f"the embedding has the shape {weight.shape or weight.n_elements}, but hidden_size is {width}: "
            "config and tensors are not of the same model",
            field="hidden_size",
        )
    return weight.n_elements // width


def adapted(tensors: list[Tensor], stored: Mapping[str, Weight], n_layer: int) -> Iterator[Tensor]:
    """The tensors that a config gives, less the optional ones that are not stored, and those stored beside them.

    Raises:
        ModelError: a layer is missing, or a tensor has another size than the config gives it.
    """
    _check_layers(stored, n_layer)
    expected = {tensor.name: tensor for tensor in tensors}
    for tensor in tensors:
        weight = stored.get(tensor.name)
        if weight is None:
            if not (_OPTIONAL.search(tensor.name) and _owner(tensor.name) in stored):
                yield tensor
            continue
        if _WHOLE.search(tensor.name) and not _is_of(weight, tensor):
            raise ModelError(
                "tensors-differ",
                f"{tensor.name} has {weight.n_elements:,} elements in the checkpoint, but by the config "
                f"{tensor.n_elements:,}: config and tensors are not of the same model",
                field=tensor.name,
            )
        yield tensor
    for name, weight in stored.items():
        if name not in expected and _OPTIONAL.search(name) and _owner(name) in expected:
            yield Tensor(name, (weight.n_elements,), converted_type(name, 1))


def _is_of(weight: Weight, tensor: Tensor) -> bool:
    """Whether a weight has the elements of a tensor; the rows of a packed one may be padded."""
    padded = weight.n_elements - tensor.n_elements
    return padded == 0 or (weight.shape is None and 0 < padded <= tensor.n_elements // 16)


def _owner(name: str) -> str:
    """The weight that a bias or a norm of Q and K goes with."""
    return f"{name.removesuffix('.bias').removesuffix('_norm.weight')}.weight"


def _check_layers(stored: Mapping[str, Weight], n_layer: int) -> None:
    numbers = {int(name.split(".")[1]) for name in stored if name.startswith("blk.")}
    absent = sorted(set(range(n_layer)) - numbers)
    if numbers and absent:
        raise ModelError(
            "missing-tensor",
            f"the checkpoint has no tensors of layer {absent[0]}, and num_hidden_layers is {n_layer}: "
            "give the tensors of all its files",
            field="safetensors",
        )
