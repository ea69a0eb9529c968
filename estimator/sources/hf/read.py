"""A Hugging Face config becomes a Model, as if llama.cpp's converter had written the checkpoint in BF16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gguf.constants import GGUF_DEFAULT_ALIGNMENT, Keys, LlamaFileType

from estimator.errors import ModelError
from estimator.model import Checkpoint
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader
from estimator.sources.hf.build import Build
from estimator.sources.hf.config import Config
from estimator.sources.hf.keys import common_keys
from estimator.sources.hf.rules import parameters_beside, rule_for

if TYPE_CHECKING:
    from estimator.model import Model
    from estimator.sources.hf.rule import Rule


def read_hf(config: Mapping[str, object]) -> Model:
    """The model that a Hugging Face ``config.json`` describes.

    Its tensors and layers are those of the GGUF that ``convert_hf_to_gguf.py --outtype bf16 --no-mtp`` of llama.cpp
    b11434 writes for the checkpoint: layers that predict further tokens are left out. ``parameters`` counts the weights
    that transformers builds for it (``AutoModelForCausalLM``, else ``AutoModelForImageTextToText``), tied embeddings
    once.

    Args:
        config: the file's content. Of a multimodal model the text model is read.

    Raises:
        ModelError: ``unknown-architecture``: there is no rule for it; ``missing-key``, ``bad-value``, ``bad-shape``: a
            field is missing or makes no sense. ``field`` names it as the config does.
    """
    if not isinstance(config, Mapping):
        raise ModelError("bad-config", "config must be what config.json holds, a JSON object", field="config")
    whole = Config(config)
    rule = rule_for(whole)
    build = _built(whole.text_model(), rule)
    text = sum(tensor.n_elements for tensor in build.tensors) - build.n_made + build.n_left
    model = model_from_header(_header(whole, rule.name(build.config), build))
    return replace(model, checkpoint=Checkpoint(text + parameters_beside(whole)))


def _built(config: Config, rule: Rule) -> Build:
    """The keys and tensors that follow from the config of a text model."""
    config = config.with_defaults(rule.defaults)
    keys = common_keys(config)
    for key_rule in rule.keys:
        key_rule(config, keys)
    tied = config.flag("tie_word_embeddings", default=config.flag("tie_embedding", default=rule.tied))
    n_vocab = config.whole("padded_vocab_size" if config.has("padded_vocab_size") else "vocab_size", low=1)
    build = Build(config, keys, n_vocab, tied, rule.always_f32)
    for around in rule.around:
        around(build)
    for il in range(build.n_layer):
        for part in rule.layer:
            part(build, il)
    return build


def _header(config: Config, name: str, build: Build) -> GGUFHeader:
    metadata = {
        Keys.General.ARCHITECTURE: name,
        Keys.General.FILE_TYPE: int(LlamaFileType.MOSTLY_BF16),
        **{f"{name}.{key}": value for key, value in build.keys.items()},
    }
    if title := _title(config):
        metadata[Keys.General.NAME] = title
    return GGUFHeader(
        version=3,
        little_endian=True,
        alignment=GGUF_DEFAULT_ALIGNMENT,
        metadata=metadata,
        array_lengths={},
        tensors=tuple(build.tensors),
        n_bytes=0,
    )


def _title(config: Config) -> str:
    """The last part of the path that transformers keeps, if it is one."""
    path = config.value("_name_or_path")
    return path.rstrip("/").rpartition("/")[2][:128] if isinstance(path, str) else ""
