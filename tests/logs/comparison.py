"""What logs show beside what the estimator says: as b11434 allocates, and with the rules of the log's own build."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.estimate import estimate
from estimator.memory.cache import cache_parts
from tests.logs.builds import cached_model, context_of, estimate_as_built, rules
from tests.logs.log import grid, posted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.logs.log import Log

MIB: Final = 2**20

ROUNDED: Final = 0.00501
"""Half of the last digit that llama.cpp prints, in MiB."""

NEAR: Final = 0.01
"""The last digit itself, for buffers of many tensors: each may be padded to another alignment than today."""

PAGES: Final = 2 * 0.015625
"""Metal maps whole pages of 16 KiB of a file, at both ends of what it reads (llama-model.cpp:1836-1866)."""

KINDS: Final = ("weights", "kv_cache", "recurrent_state", "compute")

PRINTED: Final = {"weights": "model", "kv_cache": "kv", "recurrent_state": "rs", "compute": "compute"}


class Figure(NamedTuple):
    """One printed size in MiB, what b11434 would take, and that with the rules of the log's build, in bytes.

    ``tolerance`` is what the printed number, or a sum of several, leaves open, in MiB.
    """

    where: str
    kind: str
    printed: float
    now: int
    built: int
    tolerance: float = ROUNDED

    @property
    def is_equal(self) -> bool:
        return abs(self.built / MIB - self.printed) <= self.tolerance

    @property
    def is_equal_now(self) -> bool:
        return abs(self.now / MIB - self.printed) <= self.tolerance

    @property
    def error(self) -> float:
        """With the build's rules, as a fraction of what the log says."""
        return abs(self.built / MIB - self.printed) / self.printed if self.printed else float(not self.is_equal)


class Compared(NamedTuple):
    """A log, the rules that its build had, and its figures."""

    log: Log
    rules: frozenset[str]
    figures: tuple[Figure, ...]


@cache
def compared_posts() -> tuple[Compared, ...]:
    return tuple(map(compare, posted()))


@cache
def compared_grid() -> tuple[Compared, ...]:
    return tuple(map(compare, grid()))


def compare(log: Log, active: frozenset[str] | None = None) -> Compared:
    """All that a log tells and the estimator too; with other rules of older builds if they are given."""
    active = rules(log) if active is None else active
    figures = [_cache_figure(log, active)]
    if log.model and log.tells_split:
        figures += _figures(log, active)
    return Compared(log, active, tuple(figures))


def _cache_figure(log: Log, active: frozenset[str]) -> Figure:
    """The cache as a whole, of which all logs tell."""
    no_rules: frozenset[str] = frozenset()
    now, built = (_cache_size(log, found) for found in (no_rules, active))
    return Figure("all", "kv_cache", log.printed_cache, now, built, 2 * ROUNDED)


def _cache_size(log: Log, active: frozenset[str]) -> int:
    model = cached_model(log, active)
    context = context_of(log, model, log.settings, active)
    size = sum(part.bytes for part in cache_parts(model, context, model.layer_kinds))
    if "state-in-cache" in active:
        size += context.n_seq_max * sum(layer.n_embd_r + layer.n_embd_s for layer in model.layers) * 4
    return size


def _figures(log: Log, active: frozenset[str]) -> Iterator[Figure]:
    assert log.model
    now = estimate(log.model, log.settings, log.devices)
    built = estimate_as_built(log, active)
    names = (*log.device_names, "host")
    for name, share, old in zip(names, (*now.devices, now.host), (*built.devices, built.host), strict=True):
        for kind in KINDS:
            printed = log.printed(PRINTED[kind], name)
            if printed is None or not _tells(log, kind, name, active):
                continue
            yield Figure(name, kind, printed, getattr(share, kind), getattr(old, kind), _tolerance(log, kind, name))


def _tells(log: Log, kind: str, name: str, active: frozenset[str]) -> bool:
    """Weights only of files that are known; on the host they are printed as ranges of the file (mmap)."""
    if kind == "weights":
        return log.shows_its_file and name != "host"
    if kind == "compute" and name == "host":
        return log.backend != "Vulkan"
    return kind == "compute" or "state-in-cache" not in active


def _tolerance(log: Log, kind: str, name: str) -> float:
    if kind == "weights":
        return NEAR + (PAGES if log.backend == "Metal" else 0)
    return NEAR if kind == "compute" else ROUNDED


_VULKAN: Final = (
    "Vulkan moves nodes of the graph before it is laid out (`ggml_vk_graph_optimize`), which is not modelled: the "
    "mask is still in the way of the logits"
)
_METAL: Final = (
    "Metal moves nodes of the graph before it is laid out (ggml-metal-common.cpp:537), which is not modelled"
)
_SCHEDULER: Final = "not known: part of the model on the host in mid-2024, when the graph had {0} splits"
_STRIX: Final = "hogeheer499-commits/strix-halo-guide:data/raw/2026-05-03/"

OPEN: Final = {
    ("ggml-org/llama.cpp#6189", "compute"): "not known: Mamba's graph of March 2024",
    ("ggml-org/llama.cpp#8760", "weights"): "not known: 13 kB, as if each layer had its 256 bytes of RoPE factors",
    ("ggml-org/llama.cpp#8760", "compute"): _SCHEDULER.format(498),
    ("ggml-org/llama.cpp#8976", "compute"): _SCHEDULER.format(2),
    (f"{_STRIX}filled-kv-decode/qwen36-35b-a3b-32k-f16-f16.log", "compute"): _VULKAN,
    (f"{_STRIX}filled-kv-decode/qwen36-35b-a3b-32k-q8_0-q8_0.log", "compute"): _VULKAN,
    (f"{_STRIX}filled-kv-decode/qwen36-35b-a3b-64k-q8_0-q8_0.log", "compute"): _VULKAN,
    (f"{_STRIX}multi-user/llama-server-np16.log", "compute"): _VULKAN,
    ("a public repository's log file (llama-server b8999-b97ebdc98, 2026-05-04)", "compute"): _METAL,
}
"""What is left with the rules of the builds, by log and kind of size: a test holds that nothing else is."""
