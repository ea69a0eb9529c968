"""Which element type llama-quantize gives a tensor, before it looks whether the rows fit.

A file type such as Q4_K_M is a mixture: a base type for most tensors, and more or fewer bits where the model suffers
or bears it. Source: llama.cpp b11434, src/llama-quant.cpp (``llama_tensor_get_type_impl``, lines 446-714).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.ggml import ElementType, block_elements, is_quantized
from estimator.sources.quantize_names import FFN, Category

if TYPE_CHECKING:
    from estimator.model import Tensor

T = ElementType

BASE: Final = MappingProxyType(
    {
        "F32": T.F32,
        "BF16": T.BF16,
        "F16": T.F16,
        "Q8_0": T.Q8_0,
        "Q6_K": T.Q6_K,
        "Q5_1": T.Q5_1,
        "Q5_K_M": T.Q5_K,
        "Q5_0": T.Q5_0,
        "Q5_K_S": T.Q5_K,
        "Q4_1": T.Q4_1,
        "Q4_K_M": T.Q4_K,
        "IQ4_NL": T.IQ4_NL,
        "Q4_K_S": T.Q4_K,
        "Q4_0": T.Q4_0,
        "MXFP4_MOE": T.MXFP4,
        "IQ4_XS": T.IQ4_XS,
        "Q3_K_L": T.Q3_K,
        "Q3_K_M": T.Q3_K,
        "IQ3_M": T.IQ3_S,
        "IQ3_S": T.IQ3_S,
        "Q3_K_S": T.Q3_K,
        "IQ3_XS": T.IQ3_S,
        "IQ3_XXS": T.IQ3_XXS,
        "Q2_K": T.Q2_K,
        "Q2_K_S": T.Q2_K,
        "IQ2_M": T.IQ2_S,
        "IQ2_S": T.IQ2_XS,
        "IQ2_XS": T.IQ2_XS,
        "IQ2_XXS": T.IQ2_XXS,
        "TQ2_0": T.TQ2_0,
        "IQ1_M": T.IQ1_M,
        "TQ1_0": T.TQ1_0,
        "IQ1_S": T.IQ1_S,
        "Q1_0": T.Q1_0,
    }
)
"""The type of most tensors in each file type, largest files first (lines 881-924, ``llama_ftype_get_default_type``)."""

LOWEST: Final = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
"""File types of about two bits and less, which follow rules of their own."""

EIGHT_EXPERTS_OUTPUT: Final = frozenset(
    {
        *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M"),
        *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS"),
    }
)
"""File types that keep the attention output of an eight-expert model at Q5_K."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """A file type, and what its rules ask about the model.

    ``n_attention_v`` counts the tensors of that category, ``n_layer`` the blocks of the file, ``n_gqa`` the query heads
    that share one K/V head in the first layer (0 where that layer has none), ``n_expert`` is 0 for a dense model.
    """

    file_type: str
    architecture: str
    n_layer: int
    n_attention_v: int
    n_expert: int
    n_gqa: int
    is_70b: bool
    tied_embeddings: bool

    @property
    def base(self) -> ElementType:
        return BASE[self.file_type]

    @property
    def shares_kv(self) -> bool:
        """Whether V is at most a quarter of Q: more bits for it cost little."""
        return self.n_gqa >= 4

    @property
    def is_falcon(self) -> bool:
        return self.architecture == "falcon"


def choose(mix: Mixture, tensor: Tensor, category: Category, nth: int, block: int) -> ElementType:
    """The type that the mixture wants for a tensor.

    Args:
        nth: how many quantizable tensors of its category came before it, in the order of the file.
        block: the number of its block, -1 for none.

    Raises:
        ModelError: ``tensor-outside-blocks``, for a feed-forward of a model with experts.
    """
    if not is_quantized(mix.base):
        return mix.base
    if mix.architecture == "glm5-next" and any(
        part in tensor.name for part in ("attn_q_a", "attn_q_b", "nextn.eh_proj")
    ):
        return T.Q8_0
    if category is Category.OUTPUT or (category is Category.TOKEN_EMBEDDING and mix.tied_embeddings):
        return _output(mix, tensor.shape[0])
    if mix.file_type == "MXFP4_MOE":
        return _mxfp4_moe(mix, tensor.shape, category)
    if category is Category.TOKEN_EMBEDDING:
        return _token_embedding(mix)
    if mix.file_type in LOWEST:
        return _lowest(mix, category, nth)
    match category:
        case Category.ATTENTION_V:
            return _attention_v(mix, nth)
        case Category.ATTENTION_K:
            return T.Q8_0 if mix.n_expert == 8 else _attention_qk(mix)
        case Category.ATTENTION_Q:
            return _attention_qk(mix)
        case Category.ATTENTION_OUTPUT:
            return _attention_output(mix)
        case Category.FFN_DOWN:
            layer = _ffn_layer(mix, tensor, nth, block)
            return _ffn_down_falcon(mix, layer) if mix.is_falcon else _ffn_down(mix, layer)
        case Category.FFN_GATE | Category.FFN_UP:
            return _ffn_gate_up(mix, _ffn_layer(mix, tensor, nth, block))
        case _:
            return mix.base


def _ffn_layer(mix: Mixture, tensor: Tensor, nth: int, block: int) -> int:
    """The layer a feed-forward counts as: experts come several to a block, and are not counted (line 456)."""
    if mix.n_expert <= 1:
        return nth
    if block < 0:
        raise ModelError(
            "tensor-outside-blocks",
            f"tensor {tensor.name!r} belongs to no block, which llama-quantize refuses in a model with experts;"
            " choose F16 or BF16",
            field="quant",
        )
    return block


def _needs_more_bits(i: int, n: int) -> bool:
    """The first eighth, the last eighth, and every third of the layers between (line 452)."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _output(mix: Mixture, row: int) -> ElementType:
    """The output matrix, also where the token embedding serves as one."""
    if mix.file_type == "MXFP4_MOE" or mix.is_falcon or row % block_elements(mix.base) != 0:
        return T.Q8_0
    if mix.file_type in LOWEST or mix.file_type == "IQ3_XXS":
        return T.Q5_K
    return T.Q8_0 if mix.base is T.Q8_0 else T.Q6_K


