"""What somebody types to run SGLang as it was estimated (options of arg_groups/fields, 0.5.23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.recipe import Recipe, Source, command
from estimator.engines.sglang_share import page_tokens
from estimator.engines.sglang_tables import is_major

if TYPE_CHECKING:
    from estimator.engines.base import Job

LONGER = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
"""Without it a context beyond the model's own is refused (configs/model_config.py:1303-1315)."""


def recipes(job: Job, source: Source) -> tuple[Recipe, ...]:
    """A server, and the same in Python."""
    note = job.format.note if job.format else ""
    env = {LONGER: 1} if job.n_ctx > job.model.context_length else {}
    words: list[object] = ["python", "-m", "sglang.launch_server", "--model-path", source.checkpoint]
    for name, value in _options(job).items():
        words += [_flag(name)] if value is True else [_flag(name), value]
    serve = Recipe("command", "sglang.launch_server", command(*words, env=env), note)
    return serve, Recipe("python", "Python", _snippet(job, source, bool(env)), note)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _options(job: Job) -> dict[str, object]:
    """Options by the names of ``ServerArgs``; those at their defaults are left out, but for what decides memory."""
    found: dict[str, object] = {"context_length": job.n_ctx}
    if job.type_k.id != "auto":
        found["kv_cache_dtype"] = job.type_k.id
    found["chunked_prefill_size"] = job.chunk
    if len(job.devices) > 1:
        found["tp_size"] = len(job.devices)
    if job.format and job.format.option:
        found["quantization"] = job.format.option
    if backend := _backend(job):
        found["attention_backend"] = backend
    for name in ("mem_fraction_static", "max_running_requests"):
        if job.options[name] is not None:
            found[name] = job.options[name]
    if job.options["page_size"] is not None:
        found["page_size"] = page_tokens(job)
    defaults = {"swa_full_tokens_ratio": 0.8, "mamba_full_memory_ratio": 0.9, "mamba_ssm_dtype": "auto"}
    found |= {name: job.options[name] for name, default in defaults.items() if job.options[name] != default}
    switches = ["disable_radix_cache"] if job.is_on("disable_radix_cache") else []
    if job.is_on("disable_cuda_graph"):
        switches += ["disable_decode_cuda_graph", "disable_prefill_cuda_graph"]
    return found | dict.fromkeys(switches, True)


def _backend(job: Job) -> str:
    """The attention backend of types that the default one does not read (arg_groups/kv_cache_hook.py:259-316)."""
    if job.type_k.id == "mxfp8":
        return "fa4"
    is_read = job.type_k.id != "fp4_mx_block16" or is_major(job.devices[0], 10)
    return "" if is_read else "triton"


def _snippet(job: Job, source: Source, is_longer: bool) -> str:
    pairs = ", ".join(f"{name}={value!r}" for name, value in _options(job).items())
    first = f"import os\n\nos.environ['{LONGER}'] = '1'\n\n" if is_longer else ""
    body = (
        f"    llm = sglang.Engine(model_path={source.checkpoint!r}, {pairs})\n    print(llm.generate('Hello')['text'])"
    )
    return f"{first}import sglang\n\nif __name__ == '__main__':\n{body}\n"
