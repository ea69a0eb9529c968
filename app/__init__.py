"""Fathom's web application: a thin shell around the ``estimator`` package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from app import api, assets, compare, config, failures, gguf, hub, matrix, pages, security, support, survey

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parent.parent
STATIC: Final = ROOT / "static"


class _Json(DefaultJSONProvider):
    """JSON whose keys keep their order: a reader meets the model first, then what it takes."""

    sort_keys = False


def create_app(overrides: Mapping[str, object] | None = None) -> Flask:
    """The application.

    Args:
        overrides: configuration of this instance, above ``app.config`` and the environment.
    """
    app = Flask(
        __name__,
        template_folder=str(ROOT / "templates"),
        static_folder=str(STATIC),
        static_url_path=f"/static/{assets.digest(STATIC)}",
    )
    app.config.from_object(config)
    app.config.from_prefixed_env("FATHOM")
    app.config.update(overrides or {})
    app.json = _Json(app)
    for feature in (security, failures, hub, pages, api, matrix, compare, support, survey, gguf, assets):
        feature.init_app(app)
    return app
