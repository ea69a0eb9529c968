"""A device as the graph sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from estimator.memory.scratch import scratch

if TYPE_CHECKING:
    from estimator.backends import Backend
    from estimator.memory.scratch import Scratch


class Target(NamedTuple):
    """Its backend's scratch, the alignment of its buffer in bytes, and what it fetches
    and reduces (see ``Backend``).

    ``is_real``: a run on it keeps the devices that graphs ask for by name. llama.cpp's own breakdown, which is what
    other devices are measured by, forgets them (ggml-backend.cpp:2117, ``ggml_backend_sched_reserve_size``).
    """

    scratch: Scratch
    alignment: int
    fetches: Literal["nothing", "products", "everything"] = "nothing"
    reduces: int = 0
    is_real: bool = False


def target(backend: Backend) -> Target:
    """A device of this backend."""
    is_real = backend.name != "generic"
    return Target(scratch(backend.name), backend.alignment, backend.fetches, backend.reduces, is_real)
