"""Models on the Hub through the JSON API: what is answered, and what that costs the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app import create_app
from app.hub import weights
from estimator import read_gguf
from estimator.sources.catalogue import catalogue_model
from tests.app.hub.conftest import Visitor
from tests.app.hub.headers import GIB, large, parts, small
from tests.estimator.sources.hf import configs
from tests.hub_server import COMMIT, TOKEN, Blob, Fault, HubServer, Repo

if TYPE_CHECKING:
    from estimator import Model

FILES = {
    "m-Q4_K_M.gguf": small(4 * GIB),
    "m-Q8_0.gguf": small(8 * GIB),
    "sub folder/m-BF16.gguf": small(16 * GIB),
    "mmproj-F16.gguf": small(),
    "README.md": Blob(b"# m", is_large=False),
}


def paths(hub: HubServer) -> list[str]:
    """What was asked of the Hub itself, without what it redirected."""
    return [one.path for one in hub.asked if not one.path.startswith("/storage")]


def test_a_repository_answers_with_the_quantization_that_is_asked_for(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo(FILES)
    for quant, file in (("", "m-Q4_K_M.gguf"), ("Q8_0", "m-Q8_0.gguf"), ("BF16", "sub folder/m-BF16.gguf")):
        answer = visitor.answer("o/r", quant=quant)
        source = answer["model"]["source"]
        assert (source["repo"], source["revision"], source["commit"]) == ("o/r", None, COMMIT)
        assert (source["file"], source["parts"]) == (file, [file])
        assert source["stale_seconds"] is None
        assert answer["warnings"] == []
        assert [other["model"] for other in source["files"]] == [
            "o/r/m-Q4_K_M.gguf",
            "o/r/m-Q8_0.gguf",
            "o/r/sub folder/m-BF16.gguf",
        ]
        assert [other["quantization"] for other in source["files"]] == ["Q4_K_M", "Q8_0", "BF16"]
        assert source["aside"] == [{"file": "mmproj-F16.gguf", "bytes": GIB}]


def test_the_model_is_that_of_the_header(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["Google/Gemma-3-270m-GGUF"] = Repo({"Gemma-Q8_0.gguf": Blob(large(), GIB)})
    expected = read_gguf(large())
    answer = visitor.answer("Google/Gemma-3-270m-GGUF/Gemma-Q8_0.gguf")["model"]
    assert answer["id"] == "Google/Gemma-3-270m-GGUF/Gemma-Q8_0.gguf"
    for name in ("architecture", "parameters", "weights_bytes", "context_length", "n_layer", "n_vocab"):
        assert answer[name] == getattr(expected, name)


def test_a_real_header_costs_few_bytes_and_trips(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": Blob(large(), 300 * GIB)})
    visitor.answer("o/r/m.gguf")
    assert len(hub.ranges()) <= 4
    assert sum(one.sent for one in hub.ranges()) <= 1.25 * len(large())
    assert len(paths(hub)) == 1 + len(hub.ranges())


def test_what_is_known_is_not_asked_again(hub: HubServer, visitor: Visitor, settings: dict[str, Any]) -> None:
    hub.repos["o/r"] = Repo(FILES)
    first = visitor.answer("o/r")
    asked = len(hub.asked)
    assert visitor.answer("o/r") == first
    assert Visitor(create_app(settings)).answer("o/r/m-Q4_K_M.gguf")["max_context"] == first["max_context"]
    assert len(hub.asked) == asked


def test_a_new_commit_fetches_only_what_changed(
    hub: HubServer, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    visitor = Visitor(create_app({**settings, "HUB_FRESH_SECONDS": 0}))
    hub.repos["o/r"] = Repo(FILES)
    visitor.answer("o/r")
    hub.asked.clear()
    hub.repos["o/r"] = Repo(FILES | {"README.md": Blob(b"new", is_large=False)}, commit="d" * 40)
    assert visitor.answer("o/r")["model"]["source"]["commit"] == "d" * 40
    assert paths(hub) == ["/api/models/o/r?blobs=true"]
    hub.repos["o/r"] = Repo(FILES | {"m-Q4_K_M.gguf": Blob(large(), GIB)}, commit="e" * 40)
    assert visitor.answer("o/r")["model"]["architecture"] == "gemma3"


def test_a_split_model_is_read_from_all_its_parts(hub: HubServer, visitor: Visitor) -> None:
    names = [f"Q8_0/m-Q8_0-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    hub.repos["o/r"] = Repo(dict(zip(names, parts(3), strict=True)))
    answer = visitor.answer(f"o/r/{names[1]}")["model"]
    assert answer["parameters"] == read_gguf(small().head).parameters
    assert answer["source"]["file"] == names[0]
    assert answer["source"]["parts"] == names
    assert answer["source"]["file_bytes"] == 3 * GIB


@pytest.mark.parametrize("revision", ["v1", "refs/pr/7", COMMIT, "main"])
def test_a_revision(hub: HubServer, visitor: Visitor, revision: str) -> None:
    hub.repos["o/r"] = Repo(FILES, revisions=("main", "v1", "refs/pr/7"))
    answer = visitor.answer(f"o/r/m-Q8_0.gguf@{revision}")
    assert answer["model"]["id"] == f"o/r/m-Q8_0.gguf@{revision}"
    assert answer["model"]["source"]["revision"] == revision
    assert answer["model"]["source"]["files"][0]["model"] == f"o/r/m-Q4_K_M.gguf@{revision}"
    assert answer["links"]["page"].endswith(f"?model=o/r/m-Q8_0.gguf@{revision}")


def test_a_link_from_the_browser_becomes_the_name(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo(FILES)
    answer = visitor.answer("https://huggingface.co/o/r/blob/main/sub%20folder/m-BF16.gguf?download=true")
    assert answer["model"]["id"] == "o/r/sub folder/m-BF16.gguf"
    assert answer["links"]["self"].endswith("?model=o/r/sub+folder/m-BF16.gguf")


def test_another_quantization_than_asked_is_said(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo({"m-Q5_K_M.gguf": small(5 * GIB), "m-Q2_K.gguf": small(3 * GIB)})
    (warning,) = visitor.answer("o/r")["warnings"]
    assert warning["code"] == "other-quantization"
    assert "no Q4_K_M" in warning["text"]
    assert "m-Q5_K_M.gguf" in warning["text"]
    assert visitor.answer("o/r/m-Q5_K_M.gguf")["warnings"] == []
    hub.repos["o/s"] = Repo({"model.gguf": small()})
    assert visitor.answer("o/s")["warnings"] == []


def test_the_token_of_the_server_opens_what_is_gated(
    hub: HubServer, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    visitor = Visitor(create_app(settings))
    hub.repos["o/gated"] = Repo(FILES, gated=True)
    hub.repos["o/private"] = Repo(FILES, private=True)
    for repo in hub.repos:
        assert TOKEN not in visitor.get(repo).text
        assert visitor.answer(repo)["model"]["source"]["file"] == "m-Q4_K_M.gguf"
    visitor.error("o/none", 404)
    assert TOKEN not in caplog.text
    assert {one.token for one in hub.asked if one.path.startswith("/storage")} == {None}


def test_a_token_in_a_home_folder_is_not_used(
    hub: HubServer, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    hub.repos["o/r"] = Repo(FILES)
    visitor.answer("o/r")
    assert {one.token for one in hub.asked} == {None}


def config(hub: HubServer, files: dict[str, Blob]) -> None:
    hub.repos["o/r"] = Repo({"config.json": Blob(b'{"model_type": "llama"}', is_large=False), **files})


def safetensors(tensors: dict[str, tuple[str, list[int]]]) -> Blob:
    header = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, (dtype, shape) in tensors.items()
    }
    text = json.dumps(header).encode()
    return Blob(len(text).to_bytes(8, "little") + text, GIB)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What the estimator is given of a repository without GGUF files; it says that it is a bundled model."""
    calls = []

    def read_hf(config: Any, tensors: Any) -> Model:
        calls.append((config, tensors))
        return catalogue_model("llama-3.2-1b-instruct", "BF16")

    monkeypatch.setattr(weights, "read_hf", read_hf)
    weights.full_model.cache_clear()
    return calls


