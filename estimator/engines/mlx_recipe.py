"""What somebody types to run mlx-lm as it was estimated (argument parsers of generate.py, server.py, convert.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.engines.mlx_tables import packing
from estimator.engines.recipe import Recipe, Source, command

if TYPE_CHECKING:
    from estimator.engines.base import Job

CONVERTED: Final = "mlx_model"
"""The folder that a converted model goes to, as ``mlx_lm.convert`` calls it."""


def recipes(job: Job, source: Source) -> tuple[Recipe, ...]:
    """A server, and Python, which alone bounds the context; before them what makes the weights, if they need it."""
    note = f"mlx-lm has no limit of context: keep prompt and answer of a request within {job.n_ctx:,} tokens"
    found = [
        Recipe(
            "command", "mlx_lm.server", command("mlx_lm.server", "--model", _model(job, source), *_server(job)), note
        ),
        Recipe("python", "Python", _snippet(job, source)),
    ]
    if job.format and job.format.option:
        found.append(
            Recipe("command", "Convert first", _convert(job, source), "once: it writes the folder that is loaded")
        )
    if limit := job.devices[0].wired_limit_mib:
        text = command("sudo", "sysctl", f"iogpu.wired_limit_mb={limit}")
        found.append(Recipe("command", "Wired limit", text, "until the next start of the Mac"))
    return tuple(found)


def _model(job: Job, source: Source) -> str:
    return CONVERTED if job.format and job.format.option else source.checkpoint


def _convert(job: Job, source: Source) -> str:
    assert job.format
    words = ["--hf-path", source.checkpoint, "--mlx-path", CONVERTED, "-q"]
    return command("mlx_lm.convert", *words, "--q-bits", job.format.option, "--q-group-size", job.format.packing.group)


def _narrow(job: Job) -> dict[str, int]:
    """The options of a quantized cache, by their names in Python."""
    kept = packing(job)
    if kept is None:
        return {}
    start = job.whole("quantized_kv_start")
    return {"kv_bits": int(kept.bits), "kv_group_size": kept.group, "quantized_kv_start": start}


def _server(job: Job) -> list[object]:
    words: list[object] = ["--prefill-step-size", job.chunk, "--prompt-cache-size", job.whole("prompt_cache_size")]
    words += ["--decode-concurrency", job.n_requests, "--prompt-concurrency", min(job.n_requests, 8)]
    for name, value in _narrow(job).items():
        words += ["--" + name.replace("_", "-"), value]
    return words


def _snippet(job: Job, source: Source) -> str:
    options = {"prefill_step_size": job.chunk, **_narrow(job)}
    given = "".join(f", {name}={value}" for name, value in options.items())
    return (
        "from mlx_lm import generate, load\n\n"
        f"model, tokenizer = load({_model(job, source)!r})\n"
        "prompt = tokenizer.apply_chat_template([{'role': 'user', 'content': 'Hello'}], add_generation_prompt=True)\n"
        f"print(generate(model, tokenizer, prompt, max_tokens={job.n_ctx} - len(prompt){given}))\n"
    )
