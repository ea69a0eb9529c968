"""What somebody types to run a program of llama.cpp as it was estimated (options of b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.recipe import Recipe, Source, command

if TYPE_CHECKING:
    from estimator.engines.base import Job
    from estimator.engines.llama_cpp import Program
    from estimator.settings import Settings


def recipe(program: Program, job: Job, settings: Settings, source: Source) -> Recipe:
    """The command of a program."""
    if program.id == "llama-bench":
        return _bench(job, settings, source)
    return _command(program, job, settings, source)


def _command(program: Program, job: Job, settings: Settings, source: Source) -> Recipe:
    """A server or a chat (options of common/arg.cpp)."""
    words: list[object] = [program.id, *_model(source), "-c", settings.n_ctx]
    if settings.n_parallel != program.n_parallel:
        words += ["-np", settings.n_parallel]
    words += ["-ngl", "all" if settings.n_gpu_layers < 0 else settings.n_gpu_layers]
    words += ["-fa", "on" if settings.flash_attn else "off"]
    words += ["-ctk", settings.cache_type_k, "-ctv", settings.cache_type_v]
    words += ["-b", settings.n_batch, "-ub", settings.n_ubatch]
    return Recipe("command", program.id, command(*words, *_placement(job, settings)))


def _model(source: Source) -> list[object]:
    """Where it is loaded from: a repository and a file of it, or a file at hand."""
    if not source.repo:
        return ["-m", source.gguf]
    return ["-hf", source.repo, *(["-hff", source.file] if source.file else [])]


def _bench(job: Job, settings: Settings, source: Source) -> Recipe:
    """A measurement at the end of the context: ``-p`` tokens after a depth of ``-d``."""
    n_ctx = settings.n_ctx or job.n_ctx
    prompt = min(settings.n_ubatch, n_ctx)
    words: list[object] = ["llama-bench", "-m", source.gguf, "-p", prompt, "-n", 0, "-d", n_ctx - prompt]
    words += ["-ngl", 999 if settings.n_gpu_layers < 0 else settings.n_gpu_layers, "-fa", int(settings.flash_attn)]
    words += ["-ctk", settings.cache_type_k, "-ctv", settings.cache_type_v]
    words += ["-b", settings.n_batch, "-ub", settings.n_ubatch]
    if not settings.offload_kqv:
        words += ["-nkvo", 1]
    if split := job.options.get("tensor_split"):
        words += ["-ts", str(split).replace(",", "/")]  # commas part the values of a series of runs
    if settings.cpu_tensors is not None:
        words += ["-ot", f"{settings.cpu_tensors}=CPU"]
    return Recipe("command", "llama-bench", command(*words))


def _placement(job: Job, settings: Settings) -> list[object]:
    """What is not where it would be by default."""
    words: list[object] = []
    if (experts := job.whole("n_cpu_moe")) < 0:
        words.append("-cmoe")
    elif experts:
        words += ["-ncmoe", experts]
    if dense := job.whole("n_cpu_ffn"):
        words += ["-ncffn", dense]
    if not settings.offload_kqv:
        words.append("-nkvo")
    if settings.swa_full:
        words.append("--swa-full")
    if split := job.options.get("tensor_split"):
        words += ["-ts", split]
    if job.companions.draft:
        words += ["-md", "draft.gguf"]
    if job.companions.projector:
        words += ["--mmproj", "mmproj.gguf"]
    return words