def test_a_repository_with_safetensors(hub: HubServer, visitor: Visitor, given: list[tuple[Any, Any]]) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    blobs = [safetensors({"a": ("BF16", [4, 8])}), safetensors({"b": ("F8_E4M3", [2]), "c": ("F32", [])})]
    config(hub, dict(zip(names, blobs, strict=True)))
    answer = visitor.answer("o/r", quant="Q8_0")
    assert given == [
        ({"model_type": "llama"}, {"a": ("BF16", (4, 8)), "b": ("F8_E4M3", (2,)), "c": ("F32", ())}),
    ]
    assert (answer["model"]["name"], answer["model"]["file_type"]) == ("r", "Q8_0")
    assert answer["model"]["source"]["file"] is None
    asked = len(hub.asked)
    visitor.answer("o/r", quant="Q4_K_M")
    assert len(hub.asked) == asked


@pytest.mark.parametrize("id", ["qwen3-0.6b", "gemma-3-1b-it", "deepseek-v2-lite"])
def test_a_real_configuration_answers_as_the_bundled_model(hub: HubServer, visitor: Visitor, id: str) -> None:
    blob = Blob(json.dumps(configs.config(id)).encode(), is_large=False)
    hub.repos["o/r"] = Repo({"config.json": blob})
    found, bundled = visitor.answer("o/r", quant="Q4_K_M"), visitor.answer(id, quant="Q4_K_M")
    assert found["devices"] == bundled["devices"]
    assert found["max_context"] == bundled["max_context"]


