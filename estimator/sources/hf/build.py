"""The tensors of a model in the making: names, shapes and the types that a conversion to BF16 gives them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gguf.constants import GGMLQuantizationType

from estimator.errors import ModelError
from estimator.model import Tensor
from estimator.sources.hf.config import missing
from estimator.sources.hf.keys import FIELDS
from estimator.sources.hparams import MAX_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from estimator.sources.gguf import Value
    from estimator.sources.hf.config import Config

    Keys = dict[str, Value]
    """Keys of a GGUF header, without the architecture's prefix."""

    Part = Callable[["Build", int], None]
    """Adds the tensors of one part of a layer."""

    Choice = bool | Callable[["Build"], bool]
    """Whether a model has something: always, never, or by its config."""

_ALWAYS_F32: Final = re.compile(
    r"_norm\.weight$|(?<!\.weight)$"
    r"|^(position_embd|token_types)\.weight$"
    r"|\.(ffn_gate_inp|ffn_gate_inp_shexp|ssm_conv1d|ssm_conv1d_[qkv]|shortconv\.conv|indexer\.proj"
    r"|altup_correct_coef|altup_predict_coef)\.weight$"
)
"""Tensors that a conversion leaves in F32, whatever their shape (conversion/base.py:1083-1130, b11434)."""

MAX_ELEMENTS: Final = 2**46
"""Our bound on the elements of one tensor: a hundred times the largest there is."""


class Build:
    """The config and the keys of a model, and its tensors so far.

    Shapes are in ggml's order: the length of a row comes first.
    """

    def __init__(self, config: Config, keys: Keys, n_vocab: int, tied: bool, always_f32: str | None = None) -> None:
        self.config = config
        self.keys: Mapping[str, Value] = keys
        self.n_vocab = n_vocab
        self.tied = tied
        self._always_f32 = re.compile(always_f32) if always_f32 else None
        self.tensors: list[Tensor] = []
        self.n_made = 0
        """Elements of tensors that the converter makes and the checkpoint does not have."""
        self.n_left = 0
        """Elements of the text model's weights that the converter does not write as tensors."""

    def key(self, name: str, il: int = 0) -> int:
        """A whole number of the header: for layer ``il``, where there is one for each."""
        value = self.keys.get(name)
        if isinstance(value, tuple):
            value = value[il]
        if not isinstance(value, int):
            raise missing(*FIELDS.get(name, (name,)))
        return int(value)

    def maybe(self, name: str, il: int = 0) -> int:
        """A whole number of the header, 0 where it is missing."""
        return self.key(name, il) if name in self.keys else 0

    @property
    def n_layer(self) -> int:
        return self.key("block_count")

    @property
    def n_embd(self) -> int:
        return self.key("embedding_length")

    def n_head(self, il: int) -> int:
        return self.key("attention.head_count", il)

    def n_head_kv(self, il: int) -> int:
        return self.key(
            "attention.head_count_kv" if "attention.head_count_kv" in self.keys else "attention.head_count", il
        )

    def n_embd_head_k(self, il: int) -> int:
        """Elements of a head of K in layer ``il``."""
        return self._n_embd_head("key", il)

    def n_embd_head_v(self, il: int) -> int:
        """Elements of a head of V in layer ``il``."""
        return self._n_embd_head("value", il)

    def _n_embd_head(self, name: str, il: int) -> int:
        if self.is_windowed(il) and f"attention.{name}_length_swa" in self.keys:
            return self.key(f"attention.{name}_length_swa")
        if f"attention.{name}_length" in self.keys:
            return self.key(f"attention.{name}_length")
        return self.n_embd // self.key("attention.head_count")

    def is_windowed(self, il: int) -> bool:
        """Whether the header lists layer ``il`` among those with a window."""
        pattern = self.keys.get("attention.sliding_window_pattern")
        return isinstance(pattern, tuple) and bool(pattern[il])

    def n_ff(self, il: int) -> int:
        return self.key("feed_forward_length", il)

    def n_ff_exp(self, il: int) -> int:
        """Width of an expert."""
        return self.maybe("expert_feed_forward_length", il) or self.n_ff(il)

    @property
    def n_expert(self) -> int:
        return self.maybe("expert_count")

    def is_on(self, choice: Choice) -> bool:
        """What a choice comes to for this model."""
        return choice(self) if callable(choice) else choice

    def add(self, name: str, *shape: int, element_type: GGMLQuantizationType | None = None) -> None:
        """Add a tensor by its full name, of the type that a conversion gives it if no other is said.

        Raises:
            ModelError: it has no elements, or more than any tensor there is.
        """
        n_elements = 1
        for extent in shape:
            n_elements *= extent
        if not all(0 < extent <= MAX_WIDTH for extent in shape) or n_elements > MAX_ELEMENTS:
            raise ModelError(
                "bad-shape", f"the config's numbers give {name} the shape {shape}, which no tensor has", field=name
            )
        stays = self._always_f32 is not None and self._always_f32.search(name)
        default = GGMLQuantizationType.F32 if stays else converted_type(name, len(shape))
        self.tensors.append(Tensor(name, shape, default if element_type is None else element_type))

    def weight(self, il: int, name: str, *shape: int, bias: bool = False) -> None:
        """Add a weight of layer ``il``, and its bias."""
        self.add(f"blk.{il}.{name}.weight", *shape)
        if bias:
            self.add(f"blk.{il}.{name}.bias", *shape[1:2] or shape)

    def make(self, name: str, *shape: int) -> None:
        """Add a tensor that the checkpoint does not have."""
        self.add(name, *shape)
        self.n_made += self.tensors[-1].n_elements


def converted_type(name: str, n_dims: int) -> GGMLQuantizationType:
    """The element type that a conversion to BF16 gives a tensor."""
    if n_dims <= 1 or _ALWAYS_F32.search(name):
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.BF16
