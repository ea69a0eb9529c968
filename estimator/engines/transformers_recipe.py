"""A Python program that runs a model as it was estimated (``from_pretrained`` and ``generate`` of Transformers)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.recipe import Recipe, Source
from estimator.engines.transformers_tables import backend, bits

if TYPE_CHECKING:
    from estimator.engines.base import Job

NEEDS = {"hqq": "pip install hqq", "quanto": "pip install optimum-quanto"}


def recipes(job: Job, source: Source) -> tuple[Recipe, ...]:
    """One program."""
    how = backend(job.type_k)
    note = "needs " + NEEDS[how] if how in NEEDS else ""
    return (Recipe("python", "Python", _snippet(job, source), note),)


def _snippet(job: Job, source: Source) -> str:
    config, quantization = _quantization(job)
    imports = sorted({"AutoModelForCausalLM", "AutoTokenizer", *([config] if config else [])})
    loading = {"dtype": "'auto'", "device_map": "'cuda:0'", **quantization}
    loading["attn_implementation"] = repr(str(job.options["attn_implementation"]))
    generating = {
        "max_new_tokens": f"{job.n_ctx} - inputs['input_ids'].shape[1]",
        **_cache(job),
        **({"prefill_chunk_size": str(job.chunk)} if job.run.chunk else {}),
    }
    messages = "[{'role': 'user', 'content': 'Hello'}]"
    return (
        f"from transformers import {', '.join(imports)}\n\n"
        f"name = {source.checkpoint!r}\n"
        "tokenizer = AutoTokenizer.from_pretrained(name)\n"
        f"model = AutoModelForCausalLM.from_pretrained(name, {_given(loading)})\n"
        "inputs = tokenizer.apply_chat_template(\n"
        f"    [{messages}] * {job.n_requests}, add_generation_prompt=True, return_dict=True, return_tensors='pt'\n"
        ").to(model.device)\n"
        f"tokens = model.generate(**inputs, {_given(generating)})\n"
        "print(tokenizer.decode(tokens[0]))\n"
    )


def _given(options: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _cache(job: Job) -> dict[str, str]:
    """The options of ``generate`` that say what the cache is."""
    how = backend(job.type_k)
    if not how:
        return {"cache_implementation": repr(str(job.options["cache_implementation"]))}
    config: dict[str, str | int] = {"backend": how}
    if how != "fp8":
        config["nbits"] = bits(job.type_k)
        config["q_group_size"] = int(str(job.options["q_group_size"]))
        config["residual_length"] = job.whole("residual_length")
    return {"cache_implementation": "'quantized'", "cache_config": repr(config)}


def _quantization(job: Job) -> tuple[str, dict[str, str]]:
    """The class that a format needs, and what is given to ``from_pretrained``."""
    made = {
        "int8": ("BitsAndBytesConfig", "BitsAndBytesConfig(load_in_8bit=True)"),
        "nf4": (
            "BitsAndBytesConfig",
            "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_compute_dtype='bfloat16')",
        ),
        "hqq4": ("HqqConfig", "HqqConfig(nbits=4, group_size=64)"),
    }
    name, call = made.get(job.format.id if job.format else "", ("", ""))
    return name, {"quantization_config": call} if call else {}
