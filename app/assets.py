"""Static files: compressed on the way out, and kept by browsers for ever under an address that changes with them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from flask_compress import Compress

if TYPE_CHECKING:
    from pathlib import Path


def init_app(app: Flask) -> None:
    """Compress responses, static files among them."""
    Compress(app)
    app.after_request(_in_one_piece)  # registered last, so it comes before the compression


def digest(folder: Path) -> str:
    """A hash of all files of a folder."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def _in_one_piece(response: Response) -> Response:
    """Read a static file whole: Flask-Compress does not close the files of streamed responses."""
    if request.endpoint == "static" and response.direct_passthrough:
        response.direct_passthrough = False
        response.set_data(response.get_data())
    return response
