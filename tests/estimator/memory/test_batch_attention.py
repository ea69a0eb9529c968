"""Models without a cache: their attention sees one batch, so memory follows the batch and not the context."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.devices import GENERIC
from estimator.estimate import Estimate, estimate
from estimator.ggml import ElementType
from estimator.memory.cache import cache_parts
from estimator.memory.context import resolve
from estimator.memory.weights import weights
from estimator.model import Model, Tensor
from estimator.settings import Settings
from estimator.traits import Traits
from tests.estimator import samples


def encoder(*names: str, **traits: Any) -> Model:
    model = samples.model(*(samples.layer(),) * 2, traits=Traits(cached=False, **traits))
    rows = tuple(Tensor(f"{name}.weight", (4096, 10), ElementType.F32) for name in names)
    return samples.model(*model.layers, traits=model.traits, tensors=(model.tensors[0], *rows, *model.tensors[2:]))


def found(model: Model, **given: Any) -> Estimate:
    return estimate(model, Settings(**{"n_ctx": 8192, "n_parallel": 1, **given}), [GENERIC])


def test_there_is_no_cache() -> None:
    model = encoder()
    context = resolve(model, Settings(n_ctx=8192))
    assert list(cache_parts(model, context, model.layer_kinds)) == []


@pytest.mark.parametrize("flash_attn", [True, False])
def test_the_context_costs_nothing(flash_attn: bool) -> None:
    short, long = (found(encoder(), n_ctx=n_ctx, flash_attn=flash_attn) for n_ctx in (4096, 131072))
    assert short.devices[0].total == long.devices[0].total
    assert short.host.total == long.host.total


@pytest.mark.parametrize(("causal", "n_tokens"), [(True, 100), (False, 256)])
def test_only_a_causal_batch_is_as_short_as_the_context(causal: bool, n_tokens: int) -> None:
    # 100 is padded to 256; llama-context.cpp:248
    assert resolve(encoder(causal=causal), Settings(n_ctx=100, n_parallel=1)).n_tokens == n_tokens


def test_scores_are_as_wide_as_the_batch() -> None:
    # 32 heads x 1024 x 1024 scores of 4 bytes exist beside Q, K and V
    compute = found(encoder(), n_ubatch=1024, flash_attn=False).devices[0].compute
    assert 2**27 < compute < 2**27 + 1024 * 4096 * 4 * 8


def test_where_the_parts_of_the_embedding_lie() -> None:
    model = encoder("position_embd", "token_types", "token_embd_norm", output_matrix=False, head="hidden")
    parts = weights(model, "generic")
    assert parts.inputs == 2**23 + 2 * 10 * 4096 * 4
    assert parts.layers == (2**20 + 10 * 4096 * 4, 2**20)
    assert (parts.output, parts.tied) == (0, 0)


def test_an_output_matrix_may_be_loaded_that_nothing_reads() -> None:
    assert encoder(head="normed").has_tied_output
    assert not encoder(head="normed", output_matrix=False).has_tied_output
