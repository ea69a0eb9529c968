"""What somebody writes and types to run a model in Ollama as it was estimated (0.33.0-rc2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.recipe import Recipe, Source, command

if TYPE_CHECKING:
    from estimator.engines.base import Job


def recipes(job: Job, source: Source) -> tuple[Recipe, ...]:
    """The server, a Modelfile, and how it is used."""
    return _serve(job), _modelfile(job, source), _create()


def _serve(job: Job) -> Recipe:
    """The server: what is the same for all models is in its environment (envconfig)."""
    env: dict[str, object] = {"OLLAMA_CONTEXT_LENGTH": job.n_ctx, "OLLAMA_NUM_PARALLEL": job.n_requests}
    env["OLLAMA_FLASH_ATTENTION"] = int(job.flash_attn is not False)
    if job.type_k.id != "f16":
        env["OLLAMA_KV_CACHE_TYPE"] = job.type_k.id
    if overhead := job.whole("gpu_overhead"):
        env["OLLAMA_GPU_OVERHEAD"] = overhead
    if len(job.devices) > 1:
        env["OLLAMA_SCHED_SPREAD"] = 1
    note = "One cache type for all models. A server that runs already has to be stopped first."
    return Recipe("command", "ollama serve", command("ollama", "serve", env=env), note)


def _modelfile(job: Job, source: Source) -> Recipe:
    """The same for one model, as far as its parameters go (api/types.go:585-600)."""
    origin = f"./{source.file}" if source.file else source.library or "./model.gguf"
    lines = [f"FROM {origin}", f"PARAMETER num_ctx {job.n_ctx}", f"PARAMETER num_batch {job.chunk}"]
    if (layers := job.whole("num_gpu")) >= 0:
        lines.append(f"PARAMETER num_gpu {layers}")
    return Recipe(
        "file", "Modelfile", "\n".join(lines) + "\n", "OLLAMA_NUM_PARALLEL and the cache type are the server's."
    )


def _create() -> Recipe:
    text = command("ollama", "create", "my-model", "-f", "Modelfile") + " && " + command("ollama", "run", "my-model")
    return Recipe("command", "ollama create", text, "In the folder of the Modelfile.")
