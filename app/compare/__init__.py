"""Every engine on the same model and devices: a page and its JSON."""

from app.compare.pages import init_app

__all__ = ["init_app"]
