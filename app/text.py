"""Numbers and names as people read them; the only place where bytes become GiB."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from estimator import Device
    from estimator.accuracy import Band

GIB: Final = 2**30
MIB: Final = 2**20

_SPELLED_AN: Final = frozenset("AEFHILMNORSX")
"""Letters whose names begin with a vowel."""


def size(n_bytes: int) -> str:
    """Bytes as GiB or MiB with as many digits as help."""
    if n_bytes == 0:
        return "0"
    if abs(n_bytes) >= GIB:
        return f"{n_bytes / GIB:,.2f} GiB"
    return f"{n_bytes / MIB:,.1f} MiB"


def more(n_bytes: int, less_word: str, more_word: str) -> str:
    """A difference of bytes with the word for its direction: ``1.50 GiB less``, ``20.0 MiB more``."""
    return f"{size(abs(n_bytes))} {less_word if n_bytes >= 0 else more_word}"


def tokens(n: int) -> str:
    """A number of tokens with separators."""
    return f"{n:,}"


def short_tokens(n: int) -> str:
    """A round number of tokens: 128K, 1M, else with separators."""
    if n >= 2**20 and n % 2**20 == 0:
        return f"{n // 2**20}M tokens"
    return f"{n // 1024}K tokens" if n >= 1024 and n % 1024 == 0 else f"{n:,} tokens"


def parameters(n: int) -> str:
    """A number of weights: 8.0B, 270M."""
    return f"{n / 1e9:.1f}B" if n >= 1e9 else f"{n / 1e6:.0f}M"


def speed(per_second: float) -> str:
    """A number a second with as many digits as help."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def rate(per_second: float) -> str:
    """The same of tokens."""
    return f"{speed(per_second)} tokens/s"


def device_name(device: Device) -> str:
    """A device's short name with its memory: ``RTX 4090 24 GB``."""
    name = re.sub(r"^NVIDIA (GeForce )?|^AMD |^Apple ", "", device.name)
    if device.nominal_gib is None or re.search(r"\d\s?GB", name):
        return name
    return f"{name} {device.nominal_gib} GB"


def accuracy(band: Band, architecture: str, where: str) -> str:
    """What measurements say about estimates of a kind, as a sentence."""
    count = f"{band.cases:,} runs" if band.cases > 1 else "One run"
    runs = f"{count} of {architecture} models {where} measured with llama.cpp itself"
    if band.exact == band.cases:
        return f"{runs}: every size is equal to the byte."
    off = "0.01 %" if band.worst < 0.0001 else f"more than {100 * band.worst:.2f} %"
    return f"{runs}: {band.exact:,} equal to the byte, no size off by {off} of the total."


def with_article(name: str) -> str:
    """``an RTX 4090``, ``a Radeon RX 7900``: by how the first word sounds."""
    first = name.split()[0]
    spelled = re.match(r"[A-Z]+\d|[A-Z]{2,}\b", first) is not None
    vowel = first[0] in _SPELLED_AN if spelled else first[0].lower() in "aeiou"
    return f"{'an' if vowel else 'a'} {name}"


def joined(names: list[str]) -> str:
    """Names of several devices as one: ``2 x RTX 3090 24 GB``, ``RTX 4090 24 GB + RTX 3060 12 GB``."""
    counted = {name: names.count(name) for name in names}
    return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in counted.items())
