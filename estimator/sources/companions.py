"""Projectors and LoRA adapters from their GGUF headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gguf.constants import GGUFType, Keys

from estimator.companions import Adapter, Projector
from estimator.errors import ModelError
from estimator.sources.gguf import GGUFHeader, read_header

if TYPE_CHECKING:
    from estimator.model import Tensor
    from estimator.sources.gguf import Source

CLIP: Final = "clip"
"""``general.architecture`` of projectors (tools/mtmd/clip.cpp)."""

A, B = ".lora_a", ".lora_b"


def read_mmproj(source: Source) -> Projector:
    """The projector that a GGUF file holds; the header alone is enough.

    Raises:
        IncompleteHeaderError: the bytes end before the header does.
        ModelError: it is no GGUF file, or not that of a projector.
    """
    header = read_header(source)
    if not is_mmproj(header):
        architecture = header.metadata.get(Keys.General.ARCHITECTURE)
        message = f"this is no projector: its architecture is {str(architecture)[:60]}, not {CLIP}"
        raise ModelError("not-a-projector", message, field="mmproj")
    return Projector(_name(header), header.tensors)


def is_mmproj(header: GGUFHeader) -> bool:
    """Whether a header is that of a projector."""
    return header.metadata.get(Keys.General.ARCHITECTURE) == CLIP


def read_lora(source: Source) -> Adapter:
    """The LoRA adapter that a GGUF file holds; the header alone is enough (llama-adapter.cpp:190-262).

    Raises:
        IncompleteHeaderError: the bytes end before the header does.
        ModelError: it is no GGUF file, or not that of an adapter.
    """
    header = read_header(source)
    kind = header.metadata.get(Keys.General.TYPE), header.metadata.get(Keys.Adapter.TYPE)
    architecture = header.metadata.get(Keys.General.ARCHITECTURE)
    if kind != (GGUFType.ADAPTER, "lora") or not isinstance(architecture, str):
        message = f"this is no LoRA adapter: {Keys.General.TYPE} and {Keys.Adapter.TYPE} are {kind!r:.80}"
        raise ModelError("not-a-lora", message, field="lora")
    return Adapter(_name(header), architecture, _pairs(header))


def _name(header: GGUFHeader) -> str:
    name = header.metadata.get(Keys.General.NAME)
    return name[:100] if isinstance(name, str) else "without a name"


def _pairs(header: GGUFHeader) -> dict[str, tuple[Tensor, Tensor]]:
    halves = {tensor.name: tensor for tensor in header.tensors}
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in halves:
        base = name.removesuffix(A).removesuffix(B)
        if base == name:
            if not name.endswith("_norm.weight"):  # which llama.cpp passes over
                raise ModelError("bad-lora", f"{name} is neither an A nor a B of an adapter", field="lora")
        elif base + A not in halves or base + B not in halves:
            raise ModelError("bad-lora", f"{base} has an A or a B, but not both", field="lora")
        else:
            pairs[base] = halves[base + A], halves[base + B]
    return pairs
