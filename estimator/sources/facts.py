"""The facts of a model as a text that fits into a link, and back.

A text is the version ``1`` and, as base64url without padding, the raw deflate stream (RFC 1951) of canonical JSON: what
``compact.pack`` makes of the header, with the layers of a tensor as runs (``estimator/sources/runs.py``). Models with
the same facts have the same text. Texts come from strangers: ``estimator/sources/facts_header.py`` checks them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from estimator.errors import ModelError
from estimator.sources.compact import pack
from estimator.sources.facts_header import bad, header_of_facts, linked_metadata
from estimator.sources.from_gguf import model_from_header
from estimator.sources.runs import as_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.model import Model, Tensor
    from estimator.sources.gguf import GGUFHeader

VERSION: Final = "1"

MAX_TEXT: Final = 6000
"""Characters: with the rest of an address they fit into the 8190 bytes of a request's first line (``Makefile``)."""

MAX_INFLATED: Final = 128 << 10
"""Bytes of JSON; those of bundled models have less than 5,000."""


_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)

MAX_KINDS: Final = 64
"""Different layers, which the work of an estimate grows with; bundled models have up to 4."""


def facts_text(header: GGUFHeader) -> str:
    """The text of a model's facts.

    Raises:
        ModelError: ``"facts-too-long"`` if they do not fit into ``MAX_TEXT`` characters, ``"no-facts"`` if the model
            has what no link can say; or the header is of no model.
    """
    return _linked(header)[1]


def read_facts(text: str) -> Model:
    """The model that a text tells of.

    Raises:
        ModelError: it is no such text, too long, or tells of no model that can be. ``field`` is ``"facts"``.
    """
    return checked_facts(text)[0]


def checked_facts(text: str) -> tuple[Model, str]:
    """The model that a text tells of, and the text that ``facts_text`` makes of it.

    Raises:
        ModelError: as ``read_facts``.
    """
    try:
        return _linked(header_of_facts(_said(text)))
    except ModelError as error:
        message = error.message if error.field == "facts" else f"facts are of no model that can be: {error.message}"
        raise ModelError(error.code, message, field="facts", allowed=error.allowed) from None


def _linked(header: GGUFHeader) -> tuple[Model, str]:
    model = model_from_header(header)
    if len(model.kinds) > MAX_KINDS:
        message = f"this model has {len(model.kinds)} different layers; a link carries at most {MAX_KINDS}"
        raise ModelError("no-facts", message, field="facts")
    plain = _json(header)
    text = VERSION + _deflated(plain)
    if len(text) > MAX_TEXT or len(plain) > MAX_INFLATED:
        message = f"this model's facts take {len(text):,} characters; a link carries at most {MAX_TEXT:,}"
        raise ModelError("facts-too-long", message, field="facts")
    return model, text


def _json(header: GGUFHeader) -> bytes:
    known = replace(header, metadata=linked_metadata(header.metadata), tensors=_in_order(header.tensors))
    packed = pack(known)
    tensors = [[*entry[:3], *map(as_runs, entry[3:])] for entry in packed["tensors"]]
    said = {"metadata": packed["metadata"], "tensors": tensors}
    plain = json.dumps(said, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    _check_whole(plain, known)
    return plain.encode()


def _check_whole(plain: str, header: GGUFHeader) -> None:
    """Refuse a header that a link would not bring back as it is: with odd names, or with more than a link may hold."""
    try:
        again = header_of_facts(json.loads(plain))
    except ModelError as error:
        raise ModelError("no-facts", f"no link can carry this model: {error.message}", field="facts") from None
    if Counter(again.tensors) != Counter(header.tensors) or again.metadata != header.metadata:
        raise ModelError(
            "no-facts", "no link can carry this model: its names have more than one meaning", field="facts"
        )


def _in_order(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors by name; the embedding stays before, among or behind the others (``weights.mapped_besides``)."""
    own = [index for index, tensor in enumerate(tensors) if not _is_embedding(tensor)]
    if not own:
        return tuple(sorted(tensors, key=_by_name))
    before, behind = tensors[: own[0]], tensors[own[-1] + 1 :]
    among = filter(_is_embedding, tensors[own[0] : own[-1]])
    first, *others = sorted((tensors[index] for index in own), key=_by_name)
    return (*sorted(before, key=_by_name), first, *sorted(among, key=_by_name), *others, *sorted(behind, key=_by_name))


def _is_embedding(tensor: Tensor) -> bool:
    return tensor.name.startswith("token_embd.")


def _by_name(tensor: Tensor) -> tuple[str, int]:
    """Equal tensors of all layers follow each other, in the order of the layers."""
    digits = re.search(r"\d+", tensor.name)
    return re.sub(r"\d+", "*", tensor.name, count=1), int(digits[0]) if digits else 0


def _deflated(plain: bytes) -> str:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = compressor.compress(plain) + compressor.flush()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _said(text: str) -> Any:
    """What the JSON of a text holds, within the limits but otherwise unchecked."""
    if len(text) > MAX_TEXT:
        message = f"facts is {len(text):,} characters long; at most {MAX_TEXT:,} are read"
        raise ModelError("facts-too-long", message, field="facts", allowed=f"at most {MAX_TEXT:,} characters")
    if not text.startswith(VERSION):
        raise bad(f"is of version {text[:1]!r}; only version {VERSION!r} can be read")
    plain = _inflated(text[len(VERSION) :])
    try:
        return json.loads(plain)
    except (ValueError, RecursionError):
        raise bad("is damaged: what it holds is no JSON") from None


def _inflated(coded: str) -> bytes:
    if not _BASE64URL.fullmatch(coded):
        raise bad("is damaged: it has characters that are none of base64url")
    try:
        data = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = inflater.decompress(data, MAX_INFLATED + 1)
    except (binascii.Error, ValueError, zlib.error):
        raise bad("is damaged: it cannot be unpacked") from None
    if len(plain) > MAX_INFLATED:
        raise bad(f"unpacks to more than {MAX_INFLATED:,} bytes")
    if not inflater.eof or inflater.unused_data:
        raise bad("is damaged: its end is missing, or something follows it")
    return plain
