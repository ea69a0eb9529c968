"""Models on the Hugging Face Hub: their headers, by ranges of bytes, through the client of ``huggingface_hub``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flask import current_app
from huggingface_hub import constants

from app.errors import RequestError
from app.hub import bounds
from app.hub.client import Client
from app.hub.listing import label_of
from app.hub.lookup import Found, Hub
from app.hub.names import MAX_NAME, Name, is_name, parse_name
from app.hub.ollama import Registry
from app.hub.source import Source
from app.hub.store import NoStore, SqliteStore, Store

if TYPE_CHECKING:
    from flask import Flask

__all__ = [
    "MAX_NAME",
    "Found",
    "Hub",
    "Name",
    "NamedFile",
    "Source",
    "find",
    "init_app",
    "is_name",
    "named_file",
    "ollama_registry",
    "parse_name",
]


def init_app(app: Flask) -> None:
    """Give an application its access to the Hub. ``HF_TOKEN`` is read here and nowhere shown."""
    bounds.install()
    config = app.config
    client = Client(config["HUB_ENDPOINT"] or constants.ENDPOINT, os.environ.get("HF_TOKEN", "").strip() or None)
    store = _store(config["HUB_CACHE"], config["HUB_CACHE_BYTES"])
    app.extensions["ollama"] = None
    if config["OLLAMA_REGISTRY"]:
        app.extensions["ollama"] = Registry(
            config["OLLAMA_REGISTRY"],
            store,
            fresh_seconds=config["HUB_FRESH_SECONDS"],
            lookup_seconds=config["HUB_LOOKUP_SECONDS"],
            at_once=config["HUB_LOOKUPS_AT_ONCE"],
        )
    app.extensions["hub"] = Hub(
        client,
        store,
        fresh_seconds=config["HUB_FRESH_SECONDS"],
        lookup_seconds=config["HUB_LOOKUP_SECONDS"],
        at_once=config["HUB_LOOKUPS_AT_ONCE"],
    )


def find(name: str, quantization: str) -> Found:
    """The model of a canonical name, for the application that answers a request.

    Raises:
        RequestError: there is no such model, it cannot be read, or the Hub does not answer.
    """
    hub: Hub = current_app.extensions["hub"]
    return hub.find(parse_name(name), quantization)


def ollama_registry() -> Registry | None:
    """The registry that names of Ollama's library are looked up in, if the server was given one."""
    registry: Registry | None = current_app.extensions["ollama"]
    return registry


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file on the Hub by its name alone; ``label`` is the quantization in it, or empty."""

    path: str
    label: str


def named_file(text: str) -> NamedFile | None:
    """The file that a model's name means, if it is one on the Hub and not a repository or folder."""
    try:
        name = parse_name(text) if is_name(text) else None
    except RequestError:
        return None
    return NamedFile(name.path, label_of(name.path)) if name and name.is_file else None


def _store(folder: str | None, max_bytes: int) -> Store:
    if max_bytes <= 0:
        return NoStore()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return SqliteStore(Path(folder or Path(base) / "fathom") / "hub.sqlite", max_bytes)
