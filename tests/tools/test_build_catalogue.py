"""The tool that writes the catalogue."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from estimator.errors import ModelError
from estimator.sources import catalogue
from estimator.sources.compact import pack
from estimator.sources.gguf import read_header
from tests.estimator.sources.gguf_bytes import LE
from tools import build_catalogue

DATA = Path(__file__).parents[1] / "data" / "gguf"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Headers and configs of three models, and a catalogue to write to."""
    headers, configs = tmp_path / "headers", tmp_path / "configs"
    headers.mkdir()
    configs.mkdir()
    for source, id in (("llama-dense", "llama-9.9-2b-instruct"), ("gemma3-dense", "gemma-3-1b-it")):
        shutil.copy(DATA / f"{source}.gguf", headers / f"{id}.bf16.gguf")
    shutil.copy(DATA / "gpt-oss-moe.gguf", headers / "gpt-oss-1b.q4_k_m.gguf")
    (headers / "strange-1b.bf16.gguf").write_bytes(LE.header([LE.text("general.architecture", "strange")]))
    (configs / "google__gemma-3-1b-it.json").write_text("{}")
    monkeypatch.setattr(build_catalogue, "CATALOGUE", tmp_path / "models.json")
    return tmp_path


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["build_catalogue", str(folder / "headers"), str(folder / "configs"), *options])
    return build_catalogue.main()


def test_it_writes_what_it_can_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(folder, monkeypatch) == 0
    llama, gemma = json.loads((folder / "models.json").read_text())
    assert (llama["id"], llama["name"], llama["family"], llama["repo"]) == (
        *("llama-9.9-2b-instruct", "llama 9.9 2B Instruct", "Llama"),
        None,
    )
    assert (gemma["id"], gemma["name"], gemma["family"], gemma["repo"]) == (
        *("gemma-3-1b-it", "Gemma 3 1B IT", "Gemma 3 and 4"),
        "google/gemma-3-1b-it",
    )
    assert (gemma["parameters"], gemma["context_length"]) == (1_184_028, 256)
    header = json.loads(json.dumps(pack(read_header(DATA / "gemma3-dense.gguf"))))
    assert {key: gemma[key] for key in header} == header
    assert (folder / "models.json").read_text().count("\n") == 4


def test_what_it_writes_is_a_catalogue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder, monkeypatch)
    assert set(json.loads((folder / "models.json").read_text())[0]) == set(
        json.loads(catalogue.CATALOGUE.read_text())[0]
    )


def test_check_passes_only_while_nothing_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, monkeypatch)
    written = (folder / "models.json").read_text()
    assert run(folder, monkeypatch, "--check") == 0
    shutil.copy(DATA / "qwen3moe-moe.gguf", folder / "headers" / "qwen3-1b.bf16.gguf")
    assert run(folder, monkeypatch, "--check") == 1
    assert "models.json would change" in capsys.readouterr().err
    assert (folder / "models.json").read_text() == written
    assert run(folder, monkeypatch) == 0
    assert run(folder, monkeypatch, "--check") == 0


def test_a_damaged_header_is_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "headers" / "bad.bf16.gguf").write_bytes(LE.header([LE.text("general.architecture", "llama")]))
    with pytest.raises(ModelError) as caught:
        run(folder, monkeypatch)
    assert caught.value.code == "missing-key"
    assert not (folder / "models.json").exists()


def test_the_order_is_by_family_then_newest_then_size() -> None:
    def record(name: str, family: str, parameters: int) -> dict[str, object]:
        return {"name": name, "family": family, "parameters": parameters}

    found = [
        record("Llama 2 7B", "Llama", 7),
        record("Other 1B", "Other", 1),
        record("Llama 3.1 70B", "Llama", 70),
        record("Llama 3.1 8B", "Llama", 8),
        record("gpt-oss 20B", "gpt-oss", 20),
        record("Llama 3.3 70B", "Llama", 70),
    ]
    names = [entry["name"] for entry in json.loads(build_catalogue.render(found))]
    assert names == ["Llama 3.3 70B", "Llama 3.1 8B", "Llama 3.1 70B", "Llama 2 7B", "gpt-oss 20B", "Other 1B"]


def test_the_bundled_catalogue_is_as_it_is_rendered() -> None:
    text = catalogue.CATALOGUE.read_text(encoding="utf-8")
    assert build_catalogue.render(json.loads(text)) == text
