"""The models that a repository of the Hub holds: GGUF files, split ones as one, and which of them is meant."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from http import HTTPStatus
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from gguf.constants import GGMLQuantizationType

from app.errors import RequestError
from app.hub.bounds import BrokenReplyError
from app.hub.names import GGUF, Name
from estimator.errors import ModelError
from estimator.ggml import row_bytes
from estimator.sources.catalogue import catalogue_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from huggingface_hub import ModelInfo

MAX_FILES: Final = 10_000
"""Files of one repository that are looked at."""

MAX_PARTS: Final = 200
"""Files of one split model; the largest released ones have fewer than 50."""

MAX_NAMED: Final = 20
"""Files that a refusal names as what would work."""

REFERENCE: Final = "llama-3.1-8b-instruct"
"""The model whose quantizations say how many bits a weight takes in each."""

BLOCK: Final = 32
"""Elements that share a scale in MXFP4."""

_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?:gguf|safetensors)", re.IGNORECASE)

_ASIDE: Final = re.compile(r"(^|[-_.])(mmproj|imatrix)([-_.]|$)", re.IGNORECASE)
"""What belongs to a model without being one: a projector of images, a matrix of importances."""

_LABEL: Final = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]{1,3})*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32|FP32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
"""A quantization in a file's name; ``UD-`` marks those of Unsloth with other types in some layers."""


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file with its size in bytes and the hash of its content."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in one file or several. ``label`` is its quantization as the file's name has it, empty if it has none."""

    path: str
    label: str
    size: int
    files: tuple[RepoFile, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at a commit.

    ``aside`` are GGUF files that are no language model; ``parameters`` is the number of weights that the Hub shows, 0
    if it shows none; ``safetensors`` are the files of one model, in order; ``has_config`` whether there is a
    ``config.json``.
    """

    repo: str
    commit: str
    entries: tuple[Entry, ...]
    aside: tuple[RepoFile, ...]
    safetensors: tuple[RepoFile, ...]
    has_config: bool
    parameters: int

    def as_json(self) -> dict[str, Any]:
        """All of it, for a cache."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Listing:
        """What ``as_json`` made."""
        given = dict(data)
        given["entries"] = tuple(
            Entry(**{**entry, "files": tuple(RepoFile(**file) for file in entry["files"])}) for entry in data["entries"]
        )
        for name in ("aside", "safetensors"):
            given[name] = tuple(RepoFile(**file) for file in data[name])
        return cls(**given)


def listing_of(info: ModelInfo, repo: str) -> Listing:
    """What the Hub says of a repository, as far as models are concerned.

    Raises:
        BrokenReplyError: the reply has no commit, or more files than are looked at.
    """
    siblings = info.siblings or []
    if not isinstance(info.sha, str) or not re.fullmatch(r"[0-9A-Za-z]{1,64}", info.sha):
        raise BrokenReplyError("the repository has no commit")
    if len(siblings) > MAX_FILES:
        raise BrokenReplyError(f"the repository has more than {MAX_FILES:,} files")
    files = sorted(
        (
            RepoFile(one.rfilename, int(one.size or 0), (one.lfs.sha256 if one.lfs else one.blob_id) or "")
            for one in siblings
        ),
        key=lambda file: file.path,
    )
    models = [file for file in files if file.path.lower().endswith(GGUF)]
    aside = [file for file in models if _ASIDE.search(file.path.rpartition("/")[2].removesuffix(GGUF))]
    weights = info.gguf.get("total") if isinstance(info.gguf, dict) else 0
    return Listing(
        repo=repo,
        commit=info.sha,
        entries=tuple(sorted(_entries(file for file in models if file not in aside), key=lambda entry: entry.size)),
        aside=tuple(aside),
        safetensors=_safetensors(files),
        has_config=any(file.path == "config.json" for file in files),
        parameters=weights if isinstance(weights, int) else 0,
    )


def choose(listing: Listing, name: Name, quantization: str) -> Entry:
    """The model that is meant: the file that is named, else that of a quantization, else the nearest in size.

    Raises:
        RequestError: there is no such file, or a split one lacks parts.
    """
    entry = _named(listing, name) if name.is_file else _nearest(listing, name, quantization)
    count, others = _count(entry.path), _names(listing, name)
    if count > MAX_PARTS:
        message = f"model is {name.text!r}, whose {entry.path!r} has {count:,} parts; at most {MAX_PARTS} are read"
        raise RequestError("too-many-parts", "model", message, others)
    if len(entry.files) != count:
        message = f"model is {name.text!r}, but {entry.path!r} has {len(entry.files)} of its {count} parts"
        raise RequestError("missing-part", "model", message, others, HTTPStatus.NOT_FOUND)
    return entry


def is_of(entry: Entry, quantization: str) -> bool:
    """Whether a file is of a quantization, by its name."""
    return not entry.label.startswith("UD-") and _plain(entry.label) == quantization


def _named(listing: Listing, name: Name) -> Entry:
    for entry in listing.entries:
        if any(file.path == name.path for file in entry.files):
            return entry
    for file in listing.aside:
        if file.path == name.path:
            return Entry(file.path, label_of(file.path), file.size, (file,))
    raise _no_such_file(listing, name)


def _nearest(listing: Listing, name: Name, quantization: str) -> Entry:
    entries = [entry for entry in listing.entries if entry.path.startswith(f"{name.path}/" if name.path else "")]
    if not entries:
        raise _no_such_file(listing, name)
    exact = [entry for entry in entries if is_of(entry, quantization)]
    if exact:
        return exact[0]
    wanted, weights = bits(quantization), listing.parameters or _weights(entries)
    if not weights or not wanted:
        return entries[len(entries) // 2]

    def distance(entry: Entry) -> float:
        """Between the sizes of a weight, as a factor."""
        size = bits(entry.label) or max(entry.size, 1) * 8 / weights
        return abs(math.log(size / wanted))

    return min(entries, key=distance)


def _weights(entries: Iterable[Entry]) -> float:
    """How many weights the model has, from the sizes of files whose quantization is known; 0 if there are none."""
    known = [entry.size * 8 / found for entry in entries if (found := bits(entry.label))]
    return median(known) if known else 0


@lru_cache(maxsize=128)
def bits(label: str) -> float | None:
    """Bits that a weight takes in a quantization, None where it is not known."""
    name = _plain(label)
    if name == "MXFP4_MOE":  # nearly all of such a model are experts, which the reference has none of
        return 8 * row_bytes(GGMLQuantizationType.MXFP4, BLOCK) / BLOCK
    try:
        model = catalogue_model(REFERENCE, name)
    except ModelError:
        return None
    return model.weights_bytes * 8 / model.parameters


def _plain(label: str) -> str:
    """The name that llama-quantize has for a label."""
    name = label.upper().removeprefix("UD-")
    return {"FP16": "F16", "FP32": "F32", "MXFP4": "MXFP4_MOE"}.get(name, name)


def label_of(path: str) -> str:
    """The quantization in a file's name, else in that of its folder; as people write it."""
    for part in reversed(path.split("/")):
        found = _LABEL.findall(part)
        if found:
            return str(found[-1]).upper()
    return ""


def _entries(files: Iterable[RepoFile]) -> Iterator[Entry]:
    for parts in _sets(files):
        path = parts[0].path
        yield Entry(path, label_of(path), sum(file.size for file in parts), tuple(parts))


def _sets(files: Iterable[RepoFile]) -> list[list[RepoFile]]:
    """Files in order, those of one split set together."""
    sets: dict[tuple[str, str], list[RepoFile]] = {}
    for file in files:
        match = _PART.fullmatch(file.path)
        sets.setdefault((match["stem"], match["count"]) if match else (file.path, ""), []).append(file)
    return list(sets.values())


def _count(path: str) -> int:
    """How many files the name of the first says that there are."""
    match = _PART.fullmatch(path)
    return int(match["count"]) if match else 1


def _safetensors(files: Iterable[RepoFile]) -> tuple[RepoFile, ...]:
    """The files of the repository's own model: those at its root that transformers would load, whole or in parts."""
    found = [file for file in files if re.fullmatch(r"model[^/]*\.safetensors", file.path)]
    for parts in _sets(found):
        if parts[0].path == "model.safetensors" or len(parts) == _count(parts[0].path) <= MAX_PARTS:
            return tuple(parts)
    return ()


def _no_such_file(listing: Listing, name: Name) -> RequestError:
    files = _names(listing, name)
    message = f"model is {name.text!r}, but {name.repo} has no GGUF file of this name"
    return RequestError("no-such-file", "model", message, files or f"{name.repo}, without a file", HTTPStatus.NOT_FOUND)


def _names(listing: Listing, name: Name) -> tuple[str, ...]:
    """Names of some of the models, as a query would have them."""
    return tuple(Name(listing.repo, entry.path, name.revision).text for entry in listing.entries[:MAX_NAMED])
