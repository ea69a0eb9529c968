"""A GGUF file that lies on somebody's disk: its first bytes in, the model and a link that carries it out.

Nothing is kept: the link itself holds what the estimate needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, Response, jsonify, request, url_for

from app.bodies import model_body
from app.errors import RequestError
from app.query import Query
from estimator.errors import FathomError, IncompleteHeaderError, ModelError
from estimator.sources.companions import is_mmproj
from estimator.sources.facts import facts_text
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader, Source, read_header
from estimator.sources.split import joined

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BODY: Final = 64 * 2**20
"""Bytes of a request: the largest header known is below 30 MiB."""

MAX_PIECE: Final = 1 << 20
"""Bytes of a body that the reader of forms holds at a time: files are put on disk beyond that."""

PART: Final = "file"
"""Name of each file in a multipart body."""

NEEDED: Final = "Fathom-Needed"
"""Header of a 206: bytes that are needed of each file."""

gguf = Blueprint("gguf", __name__)


def init_app(app: Flask) -> None:
    """Add the reader to an application."""
    app.register_blueprint(gguf)


@gguf.post("/api/v1/gguf")
def api_gguf() -> Response:
    """What model the first bytes of GGUF files describe; 206 tells how many bytes it needs of each."""
    request.max_content_length = MAX_BODY
    request.max_form_memory_size = MAX_PIECE
    is_form = request.mimetype == "multipart/form-data"
    try:
        headers = [_header(source) for source in (_parts() if is_form else [request.get_data(cache=False)])]
        if any(isinstance(header, IncompleteHeaderError) for header in headers):
            return _more(headers, is_form)
        whole = joined([header for header in headers if isinstance(header, GGUFHeader)])
        return jsonify(_projector_body(whole) if is_mmproj(whole) else _model_body(whole))
    except FathomError as error:
        raise RequestError(error.code, error.field, error.message, error.allowed) from None


def _parts() -> Sequence[Source]:
    """The files of a multipart body."""
    parts = request.files.getlist(PART)
    if not parts:
        message = f"the body has no part with the name {PART} and a file name"
        raise RequestError("no-file", PART, message, f"the first bytes of each file as a part with the name {PART}")
    return [part.stream for part in parts]


def _header(source: Source) -> GGUFHeader | IncompleteHeaderError:
    try:
        return read_header(source)
    except IncompleteHeaderError as error:
        return error


def _more(headers: Sequence[GGUFHeader | IncompleteHeaderError], is_form: bool) -> Response:
    """A 206 with the bytes that are needed from the start of each file; of a file by itself as a plain number."""
    needed = [header.n_bytes if isinstance(header, GGUFHeader) else header.need for header in headers]
    reply = jsonify({"needed": needed if is_form else needed[0]})
    reply.status_code = 206
    reply.headers[NEEDED] = ", ".join(map(str, needed))
    return reply


def _projector_body(header: GGUFHeader) -> dict[str, Any]:
    """What is counted beside a model: ``mmproj`` is its bytes, as the query takes them."""
    size = sum(tensor.n_bytes for tensor in header.tensors)
    return {"model": None, "facts": None, "mmproj": size, "links": None, "warnings": []}


def _model_body(header: GGUFHeader) -> dict[str, Any]:
    model = {"model": model_body(model_from_header(header))}
    try:
        facts = facts_text(header)
    except ModelError as error:
        warnings = [{"code": error.code, "text": error.message}]
        return {**model, "facts": None, "mmproj": None, "links": None, "warnings": warnings}
    suffix = f"?{Query(facts=facts).canonical()}"
    links = {
        "page": url_for("pages.index", _external=True) + suffix,
        "estimate": url_for("api.api_estimate", _external=True) + suffix,
    }
    return {**model, "facts": facts, "mmproj": None, "links": links, "warnings": []}
