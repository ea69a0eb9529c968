"""What is known of one architecture of Hugging Face: its name in GGUF, its keys, its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from estimator.sources.hf.parts import embedding, model_norm, output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from estimator.sources.hf.build import Build, Part
    from estimator.sources.hf.config import Config
    from estimator.sources.hf.keys import KeyRule

AROUND = (embedding, model_norm("output_norm"), output())
"""What stands around the layers of most models."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How llama.cpp's converter reads the configs of an architecture.

    ``architecture`` is the name in GGUF, or a function of the config. ``layer``: the parts of each layer; ``around``:
    what stands around them. ``keys`` add to the common keys, in order. ``tied``: whether the embedding is the output
    matrix where the config does not say; ``defaults``: other fields that transformers fills in. ``beside``: parameters
    of the checkpoint that do not come into the GGUF, as encoders of images. ``always_f32``: names of tensors that stay
    in F32 beside those that always do. ``drops_tied_output``: an output matrix that is stored though it is tied is left
    out; most converters write it.
    """

    architecture: str | Callable[[Config], str]
    layer: tuple[Part, ...]
    keys: tuple[KeyRule, ...] = ()
    around: tuple[Callable[[Build], None], ...] = AROUND
    tied: bool = False
    defaults: Mapping[str, object] = field(default_factory=dict)
    beside: tuple[Callable[[Config], int], ...] = ()
    always_f32: str | None = None
    drops_tied_output: bool = False

    def name(self, config: Config) -> str:
        """The architecture's name in GGUF."""
        return self.architecture if isinstance(self.architecture, str) else self.architecture(config)
