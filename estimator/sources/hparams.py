"""Typed, bounded access to the shape facts of a GGUF header (src/llama-model.cpp:1300-1494, llama.cpp b11434)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.sources.gguf import GGUFHeader

MAX_LAYERS: Final = 512
"""``LLAMA_MAX_LAYERS`` (llama-hparams.h)."""

MAX_EXPERTS: Final = 4096
"""Our bound, above ``LLAMA_MAX_EXPERTS``."""

MAX_STREAMS: Final = 64
"""Our bound on residual streams that run side by side."""

MAX_WIDTH: Final = 2**28
"""Our bound on widths, heads and lengths, which keeps every product of the model far from absurd."""


class HParams:
    """The keys of one architecture: ``hparams.whole("block_count")`` reads ``<architecture>.block_count``.

    ``n_layer`` are the layers of the trunk; ``n_layer_all`` counts those that predict further tokens too.
    """

    def __init__(self, header: GGUFHeader, architecture: str) -> None:
        self._header = header
        self._prefix = f"{architecture}."
        self.n_layer_all = self.whole("block_count", low=1, high=MAX_LAYERS)
        self.n_layer = self.n_layer_all - self.whole("nextn_predict_layers", 0, high=self.n_layer_all - 1)

    def whole(self, key: str, default: int | None = None, *, low: int = 0, high: int = MAX_WIDTH) -> int:
        """A whole number.

        Raises:
            ModelError: it is missing and has no default, or is out of range.
        """
        value = self._header.metadata.get(self._prefix + key)
        if value is None:
            if default is None:
                raise ModelError("missing-key", f"the header has no {self._prefix}{key}", field=self._prefix + key)
            return default
        return self._checked(key, value, low, high)

    def real(self, key: str, default: float) -> float:
        """A number, whole or not.

        Raises:
            ModelError: it is no number.
        """
        return self._as_real(key, self._header.metadata.get(self._prefix + key, default))

    def real_of(self, il: int, key: str, default: float) -> float:
        """The number of a layer, from an array with one for every layer or one number for all.

        Raises:
            ModelError: it is no number, or the array has another length.
        """
        value = self._header.metadata.get(self._prefix + key, default)
        if not isinstance(value, tuple):
            return self._as_real(key, value)
        self._check_length(key, len(value))
        return self._as_real(key, value[il])

    def _as_real(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(
                "bad-value",
                f"{self._prefix}{key} is {str(value)[:64]}; it must be a number",
                field=self._prefix + key,
                allowed="a number",
            )
        return value

    def value(self, key: str) -> object:
        """What the header has under a key, unchecked; None where it has nothing."""
        return self._header.metadata.get(self._prefix + key)

    def reals(self, key: str, default: float) -> tuple[float, ...]:
        """One number, whole or not, for each layer of the trunk, from an array or one number for all.

        Raises:
            ModelError: it is no number, or the array has another length.
        """
        value = self._header.metadata.get(self._prefix + key)
        if not isinstance(value, tuple):
            return (self.real(key, default),) * self.n_layer
        self._check_length(key, len(value))
        if not all(isinstance(item, int | float) for item in value):
            raise ModelError("bad-value", f"{self._prefix}{key} must be numbers", field=self._prefix + key)
        return tuple(float(item) for item in value[: self.n_layer] if isinstance(item, int | float))

    def per_layer(
        self, key: str, default: tuple[int, ...] | int | None = None, *, high: int = MAX_WIDTH
    ) -> tuple[int, ...]:
        """One number for each layer of the trunk, from an array with one for every layer or one number for all.

        Raises:
            ModelError: it is missing and has no default, is out of range, or the array has another length.
        """
        value = self._header.metadata.get(self._prefix + key)
        if isinstance(value, tuple):
            self._check_length(key, len(value))
            return tuple(self._checked(key, item, 0, high) for item in value[: self.n_layer])
        if value is None and isinstance(default, tuple):
            return default
        return (self.whole(key, default if isinstance(default, int) else None, high=high),) * self.n_layer

    def array(self, key: str) -> tuple[int, ...]:
        """An array with a number for each layer of the trunk, or more.

        Raises:
            ModelError: it is missing or too short, or a number is out of range.
        """
        value = self._header.metadata.get(self._prefix + key)
        if not isinstance(value, tuple) or len(value) < self.n_layer:
            raise ModelError("missing-key", f"the header has no {self._prefix}{key} for all layers", field=key)
        return tuple(self._checked(key, item, 0, MAX_WIDTH) for item in value[: self.n_layer])

    def has(self, key: str) -> bool:
        """Whether the header has the key."""
        return self._prefix + key in self._header.metadata

    def numbers(self, key: str) -> tuple[int, ...]:
        """An array of layers; empty where the header has none."""
        value = self._header.metadata.get(self._prefix + key)
        if not isinstance(value, tuple):
            return ()
        return tuple(self._checked(key, item, 0, MAX_LAYERS) for item in value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """A flag.

        Raises:
            ModelError: it is something else.
        """
        value = self._header.metadata.get(self._prefix + key, default)
        if not isinstance(value, bool):
            message = f"{self._prefix}{key} is {str(value)[:64]}; it must be true or false"
            raise ModelError("bad-value", message, field=self._prefix + key, allowed="true or false")
        return value

    def flags(self, key: str) -> tuple[bool, ...] | None:
        """One flag for each layer of the trunk; None where the header has no such array."""
        value = self._header.metadata.get(self._prefix + key)
        if not isinstance(value, tuple):
            return None
        if len(value) < self.n_layer:
            self._check_length(key, len(value))
        return tuple(bool(item) for item in value[: self.n_layer])

    def _check_length(self, key: str, length: int) -> None:
        if length != self.n_layer_all:
            raise ModelError(
                "bad-array-length",
                f"{self._prefix}{key} has {length} entries for {self.n_layer_all} layers",
                field=self._prefix + key,
            )

    def _checked(self, key: str, value: object, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            allowed = f"a whole number from {low:,} to {high:,}"
            raise ModelError(
                "bad-value",
                f"{self._prefix}{key} is {str(value)[:64]}; it must be {allowed}",
                field=self._prefix + key,
                allowed=allowed,
            )
        return value


@dataclass(frozen=True, slots=True)
class Facts:
    """What a header says, for rules of single architectures: its keys, and the shapes of its tensors by name."""

    hparams: HParams
    shapes: Mapping[str, tuple[int, ...]]
    n_embd: int

    def has(self, il: int, name: str) -> bool:
        """Whether layer ``il`` has a weight of this name."""
        return f"blk.{il}.{name}.weight" in self.shapes

    def extent(self, il: int, name: str, axis: int) -> int:
        """Elements along an axis of a weight of layer ``il``: 0 without it, 1 where it has fewer axes, as in ggml."""
        shape = self.shapes.get(f"blk.{il}.{name}.weight")
        if shape is None:
            return 0
        return shape[axis] if axis < len(shape) else 1

    def shape(self, il: int, name: str) -> tuple[int, int]:
        """Rows' length and number of a weight that layer ``il`` must have.

        Raises:
            ModelError: it is missing, or no matrix.
        """
        shape = self.shapes.get(f"blk.{il}.{name}.weight", ())
        if len(shape) != 2:
            raise ModelError(
                "missing-tensor",
                f"layer {il} needs a matrix {name}; it has {shape or 'none'}",
                field=f"blk.{il}.{name}",
            )
        return shape[0], shape[1]

    def rows(self, il: int, name: str) -> int:
        """Number of rows of a weight that layer ``il`` has: 1 where it is a single one."""
        return math.prod(self.shapes[f"blk.{il}.{name}.weight"][1:])
