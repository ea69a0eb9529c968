"""How each architecture of llama.cpp b11434 is read: one entry an architecture.

What an entry does not say follows from the keys that all architectures share (src/llama-model.cpp:1300-1494). Facts and
lines are from ``load_arch_hparams`` and the graph in src/models/<file>.cpp.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.sources import attention_variants as variants
from estimator.sources import cohere, encoder, gemma, granite, llama4, minimax, single, smallthinker
from estimator.sources.architecture import Architecture, Window
from estimator.sources.compressed import compressed
from estimator.sources.delta_net import delta_net, repeating_delta_net
from estimator.sources.kimi_delta import bailing, kimi, kimi_banked, pooled
from estimator.sources.latent import hyper_latent, indexed_latent, latent, tempered_latent
from estimator.sources.lightning import lightning
from estimator.sources.mamba import falcon_h1, granite_hybrid, jamba, mamba, mamba2, nemotron_h, plamo2
from estimator.sources.qwen4 import ngrams, pooling_delta_net
from estimator.sources.short_conv import short_conv
from estimator.suggest import nearest
from estimator.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Mapping


LAYER_NORM: Final = Traits(layer_norm=True)
M_ROPE: Final = Traits(m_rope=True)
NEMOTRON_H: Final = Architecture(
    traits=Traits(selects_rows="behind_last_norm"),
    no_rope_every=1,
    expert_weights_by_keys=True,
    headless=True,
    refine=nemotron_h,
)
AFTER_ATTENTION: Final = "post_attention_norm"
DIFFUSION: Final = Traits(cached=False, causal=False)
ENCODER: Final = Traits(cached=False, head="normed", output_matrix=False)
BERT: Final = Traits(layer_norm=True, normed_embedding=True, cached=False, head="hidden", output_matrix=False)

# The file in src/models is named where it is not the architecture's own name.
ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        # llama.cpp; Mistral 7B v0.1 and Ministral 8B declare a window that this loader does not read. Mixtral too.
        "llama": Architecture(expert_factors=True),
        "mistral3": Architecture(expert_factors=True),
        "afmoe": Architecture(window=Window(period=4), no_rope_every=4, attn_gate=True, expert_weights_by_keys=True),
        "apertus": Architecture(),
        "arcee": Architecture(),
        "arctic": Architecture(refine=variants.arctic),
        "baichuan": Architecture(refine=variants.baichuan),
        "bailingmoe": Architecture(),
        "bailingmoe2": Architecture(),
        "bailingmoe3": Architecture(
            traits=Traits(selects_rows="behind_last_norm"),
            m_rope_by_sections=True,
            expert_weights_by_keys=True,
            refine=bailing,
        ),
        "bert": Architecture(traits=BERT, no_rope_every=1, wiring="post_norm"),
        # bitnet.cpp:153-154: the embedding makes the logits where it lies, on the host.
        "bitnet": Architecture(traits=Traits(output_on_host=True, output_matrix=False), refine=single.bitnet),
        # chameleon.cpp:165-176: the logits of image tokens are overwritten.
        "chameleon": Architecture(traits=Traits(masked_logits=8192), refine=single.chameleon),
        # bloom.cpp, gpt2.cpp, jais.cpp, mpt.cpp, refact.cpp, starcoder.cpp: no RoPE, but ALiBi or learned positions
        "bloom": Architecture(traits=Traits(layer_norm=True, normed_embedding=True), no_rope_every=1),
        "chatglm": Architecture(),
        "codeshell": Architecture(traits=LAYER_NORM),
        # The norms of Cohere's models feed attention and feed-forward at once; only layers with a window have RoPE.
        "cohere2": Architecture(
            window=Window(period=4), traits=Traits(layer_norm=True, parallel="feed_forward"), rope_in_windows=True
        ),
        "cogvlm": Architecture(traits=Traits(mixed_batches=False, selects_rows="nowhere")),
        "cohere2moe": Architecture(
            window=Window(period=4, needs_size=True, dense_first=True),
            traits=Traits(parallel="feed_forward", selects_rows="behind_last_norm"),
            rope_in_windows=True,
            expert_weights_by_keys=True,
            expert_factors=True,
            refine_traits=cohere.cohere2moe_traits,
            refine=cohere.cohere2moe,
        ),
        "command-r": Architecture(traits=Traits(layer_norm=True, parallel="feed_forward")),
        "dbrx": Architecture(traits=Traits(layer_norm=True, ffn_norm="attn_output_norm")),
        # DeepSeek's first mixture, without latent attention
        "deepseek": Architecture(),
        # Nemotron 51B and 253B
        "deci": Architecture(refine=variants.deci),
        "deepseek2": Architecture(expert_weights_by_keys=True, refine=tempered_latent),
        "deepseek32": Architecture(expert_weights_by_keys=True, refine=indexed_latent),
        # Each sequence has a cache of its own, whatever the settings say (llama-kv-cache-dsv4.cpp:1243).
        "deepseek4": Architecture(
            window=Window(period=0),
            traits=Traits(mixed_batches=False, selects_rows="nowhere", stream_head="fused", streams_apart=True),
            expert_weights_by_keys=True,
            hyper_connections=True,
            refine=compressed,
        ),
        "dots1": Architecture(),
        # dots3note.cpp:34: the file lists the layers with a window.
        "dots3note": Architecture(window=Window(period=1), expert_weights_by_keys=True, refine=indexed_latent),
        "dream": Architecture(traits=DIFFUSION),
        "ernie4_5": Architecture(),
        "ernie4_5-moe": Architecture(),
        "eurobert": Architecture(traits=ENCODER),
        "exaone": Architecture(),
        # exaone4.cpp:4-14: only the 32B has windows. The norms follow attention and feed-forward instead of leading.
        "exaone4": Architecture(window=Window(period=4, default=4096, n_layer=64), rope_in_windows=True),
        # exaone-moe.cpp:4-10
        "exaone-moe": Architecture(
            window=Window(period=4, needs_size=True), rope_in_windows=True, expert_weights_by_keys=True
        ),
        "falcon": Architecture(
            traits=Traits(layer_norm=True, parallel="feed_forward_and_attention"), refine=variants.falcon
        ),
        "falcon-h1": Architecture(refine=falcon_h1),
        "gemma": Architecture(),
        # gemma2.cpp:5-12
        "gemma2": Architecture(window=Window(period=2, default=4096)),
        # gemma3.cpp:4-7; gemma3.cpp:graph scales the embedding by an input row.
        "gemma3": Architecture(window=Window(period=6), traits=Traits(scaled_embedding_rows=True)),
        # gemma-embedding.cpp loads an output matrix, but does not use it.
        "gemma-embedding": Architecture(
            window=Window(period=6),
            traits=Traits(scaled_embedding_rows=True, cached=False, causal=False, head="normed"),
        ),
        # gemma3n.cpp:4-11; n_altup is a constant of llama-hparams.h.
        "gemma3n": Architecture(
            window=Window(period=5),
            traits=Traits(scaled_embedding_rows=True, output_first=True, n_altup=4, selects_rows="nowhere"),
            refine=gemma.gemma3n,
        ),
        # gemma4.cpp:4-24
        "gemma4": Architecture(
            window=Window(period=0, needs_size=True, needs_list=True),
            traits=Traits(
                scaled_embedding_rows=True,
                selects_rows="behind_last_norm",
                output_first=True,
                rope_factors_in_full_layers=True,
            ),
            expert_factors=True,
            refine=gemma.gemma4,
        ),
        "glm-dsa": Architecture(expert_weights_by_keys=True, refine=indexed_latent),
        "glm4": Architecture(m_rope_by_sections=True),
        # glm4-moe.cpp
        "glm4moe": Architecture(traits=Traits(ffn_norm=AFTER_ATTENTION), m_rope_by_sections=True),
        # Pools of tokens are chosen, between residual streams.
        "glm5-next": Architecture(
            traits=Traits(selects_rows="nowhere", stream_head="mean", pinned_layers=False),
            no_rope_every=1,
            expert_weights_by_keys=True,
            hyper_connections=True,
            refine=pooled,
        ),
        # openai-moe.cpp:6-9; the weights of the chosen experts go through a softmax instead of a division.
        "gpt-oss": Architecture(
            window=Window(period=2),
            traits=Traits(expert_weights="softmax", selects_rows="behind_last_layer", ffn_norm=AFTER_ATTENTION),
        ),
        "gpt2": Architecture(traits=LAYER_NORM, no_rope_every=1),
        "gptneox": Architecture(traits=LAYER_NORM, parallel_by_key=True),
        "granite": Architecture(embedding_scale=0),
        # granite-hybrid.cpp
        "granitehybrid": Architecture(embedding_scale=0, refine=granite_hybrid),
        # granite-moe.cpp
        "granitemoe": Architecture(embedding_scale=0),
        # granite-swa.cpp:4-20
        "granite_swa": Architecture(
            window=Window(period=0, needs_size=True, needs_list=True), refine=granite.granite_swa
        ),
        # llama-context.cpp:3838-3841 turns flash attention off.
        "grok": Architecture(traits=Traits(flash_attention=False), refine=variants.grok),
        "grovemoe": Architecture(refine=variants.grovemoe),
        # hrm-text.cpp
        "hrm_text": Architecture(
            traits=Traits(unnamed_norms=True, selects_rows="behind_last_norm"),
            attn_gate=True,
            stacks=variants.hrm_stacks,
        ),
        "hunyuan-dense": Architecture(),
        "hunyuan-moe": Architecture(),
        "hunyuan_vl": Architecture(traits=M_ROPE),
        "hy_v3": Architecture(expert_factors=True, traits=Traits(selects_rows="behind_last_norm")),
        # hy-v4.cpp
        "hy_v4": Architecture(expert_weights_by_keys=True, hyper_connections=True, refine=hyper_latent),
        "internlm2": Architecture(),
        "jais": Architecture(traits=LAYER_NORM, no_rope_every=1),
        "jais2": Architecture(traits=LAYER_NORM),
        "jamba": Architecture(traits=Traits(expert_weights="plain"), no_rope_every=1, refine=jamba),
        # bert.cpp:graph
        "jina-bert-v2": Architecture(traits=BERT, no_rope_every=1, wiring="post_norm", refine=encoder.encoder_layer),
        "jina-bert-v3": Architecture(traits=BERT, wiring="post_norm"),
        "kimi-k3": Architecture(
            traits=Traits(selects_rows="nowhere", banked_residuals=True),
            no_rope_every=1,
            expert_weights_by_keys=True,
            refine=kimi_banked,
        ),
        # Without RoPE; the weights of the chosen experts are always divided.
        "kimi-linear": Architecture(no_rope_every=1, scaled_experts_by_key=True, refine=kimi),
        # laguna.cpp:33-37: a pattern begins with its full layer
        "laguna": Architecture(window=Window(period=4, dense_first=True), attn_gate=True, expert_weights_by_keys=True),
        "llada": Architecture(traits=DIFFUSION),
        "llada-moe": Architecture(traits=replace(DIFFUSION, expert_weights="plain")),
        # The loader makes a cache, but llama.cpp:graph<true> attends to the batch.
        "llama-embed": Architecture(traits=Traits(cached=False, unused_cache=True, head="normed")),
        # lfm2.cpp, without and with a mixture of experts
        "lfm2": Architecture(window=Window(period=0), refine=short_conv),
        "lfm2moe": Architecture(window=Window(period=0), refine=short_conv),
        # llama4.cpp:8-24: windows are chunks
        "llama4": Architecture(
            window=Window(period=4, default=8192, size=8192),
            traits=Traits(expert_weights="plain"),
            refine=llama4.llama4,
        ),
        "maincoder": Architecture(),
        "mamba": Architecture(headless=True, refine=mamba),
        "mamba2": Architecture(headless=True, refine=mamba2),
        # maple.cpp:4-12
        "maple": Architecture(window=Window(period=0, needs_size=True, needs_list=True), rope_in_windows=True),
        "mellum": Architecture(window=Window(period=4)),
        # mimo2.cpp:4-14
        "mimo2": Architecture(window=Window(period=0, needs_size=True, needs_list=True)),
        # minicpm.cpp:5
        "minicpm": Architecture(embedding_scale=12),
        "minicpm3": Architecture(refine=latent),
        "minimax-01": Architecture(refine=lightning),
        "minimax-m2": Architecture(),
        "minimax-m3": Architecture(expert_weights_by_keys=True, refine=minimax.minimax_m3),
        # deepseek2.cpp, except for a number's precision
        "mistral4": Architecture(expert_weights_by_keys=True, refine=tempered_latent),
        # modern-bert.cpp:3-11; the embedding is normed, so the first layer has no norm before attention.
        "modern-bert": Architecture(
            window=Window(period=3, dense_first=True),
            traits=replace(ENCODER, layer_norm=True, normed_embedding=True),
            half_normed=True,
            refine=encoder.encoder_layer,
        ),
        "mpt": Architecture(traits=LAYER_NORM, no_rope_every=1),
        # muse-glimmer.cpp:4-15
        "muse-glimmer": Architecture(window=Window(period=4, needs_size=True), rope_in_windows=True, attn_gate=True),
        "nanbeige": Architecture(loops=True),
        "nemotron": Architecture(traits=LAYER_NORM),
        # nemotron-h.cpp, both; no layer has RoPE.
        "nemotron_h": NEMOTRON_H,
        "nemotron_h_moe": NEMOTRON_H,
        "neo-bert": Architecture(traits=ENCODER),
        # bert.cpp:graph
        "nomic-bert": Architecture(traits=BERT, wiring="post_norm"),
        "nomic-bert-moe": Architecture(traits=replace(BERT, expert_weights="plain"), wiring="post_norm"),
        # olmo.cpp: norms without weights
        "olmo": Architecture(traits=Traits(layer_norm=True, unnamed_norms=True)),
        # olmo2.cpp:6-9, OLMo 2 and 3; the norms follow attention and feed-forward.
        "olmo2": Architecture(window=Window(period=4)),
        "olmoe": Architecture(),
        "openelm": Architecture(wiring="residual_first_once"),
        "orion": Architecture(traits=LAYER_NORM),
        "paddleocr": Architecture(traits=M_ROPE),
        # pangu-embed.cpp
        "pangu-embedded": Architecture(),
        "phi2": Architecture(traits=Traits(layer_norm=True, parallel="attention")),
        # phi3.cpp:13-23 turns the window off, with a warning.
        "phi3": Architecture(wiring="sum_begins_with_residual"),
        "phimoe": Architecture(traits=LAYER_NORM, wiring="sum_begins_with_residual"),
        "plamo": Architecture(traits=Traits(parallel="feed_forward_and_attention")),
        "plamo2": Architecture(headless=True, refine=plamo2),
        "plamo3": Architecture(window=Window(period=8)),
        # The audio side of the model is not in this file.
        "pockettts": Architecture(traits=LAYER_NORM),
        "qwen": Architecture(refine=variants.qwen),
        "qwen2": Architecture(),
        "qwen2moe": Architecture(traits=Traits(expert_weights="plain")),
        "qwen2vl": Architecture(traits=M_ROPE),
        "qwen3": Architecture(),
        # Gated delta nets between layers of gated attention; the wanted rows are picked behind the output norm.
        "qwen35": Architecture(
            traits=Traits(m_rope=True, selects_rows="behind_last_norm", projected=True, ffn_norm=AFTER_ATTENTION),
            refine=delta_net,
        ),
        "qwen35moe": Architecture(
            traits=Traits(m_rope=True, selects_rows="behind_last_norm", sigmoid_shexp=True, ffn_norm=AFTER_ATTENTION),
            refine=delta_net,
        ),
        "qwen3moe": Architecture(expert_factors=True),
        "qwen3next": Architecture(
            traits=Traits(selects_rows="behind_last_norm", sigmoid_shexp=True, ffn_norm=AFTER_ATTENTION),
            refine=repeating_delta_net,
        ),
        "qwen3vl": Architecture(traits=M_ROPE, deepstack=True),
        "qwen3vlmoe": Architecture(traits=M_ROPE, deepstack=True),
        "rnd1": Architecture(traits=DIFFUSION),
        # qwen3vl.cpp
        "qwen3tts": Architecture(traits=M_ROPE, deepstack=True),
        # Gated delta nets and attention to pools of tokens, between residual streams; no norm behind the last.
        "qwen4exp": Architecture(
            traits=Traits(m_rope=True, sigmoid_shexp=True, stream_head="low_rank"),
            hyper_connections=True,
            ngrams=ngrams,
            refine=pooling_delta_net,
        ),
        "refact": Architecture(no_rope_every=1, refine=variants.refact),
        # seed-oss.cpp
        "seed_oss": Architecture(traits=Traits(ffn_norm=AFTER_ATTENTION)),
        # step35.cpp:3-34
        "step35": Architecture(
            window=Window(period=0, needs_size=True, needs_list=True),
            traits=Traits(selects_rows="behind_last_layer", skipped_nextn=single.STEP35_SKIPPED),
            attn_gate=True,
            expert_weights_by_keys=True,
            refine=single.step35,
        ),
        # smallthinker.cpp:4-18; the experts are chosen by what attention has not seen yet.
        "smallthinker": Architecture(
            window=Window(period=4, size=4096, dense_first=True), refine=smallthinker.smallthinker
        ),
        # smollm3.cpp:5
        "smollm3": Architecture(no_rope_every=4),
        # spark2-5.cpp:4-12
        "spark2_5": Architecture(window=Window(period=0, needs_size=True, needs_list=True), attn_gate=True),
        "stablelm": Architecture(traits=LAYER_NORM),
        "starcoder": Architecture(traits=LAYER_NORM, no_rope_every=1),
        "starcoder2": Architecture(traits=LAYER_NORM),
        # llama.cpp reserves the graph of the decoder.
        "t5": Architecture(
            traits=Traits(encodes=True),
            no_rope_every=1,
            stack="dec.",
            wiring="decoder",
            refine=encoder.t5_layer,
        ),
        # The loader makes a cache and loads an output matrix, which the graph does not use.
        "t5encoder": Architecture(
            traits=Traits(encodes=True, cached=False, unused_cache=True, head="normed"),
            no_rope_every=1,
            stack="enc.",
            refine=encoder.t5_layer,
        ),
        "talkie": Architecture(traits=Traits(unnamed_norms=True, normed_embedding=True, skips_from_embedding=True)),
        "xverse": Architecture(),
    }
)


def architecture(name: str) -> Architecture:
    """The entry of an architecture.

    Raises:
        ModelError: there is none: an architecture that is not known is never treated as another.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        near = nearest(name, ARCHITECTURES)
        hint = f"; known are {', '.join(near)}" if near else f"; {len(ARCHITECTURES)} others are"
        raise ModelError(
            "unknown-architecture",
            f"the architecture {name[:64]!r} is not modelled yet: no rule for its layers, cache and graph{hint}",
            field="model",
            allowed=tuple(ARCHITECTURES),
        ) from None
