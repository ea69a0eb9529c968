"""The model of a query, and what Ollama's library calls it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from app import hub
from app.errors import RequestError, as_bad_request
from estimator.cautions import Caution
from estimator.errors import FathomError
from estimator.sources.catalogue import catalogue_model
from estimator.sources.ollama import is_library_name, served

if TYPE_CHECKING:
    from estimator import Model


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, where on the Hub it was read (None for others), and what to know about that.

    ``full`` is the model in full precision, None where only this quantization of it is at hand.
    """

    model: Model
    source: hub.Source | None = None
    warnings: tuple[Caution, ...] = ()
    full: Model | None = None


def take_library_name(state: dict[str, Any]) -> None:
    """Put the bundled model, and the quantization that Ollama serves it in, in place of a name of Ollama's library.

    A name that is not at hand stays, for the registry may know it; so does one whose file is another than the bundled.
    Either says itself what it is quantized to, whatever else the query says.
    """
    if not is_library_name(state.get("model", "")):
        return
    state.pop("quant", None)
    try:
        found = served(state["model"])
    except FathomError:
        return
    if not found.differs_from(catalogue_model(found.id, found.file_type).weights_bytes):
        state["model"], state["quant"] = found.id, found.file_type


def from_library(name: str) -> Loaded:
    """A model by its name in Ollama's library: what the registry has, else what is at hand."""
    registry = hub.ollama_registry()
    try:
        if registry is None:
            return _at_hand(name)
        pulled = registry.find(name)
    except FathomError as error:
        raise as_bad_request(error) from None
    except RequestError as error:
        if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        try:
            return _at_hand(name)
        except FathomError:
            raise error from None
    warnings = []
    if pulled.projector:
        text = f"Ollama loads a projector of {pulled.projector:,} bytes beside this model: mmproj={pulled.projector}."
        warnings.append(Caution("ollama-projector", text))
    return Loaded(pulled.model, None, tuple(warnings))


def _at_hand(name: str) -> Loaded:
    """The bundled model that comes nearest to what Ollama serves.

    Raises:
        ModelError: the name is not at hand.
    """
    found = served(name)
    model = catalogue_model(found.id, found.file_type)
    if not found.differs_from(model.weights_bytes):
        return Loaded(model)
    text = f"Ollama's {name} is {found.published_gb:g} GB, another file than the {found.file_type} estimated here."
    return Loaded(model, None, (Caution("ollama-file-differs", text),))
