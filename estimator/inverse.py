"""Inverse questions about one setting: the value that gives the most and still fits, all else as it is.

Each answer agrees with the forward estimate: the value fits, and no better one does. Weights and caches take no graph
to tell and rule most values out; graphs are laid out for the few that are left.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from estimator.companions import ALONE
from estimator.engines.llama_cpp import kept_on_cpu
from estimator.errors import ModelError, SettingsError
from estimator.estimate import at_least, estimate, placed
from estimator.ggml import CACHE_TYPES, cache_type, row_bytes
from estimator.kernels import kernel
from estimator.settings import MAX_N_CTX, MAX_N_PARALLEL
from estimator.sources.quantize import FILE_TYPES, quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.lines import Share
    from estimator.model import Model
    from estimator.settings import Settings


T = TypeVar("T")

MAX_BYTES: Final = 2**62
"""What is free where there is no limit."""


def _bits(name: str) -> int:
    """Bits of 256 elements."""
    return row_bytes(cache_type(name), 256) * 8


_TYPES: Final = tuple(name for name in CACHE_TYPES if name not in ("f32", "bf16"))
"""f32 helps nobody, and bf16 takes what f16 does."""

PAIRS: Final = tuple(
    sorted(
        ((k, v) for k in _TYPES for v in _TYPES if _bits(k) >= _bits(v)),
        key=lambda pair: (-_bits(pair[0]) - _bits(pair[1]), -_bits(pair[0])),
    )
)
"""Types of K and V, the most bits first. K, the more sensitive side, has at least as many as V (arXiv 2502.15075)."""


class Run(NamedTuple):
    """A model with the settings that it is run with, and what is loaded beside it."""

    model: Model
    settings: Settings
    companions: Companions = ALONE


def most_layers(
    model: Model, settings: Settings, devices: Sequence[Device], companions: Companions = ALONE
) -> int | None:
    """The largest ``n_gpu_layers`` that fits; None if not even 0 does. ``n_layer_all + 1`` is the whole model."""
    values = range(model.n_layer_all + 1, -1, -1)
    return _best(values, lambda value: Run(model, replace(settings, n_gpu_layers=value), companions), devices)


def fewest_expert_layers(
    model: Model, settings: Settings, devices: Sequence[Device], n_cpu_ffn: int = 0, companions: Companions = ALONE
) -> int | None:
    """The smallest ``--n-cpu-moe`` that fits, beside ``--n-cpu-ffn``; None if all experts on the CPU are not enough.

    A pattern of one's own in ``cpu_tensors`` is not kept.
    """

    def run(value: int) -> Run:
        return Run(model, replace(settings, cpu_tensors=kept_on_cpu(value, n_cpu_ffn)), companions)

    return _best(_from_where_it_could(range(model.n_layer_all + 1), run, devices), run, devices)


def most_slots(
    model: Model, settings: Settings, devices: Sequence[Device], n_ctx_slot: int, companions: Companions = ALONE
) -> int | None:
    """The most slots that fit, each with a cache of its own for ``n_ctx_slot`` tokens; None if not even one does."""

    def run(value: int) -> Run:
        run = replace(settings, n_parallel=value, n_ctx=value * n_ctx_slot, kv_unified=False)
        return Run(model, run, companions)

    values = range(min(MAX_N_PARALLEL, MAX_N_CTX // n_ctx_slot), 0, -1)
    return _best(_from_where_it_could(values, run, devices), run, devices)


def best_pair(
    model: Model, settings: Settings, devices: Sequence[Device], companions: Companions = ALONE
) -> tuple[str, str] | None:
    """The K and V type with the most bits that fit and that every device has a fast kernel for, K before V."""
    pairs = [pair for pair in PAIRS if not settings.flash_attn or is_fast(pair, devices)]

    def run(pair: tuple[str, str]) -> Run:
        return Run(model, replace(settings, cache_type_k=pair[0], cache_type_v=pair[1]), companions)

    return _best(pairs, run, devices)


def is_fast(pair: tuple[str, str], devices: Sequence[Device]) -> bool:
    """Whether every device has a fast kernel for flash attention over these types of K and V."""
    type_k, type_v = map(cache_type, pair)
    return all(kernel(device.backend, type_k, type_v).speed == "fast" for device in devices)


def largest_quantization(
    full: Model,
    settings: Settings,
    devices: Sequence[Device],
    file_types: Sequence[str] = FILE_TYPES,
    companions: Companions = ALONE,
) -> str | None:
    """Of some file types that with the most bytes that fits, for a model in full precision; None if none does."""
    models = [model for name in file_types if (model := quantized(full, name))]
    models.sort(key=lambda model: model.weights_bytes, reverse=True)
    found = _best(models, lambda model: Run(model, settings, companions), devices)
    return found.file_type if found else None


@lru_cache(maxsize=512)
def quantized(full: Model, file_type: str) -> Model | None:
    """The model at a file type; None where llama-quantize refuses it."""
    try:
        return quantize(full, file_type)
    except ModelError:
        return None


def best_split(
    model: Model, settings: Settings, devices: Sequence[Device], companions: Companions = ALONE
) -> tuple[float, ...]:
    """The ``tensor_split`` that leaves the most free on the fullest device: layers for each, the output one of them.

    Starts from the split by free memory, llama.cpp's own, and moves a layer at a time from the fullest device to
    another for as long as that helps, first without compute buffers and then with them. Equal shares where no layer is
    on a device.
    """
    split = placed(model, settings, devices).counts(len(devices))
    if not any(split):
        return (1,) * len(devices)

    def of_all(model: Model, settings: Settings, devices: Sequence[Device]) -> tuple[Share, ...]:
        return estimate(model, settings, devices, companions).devices

    for ask in (at_least, of_all):

        def spare(split: tuple[int, ...], ask: Callable[..., Sequence[Share]] = ask) -> list[int]:
            shares = ask(model, replace(settings, tensor_split=split), devices)
            return [MAX_BYTES if share.capacity is None else share.capacity - share.total for share in shares]

        split = _balanced(split, spare)
    return split


def _balanced(split: tuple[int, ...], spare: Callable[[tuple[int, ...]], list[int]]) -> tuple[int, ...]:
    """A split of which no layer can leave the fullest device with gain."""
    free = spare(split)
    while True:
        full = free.index(min(free))
        moves = [_moved(split, full, there) for there in range(len(split)) if there != full and split[full]]
        tried = {move: spare(move) for move in moves}
        best = max(moves, key=lambda move: min(tried[move]), default=split)
        if best == split or min(tried[best]) <= min(free):
            return split
        split, free = best, tried[best]


def _moved(split: tuple[int, ...], here: int, there: int) -> tuple[int, ...]:
    changes = {here: -1, there: 1}
    return tuple(count + changes.get(index, 0) for index, count in enumerate(split))


def _best(values: Sequence[T], run: Callable[[T], Run], devices: Sequence[Device]) -> T | None:
    """The first of some values, the best first, that fits."""
    for value in values:
        if could_fit(run(value), devices) and fits(run(value), devices):
            return value
    return None


def _from_where_it_could(values: range, run: Callable[[int], Run], devices: Sequence[Device]) -> range:
    """The values, the best first and each with less to hold than the one before, from the first that could fit on."""
    return values[bisect_left(values, True, key=lambda value: could_fit(run(value), devices)) :]


def could_fit(run: Run, devices: Sequence[Device]) -> bool:
    """Whether weights and caches leave any room; not where llama.cpp refuses the settings."""
    try:
        return all(share.fits for share in at_least(run.model, run.settings, devices))
    except SettingsError:
        return False


def fits(run: Run, devices: Sequence[Device]) -> bool:
    """Whether it fits; not where llama.cpp refuses the settings."""
    try:
        return estimate(run.model, run.settings, devices, run.companions).fits
    except SettingsError:
        return False
