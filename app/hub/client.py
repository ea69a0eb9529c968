"""What is asked of the Hub, through the client of ``huggingface_hub``: a list of files, ranges of them, headers."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from app.hub.bounds import READ_SECONDS, BrokenReplyError, sense

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import ModelInfo

LIBRARY: Final = "fathom"

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


class Client:
    """The Hub at one address. Nothing else is ever asked, but for where the Hub itself redirects to.

    Methods raise what ``app.hub.refusals.FAILURES`` lists.

    Args:
        endpoint: of the Hub, ``https://huggingface.co`` or a mirror.
        token: of this server, or None; the token that somebody left in a home folder is not used.
    """

    def __init__(self, endpoint: str, token: str | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token: str | bool = token or False
        self._api = HfApi(self.endpoint, token=self._token, library_name=LIBRARY)

    def model_info(self, repo: str, revision: str | None) -> ModelInfo:
        """A repository at a revision: its commit, and its files with their sizes and hashes."""
        with sense("the list of files"):
            return self._api.model_info(repo, revision=revision, files_metadata=True, timeout=READ_SECONDS)

    def safetensors_header(self, repo: str, commit: str, path: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape of each tensor of a file of safetensors."""
        with sense("a header of safetensors"):
            found = self._api.parse_safetensors_file_metadata(repo, path, revision=commit, timeout=READ_SECONDS)
            return {name: (str(tensor.dtype), tuple(map(int, tensor.shape))) for name, tensor in found.tensors.items()}

    def json_object(self, repo: str, commit: str, path: str, most: int) -> dict[str, Any]:
        """A JSON file of up to ``most`` bytes."""
        text = self.file(repo, commit, path).read(0, most + 1)
        with sense(path):
            if len(text) > most:
                raise BrokenReplyError(f"{path} is longer than {most:,} bytes")
            return {**json.loads(text)}

    def file(self, repo: str, commit: str, path: str) -> File:
        """A file at a commit; nothing is asked yet."""
        url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        return File(url, build_hf_headers(token=self._token, library_name=LIBRARY))


class File:
    """A file of the Hub, read by ranges.

    Each range is asked of the Hub, which redirects to storage: such a link may be signed for the one range.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = headers

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to, not including, ``end``; fewer if the file ends before.

        A server that sends the whole file instead is cut off.
        """
        parts, n_bytes = [], 0
        with self.stream(start, end) as chunks:
            for chunk in chunks:
                parts.append(chunk[: end - start - n_bytes])
                n_bytes += len(parts[-1])
                if n_bytes == end - start:
                    break
        return b"".join(parts)

    @contextmanager
    def stream(self, start: int, end: int) -> Iterator[Iterator[bytes]]:
        """The same bytes as they come. What is not taken when the context ends is not fetched."""
        headers = {**self._headers, "Range": f"bytes={start}-{end - 1}"}
        with get_session().stream("GET", self._url, headers=headers, timeout=READ_SECONDS) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            _check_range(response, start)
            yield response.iter_raw()


def _check_range(response: httpx2.Response, start: int) -> None:
    """The reply begins where it should: a part from there on, or the whole file for its first part."""
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != start:
            raise BrokenReplyError("it is another part of the file than was asked for")
    elif start or response.status_code != httpx2.codes.OK:
        raise BrokenReplyError("it is no part of the file")
