"""What may be asked: every parameter of the pages and the API with its description and schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.hub import MAX_NAME
from app.parsing import MAX_TEXT
from app.query import own_options
from app.survey.query import KINDS as KINDS_OF_MODELS
from app.survey.query import NAMES, QUANTIZATIONS, SORTS
from estimator.engines.registry import ENGINES
from estimator.estimate import MAX_DEVICES
from estimator.ggml import CACHE_TYPES
from estimator.sources.facts import MAX_TEXT as MAX_FACTS
from estimator.sources.quantize import FILE_TYPES
from estimator.usage import SYSTEMS

if TYPE_CHECKING:
    from app.schemas import Schema
    from estimator.engines.options import Option

TEXT: Final[Schema] = {"type": "string", "maxLength": MAX_TEXT}


def options_of_engines() -> dict[Option, list[str]]:
    """All options of engines, and who has each; those of one name count once."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for engine in ENGINES:
        for option in own_options(engine):
            found.setdefault(option.name, (option, []))[1].append(engine.name)
    return dict(found.values())


PARAMETERS: Final[dict[str, tuple[str, Schema]]] = {
    "model": (
        "A bundled model (see /api/v1/models), or one on the Hugging Face Hub: org/repo, org/repo/file.gguf or a link; "
        "@revision behind it is a branch, a tag or a commit.",
        {"type": "string", "maxLength": MAX_NAME},
    ),
    "quant": (
        "Quantization of the weights; of a repository with GGUF files, which of them, or the nearest in size.",
        {"type": "string", "enum": list(FILE_TYPES)},
    ),
    "facts": (
        "All of a model that is not bundled, in place of model and quant: what /api/v1/gguf answers.",
        {"type": "string", "maxLength": MAX_FACTS},
    ),
    "ctx": ("Context in tokens (32768 or 32k), or auto: what the model was trained for.", TEXT),
    "kv": (f"Cache type for both sides, or TYPE_K:TYPE_V, of {', '.join(CACHE_TYPES)}.", TEXT),
    "fa": ("Flash attention.", {"type": "string", "enum": ["on", "off"]}),
    "ub": ("Tokens of a physical batch (n_ubatch).", TEXT),
    "np": ("Slots (n_parallel), or auto: the program's own number.", TEXT),
    "ngl": ("Layers on devices (n_gpu_layers), or all.", TEXT),
    "ncmoe": ("The first layers whose experts stay in system memory (--n-cpu-moe), or all (--cpu-moe).", TEXT),
    "ncffn": ("The first layers whose dense feed-forward stays in system memory (--n-cpu-ffn).", TEXT),
    "kvo": ("The cache on devices (--kv-offload) or in system memory.", {"type": "string", "enum": ["on", "off"]}),
    "device": (
        "A device by id or name (rtx-4090, RTX 4090 24 GB), several (2 x RTX 3090), or any of a size (cuda-24gb, "
        "rocm-16gb, metal-64gb); repeat it for others that share the layers. See /api/v1/devices.",
        {"type": "array", "items": TEXT, "maxItems": MAX_DEVICES},
    ),
    "ts": ("Share of the layers for each device (--tensor-split), such as 3,1; without it by free memory.", TEXT),
    "os": (
        "What the machine runs: Windows and WSL keep a part of the memory; macos-15 is that or an older version.",
        {"type": "string", "enum": list(SYSTEMS)},
    ),
    "desktop": ("Whether the first device draws a desktop.", {"type": "string", "enum": ["on", "off"]}),
    "ecc": ("Error correction on workstation cards that ship without.", {"type": "string", "enum": ["on", "off"]}),
    "taken": ("MiB that other programs have taken of each device, such as 800,300.", TEXT),
    "wired": ("Metal: iogpu.wired_limit_mb in MiB; 0 is macOS's default.", TEXT),
    "gtt": ("APUs of AMD: MiB of memory that the GPU may use; 0 is the default, half of it.", TEXT),
    "ram": ("How fast the system's memory is read, in GB/s, or auto: 89.6, two channels of DDR5-5600.", TEXT),
    "engine": (
        "What runs the model; see /api/v1/engines. Options that only it has are parameters, too, by its own names.",
        {"type": "string", "enum": [known.id for known in ENGINES]},
    ),
    "weights": ("Format of the weights for engines of checkpoints; without it the nearest to quant.", TEXT),
    "draft": ("A bundled model that proposes tokens, ID or ID:QUANT (Q4_K_M without); the context is as long.", TEXT),
    "mmproj": ("Size of the projector's file: bytes, or with M or G for MiB or GiB.", TEXT),
}
"""Parameters of the page and of /api/v1/estimate: description and schema."""


OPTIONS: Final[dict[str, tuple[str, Schema]]] = {
    option.name: (f"{option.label} ({', '.join(names)}): {option.summary}".rstrip(": ") + ".", TEXT)
    for option, names in options_of_engines().items()
}
"""Options that only some engines have, by the engines' own names of them."""

SURVEY_PARAMETERS: Final[dict[str, tuple[str, Schema]]] = {
    **{name: found for name, found in PARAMETERS.items() if name in NAMES},
    "ctx": ("Context in tokens that has to fit (32768 without), or auto: what each model was trained for.", TEXT),
    "find": ("Words of a model's name, family or repository.", TEXT),
    "kind": ("Which models: dense, mixture of experts, embeddings.", {"type": "string", "enum": list(KINDS_OF_MODELS)}),
    "least": ("At least so many parameters, such as 8b or 500m.", TEXT),
    "most": ("At most so many parameters.", TEXT),
    "bits": (
        "Fewest bits of a weight that are acceptable.",
        {"type": "string", "enum": [str(bits) for bits in QUANTIZATIONS]},
    ),
    "sort": ("Order of the models that run.", {"type": "string", "enum": list(SORTS)}),
}
"""The same of /what-runs and /api/v1/survey."""
