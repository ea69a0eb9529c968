"""What a query says is loaded beside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from app.errors import RequestError
from app.query import Query, checked
from app.view import answer
from estimator.companions import ALONE, Projector
from estimator.sources.catalogue import catalogue_model

if TYPE_CHECKING:
    from flask.testing import FlaskClient

URL = "/api/v1/estimate?model=qwen3-8b&ctx=8192"


def asked(client: FlaskClient, more: str = "") -> dict[str, Any]:
    reply = client.get(URL + more)
    assert reply.status_code == 200
    found: dict[str, Any] = reply.get_json()
    return found


def test_nothing_is_loaded_unless_asked_for() -> None:
    assert checked(Query()).companions == ALONE


@pytest.mark.parametrize(("draft", "quant"), [("qwen3-0.6b", "Q4_K_M"), ("qwen3-0.6b:Q8_0", "Q8_0")])
def test_a_draft_is_a_bundled_model(draft: str, quant: str) -> None:
    found = checked(Query(draft=draft)).companions.draft
    assert found
    assert found.model is catalogue_model("qwen3-0.6b", quant)


def test_a_projector_is_known_by_its_size() -> None:
    found = checked(Query(mmproj=851_250_000)).companions.projector
    assert found
    assert found.weights_bytes == Projector.of_size(851_250_000).weights_bytes == 851_250_000


def test_all_of_it_is_in_the_answer(client: FlaskClient) -> None:
    alone = asked(client)
    found = asked(client, "&draft=qwen3-0.6b:q8_0&mmproj=851M")
    assert (found["settings"]["draft"], found["settings"]["mmproj"]) == ("qwen3-0.6b:Q8_0", 851 * 2**20)
    labels = {line["label"].partition(":")[0] for line in found["lines"]} - {line["label"] for line in alone["lines"]}
    assert labels == {"Draft", "Projector"}
    assert found["max_context"] < alone["max_context"]
    assert found["devices"][0]["weights"] > alone["devices"][0]["weights"] + 851 * 2**20
    assert found["links"]["self"].endswith("?model=qwen3-8b&ctx=8192&draft=qwen3-0.6b:Q8_0&mmproj=892338176")


def test_every_number_of_the_page_counts_it() -> None:
    alone, found = answer(Query(ctx=8192)), answer(Query(ctx=8192, mmproj=2**30))
    for before, after in zip(alone.rows, found.rows, strict=False):
        if before.n_ctx == after.n_ctx:
            assert after.estimate.devices[0].total == before.estimate.devices[0].total + 2**31 + 4 * 2**20
    for one, other in zip(alone.alternatives, found.alternatives, strict=True):
        assert other.total == one.total + 2**31 + 4 * 2**20
        assert other.max_context < one.max_context
    assert max(found.figure["data"][0]["y"]) == pytest.approx(max(alone.figure["data"][0]["y"]) + 1, abs=1e-6)
    assert "beside the model was not measured" in found.accuracy
    assert "beside the model" not in alone.accuracy


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        (Query(draft="qwen9"), "unknown-model", "draft"),
        (Query(draft="qwen3-0.6b", engine="llama-bench"), "not-with-engine", "draft"),
        (Query(mmproj=1, engine="llama-bench"), "not-with-engine", "mmproj"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(query: Query, code: str, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        answer(query)
    assert (caught.value.code, caught.value.field) == (code, field)
