"""Fathom's memory model: how many bytes a language model takes in llama.cpp, and how deep a context fits.

    import estimator as fathom

    model = fathom.read_gguf("model.gguf")
    settings = fathom.Settings(n_ctx=32768, cache_type_k="q8_0", cache_type_v="q8_0")
    estimate = fathom.estimate(model, settings, [fathom.device("rtx-4090")])
    estimate.devices[0].total, estimate.fits
    fathom.max_context(model, settings, [fathom.device("rtx-4090")])

The package is pure: no network, no clock, no state that changes.
"""

from estimator.companions import Adapter, Companions, Draft, Projector
from estimator.devices import Device, device, devices, with_gtt, with_wired_limit
from estimator.engines.base import Run
from estimator.engines.registry import engine
from estimator.errors import DeviceError, FathomError, IncompleteHeaderError, ModelError, SettingsError
from estimator.estimate import Estimate, estimate
from estimator.fit import Point, curve, max_context
from estimator.inverse import (
    best_pair,
    best_split,
    fewest_expert_layers,
    largest_quantization,
    most_layers,
    most_slots,
)
from estimator.layer import Layer
from estimator.lines import Line, Share
from estimator.model import Checkpoint, Model, Tensor
from estimator.plan import Change, changes
from estimator.settings import Settings
from estimator.sharing import Part, parts
from estimator.sources.companions import read_lora, read_mmproj
from estimator.sources.facts import read_facts
from estimator.sources.from_gguf import read_gguf
from estimator.sources.hf.read import read_hf
from estimator.sources.quantize import quantize
from estimator.speed import Bound, decoding_bound
from estimator.usage import Usage, used

__all__ = [
    "Adapter",
    "Bound",
    "Change",
    "Checkpoint",
    "Companions",
    "Device",
    "DeviceError",
    "Draft",
    "Estimate",
    "FathomError",
    "IncompleteHeaderError",
    "Layer",
    "Line",
    "Model",
    "ModelError",
    "Part",
    "Point",
    "Projector",
    "Run",
    "Settings",
    "SettingsError",
    "Share",
    "Tensor",
    "Usage",
    "best_pair",
    "best_split",
    "changes",
    "curve",
    "decoding_bound",
    "device",
    "devices",
    "engine",
    "estimate",
    "fewest_expert_layers",
    "largest_quantization",
    "max_context",
    "most_layers",
    "most_slots",
    "parts",
    "quantize",
    "read_facts",
    "read_gguf",
    "read_hf",
    "read_lora",
    "read_mmproj",
    "used",
    "with_gtt",
    "with_wired_limit",
]
