"""A local file becomes a model and a link; nothing is kept, and no weight is asked for."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.test import encode_multipart

import estimator as fathom
from estimator.sources.facts import facts_text
from estimator.sources.gguf import read_header
from tests.estimator.sources.gguf_bytes import LE, split_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

URL = "/api/v1/gguf"
DATA = Path(__file__).parents[1] / "data" / "gguf"
SMALL = DATA / "llama-dense.gguf"
LARGE = lzma.decompress((DATA / "gemma-3-270m.header.gguf.xz").read_bytes())
LARGE_BYTES = 246_587_904
"""Of the weights of the large one."""


def body(reply: TestResponse, status: int = 200) -> dict[str, Any]:
    assert (reply.status_code, reply.mimetype) == (status, "application/json"), reply.text
    answer: dict[str, Any] = reply.get_json()
    return answer


def sent(client: FlaskClient, parts: Sequence[bytes], name: str = "file") -> TestResponse:
    """The answer to files in one body."""
    files = [FileStorage(io.BytesIO(part), f"model-{index}.gguf") for index, part in enumerate(parts)]
    boundary, data = encode_multipart(MultiDict([(name, file) for file in files]))
    return client.post(URL, data=data, content_type=f"multipart/form-data; boundary={boundary}")


@pytest.mark.parametrize("path", sorted(DATA.glob("*.gguf")), ids=lambda path: path.stem)
def test_a_header_gives_its_model_and_a_link(client: FlaskClient, path: Path) -> None:
    model = fathom.read_gguf(path)
    answer = body(client.post(URL, data=path.read_bytes()))
    assert answer["facts"] == facts_text(read_header(path))
    assert (answer["warnings"], answer["mmproj"]) == ([], None)
    facts = answer["model"]
    assert facts["architecture"] == model.architecture == path.stem.partition("-")[0].replace("gpt", "gpt-oss")
    assert facts["parameters"] == model.parameters > 0
    assert facts["weights_bytes"] == model.weights_bytes > 0
    assert facts["context_length"] == model.context_length
    assert facts["file_type"] == model.file_type


def test_the_links_lead_to_that_model(client: FlaskClient) -> None:
    answer = body(client.post(URL, data=SMALL.read_bytes()))
    links = {name: urlsplit(link) for name, link in answer["links"].items()}
    assert [link.path for link in links.values()] == ["/", "/api/v1/estimate"]
    for link in links.values():
        assert parse_qs(link.query) == {"facts": [answer["facts"]]}
    estimate = body(client.get(answer["links"]["estimate"]))
    assert estimate["model"] == {"id": None, "source": None, **answer["model"]}
    assert client.get(answer["links"]["page"]).status_code == 200


def test_a_header_may_be_larger_than_other_bodies(client: FlaskClient) -> None:
    assert len(LARGE) > 2**20
    assert body(client.post(URL, data=LARGE))["model"]["weights_bytes"] == LARGE_BYTES


def test_a_header_that_ends_early_asks_for_more_until_it_is_whole(client: FlaskClient) -> None:
    have, rounds = 0, 0
    reply = client.post(URL, data=b"")
    while reply.status_code == 206:
        answer = body(reply, 206)
        assert set(answer) == {"needed"}
        assert reply.headers["Fathom-Needed"] == str(answer["needed"])
        assert have < answer["needed"]
        have, rounds = min(answer["needed"], len(LARGE)), rounds + 1
        reply = client.post(URL, data=LARGE[:have])
    assert body(reply)["model"]["weights_bytes"] == LARGE_BYTES
    assert 1 < rounds < 50


def test_files_in_a_form_are_asked_for_more_one_by_one(client: FlaskClient) -> None:
    shards = split_up(LARGE, 3)
    given = [shard[:200_000] for shard in shards]
    assert len(shards[0]) > 2**20
    reply = sent(client, given)
    needed = body(reply, 206)["needed"]
    assert reply.headers["Fathom-Needed"] == ", ".join(map(str, needed))
    assert needed[0] > len(given[0])
    assert needed[1:] == [len(shard) for shard in shards[1:]]
    while reply.status_code == 206:
        given = [shard[:size] for shard, size in zip(shards, body(reply, 206)["needed"], strict=True)]
        reply = sent(client, given)
    assert body(reply)["facts"] == facts_text(read_header(LARGE))


def test_one_file_in_a_form_is_read_too(client: FlaskClient) -> None:
    assert body(sent(client, [SMALL.read_bytes()])) == body(client.post(URL, data=SMALL.read_bytes()))
    assert body(sent(client, [b"GGUF"]), 206)["needed"] == [262_144]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"PK\x03\x04"], "not-gguf"),
        ([SMALL.read_bytes(), b"<html>"], "not-gguf"),
        ([b"GGUF", b"<html>"], "not-gguf"),
        (split_up(SMALL.read_bytes(), 3)[:2], "incomplete-split"),
        (split_up(SMALL.read_bytes(), 3)[1:], "incomplete-split"),
        ([SMALL.read_bytes()] * 2, "mixed-split"),
    ],
)
def test_files_that_are_no_model(client: FlaskClient, parts: list[bytes], code: str) -> None:
    assert body(sent(client, parts), 400)["error"]["code"] == code


def test_a_part_of_a_set_alone_is_refused_by_name(client: FlaskClient) -> None:
    error = body(client.post(URL, data=split_up(SMALL.read_bytes(), 3)[0]), 400)["error"]
    assert error["message"] == "this model is in 3 files; missing: 2, 3"


def test_a_form_without_a_file(client: FlaskClient) -> None:
    error = body(sent(client, [SMALL.read_bytes()], name="other"), 400)["error"]
    assert (error["code"], error["field"]) == ("no-file", "file")
    assert body(client.post(URL, data={"file": "text"}, content_type="multipart/form-data"), 400)["error"] == error


def test_a_model_that_no_link_can_carry_is_answered_without_one(client: FlaskClient) -> None:
    header = read_header(SMALL)
    data = SMALL.read_bytes()[: header.n_bytes]
    size = sum(tensor.n_bytes + -tensor.n_bytes % 32 for tensor in header.tensors)
    more = data + LE.tensor("naïve", (32,), 0, offset=size)
    more = more[:8] + LE.u64(len(header.tensors) + 1) + more[16:]
    answer = body(client.post(URL, data=more))
    assert answer["model"]["architecture"] == "llama"
    assert (answer["facts"], answer["links"]) == (None, None)
    assert [warning["code"] for warning in answer["warnings"]] == ["no-facts"]
    assert "no link can carry this model" in answer["warnings"][0]["text"]


def test_a_projector_is_answered_with_its_bytes(client: FlaskClient) -> None:
    projector = LE.header([LE.text("general.architecture", "clip")], [LE.tensor("mm.0.weight", (64, 10))])
    answer = body(client.post(URL, data=projector))
    assert answer == {"model": None, "facts": None, "mmproj": 2560, "links": None, "warnings": []}


def test_an_adapter_is_no_model(client: FlaskClient) -> None:
    pairs = [LE.text("general.architecture", "llama"), LE.text("general.type", "adapter")]
    error = body(client.post(URL, data=LE.header(pairs)), 400)["error"]
    assert (error["code"], error["message"]) == ("not-a-model", "this is an adapter for a model, not a model")
