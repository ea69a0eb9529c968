"""What a model on the Hub is called: ``org/repo``, ``org/repo/file.gguf``, each with ``@revision``, or a link.

A name is checked against the Hub's own grammar before anything is asked, and it never says which host is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from huggingface_hub import constants, parse_hf_uri
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from app.errors import RequestError, shown

if TYPE_CHECKING:
    from typing import NoReturn

GGUF: Final = ".gguf"

MAX_NAME: Final = 500
"""Characters of a name or link: two names of up to 96 each, folders, a file, a revision, and what a link adds."""

ALLOWED: Final = (
    "org/repo, org/repo/file.gguf or org/repo/folder, each with @revision if wanted, "
    f"or a link to a model on {constants.ENDPOINT}"
)

_NAME: Final = re.compile(r"([^/@]+/[^/@]+)(?:/(.+?\.gguf|[^@]+))?(?:@([^@]+))?", re.IGNORECASE | re.DOTALL)

_REVISION: Final = re.compile(r"(?!.*(?:\.\.|//|/\.))[\w][\w./+-]{0,99}(?<![./])", re.ASCII)
"""What git allows in the name of a branch or tag, without the signs that no shell likes; commits too."""

_LINK: Final = re.compile(r"[a-z]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Name:
    """A model on the Hub. ``path`` is a GGUF file or a folder with some, empty for the whole repository."""

    repo: str
    path: str = ""
    revision: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether one file is named, not a repository or folder."""
        return self.path.lower().endswith(GGUF)

    @property
    def text(self) -> str:
        """The one way to write this name."""
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}/{self.path}{at}" if self.path else f"{self.repo}{at}"


def is_name(text: str) -> bool:
    """Whether a model's name means one on the Hub: ids of bundled models have no slash."""
    return "/" in text


def parse_name(text: str) -> Name:
    """The model that a name or a link from the browser means.

    Raises:
        RequestError: it is neither, or a link to another host or to something that is no model.
    """
    name = _from_link(text) if _is_link(text) else _from_name(text)
    try:
        validate_repo_id(name.repo)
    except HFValidationError:
        _refuse(text, f"{shown(name.repo)} cannot be the name of a repository")
    if name.revision and not _REVISION.fullmatch(name.revision):
        _refuse(text, f"{shown(name.revision)} cannot be a revision")
    if any(part in ("", ".", "..") for part in name.path.split("/") if name.path) or not name.path.isprintable():
        _refuse(text, f"{shown(name.path)} cannot be a file of a repository")
    if "\\" in name.path:
        _refuse(text, f"{shown(name.path)} cannot be a file of a repository")
    return name


def _is_link(text: str) -> bool:
    host = text.partition("/")[0].lower()
    return _LINK.match(text) is not None or host in {*constants.HF_URL_HOSTS, "www.huggingface.co"}


def _from_link(text: str) -> Name:
    """``main`` is what a link without a revision leads to, so it is none that was asked for."""
    link = re.sub(r"^(https?://)?www\.", r"\1", text, flags=re.IGNORECASE)
    try:
        uri = parse_hf_uri(link)
    except ValueError:
        _refuse(text, f"the link leads to no model, folder or GGUF file on {constants.ENDPOINT}")
    if uri.type != "model":
        _refuse(text, f"the link leads to a {uri.type}, not to a model")
    path = uri.path_in_repo.strip("/")
    revision = None if uri.revision == constants.DEFAULT_REVISION else uri.revision
    if not path.lower().endswith(GGUF) and "/tree/" not in text:
        path = ""  # a page about another file of the repository
    return Name(uri.id, path, revision)


def _from_name(text: str) -> Name:
    match = _NAME.fullmatch(text.rstrip("/"))
    if not match:
        _refuse(text, "it is no name of a model on the Hub")
    return Name(match[1], match[2] or "", match[3])


def _refuse(text: str, reason: str) -> NoReturn:
    message = f"model is {shown(text, 100)}, which cannot be: {reason}; it must be {ALLOWED}"
    raise RequestError("bad-name", "model", message, ALLOWED)
