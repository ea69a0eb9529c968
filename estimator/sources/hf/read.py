"""A Hugging Face config becomes a Model, as if llama.cpp's converter had written the checkpoint in BF16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gguf.constants import Keys, LlamaFileType

from estimator.errors import ModelError
from estimator.model import Checkpoint
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader, made_header
from estimator.sources.hf.adapt import EMBEDDING, OUTPUT, adapted, names_in_gguf, rows
from estimator.sources.hf.build import Build
from estimator.sources.hf.config import Config
from estimator.sources.hf.keys import FIELDS, common_keys
from estimator.sources.hf.rules import defaults_for, parameters_beside, rule_for
from estimator.sources.hf.stored import Packing, Stored, Tensors, read_tensors

if TYPE_CHECKING:
    from estimator.model import Model, Tensor
    from estimator.sources.hf.rule import Rule
    from estimator.sources.hf.stored import Weight


def read_hf(config: Mapping[str, object], safetensors: Tensors | None = None) -> Model:
    """The model that a Hugging Face ``config.json`` describes.

    Its tensors and layers are those of the GGUF that ``convert_hf_to_gguf.py --outtype bf16 --no-mtp`` of llama.cpp
    b11434 writes for the checkpoint: layers that predict further tokens are left out. ``parameters`` counts the weights
    that transformers builds for it (``AutoModelForCausalLM``, else ``AutoModelForImageTextToText``), tied embeddings
    once.

    With ``safetensors`` the checkpoint's own tensors are counted: ``parameters`` are all its weights, unpacked where
    they are quantized, and ``weights_bytes`` the bytes that it stores. llama.cpp cannot load a checkpoint as it is, so
    ``tensors``, and with them every estimate, stay those of the GGUF; the checkpoint decides whether there are biases,
    norms of Q and K and an output matrix, and how many tokens the vocabulary has.

    Args:
        config: the file's content. Of a multimodal model the text model is read.
        safetensors: the tensors of all files of the checkpoint by name: the dtype as safetensors writes it (``"BF16"``,
            ``"F8_E4M3"``), and the shape, rows first.

    Raises:
        ModelError: ``unknown-architecture``: there is no rule for it; ``missing-key``, ``bad-value``, ``bad-shape``: a
            field is missing or makes no sense, and ``field`` names it as the config does. ``bad-safetensors``,
            ``bad-tensor``, ``unknown-dtype``, ``unknown-quantization``: tensors that make no sense, or are packed in a
            way that is not known; ``tensors-differ``, ``missing-tensor``: they are not of this config's model.
    """
    if not isinstance(config, Mapping):
        raise ModelError("bad-config", "config must be what config.json holds, a JSON object", field="config")
    whole = Config(config)
    rule = rule_for(whole)
    text = whole.text_model().with_defaults(defaults_for(whole))
    quantization = Packing(whole).name or Packing(text).name
    if safetensors is None:
        build = _built(text, rule)
        n_text = sum(tensor.n_elements for tensor in build.tensors) - build.n_made + build.n_left
        checkpoint = Checkpoint(n_text + parameters_beside(whole), quantization=quantization)
        return replace(_model(whole, rule, build, build.tensors), checkpoint=checkpoint)
    stored = read_tensors(safetensors, whole if Packing(whole).name else text)
    weights = names_in_gguf(stored.weights, rule.name(text), text.n_layer)
    build = _built(text, rule, weights)
    tensors = list(adapted(build.tensors, weights, build.n_layer))
    checkpoint = Checkpoint(_n_parameters(stored, build), stored.n_bytes, quantization)
    return replace(_model(whole, rule, build, tensors), checkpoint=checkpoint)


def header_of(config: Mapping[str, object]) -> GGUFHeader:
    """The header of the GGUF that a checkpoint with this config converts to.

    Raises:
        ModelError: as ``read_hf``.
    """
    whole = Config(config)
    rule = rule_for(whole)
    build = _built(whole.text_model().with_defaults(defaults_for(whole)), rule)
    return _header(whole, rule, build, build.tensors)


def _n_parameters(stored: Stored, build: Build) -> int:
    """All weights of a checkpoint; a tied embedding that is stored as the output matrix too counts once."""
    n = sum(weight.n_elements for weight in stored.weights.values())
    if _is_tied(build.config, default=False):
        n -= sum(weight.n_elements for name, weight in stored.weights.items() if name.endswith("lm_head.weight"))
    return n


def _is_tied(config: Config, *, default: bool) -> bool:
    return config.flag("tie_word_embeddings", default=config.flag("tie_embedding", default=default))


def _built(config: Config, rule: Rule, weights: Mapping[str, Weight] | None = None) -> Build:
    """The keys and tensors that follow from the config of a text model, and from the weights by their names in GGUF."""
    keys = common_keys(config)
    for key_rule in rule.keys:
        key_rule(config, keys)
    tied = _is_tied(config, default=rule.tied)
    n_vocab = config.whole("padded_vocab_size" if config.has("padded_vocab_size") else "vocab_size", low=1)
    if weights and EMBEDDING in weights:
        n_vocab = rows(weights[EMBEDDING], config.whole(*FIELDS["embedding_length"])) or n_vocab
        tied = OUTPUT not in weights or (tied and rule.drops_tied_output)
    build = Build(config, keys, n_vocab, tied, rule.always_f32)
    for around in rule.around:
        around(build)
    for il in range(build.n_layer):
        for part in rule.layer:
            part(build, il)
    return build


def _model(config: Config, rule: Rule, build: Build, tensors: list[Tensor]) -> Model:
    try:
        return model_from_header(_header(config, rule, build, tensors))
    except ModelError as error:
        raise _in_own_words(error, rule.name(build.config), build.config) from error


def _header(config: Config, rule: Rule, build: Build, tensors: list[Tensor]) -> GGUFHeader:
    name = rule.name(build.config)
    metadata = {
        Keys.General.ARCHITECTURE: name,
        Keys.General.FILE_TYPE: int(LlamaFileType.MOSTLY_BF16),
        **{f"{name}.{key}": value for key, value in build.keys.items()},
    }
    if title := _title(config):
        metadata[Keys.General.NAME] = title
    return made_header(metadata, tensors)


def _in_own_words(error: ModelError, architecture: str, config: Config) -> ModelError:
    """A refusal of the header, by the config's own name of the field that it is about."""
    key = (error.field or "").removeprefix(f"{architecture}.")
    field = next((name for name in FIELDS.get(key, ()) if config.has(name)), None)
    if field is None:
        return error
    message = error.message.replace(f"{architecture}.{key}", field).replace(key, field)
    return ModelError(error.code, message, field=field, allowed=error.allowed)


def _title(config: Config) -> str:
    """The last part of the path that transformers keeps, if it is one."""
    path = config.value("_name_or_path")
    return path.rstrip("/").rpartition("/")[2][:128] if isinstance(path, str) else ""
