"""Parameters of what stands beside the text model: encoders of images and what projects them.

llama.cpp keeps them in a file of their own (mmproj). They are counted as transformers builds them
(transformers 5.23, models/*/modeling_*.py); a section of the config that is missing counts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hparams import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.sources.hf.config import Config

    Encoder = Callable[[Config, Config], int]
    """The parameters of an encoder, from its own section and from that of the text model."""


def beside(encoder: Encoder) -> Callable[[Config], int]:
    """The parameters of an encoder whose section is ``vision_config``."""

    def parameters(config: Config) -> int:
        vision = config.section("vision_config")
        return encoder(vision, config) if vision is not None else 0

    return parameters


def linear(n_in: int, n_out: int) -> int:
    """A matrix with a bias."""
    return n_in * n_out + n_out


def _depth(vision: Config) -> int:
    return vision.whole("depth", "num_hidden_layers", "vt_num_hidden_layers", high=MAX_LAYERS)


def _patch(vision: Config) -> int:
    """Numbers of a patch, through all channels and the frames that are taken together."""
    side = vision.whole("patch_size", high=4096)
    frames = vision.whole("temporal_patch_size", default=1, high=64)
    return vision.whole("in_channels", "in_chans", "num_channels", default=3, high=64) * frames * side**2


def _classic_block(width: int, n_ff: int) -> int:
    """Two norms, four matrices of attention and two of a feed-forward, all with biases."""
    return 4 * width + 4 * linear(width, width) + linear(width, n_ff) + linear(n_ff, width)


def _qwen2_vl(vision: Config, text: Config) -> int:
    """The first Qwen2-VL: the width of the output is called ``hidden_size``."""
    width, n_ff = vision.whole("embed_dim"), int(vision.whole("embed_dim") * vision.real("mlp_ratio", default=4.0))
    merged = width * vision.whole("spatial_merge_size", default=2, high=64) ** 2
    merger = 2 * width + linear(merged, merged) + linear(merged, vision.whole("hidden_size"))
    return _patch(vision) * width + _depth(vision) * _classic_block(width, n_ff) + merger


def _qwen25_vl(vision: Config, text: Config) -> int:
    """Qwen 2.5-VL and, with fewer heads of K, EXAONE 4.5."""
    width, n_ff, n_head = (
        vision.whole("hidden_size"),
        vision.whole("intermediate_size"),
        vision.whole("num_heads", low=1),
    )
    n_qkv = width + 2 * vision.whole("num_key_value_heads", default=n_head) * (width // n_head)
    block = 2 * width + linear(width, n_qkv) + linear(width, width) + 2 * linear(width, n_ff) + linear(n_ff, width)
    merged = width * vision.whole("spatial_merge_size", default=2, high=64) ** 2
    merger = width + linear(merged, merged) + linear(merged, vision.whole("out_hidden_size"))
    return _patch(vision) * width + _depth(vision) * block + merger


def _qwen3_vl(vision: Config, text: Config) -> int:
    """Some layers have a merger of their own, with a norm behind it."""
    width, n_ff, n_out = vision.whole("hidden_size"), vision.whole("intermediate_size"), vision.whole("out_hidden_size")
    merged = width * vision.whole("spatial_merge_size", default=2, high=64) ** 2
    merger = linear(merged, merged) + linear(merged, n_out)
    n_deep = len(vision.items("deepstack_visual_indexes") or ())
    positions = vision.whole("num_position_embeddings") * width
    blocks = _depth(vision) * _classic_block(width, n_ff)
    return linear(_patch(vision), width) + positions + blocks + 2 * width + merger + n_deep * (2 * merged + merger)


def _siglip(vision: Config, n_positions: int) -> int:
    width, n_ff = vision.whole("hidden_size"), vision.whole("intermediate_size")
    embedding = linear(_patch(vision), width) + n_positions * width
    head = width + _classic_block(width, n_ff) - 2 * width if vision.flag("vision_use_head", default=True) else 0
    return embedding + _depth(vision) * _classic_block(width, n_ff) + 2 * width + head


def _gemma3(vision: Config, text: Config) -> int:
    side = vision.whole("image_size", high=2**16) // vision.whole("patch_size", low=1)
    width = vision.whole("hidden_size")
    return _siglip(vision, side**2) + width * text.whole("hidden_size") + width


def _lfm2(vision: Config, text: Config) -> int:
    merged = vision.whole("hidden_size") * text.whole("downsample_factor", default=2, high=64) ** 2
    n_hidden = text.whole("projector_hidden_size", default=2560)
    normed = 2 * merged if text.flag("projector_use_layernorm", default=True) else 0
    projector = normed + linear(merged, n_hidden) + linear(n_hidden, text.whole("hidden_size"))
    return _siglip(vision, vision.whole("num_patches")) + projector


def _gemma4(vision: Config, text: Config) -> int:
    """Norms before and behind; clipped matrices carry the four bounds of what goes in and comes out."""
    width, n_ff, head = vision.whole("hidden_size"), vision.whole("intermediate_size"), vision.whole("head_dim")
    n_q = vision.whole("num_attention_heads") * head
    n_kv = vision.whole("num_key_value_heads") * head
    block = 2 * width * n_q + 2 * width * n_kv + 3 * width * n_ff + 2 * head + 4 * width
    if vision.flag("use_clipped_linears"):
        block += 7 * 4
    positions = 2 * vision.whole("position_embedding_size") * width
    scaled = 2 * width if vision.flag("standardize") else 0
    return _patch(vision) * width + positions + scaled + _depth(vision) * block + width * text.whole("hidden_size")


def _gemma4_unified(vision: Config, text: Config) -> int:
    """No encoder: patches are projected into the text model."""
    width = vision.whole("mm_embed_dim")
    patch = 3 * vision.whole("model_patch_size", high=2**12) ** 2
    norms = 2 * patch + 4 * width
    positions = 2 * vision.whole("mm_posemb_size") * width
    return linear(patch, width) + norms + positions + width * text.whole("hidden_size")


def _glm4v(vision: Config, text: Config) -> int:
    """The blocks' feed-forward is as wide as the output, that of the merger as the config's."""
    width, n_out = vision.whole("hidden_size"), vision.whole("out_hidden_size")
    side = vision.whole("image_size", high=2**16) // vision.whole("patch_size", low=1)
    block = 2 * width + 4 * width**2 + 3 * width * n_out
    merger = n_out**2 + 2 * n_out + 3 * n_out * vision.whole("intermediate_size")
    downsample = linear(width * vision.whole("spatial_merge_size", default=2, high=64) ** 2, n_out)
    return linear(_patch(vision), width) + side**2 * width + _depth(vision) * block + 2 * width + merger + downsample


def _kimi(vision: Config, text: Config) -> int:
    width, n_ff = (
        vision.whole("vt_hidden_size", "hidden_size"),
        vision.whole("vt_intermediate_size", "intermediate_size"),
    )
    height = vision.whole("init_pos_emb_height", "pos_emb_height", high=2**16)
    positions = height * vision.whole("init_pos_emb_width", "pos_emb_width", high=2**16) * width
    merged = 4 * width
    projector = 2 * width + linear(merged, merged) + linear(merged, text.whole("hidden_size"))
    blocks = _depth(vision) * _classic_block(width, n_ff)
    return linear(_patch(vision), width) + positions + blocks + 2 * width + projector


def _clip(vision: Config) -> int:
    """CLIP: an embedding of the class, patches without a bias, norms before and behind."""
    width, n_ff = vision.whole("hidden_size"), vision.whole("intermediate_size")
    side = vision.whole("image_size", high=2**16) // vision.whole("patch_size", low=1)
    embedding = width + _patch(vision) * width + (side**2 + 1) * width
    return embedding + _depth(vision) * _classic_block(width, n_ff) + 4 * width


def _llava(vision: Config, text: Config) -> int:
    width, n_embd = vision.whole("hidden_size"), text.whole("hidden_size", default=4096)
    return _clip(vision) + linear(width, n_embd) + linear(n_embd, n_embd)


def _pixtral(vision: Config, text: Config) -> int:
    """Norms without biases, gated feed-forwards, patches that are merged before they are projected."""
    width, n_ff, n_embd = vision.whole("hidden_size"), vision.whole("intermediate_size"), text.whole("hidden_size")
    blocks = _depth(vision) * (2 * width + 4 * width**2 + 3 * width * n_ff)
    merged = width * text.whole("spatial_merge_size", default=2, high=64) ** 2
    biases = 2 * n_embd if text.flag("multimodal_projector_bias") else 0
    projector = width + merged * width + width * n_embd + n_embd**2 + biases
    return _patch(vision) * width + width + blocks + projector


def _muse_glimmer(vision: Config, text: Config) -> int:
    width, n_ff = vision.whole("hidden_size"), vision.whole("intermediate_size")
    frames = vision.whole("patch_temporal", default=1, high=64)
    side = vision.whole("pos_emb_height", high=2**16) * vision.whole("pos_emb_width", high=2**16)
    merged, n_hidden = width * vision.whole("merge_size", default=2, high=64) ** 2, text.whole("projector_hidden_size")
    projector = merged * n_hidden + n_hidden**2 + n_hidden * text.whole("hidden_size")
    blocks = _depth(vision) * _classic_block(width, n_ff)
    return frames * _patch(vision) * width + side * width + blocks + 4 * width + projector


MUSE_GLIMMER = beside(_muse_glimmer)
LLAVA, PIXTRAL = beside(_llava), beside(_pixtral)
QWEN2_VL, QWEN25_VL, QWEN3_VL = beside(_qwen2_vl), beside(_qwen25_vl), beside(_qwen3_vl)
GEMMA3, GEMMA4, GEMMA4_UNIFIED = beside(_gemma3), beside(_gemma4), beside(_gemma4_unified)
GLM4V, KIMI, LFM2 = beside(_glm4v), beside(_kimi), beside(_lfm2)
