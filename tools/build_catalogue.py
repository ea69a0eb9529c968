"""Writes the bundled models from GGUF headers in full precision.

    python -m tools.build_catalogue FOLDER CONFIGS [--check]

FOLDER holds ``<id>.bf16.gguf`` headers, as llama.cpp's converter writes them; CONFIGS holds one
``<owner>__<name>.json`` for each repository of the Hub, which gives a model its name and, where there is no header of
it, its facts. Models of an architecture that has no reading rule are left out. ``--check`` writes nothing and fails if
the catalogue would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from estimator.errors import ModelError
from estimator.sources.catalogue import CATALOGUE
from estimator.sources.compact import pack
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import read_header
from estimator.sources.hf.read import header_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.model import Model
    from estimator.sources.gguf import GGUFHeader

SUFFIX: Final = ".bf16.gguf"

FAMILIES: Final = (
    ("Llama", r"^(meta-)?llama"),
    ("Qwen 3", r"^qwen3"),
    ("Gemma 3 and 4", r"^gemma-[34]n?-"),
    ("DeepSeek", r"^deepseek-(v|r1$|moe)"),
    ("gpt-oss", r"^gpt-oss"),
    ("Mistral", r"^(mistral|ministral|mixtral|devstral)"),
    ("GLM", r"^(glm|chatglm|solar)"),
    ("Kimi", r"^(kimi|moonlight)"),
    ("MiniMax", r"^minimax"),
    ("Nemotron", r"^(nvidia-)?nemotron"),
    ("Granite", r"^granite"),
    ("Phi", r"^phi"),
    ("OLMo", r"^olmo"),
    ("EXAONE", r"^exaone"),
    ("DeepSeek R1 distilled", r"^deepseek-r1-distill"),
    ("LFM2", r"^lfm2"),
    ("Laguna", r"^laguna"),
    ("Jamba", r"^(ai21-)?jamba"),
    ("Cohere", r"^(aya|c4ai)"),
    ("ERNIE", r"^ernie"),
    ("Hunyuan", r"^(hunyuan|hy\d)"),
    ("Qwen 1 and 2", r"^(qwen-1|qwen1|qwen2|qwq)"),
    ("Gemma 1 and 2", r"^gemma-(2-|2b|7b)"),
    ("Code Llama", r"^codellama"),
    ("Falcon", r"^falcon"),
    ("InternLM", r"^internlm"),
    ("Yi", r"^yi-"),
    ("SmolLM and StarCoder", r"^(smollm|starcoder)"),
    ("Embeddings", r"^(bge|mxbai|nomic|snowflake|all-minilm)"),
    ("Other", r""),
)
"""Families in the order of the picker: (name, what its ids begin with)."""

SPELLING: Final = (
    (r"\bgpt oss\b", "gpt-oss"),
    (r"\bgemma\b", "Gemma"),
    (r"\bsalamandra\b", "Salamandra"),
    (r"\bgranite\b", "Granite"),
    (r"\bglm\b", "GLM"),
    (r"\baya\b", "Aya"),
    (r"\bc4ai command r", "Command R"),
    (r"\bc4ai command a", "Command A"),
    (r"\binternlm", "InternLM"),
    (r"\bchatglm", "ChatGLM"),
    (r"\bbitnet\b", "BitNet"),
    (r"\bllava\b", "LLaVA"),
    (r"\bnomic embed text\b", "Nomic Embed Text"),
    (r"\bsnowflake arctic embed m\b", "Snowflake Arctic Embed M"),
    (r"\bdeepseek moe\b", "DeepSeek MoE"),
    (r"\bsmall en\b", "Small EN"),
    (r"\bmicro\b", "Micro"),
    (r"\btiny\b", "Tiny"),
    (r"\bsmall\b", "Small"),
    (r"\bchat\b", "Chat"),
    (r"\ba(?=\d+m\b)", "A"),
    (r"\bphi\b", "Phi"),
    (r"\bstablelm\b", "StableLM"),
    (r"\bstarcoder", "StarCoder"),
    (r"\bplus\b", "Plus"),
    (r"(?<=\d)_(?=\d)", "."),
    (r"\bllama31 8b\b", "Llama 3.1 8B base"),
    (r"^NVIDIA Nemotron\b", "Nemotron"),
    (r"\bbge\b", "BGE"),
    (r"\bbase en\b", "Base EN"),
    (r"\blarge en\b", "Large EN"),
    (r"\bgpt (neox)\b", r"GPT-NeoX"),
    (r"\bgpt2\b", "GPT-2"),
    (r"\bmedium\b", "Medium"),
    (r"\bmamba\b", "Mamba"),
    (r"^falcon\b", "Falcon"),
    (r"(?<=4\.0 )h\b", "H"),
    (r"\bmxbai embed large\b", "mxbai Embed Large"),
    (r"\bzephyr\b", "Zephyr"),
    (r"\bjais\b", "Jais"),
    (r" BF16$", ""),
    (r"^Meta Llama\b", "Llama"),
    (r"\binstruct\b", "Instruct"),
    (r"\bit$", "IT"),
    (r" hf$", ""),
    (r"(?<=\d)b\b", "B"),
    (r"(?<=\d)m\b", "M"),
    (r"(?<=\d)k\b", "K"),
)
"""How names of repositories become names for people: (pattern, replacement), in this order."""


BY_CONFIG: Final = frozenset({"qwen3.5-0.8b", "qwen3.5-2b"})
"""Models whose header is of another one: their configs are flat where the class nests the text model, so transformers,
and with it the converter, builds a default model of 8 billion parameters."""


def main() -> int:
    """Write or check the catalogue; 1 if the check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("headers", type=Path)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = render(list(records(arguments.headers, arguments.configs)))
    if not arguments.check:
        CATALOGUE.write_text(text, encoding="utf-8")
        return 0
    if CATALOGUE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{CATALOGUE.name} would change", file=sys.stderr)
    return 1


