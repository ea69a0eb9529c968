"""What the query says is loaded beside the model: its words, and what the core makes of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from app.errors import RequestError, shown
from estimator.companions import Companions, Draft, Projector, of_draft
from estimator.engines.llama_cpp import program
from estimator.errors import ModelError, SettingsError
from estimator.sources.catalogue import catalogue_model
from estimator.sources.quantize import FILE_TYPES

if TYPE_CHECKING:
    from estimator import Model

DRAFT_QUANT: Final = "Q4_K_M"
"""Quantization of a draft that names none."""

MAX_PROJECTOR: Final = 1 << 40
"""Bytes of a projector; released ones have less than 12 GiB."""

UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SIZE: Final = "a size such as 851M, 1.2G or a number of bytes"


def parse_draft(text: str) -> str:
    """``ID`` or ``ID:QUANT`` in its one form: without the default quantization."""
    id, _, quant = text.partition(":")
    name = quant.upper() or DRAFT_QUANT
    if name not in FILE_TYPES:
        message = f"draft is {shown(text)}; behind the colon stands one of {', '.join(FILE_TYPES)}"
        raise RequestError("unknown-quantization", "draft", message, FILE_TYPES)
    return id.lower() if name == DRAFT_QUANT else f"{id.lower()}:{name}"


def parse_size(text: str) -> int:
    """Bytes of the projector's file, from ``851M`` (MiB), ``1.2G`` (GiB) or a number of bytes."""
    match = re.fullmatch(
        r"(\d{1,15})(\.\d{1,3})?([kKmMgG]?)(?:i?[bB])?", text.replace(",", "").replace(" ", ""), re.ASCII
    )
    if not match or (match[2] and not match[3]):
        raise RequestError("not-a-size", "mmproj", f"mmproj is {shown(text)}; it must be {SIZE}", SIZE)
    thousandths = int(match[1]) * 1000 + int((match[2] or ".0")[1:].ljust(3, "0"))
    size = thousandths * UNITS[match[3].lower()] // 1000
    if size > MAX_PROJECTOR:
        allowed = f"at most {MAX_PROJECTOR:,} bytes"
        raise RequestError("out-of-range", "mmproj", f"mmproj is {size:,} bytes; it can be {allowed}", allowed)
    return size


def companions(engine: str, draft: str, mmproj: int) -> Companions:
    """What the core is asked to count beside the model that an engine runs.

    Raises:
        SettingsError: the draft is not known, or the engine is a program that loads no companions.
    """
    of_llama_cpp = program(engine)
    if of_llama_cpp and not of_llama_cpp.loads_companions and (draft or mmproj):
        field = "draft" if draft else "mmproj"
        raise SettingsError("not-with-engine", f"{engine} loads no {field}", field=field, allowed="another engine")
    return Companions(
        draft=Draft(model=_draft_model(draft)) if draft else None,
        projector=Projector.of_size(mmproj) if mmproj else None,
    )


def _draft_model(draft: str) -> Model:
    id, _, quant = draft.partition(":")
    try:
        return catalogue_model(id, quant or DRAFT_QUANT)
    except ModelError as error:
        raise of_draft(error) from None
