"""All engines, in the order in which a picker shows them. An engine is added by one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.engines import exllamav3, llama_cpp, lmdeploy, mlx, ollama, sglang, transformers, vllm

if TYPE_CHECKING:
    from estimator.engines.base import Engine

MODULES: Final = (llama_cpp, ollama, vllm, sglang, lmdeploy, mlx, transformers, exllamav3)

ENGINES: Final[tuple[Engine, ...]] = tuple(engine for module in MODULES for engine in module.ENGINES)


def engine(id: str) -> Engine | None:
    """The engine, or the program of one, of this id."""
    return next((known for known in ENGINES if known.id == id), None)
