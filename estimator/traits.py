"""What an architecture's graph does beside the plain transformer: what all its layers have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Traits:
    """What an architecture's graph does beside the plain transformer, as far as it needs memory.

    ``scaled_embedding``: the embedding is multiplied by one factor;
    ``scaled_embedding_rows``: the embedding is scaled by an input of one factor a row (gemma3);
    ``expert_weights``: those of the chosen experts are divided by their sum, go through a softmax, or stay;
    ``sigmoid_shexp``: the factor of the shared experts is one operation's, not a SiLU divided by what it was made from;
    ``layer_norm``: norms subtract the mean, which ggml does not do in place;
    ``parallel``: attention and feed-forward read the same input, and the sum begins with the one named: the residual
    is its second term, or the third where the name is of both;
    ``m_rope``: four numbers place one token;
    ``unnamed_norms``: norms have no weights;
    ``normed_embedding``: a norm stands before the first layer;
    ``skips_from_embedding``: each layer adds the embedding, scaled, once more;
    ``mixed_batches``: one batch may hold tokens and embeddings (llama-arch.cpp:1182-1194);
    ``selects_rows``: where the rows are picked that logits are wanted for;
    ``flash_attention``: llama.cpp does not turn it off;
    ``scaled_experts``: the weights of the chosen experts are multiplied by a factor;
    ``projected``: an embedding that the program asks for goes through ``cls.output`` if the file has it;
    ``hyper_connections``: so many residual streams run side by side, 0 for a single residual;
    ``cached``: attention looks at a cache, otherwise only at the tokens of its own batch; ``unused_cache``: there is a
    cache none the less; ``n_altup``: so many predictions of the residual are carried beside each other (AltUp);
    ``causal``: a token does not see those behind it;
    ``head``: what leaves the model, of the last layer the output itself, that normed, or logits made of it;
    ``encodes``: an encoder is part of the model, so every row of a batch may be wanted;
    ``skipped_nextn``: what is not loaded of layers that predict further tokens, None = all of them;
    ``masked_logits``: so many logits are overwritten; ``output_on_host``: the embedding itself makes the logits;
    ``output_matrix``: one is loaded, if need be a copy of the embedding, whether the graph reads it or not;
    ``output_first``: the output matrix is made before the embedding, so that a tied one is copied on the host too;
    ``ffn_norm``: the weight that norms the input of the feed-forward;
    ``rope_factors_in_full_layers``: only layers without a window read the tensor of RoPE factors;
    ``banked_residuals``: layers read what some before them were given (``Layer.n_banked``);
    ``stream_head``: how they become one again (``estimator.memory.graph``);
    ``pinned_layers``: the last operation of a layer stays where the layer is (``l_last`` in llama-context.cpp:2651);
    ``streams_apart``: each sequence has cells of its own even where the cache is unified.
    """

    scaled_embedding: bool = False
    scaled_embedding_rows: bool = False
    expert_weights: Literal["divided", "softmax", "plain"] = "divided"
    sigmoid_shexp: bool = False
    layer_norm: bool = False
    parallel: Literal["attention", "feed_forward", "feed_forward_and_attention"] | None = None
    m_rope: bool = False
    unnamed_norms: bool = False
    normed_embedding: bool = False
    skips_from_embedding: bool = False
    mixed_batches: bool = True
    selects_rows: Literal["in_last_layer", "behind_last_layer", "behind_last_norm", "nowhere"] = "in_last_layer"
    flash_attention: bool = True
    scaled_experts: bool = False
    projected: bool = False
    banked_residuals: bool = False
    hyper_connections: int = 0
    cached: bool = True
    unused_cache: bool = False
    n_altup: int = 0
    causal: bool = True
    head: Literal["logits", "normed", "hidden"] = "logits"
    output_matrix: bool = True
    output_on_host: bool = False
    encodes: bool = False
    masked_logits: int = 0
    skipped_nextn: tuple[str, ...] | None = None
    output_first: bool = False
    ffn_norm: str = "ffn_norm"
    rope_factors_in_full_layers: bool = False
    stream_head: Literal["copied", "fused", "mean", "low_rank"] = "copied"
    streams_apart: bool = False
    pinned_layers: bool = True


PLAIN: Final = Traits()
