"""How a model is run: llama.cpp's own parameters, with llama-server's defaults, checked on the way in."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from estimator.errors import SettingsError
from estimator.ggml import CACHE_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_N_CTX: Final = 2**31 - 256
"""``-c`` is a C ``int`` (common/arg.cpp) that is padded to 256 (llama-context.cpp:292)."""

MAX_N_BATCH: Final = 2**20
"""Our bound on ``-b`` and ``-ub``, far above what anybody runs."""

MAX_N_PARALLEL: Final = 256
"""``LLAMA_MAX_SEQ`` (llama-cparams.h:8)."""

SERVER_SLOTS: Final = 4
"""Slots of llama-server when ``-np`` is not given; it then also turns ``--kv-unified`` on (server.cpp:168-173)."""

MAX_PATTERN: Final = 1000
"""Characters of ``cpu_tensors``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """llama.cpp b11434's parameters that decide memory. The defaults are llama-server's.

    Args:
        n_ctx: ``-c``, tokens over all slots; 0 = the length that the model was trained for.
        n_batch: ``-b``, tokens of a logical batch.
        n_ubatch: ``-ub``, tokens of a physical batch.
        n_parallel: ``-np``, slots; -1 = llama-server's choice, which is 4 slots with a unified cache.
        kv_unified: ``-kvu``, one cache for all slots; None = only where ``n_parallel`` is -1.
        cache_type_k: ``-ctk``, one of ``CACHE_TYPES``.
        cache_type_v: ``-ctv``, likewise.
        flash_attn: ``-fa``.
        swa_full: ``--swa-full``, a full-size cache for sliding-window layers.
        n_outputs: rows of logits that the program reserves; 0 = every row of the ubatch (llama-bench,
            llama-fit-params, embeddings), None = llama-server's rule: one for each slot.
        n_gpu_layers: ``-ngl``, layers on devices counted from the last, the output layer first; -1 = all.
        tensor_split: ``-ts``, a share for each device; None = by free memory.
        offload_kqv: False = ``-nkvo``, the cache stays in host memory.
        cpu_tensors: regular expression of tensors kept in host memory, as ``-ot REGEX=CPU``.

    Raises:
        SettingsError: a value is out of range; ``field`` is the name above.
    """

    n_ctx: int = 0
    n_batch: int = 2048
    n_ubatch: int = 512
    n_parallel: int = -1
    kv_unified: bool | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attn: bool = True
    swa_full: bool = False
    n_outputs: int | None = None
    n_gpu_layers: int = -1
    tensor_split: Sequence[float] | None = None
    offload_kqv: bool = True
    cpu_tensors: str | None = None

    def __post_init__(self) -> None:
        _whole("n_ctx", self.n_ctx, 0, MAX_N_CTX)
        _whole("n_batch", self.n_batch, 1, MAX_N_BATCH)
        _whole("n_ubatch", self.n_ubatch, 1, MAX_N_BATCH)
        if self.n_parallel != -1:
            _whole("n_parallel", self.n_parallel, 1, MAX_N_PARALLEL)
        _one_of("cache_type_k", self.cache_type_k, CACHE_TYPES)
        _one_of("cache_type_v", self.cache_type_v, CACHE_TYPES)
        if self.n_outputs is not None:
            _whole("n_outputs", self.n_outputs, 0, MAX_N_BATCH)
        _whole("n_gpu_layers", self.n_gpu_layers, -1, 10_000)
        if self.tensor_split is not None:
            object.__setattr__(self, "tensor_split", _shares(self.tensor_split))
        if self.cpu_tensors is not None:
            _pattern("cpu_tensors", self.cpu_tensors)

    @property
    def n_seq_max(self) -> int:
        """Slots, with llama-server's choice resolved."""
        return SERVER_SLOTS if self.n_parallel == -1 else self.n_parallel

    @property
    def is_unified(self) -> bool:
        """Whether all slots share one cache, with llama-server's choice resolved."""
        return self.n_parallel == -1 if self.kv_unified is None else self.kv_unified


def _whole(field: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        allowed = f"a whole number from {low:,} to {high:,}"
        shown = "too large" if isinstance(value, int) and value > 10**20 else repr(value)
        raise SettingsError("out-of-range", f"{field} is {shown}; it must be {allowed}", field=field, allowed=allowed)


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(
            "unknown-cache-type",
            f"{field} is {value!r}; llama.cpp has {', '.join(allowed)}",
            field=field,
            allowed=allowed,
        )


def _shares(shares: Sequence[float]) -> tuple[float, ...]:
    """Shares that are still numbers, and not all zero, as the C ``float`` that llama.cpp reads."""
    try:
        if 0 < as_float32(sum(map(as_float32, shares))) < inf and all(share >= 0 for share in shares):
            return tuple(shares)
    except (TypeError, OverflowError, struct.error):
        pass
    allowed = "one share for each device, none negative, not all zero"
    raise SettingsError(
        "bad-tensor-split", f"tensor_split is {shares!r}; it must be {allowed}", field="tensor_split", allowed=allowed
    )


def as_float32(value: float) -> float:
    """``value`` as a C ``float``.

    Raises:
        OverflowError: it is too large for one.
        struct.error: it is no number.
    """
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _pattern(field: str, pattern: str) -> None:
    try:
        if len(pattern) > MAX_PATTERN:
            raise re.error(f"longer than {MAX_PATTERN} characters")
        re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            "bad-pattern",
            f"{field} is not a regular expression that can be used: {error}",
            field=field,
            allowed=f"a regular expression of at most {MAX_PATTERN} characters",
        ) from None
