"""Every pair of K and V types: a page of its own that the main page can take in, and the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, Response, jsonify, render_template, url_for

from app import api, pages, text
from app.bodies import model_body
from app.errors import RequestError, as_bad_request
from app.parsing import parse
from app.query import Query, checked
from estimator import matrix as core
from estimator.errors import FathomError
from estimator.quality import figures, notes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from estimator import Model
    from estimator.cautions import Caution
    from estimator.kernels import Kernel, Speed
    from estimator.matrix import Cell, Refusal, Saving, State
    from estimator.quality import Figure, Note

SPEEDS: Final[dict[Speed, str]] = {"fast": "fast", "slow": "slow", "cpu": "on CPU"}
"""What a table says of a kernel, the best first."""

TYPES: Final = ("f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "bf16", "f32")
"""As people look for them: those that are rarely of use last."""

EATEN: Final = 100
"""Scratch is worth a word from this part of the saved cache on."""

HEADS: Final = "head-size-without-flash-attention"
"""The caution that goes for all pairs alike."""

ENGINE: Final = "llama-server"
"""Whose pairs these are; its figures of quality are those of all of llama.cpp."""

blueprint = Blueprint("matrix", __name__)


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair, and the query that leads to it. Sizes are bytes at the context asked for, over all devices."""

    k: str
    v: str
    query: str
    is_chosen: bool
    state: State
    max_context: int
    cache: int
    compute: int
    saving: Saving
    kernel: Kernel | None
    refusal: Refusal | None

    @property
    def name(self) -> str:
        return " : ".join(dict.fromkeys((self.k, self.v)))

    @property
    def speed(self) -> str:
        return SPEEDS[self.kernel.speed] if self.kernel else ""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some pairs are refused, or how fast they are read: a pair of them and how many there are."""

    says: str
    example: Pair
    count: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """Everything that the page and the JSON say."""

    model: Model
    device_names: list[str]
    n_ctx: int
    flash_attn: bool
    is_on_devices: bool
    warnings: tuple[Caution, ...]
    rows: tuple[tuple[Pair, ...], ...]

    @property
    def types(self) -> tuple[str, ...]:
        return TYPES

    @property
    def pairs(self) -> list[Pair]:
        return list(chain.from_iterable(self.rows))

    @property
    def taken(self) -> list[Pair]:
        """The pairs that llama.cpp takes, with the largest caches first."""
        return sorted((pair for pair in self.pairs if not pair.refusal), key=lambda pair: -pair.cache)

    @property
    def has_cache(self) -> bool:
        """Whether any layer keeps keys and values."""
        return any(pair.cache for pair in self.pairs)

    @property
    def refusals(self) -> list[Reason]:
        """One for each reason."""
        return _reasons((pair.refusal.code, pair.refusal.message, pair) for pair in self.pairs if pair.refusal)

    @property
    def kernels(self) -> list[Reason]:
        """One for each kind of kernel, the fast ones first."""
        read = sorted(
            ((pair.kernel, pair) for pair in self.pairs if pair.kernel),
            key=lambda both: list(SPEEDS).index(both[0].speed),
        )
        return _reasons((kernel.why, kernel.why, pair) for kernel, pair in read)

    @property
    def less_than_it_seems(self) -> Pair | None:
        """A pair that shows how scratch eats into what is saved: the chosen one, else one of equal types."""
        if not self.is_on_devices:
            return None
        eaten = [pair for pair in self.taken if 0 < pair.saving.cache < EATEN * pair.saving.scratch]
        return next(
            (pair for pair in eaten if pair.is_chosen), next((pair for pair in eaten if pair.k == pair.v), None)
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        return figures(ENGINE)

    @property
    def notes(self) -> tuple[Note, ...]:
        return notes(ENGINE, model=self.model)


def init_app(app: Flask) -> None:
    """Add the page and its JSON to an application."""
    app.register_blueprint(blueprint)
    app.add_template_filter(text.more, "more")


@blueprint.get("/matrix")
def page() -> tuple[str, int, dict[str, str]]:
    """All pairs of a state; what cannot be is refused as on the main page."""
    try:
        query = parse(pages.given_state())
        found = answer(query)
    except RequestError as error:
        return pages.refused("matrix.html", error)
    return render_template("matrix.html", matrix=found, back=_link(url_for("pages.index"), query)), 200, {}


@blueprint.route("/api/v1/matrix", methods=["GET", "POST"])
def api_matrix() -> Response:
    """The same as JSON, from the query, a form or a JSON object."""
    query = parse(api.given_state())
    return jsonify(_body(query, answer(query)))


def answer(query: Query) -> Matrix:
    """All pairs of a state.

    Raises:
        RequestError: the state cannot be, whatever the pair is: with the query's own name of the field.
    """
    return _answer(query, query.load().model)


@lru_cache(maxsize=64)
def _answer(query: Query, model: Model) -> Matrix:
    asked = checked(query, model)
    try:
        cells = core.matrix(*asked, TYPES)
    except FathomError as error:
        raise as_bad_request(error) from None
    plain = next(cell for cell in chain.from_iterable(cells) if cell.k == cell.v == core.PLAIN)
    assert plain.estimate
    return Matrix(
        model=model,
        device_names=[text.device_name(device) for device in asked.devices],
        n_ctx=plain.estimate.context.n_ctx,
        flash_attn=plain.estimate.context.flash_attn,
        is_on_devices=query.kvo,
        warnings=tuple(caution for caution in plain.estimate.warnings if caution.code == HEADS),
        rows=tuple(tuple(_pair(query, cell, plain) for cell in row) for row in cells),
    )


def _pair(query: Query, cell: Cell, plain: Cell) -> Pair:
    kv = (cell.k, cell.v)
    return Pair(
        *kv,
        query=replace(query, kv=kv).canonical(),
        is_chosen=kv == query.kv,
        state=cell.state,
        max_context=cell.max_context,
        cache=cell.cache,
        compute=cell.compute,
        saving=cell.saving(plain),
        kernel=cell.kernel,
        refusal=cell.refusal,
    )


def _reasons(said: Iterable[tuple[str, str, Pair]]) -> list[Reason]:
    """One for each key of (key, sentence, pair), in order; the first pair is the example."""
    groups: dict[str, list[tuple[str, Pair]]] = {}
    for key, says, pair in said:
        groups.setdefault(key, []).append((says, pair))
    return [Reason(*found[0], len(found)) for found in groups.values()]


def _link(path: str, query: Query) -> str:
    return f"{path}?{query.canonical()}" if query.canonical() else path


def _body(query: Query, found: Matrix) -> dict[str, Any]:
    page = url_for("pages.index", _external=True)
    return {
        "model": {"id": None if query.facts else query.model, **model_body(found.model)},
        "n_ctx": found.n_ctx,
        "flash_attn": found.flash_attn,
        "pairs": [_pair_body(pair, page) for pair in found.pairs],
        "quality": {
            "figures": [{**figure._asdict(), "source": figure.source._asdict()} for figure in found.figures],
            "notes": [{"text": note.text, "source": note.source._asdict()} for note in found.notes],
        },
        "links": {"page": _link(page, query), "self": _link(url_for("matrix.api_matrix", _external=True), query)},
    }


def _pair_body(pair: Pair, page: str) -> dict[str, Any]:
    sizes = {
        "max_context": pair.max_context,
        "kv_cache": pair.cache,
        "compute": pair.compute,
        "saved": {"kv_cache": pair.saving.cache, "scratch": pair.saving.scratch, "net": pair.saving.net},
    }
    return {
        "cache_type_k": pair.k,
        "cache_type_v": pair.v,
        "state": pair.state,
        **(dict.fromkeys(sizes) if pair.refusal else sizes),
        "kernel": pair.kernel._asdict() if pair.kernel else None,
        "refusal": pair.refusal._asdict() if pair.refusal else None,
        "page": f"{page}?{pair.query}" if pair.query else page,
    }
