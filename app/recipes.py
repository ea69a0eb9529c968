"""What somebody types to run a state: the engine's own recipe, with the names under which its model is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import hub
from estimator.engines.recipe import Source
from estimator.errors import FathomError
from estimator.sources.catalogue import entries
from estimator.sources.ollama import is_library_name

if TYPE_CHECKING:
    from app.query import Query
    from estimator import Model
    from estimator.engines.recipe import Recipe


def recipes(query: Query, model: Model) -> tuple[Recipe, ...]:
    """Commands, files and snippets, the most usual first; none where the engine refuses the state."""
    engine = query.known_engine
    try:
        job = engine.job(model, query.run(), query.devices(), query.companions())
        return engine.recipes(job, source(query))
    except FathomError:
        return ()


def source(query: Query) -> Source:
    """Where the model of a state comes from, as far as it says so."""
    if query.facts:
        return Source()
    if is_library_name(query.model):
        return Source(library=query.model)
    loads_checkpoints = bool(query.known_engine.weight_formats)
    if hub.is_name(query.model):
        name = hub.parse_name(query.model)
        if name.is_file or loads_checkpoints:
            return Source(repo=name.repo, file=name.path if name.is_file else "")
        return Source(file=f"{name.repo.partition('/')[2]}-{query.quant}.gguf")
    entry = next((one for one in entries() if one.id == query.model), None)
    if loads_checkpoints:
        return Source(repo=entry.repo or "" if entry else "")
    return Source(file=f"{query.model}-{query.quant}.gguf")