def records(headers: Path, configs: Path) -> Iterator[dict[str, Any]]:
    """One record for each model that can be read."""
    repos = {repo.rpartition("/")[2].lower(): repo for repo in _repos(configs)}
    for path in sorted(headers.glob(f"*{SUFFIX}")):
        id = path.name.removesuffix(SUFFIX)
        if id in BY_CONFIG:
            continue
        header = read_header(path)
        try:
            model = model_from_header(header)
        except ModelError as error:
            if error.code != "unknown-architecture":
                raise
            continue
        repo = repos.get(id)
        yield _record(id, repo, model, header)
    known = {path.name.removesuffix(SUFFIX) for path in headers.glob(f"*{SUFFIX}")} - BY_CONFIG
    for id, repo in sorted(repos.items()):
        if id not in known and (found := _read_config(configs / f"{repo.replace('/', '__')}.json")):
            yield _record(id, repo, *found)


def _read_config(path: Path) -> tuple[Model, GGUFHeader] | None:
    """The model of a config, as its header gives it; None where there is no rule for it, or the config is not whole."""
    config = json.loads(path.read_text(encoding="utf-8"))
    try:
        header = header_of(config)
        return model_from_header(header), header
    except ModelError as error:
        print(f"{path.name}: {error.message[:120]}", file=sys.stderr)
        return None


def _record(id: str, repo: str | None, model: Model, header: GGUFHeader) -> dict[str, Any]:
    return {
        "id": id,
        "name": _spelled((repo or id).rpartition("/")[2]),
        "family": next(name for name, pattern in FAMILIES if re.match(pattern, id)),
        "repo": repo,
        "parameters": model.parameters,
        "context_length": model.context_length,
        **pack(header),
    }


def _spelled(name: str) -> str:
    name = name.replace("-", " ")
    for pattern, replacement in SPELLING:
        name = re.sub(pattern, replacement, name)
    return name


def _repos(configs: Path) -> Iterator[str]:
    for path in sorted(configs.glob("*__*.json")):
        yield path.stem.replace("__", "/", 1)


def render(found: list[dict[str, Any]]) -> str:
    """The catalogue's text: one model a line, by family, then the newest name, then by size."""
    order = [name for name, _ in FAMILIES]
    found.sort(key=lambda record: (order.index(record["family"]), _generation(record["name"]), record["parameters"]))
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in found)
    return f"[\n{lines}\n]\n"


def _generation(name: str) -> float:
    """The version in a name, negative so that the newest sorts first; a size such as 8B is none."""
    match = re.search(r"\d+(\.\d+)?(?![\d.]*[BbMm]\b)", name)
    return -float(match[0]) if match else 0.0


if __name__ == "__main__":
    sys.exit(main())
