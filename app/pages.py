"""The page: its query string is the whole state."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, render_template, request, url_for

from app import text
from app.devices import device_text
from app.errors import RequestError
from app.form import Form, form, typed
from app.parsing import engine_of, parse
from app.query import Query
from app.switching import switched
from app.view import answer
from estimator.accuracy import PLACEMENTS, bands, total

if TYPE_CHECKING:
    from app.result import Result
    from estimator.accuracy import Band

pages = Blueprint("pages", __name__)

REMOVE: Final = "remove"
"""What the list beside a device offers besides others."""


@dataclass(frozen=True, slots=True)
class Page:
    """The template's context. One of ``result`` and ``error`` is there."""

    form: Form
    canonical: str
    api: str
    pairs: str
    compare: str
    result: Result | None
    error: RequestError | None
    note: str = ""


def init_app(app: Flask) -> None:
    """Add the page and the filters of its template to an application."""
    app.register_blueprint(pages)
    for name in ("size", "tokens", "parameters", "device_name", "rate", "speed"):
        app.add_template_filter(getattr(text, name), name)
    app.add_template_filter(device_text, "device_text")


@pages.get("/")
def index() -> tuple[str, int, dict[str, str]]:
    """The page of a state; a state that cannot be keeps what was typed and says what would work."""
    given, note = switched(given_state(), request.args.get("was", ""))
    try:
        query = parse(given)
        result = answer(query)
    except RequestError as error:
        said = {name: present for name, values in given.items() if (present := _present(values))}
        kept = typed(Query(engine=engine_of(said).id)) | said
        return _render(Page(form(kept), request.full_path, "", "", "", None, error)), error.status, error.headers
    suffix = f"?{query.canonical()}" if query.canonical() else ""
    page = Page(
        form=form(typed(query)),
        canonical=url_for("pages.index", _external=True) + suffix,
        api=url_for("api.api_estimate", _external=True) + suffix,
        pairs=url_for("matrix.page") + suffix if query.program else "",
        compare=url_for("compare.page") + suffix,
        result=result,
        error=None,
        note=note,
    )
    return _render(page), 200, {}


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the report on accuracy."""

    architecture: str
    where: str
    band: Band


@pages.get("/accuracy")
def accuracy() -> str:
    """How near the estimates were to llama.cpp's own breakdowns."""
    rows = [
        Measured(name, PLACEMENTS[where], band) for name, places in bands().items() for where, band in places.items()
    ]
    return render_template("accuracy.html", rows=rows, total=total(row.band for row in rows))


def _present(values: list[str]) -> list[str]:
    """What was typed or chosen: the list that adds a device is mostly empty."""
    return [value for value in values if value.strip()]


def refused(template: str, error: RequestError) -> tuple[str, int, dict[str, str]]:
    """A page beside the main one that says what cannot be, with the way back to the form that keeps what was typed."""
    suffix = f"?{request.query_string.decode()}" if request.query_string else ""
    return render_template(template, error=error, back=url_for("pages.index") + suffix), error.status, error.headers


def given_state() -> dict[str, list[str]]:
    """The query, with what was browsed for in the place of what was typed, and the lists for K and V as one pair."""
    given = {name: request.args.getlist(name) for name in request.args if name != "was"}
    bundled = _present(given.pop("bundled", []))
    if bundled:
        given["model"] = bundled
    if picked := given.pop("pick", []):
        given["device"] = _picked(given.get("device", []), picked)
    sides = [given.pop(name, [""])[0] for name in ("k", "v")]
    if any(sides) and not any(given.get("kv", [])):
        given["kv"] = [":".join(side or "f16" for side in sides)]
    return given


def _picked(typed: list[str], picked: list[str]) -> list[str]:
    """The devices that were typed, each with what was browsed for in the list beside it in its place."""
    pairs = zip_longest(typed, picked, fillvalue="")
    return ["" if pick == REMOVE else pick or name for name, pick in pairs]


def _render(page: Page) -> str:
    context: dict[str, Any] = {field.name: getattr(page, field.name) for field in fields(page)}
    return render_template("index.html", **context)
