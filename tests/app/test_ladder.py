"""The quantizations of a model, each with what it takes and how deep it gets."""

from __future__ import annotations

from app.query import Query, checked
from app.view import answer
from estimator import max_context
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model

LLAMA = Query(model="llama-3.1-8b-instruct", device=("rtx-3060-12-gb",))


def test_every_rung_is_what_its_own_page_says() -> None:
    found = answer(LLAMA).ladder
    assert {rung.name for rung in found} == set(QUANTIZATIONS)
    assert [rung.name for rung in found if rung.chosen] == ["Q4_K_M"]
    for rung in found:
        model = catalogue_model(LLAMA.model, rung.name)
        assert rung.size == model.weights_bytes
        assert rung.bits == 8 * model.weights_bytes / model.parameters
        assert rung.max_context == max_context(*checked(LLAMA, model))
        assert ("quant" in rung.query) == (rung.name != Query().quant)


def test_fewer_bytes_get_deeper() -> None:
    found = answer(LLAMA).ladder
    sizes, contexts = [rung.size for rung in found], [rung.max_context for rung in found]
    assert sizes == sorted(sizes, reverse=True)
    assert contexts == sorted(contexts)


def test_a_rare_quantization_stands_among_them() -> None:
    found = answer(Query(model="qwen3-0.6b", quant="Q3_K_S")).ladder
    assert [rung.name for rung in found if rung.chosen] == ["Q3_K_S"]
    assert len(found) == len(QUANTIZATIONS) + 1
