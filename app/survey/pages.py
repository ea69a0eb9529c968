"""The page of a survey and its JSON: the query string is the whole state of both."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, render_template, request, url_for

from app.errors import RequestError
from app.form import Option, form
from app.pages import given_state
from app.survey.query import KINDS, QUANTIZATIONS, SORTS, Survey, parse
from app.survey.view import Result, Row, answer, why_not
from app.values import texts
from estimator.engines.llama_cpp import PROGRAMS
from estimator.ggml import CACHE_TYPES
from estimator.sources.catalogue import entries

if TYPE_CHECKING:
    from app.survey.view import Refused
    from estimator.survey import Choice, Found

survey = Blueprint("survey", __name__)


@survey.get("/what-runs")
def page() -> tuple[str, int, dict[str, str]]:
    """The page of a state; a state that cannot be keeps what was typed and says what would work."""
    given = given_state()
    try:
        state = parse(given)
        result = answer(state)
    except RequestError as error:
        present = {name: [value for value in values if value.strip()] for name, values in given.items()}
        typed = Survey().typed() | {name: values for name, values in present.items() if values}
        return _render(typed, request.full_path, error=error), error.status, error.headers
    links = _links(state)
    return _render(state.typed(), links["page"], api=links["self"], result=result), 200, {}


@survey.get("/api/v1/survey")
def api_survey() -> Response:
    """The same as JSON."""
    state = parse({name: request.args.getlist(name) for name in request.args})
    return jsonify(_body(state, answer(state)))


def _links(state: Survey) -> dict[str, str]:
    suffix = f"?{state.canonical()}" if state.canonical() else ""
    return {
        "page": url_for("survey.page", _external=True) + suffix,
        "self": url_for("survey.api_survey", _external=True) + suffix,
    }


def _render(typed: dict[str, list[str]], canonical: str, **given: Any) -> str:
    return render_template(
        "survey.html",
        typed=typed,
        canonical=canonical,
        form=form(typed),
        cache_types=CACHE_TYPES,
        engines=[program.id for program in PROGRAMS],
        families=list(dict.fromkeys(entry.family for entry in entries())),
        kinds=[Option(name, label) for name, label in KINDS.items()],
        bits=[Option(str(bits), f"{bits}: {', '.join(names)}") for bits, names in QUANTIZATIONS.items()],
        sorts=[Option(name, label) for name, label in SORTS.items()],
        **given,
    )


def _body(state: Survey, result: Result) -> dict[str, Any]:
    rows = [*(_of_row(row, "runs") for row in result.rows), *(_of_row(row, "smaller-cache") for row in result.smaller)]
    return {
        "settings": {name: found if name == "device" else found[0] for name, found in state.typed().items()},
        "devices": [{"id": one.id, "name": one.name, "capacity": one.capacity} for one in result.devices],
        "headline": result.headline,
        "counts": {
            "models": result.n_models,
            "runs": len(result.rows),
            "smaller_cache": len(result.smaller),
            "refused": len(result.refused),
        },
        "models": [*rows, *(_of_refused(one, len(result.devices)) for one in result.refused)],
        "links": _links(state),
    }


def _of_row(row: Row, status: str) -> dict[str, Any]:
    links = [row.link, row.other_link]
    choices = [_choice(choice, link) for choice, link in zip(row.found.choices, links, strict=False)]
    return {**_facts(row.found), "status": status, "choices": choices, "reason": None}


def _of_refused(refused: Refused, n_devices: int) -> dict[str, Any]:
    why = why_not(refused.found, n_devices)
    return {**_facts(refused.found), "status": "does-not-run", "choices": [], "reason": why}


def _facts(found: Found) -> dict[str, Any]:
    return {
        **asdict(found.entry),
        "active_parameters": found.facts.active,
        "experts": found.facts.has_experts,
        "n_ctx": found.n_ctx,
    }


def _choice(choice: Choice, link: str) -> dict[str, Any]:
    return {
        "kv": texts("kv", choice.pair)[0],
        "quant": choice.quantization,
        "totals": choice.totals,
        "max_context": choice.max_context,
        "tokens_per_second": choice.tokens_per_second,
        "page": f"{url_for('pages.index', _external=True)}?{link}",
    }
