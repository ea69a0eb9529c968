"""A repository without GGUF files: its ``config.json`` and the headers of its safetensors say what the model is."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from huggingface_hub.errors import HfHubHTTPError

from app.errors import RequestError
from app.hub.bounds import BrokenReplyError
from app.hub.headers import side_by_side
from app.hub.packing import unpack_json
from estimator import read_hf

if TYPE_CHECKING:
    from app.hub.client import Client
    from app.hub.listing import Listing
    from app.hub.names import Name
    from estimator import Model

MAX_CONFIG: Final = 4 << 20
"""Bytes of a ``config.json``; released ones have up to 300 KB, nearly all of it names of classes."""

MAX_TENSORS: Final = 1 << 17
"""Of all files together."""


def check(name: Name, listing: Listing) -> None:
    """Refuse a repository that holds no model that can be read.

    Raises:
        RequestError: it has no configuration.
    """
    if not listing.has_config:
        message = f"model is {name.text!r}, but {name.repo} has no GGUF file and no config.json; name one that has"
        raise RequestError("no-gguf", "model", message, "a repository with GGUF files, often named ...-GGUF")


def fetch(client: Client, listing: Listing) -> dict[str, Any]:
    """The repository's name, its configuration, and element type and shape of each tensor; None where unreadable.

    Raises:
        Exception: one of ``app.hub.refusals.FAILURES``.
    """
    config = client.json_object(listing.repo, listing.commit, "config.json", MAX_CONFIG)
    return {"name": listing.repo.rpartition("/")[2], "config": config, "safetensors": _tensors(client, listing)}


def _tensors(client: Client, listing: Listing) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """None where there are none, or none that make sense; what the Hub cannot do right now is raised, not kept."""
    paths = [file.path for file in listing.safetensors]
    try:
        found = side_by_side(lambda path: client.safetensors_header(listing.repo, listing.commit, path), paths)
    except BrokenReplyError:
        return None
    except HfHubHTTPError as error:
        if error.response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # an empty file
            raise
        return None
    tensors = {name: tensor for header in found for name, tensor in header.items()}
    return tensors if 0 < len(tensors) <= MAX_TENSORS else None


@lru_cache(maxsize=64)
def full_model(stored: bytes) -> Model:
    """The model of what ``fetch`` found, as the GGUF in full precision that it converts to.

    Raises:
        ModelError: what it is cannot be told from that.
    """
    data = unpack_json(stored)
    given = data["safetensors"]
    tensors = given and {name: (dtype, tuple(shape)) for name, (dtype, shape) in given.items()}
    return replace(read_hf(data["config"], tensors), name=data["name"])
