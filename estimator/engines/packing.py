"""How elements are stored: bits each, and what a group of them shares. Caches and weights are made of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Packing:
    """Elements of some bits, in groups that share a scale, a zero point or both.

    Args:
        bits: of one element.
        group: elements that share; 0 = all of the row.
        extra_bits: what a group shares.
        multiple: a row takes a multiple of so many bytes.
    """

    bits: int | Fraction
    group: int = 0
    extra_bits: int = 0
    multiple: int = 1

    def row_bytes(self, n: int) -> int:
        """Bytes of a row of ``n`` elements; a group that is not full shares as much."""
        groups = -(-n // (self.group or n)) if n else 0
        whole = ceil(Fraction(n * self.bits + groups * self.extra_bits, 8))
        return -(-whole // self.multiple) * self.multiple

    def bytes_per_element(self, n: int = 128) -> float:
        """Bytes of one element in a row of ``n``."""
        return self.row_bytes(n) / n

    def __str__(self) -> str:
        """``"8 bits and 16 more for each 32"``."""
        if not self.extra_bits:
            return f"{self.bits} bits"
        return f"{self.bits} bits and {self.extra_bits} more for " + (f"each {self.group}" if self.group else "a row")


F32: Final = Packing(32)
F16: Final = Packing(16)
"""Also bf16: whatever two bytes the model is computed in."""


@dataclass(frozen=True, slots=True)
class CacheType:
    """A type of K/V cache that an engine offers, by the engine's own name.

    ``k`` and ``v`` pack the K, or the V, that one token adds to one head: a row is ``n_embd_head_k`` (``_v``) long.

    Args:
        id: what the engine's option takes.
        label: for people.
        k: how K is stored.
        v: how V is stored; most types store it as K.
        aliases: other names of the very same bytes, such as ``f16`` for an engine's ``auto``.
        note: what sets it apart, for people.
    """

    id: str
    label: str
    k: Packing
    v: Packing
    aliases: tuple[str, ...] = ()
    note: str = ""

    def bytes_per_element(self, n_embd_head: int = 128) -> float:
        """Bytes of one element, the mean of K and V, in heads of ``n_embd_head``."""
        return (self.k.bytes_per_element(n_embd_head) + self.v.bytes_per_element(n_embd_head)) / 2


def cache_type(id: str, label: str, packing: Packing, aliases: tuple[str, ...] = (), note: str = "") -> CacheType:
    """A type that stores K and V alike."""
    return CacheType(id, label, packing, packing, aliases, note)


def nominal_bits(name: str) -> int:
    """The bits that a name of a type tells: 8 of ``q8_0``, ``fp8_e4m3`` and ``int8_per_token_head``; 16 without any."""
    found = re.search(r"\d+", name)
    return int(found[0]) if found else 16


def nearest(name: str, types: Iterable[CacheType]) -> CacheType:
    """The type that comes nearest to one that an engine lacks: by the bits of its name, the first of equals."""
    bits = nominal_bits(name)
    return min(types, key=lambda one: abs(8 * one.bytes_per_element() // 1 - bits))
