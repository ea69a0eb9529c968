"""Which device holds which layer (src/llama-model.cpp:1556-1616, llama.cpp b11434)."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from estimator.errors import SettingsError
from estimator.settings import as_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.model import Model
    from estimator.settings import Settings


def layer_devices(model: Model, settings: Settings, free: Sequence[int]) -> tuple[int, ...]:
    """The index of the device of each layer of the trunk and, last, of the output layer.

    Args:
        free: bytes that each device has free before the model; layers are shared in this proportion unless
            ``tensor_split`` says otherwise.

    Raises:
        SettingsError: ``tensor_split`` has another length than there are devices, or part of the model stays on the
            host, which is not modelled yet.
    """
    _refuse_host(model, settings)
    shares = settings.tensor_split or free
    if len(shares) != len(free):
        raise SettingsError(
            "bad-tensor-split",
            f"tensor_split has {len(shares)} shares for {len(free)} devices; it must have one for each",
            field="tensor_split",
            allowed=f"{len(free)} shares",
        )
    if len(shares) == 1:
        return (0,) * (model.n_layer + 1)
    sums = list(accumulate(map(as_float32, shares), lambda total, share: as_float32(total + share)))
    points = [as_float32(point / sums[-1]) for point in sums]
    count = model.n_layer_all + 1
    places = (*range(model.n_layer), model.n_layer_all)
    return tuple(min(bisect_right(points, as_float32(il / count)), len(free) - 1) for il in places)


def _refuse_host(model: Model, settings: Settings) -> None:
    """Refuse what leaves layers, tensors or the cache in host memory."""
    partial = (
        ("n_gpu_layers", 0 <= settings.n_gpu_layers <= model.n_layer_all, f"-1 or more than {model.n_layer_all}"),
        ("offload_kqv", not settings.offload_kqv, "True"),
        ("cpu_tensors", settings.cpu_tensors is not None, "None"),
    )
    for field, refused, allowed in partial:
        if refused:
            raise SettingsError(
                "not-modelled",
                f"{field} is {getattr(settings, field)!r}, which leaves a part of the model on the host: its compute "
                f"buffer is not modelled yet; use {allowed}",
                field=field,
                allowed=allowed,
            )