@pytest.mark.parametrize("files", [{}, {"model.safetensors": Blob(b"\xff" * 100)}, {"model.safetensors": Blob(b"")}])
def test_a_configuration_alone(
    hub: HubServer, visitor: Visitor, given: list[tuple[Any, Any]], files: dict[str, Blob]
) -> None:
    config(hub, files)
    visitor.answer("o/r")
    assert given == [({"model_type": "llama"}, None)]


def test_weights_that_fail_once_are_not_forgotten(
    hub: HubServer, visitor: Visitor, given: list[tuple[Any, Any]]
) -> None:
    config(hub, {"model.safetensors": safetensors({"a": ("BF16", [4, 8])})})
    hub.faults.append(Fault("^/storage", 503, times=1))
    assert visitor.error("o/r", 502)["code"] == "hub-error"
    visitor.answer("o/r")
    assert given == [({"model_type": "llama"}, {"a": ("BF16", (4, 8))})]


def test_no_model_at_all(hub: HubServer, visitor: Visitor, given: list[tuple[Any, Any]]) -> None:
    hub.repos["o/r"] = Repo({"README.md": FILES["README.md"]})
    assert visitor.error("o/r", 400)["code"] == "no-gguf"
    for path in ("m.gguf", "folder"):
        assert visitor.error(f"o/r/{path}", 404)["code"] == "no-such-file"
    assert given == []


def test_the_endpoint_of_the_environment(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["o/r"] = Repo(FILES)
    script = (
        "from app import create_app\n"
        "reply = create_app().test_client().get('/api/v1/estimate?model=o/r')\n"
        "print(reply.get_json()['model']['source']['file'])\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint + "/", "FATHOM_HUB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "m-Q4_K_M.gguf", done.stderr
    assert (tmp_path / "cache" / "hub.sqlite").exists()
