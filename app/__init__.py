"""Fathom's web application: a thin shell around the ``estimator`` package."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flask import Flask

from app import api, config, failures, pages, security

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parent.parent
STATIC: Final = ROOT / "static"


def create_app(overrides: Mapping[str, object] | None = None) -> Flask:
    """The application.

    Args:
        overrides: configuration of this instance, above ``app.config`` and the environment.
    """
    app = Flask(
        __name__,
        template_folder=str(ROOT / "templates"),
        static_folder=str(STATIC),
        static_url_path=f"/static/{_digest(STATIC)}",
    )
    app.config.from_object(config)
    app.config.from_prefixed_env("FATHOM")
    app.config.update(overrides or {})
    app.json.sort_keys = False  # type: ignore[attr-defined]  # a field of the default provider
    for feature in (security, failures, pages, api):
        feature.init_app(app)
    return app


def _digest(folder: Path) -> str:
    """A hash of all files, so that a changed file has a new address and the old one may be kept for ever."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
