"""What somebody types to run vLLM as it was estimated (options of engine/arg_utils.py, 0.33.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.recipe import Recipe, Source, command
from estimator.engines.vllm_tables import max_num_seqs

if TYPE_CHECKING:
    from estimator.engines.base import Job


def recipes(job: Job, source: Source) -> tuple[Recipe, ...]:
    """A server, and the same in Python."""
    note = job.format.note if job.format else ""
    serve = Recipe("command", "vllm serve", command("vllm", "serve", source.checkpoint, *_words(job)), note)
    return serve, Recipe("python", "Python", _snippet(job, source), note)


def _words(job: Job) -> list[object]:
    """Options of ``vllm serve``; those that are at their defaults are left out, but for what decides memory."""
    words: list[object] = ["--max-model-len", job.n_ctx]
    if job.type_k.id != "auto":
        words += ["--kv-cache-dtype", job.type_k.id]
    words += ["--gpu-memory-utilization", job.number("gpu_memory_utilization")]
    words += ["--max-num-batched-tokens", job.chunk, "--max-num-seqs", max_num_seqs(job)]
    if len(job.devices) > 1:
        words += ["--tensor-parallel-size", len(job.devices)]
    if job.format and job.format.option:
        words += ["--quantization", job.format.option]
    if job.options["block_size"] != "16":
        words += ["--block-size", int(str(job.options["block_size"]))]
    if job.options["mamba_ssm_cache_dtype"] != "auto":
        words += ["--mamba-ssm-cache-dtype", job.options["mamba_ssm_cache_dtype"]]
    if job.is_on("enforce_eager"):
        words.append("--enforce-eager")
    if not job.is_on("enable_prefix_caching"):
        words.append("--no-enable-prefix-caching")
    return words


def _snippet(job: Job, source: Source) -> str:
    """The same in Python: options are named as on the command line, with underscores."""
    words = _words(job)
    pairs: list[str] = []
    for index, word in enumerate(words):
        if not str(word).startswith("--"):
            continue
        name = str(word)[2:]
        following = words[index + 1] if index + 1 < len(words) else "--"
        value = not name.startswith("no-") if str(following).startswith("--") else following
        pairs.append(f"{name.removeprefix('no-').replace('-', '_')}={value!r}")
    arguments = ", ".join([repr(source.checkpoint), *pairs])
    return f"from vllm import LLM\n\nllm = LLM({arguments})\nprint(llm.generate('Hello')[0].outputs[0].text)\n"
