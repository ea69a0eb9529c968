"""What somebody types to run LMDeploy as it was estimated (options of cli/serve.py and messages.py, 0.16.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.engines.lmdeploy_tables import backend, max_batch_size
from estimator.engines.recipe import Recipe, Source, command

if TYPE_CHECKING:
    from estimator.engines.base import Job

POLICIES: Final = {"none": 0, "int4": 4, "int8": 8, "fp8": 16, "fp8_e5m2": 17, "turbo_quant": 42}
"""Numbers that the Python interface takes (messages.py:20-27)."""


def recipes(job: Job, source: Source) -> tuple[Recipe, ...]:
    """A server, and the same in Python."""
    note = job.format.note if job.format else ""
    words: list[object] = ["lmdeploy", "serve", "api_server", source.checkpoint, "--backend", backend(job)]
    for name, value in _options(job).items():
        words += ["--" + name.replace("_", "-"), value]
    serve = Recipe("command", "lmdeploy serve", command(*words), note)
    return serve, Recipe("python", "Python", _snippet(job, source), note)


def _options(job: Job) -> dict[str, object]:
    """Options by the names of the command line; those at their defaults are left out, but for what decides memory."""
    found: dict[str, object] = {"session_len": job.n_ctx}
    if job.type_k.id != "none":
        found["quant_policy"] = job.type_k.id
    found["cache_max_entry_count"] = job.number("cache_max_entry_count")
    found["max_batch_size"] = max_batch_size(job)
    found["max_prefill_token_num"] = job.chunk
    if job.options["cache_block_seq_len"] != "64":
        found["cache_block_seq_len"] = int(str(job.options["cache_block_seq_len"]))
    if len(job.devices) > 1:
        found["tp"] = len(job.devices)
    if job.format and job.format.option:
        found["model_format"] = job.format.option
    return found


def _snippet(job: Job, source: Source) -> str:
    """The same in Python: the engine's configuration has a class of its own."""
    found = _options(job)
    if "quant_policy" in found:
        found["quant_policy"] = POLICIES[job.type_k.id]
    is_pytorch = backend(job) == "pytorch"
    if is_pytorch and "cache_block_seq_len" in found:
        found["block_size"] = found.pop("cache_block_seq_len")
    name = "PytorchEngineConfig" if is_pytorch else "TurbomindEngineConfig"
    pairs = ", ".join(f"{key}={value!r}" for key, value in found.items())
    return (
        f"from lmdeploy import {name}, pipeline\n\nif __name__ == '__main__':\n"
        f"    config = {name}({pairs})\n"
        f"    print(pipeline({source.checkpoint!r}, backend_config=config)('Hello').text)\n"
    )
