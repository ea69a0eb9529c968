"""Where a model of the Hub was read, and what else is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from huggingface_hub import constants

from app.hub.listing import is_of
from app.hub.names import Name
from estimator.cautions import Caution

if TYPE_CHECKING:
    from app.hub.listing import Entry, Listing

MAX_LISTED: Final = 100
"""Other files of a repository that an answer lists."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model was read.

    Attributes:
        name: as it was asked for.
        quantization: that was asked for; it decides where no file is named.
        entry: the GGUF file or files that were read, None where the model follows from its configuration.
        listing: the repository at its commit.
        stale: seconds since the Hub was asked, if it could not be asked again.
    """

    name: Name
    quantization: str
    entry: Entry | None
    listing: Listing
    stale: float | None

    @property
    def choices(self) -> tuple[Entry, ...]:
        """The models of the repository, small ones first."""
        return self.listing.entries[:MAX_LISTED]

    def name_of(self, entry: Entry) -> str:
        """What a query calls one of the choices."""
        return Name(self.name.repo, entry.path, self.name.revision).text

    @property
    def url(self) -> str:
        """The page about it."""
        path = f"/blob/{self.listing.commit}/{self.entry.path}" if self.entry else ""
        return f"{constants.ENDPOINT}/{self.listing.repo}{quote(path)}"

    @property
    def warnings(self) -> tuple[Caution, ...]:
        """What a user should know about where the model was read."""
        found = []
        if self.stale is not None:
            text = f"The Hub does not answer: the files of {self.name.repo} are those of {_ago(self.stale)} ago."
            found.append(Caution("hub-stale", text))
        if self.entry and self._is_known_other(self.entry):
            text = f"{self.name.repo} has no {self.quantization}: this is {self.entry.path}, the nearest in size."
            found.append(Caution("other-quantization", text))
        return tuple(found)

    def _is_known_other(self, entry: Entry) -> bool:
        """Whether the file was chosen although it is not of the quantization that was asked for, by its name."""
        if self.name.is_file or is_of(entry, self.quantization):
            return False
        return bool(entry.label) or len(self.listing.entries) > 1

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        return {
            "repo": self.listing.repo,
            "revision": self.name.revision,
            "commit": self.listing.commit,
            "file": self.entry.path if self.entry else None,
            "parts": [file.path for file in self.entry.files] if self.entry else [],
            "file_bytes": self.entry.size if self.entry else None,
            "stale_seconds": None if self.stale is None else int(self.stale),
            "files": [self._choice(entry) for entry in self.choices],
            "aside": [{"file": file.path, "bytes": file.size} for file in self.listing.aside[:MAX_LISTED]],
        }

    def _choice(self, entry: Entry) -> dict[str, Any]:
        return {
            "model": self.name_of(entry),
            "quantization": entry.label or None,
            "bytes": entry.size,
            "parts": len(entry.files),
        }


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a moment"
