"""Typed, bounded access to the shape facts of a GGUF header (src/llama-model.cpp:1300-1494, llama.cpp b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError

if TYPE_CHECKING:
    from estimator.sources.gguf import GGUFHeader

MAX_LAYERS: Final = 512
"""``LLAMA_MAX_LAYERS`` (llama-hparams.h)."""

MAX_EXPERTS: Final = 4096
"""Our bound, above ``LLAMA_MAX_EXPERTS``."""

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