def _mxfp4_moe(mix: Mixture, shape: tuple[int, ...], category: Category) -> ElementType:
    """MXFP4 for the experts, known by their third dimension; MLA's projections of bailingmoe3 have one too."""
    three_dimensional = len(shape) > 2 and shape[2] > 1
    return T.MXFP4 if three_dimensional and (mix.architecture != "bailingmoe3" or category in FFN) else T.Q8_0


def _token_embedding(mix: Mixture) -> ElementType:
    match mix.file_type:
        case "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS":
            return T.Q2_K
        case "IQ2_S" | "IQ2_M" | "IQ3_XXS":
            return T.IQ3_S
        case "TQ1_0" | "TQ2_0":
            return T.Q4_K
        case _:
            return mix.base


def _lowest(mix: Mixture, category: Category, nth: int) -> ElementType:
    """Every tensor but embeddings in the file types of two bits and less (lines 540-566)."""
    raised = T.IQ3_S if mix.file_type in ("IQ2_S", "IQ2_M") else T.Q2_K
    match category:
        case Category.ATTENTION_V:
            return T.Q4_K if mix.shares_kv or mix.n_expert >= 4 else raised
        case Category.ATTENTION_K if mix.n_expert == 8:
            return T.Q4_K
        case Category.ATTENTION_OUTPUT if mix.n_expert == 8:
            return T.Q5_K
        case Category.ATTENTION_OUTPUT if mix.file_type in ("IQ1_S", "IQ1_M"):
            return T.IQ2_XXS
        case Category.ATTENTION_OUTPUT if mix.file_type in ("IQ2_S", "IQ2_M"):
            return T.IQ3_S
        case Category.FFN_DOWN if nth < mix.n_layer // 8:
            return raised
        case _:
            return mix.base


def _attention_v(mix: Mixture, nth: int) -> ElementType:
    if mix.n_expert == 8:
        return T.Q8_0
    wanted = _attention_v_by_file_type(mix, nth)
    # Eight query heads share each V head of a 70B: V is so small there that a bit more is all but free.
    return T.Q5_K if mix.is_70b and wanted in (T.Q3_K, T.Q4_K) else wanted


def _attention_v_by_file_type(mix: Mixture, nth: int) -> ElementType:
    match mix.file_type:
        case "Q2_K":
            return T.Q4_K if mix.shares_kv else T.Q3_K
        case "IQ3_XXS":
            return T.Q4_K if mix.shares_kv else T.IQ3_S
        case "Q2_K_S" | "IQ3_XS" | "IQ3_S" if mix.shares_kv:
            return T.Q4_K
        case "IQ3_M":
            return T.Q4_K
        case "Q3_K_M":
            return T.Q5_K if nth < 2 else T.Q4_K
        case "Q3_K_L":
            return T.Q5_K
        case "IQ4_NL" | "IQ4_XS" if mix.shares_kv:
            return T.Q5_K
        case "Q4_K_S" if nth < 4:
            return T.Q5_K
        case "Q4_K_M" | "Q5_K_M" if _needs_more_bits(nth, mix.n_attention_v):
            return T.Q6_K
        case _:
            return mix.base


def _attention_qk(mix: Mixture) -> ElementType:
    match mix.file_type:
        case "IQ3_XS":
            return T.IQ3_XXS
        case "IQ3_XXS":
            return T.IQ2_S
        case _:
            return mix.base


def _attention_output(mix: Mixture) -> ElementType:
    if mix.is_falcon:
        return T.Q4_K if mix.file_type == "Q3_K_L" else mix.base
    if mix.n_expert == 8:
        return T.Q5_K if mix.file_type in EIGHT_EXPERTS_OUTPUT else mix.base
    match mix.file_type:
        case "Q2_K":
            return T.Q3_K
        case "IQ3_XXS":
            return T.IQ3_S
        case "Q3_K_M" | "IQ3_M":
            return T.Q4_K
        case "Q3_K_L":
            return T.Q5_K
        case _:
            return mix.base


def _ffn_down(mix: Mixture, layer: int) -> ElementType:
    n = mix.n_layer
    in_first_eighth = layer < n // 8
    match mix.file_type:
        case "Q2_K":
            return T.Q3_K
        case "Q2_K_S" if in_first_eighth:
            return T.Q4_K
        case "IQ3_XXS":
            return T.Q4_K if in_first_eighth else T.Q3_K
        case "IQ3_M" if in_first_eighth or (mix.n_expert == 8 and _needs_more_bits(layer, n)):
            return T.Q4_K
        case "Q3_K_M":
            return T.Q5_K if layer < n // 16 else T.Q4_K
        case "Q3_K_L":
            return T.Q5_K
        case "IQ4_NL" | "IQ4_XS" | "Q4_K_S" if in_first_eighth:
            return T.Q5_K
        case "Q4_K_M" | "Q5_K_M" if _needs_more_bits(layer, n):
            return T.Q6_K
        case _:
            return mix.base


def _ffn_down_falcon(mix: Mixture, layer: int) -> ElementType:
    """Falcon's differ from the others' in four file types."""
    n = mix.n_layer
    match mix.file_type:
        case "Q3_K_M" if layer >= n // 16 and not _needs_more_bits(layer, n):
            return T.Q3_K
        case "Q3_K_L" | "Q4_K_S":
            return T.Q4_K
        case "Q4_K_M" if layer < n // 16:
            return T.Q6_K
        case "Q4_K_M":
            return T.Q5_K if _needs_more_bits(layer, n) else T.Q4_K
        case _:
            return _ffn_down(mix, layer)


def _ffn_gate_up(mix: Mixture, layer: int) -> ElementType:
    """IQ3_XS saves bits on all but the first and the last eighth."""
    in_the_middle = mix.n_layer // 8 <= layer < 7 * mix.n_layer // 8
    return T.IQ3_XXS if mix.file_type == "IQ3_XS" and in_the_middle else mix.base
