"""The page that compares engines, and its JSON: the query string of the main page is the whole state of both."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, jsonify, render_template, url_for

from app import api, figures, pages
from app.bodies import links, model_body
from app.compare.says import apart, detail, headline
from app.compare.view import COUNTERPARTS, answer
from app.errors import RequestError
from app.parsing import parse

if TYPE_CHECKING:
    from app.compare.numbers import Numbers
    from app.compare.view import Comparison, Row, Runner
    from app.query import Query

blueprint = Blueprint("compare", __name__)


def init_app(app: Flask) -> None:
    """Add the page and its JSON to an application."""
    app.register_blueprint(blueprint)


@blueprint.get("/compare")
def page() -> tuple[str, int, dict[str, str]]:
    """All engines on the model and devices of a state; what cannot be is refused as on the main page."""
    try:
        query = parse(pages.given_state())
        found = answer(query)
    except RequestError as error:
        return pages.refused("compare.html", error)
    suffix = _suffix(query)
    return (
        render_template(
            "compare.html",
            found=found,
            headline=headline(found),
            detail=detail(found),
            apart=apart(found),
            figure=_figure(found),
            bits=list(COUNTERPARTS),
            main=[(runner, row) for runner in found.runners for row in runner.main],
            others=[(runner, row) for runner in found.runners for row in runner.others],
            pairs=url_for("matrix.page") + suffix if query.program else "",
            back=url_for("pages.index") + suffix,
            canonical=url_for("compare.page", _external=True) + suffix,
            api=url_for("compare.api_compare", _external=True) + suffix,
            support_api=url_for("support.api_support", device=query.device),
        ),
        200,
        {},
    )


@blueprint.route("/api/v1/compare", methods=["GET", "POST"])
def api_compare() -> Response:
    """The same as JSON, from the query, a form or a JSON object."""
    query = parse(api.given_state())
    return jsonify(_body(query, answer(query)))


def _figure(found: Comparison) -> dict[str, Any] | None:
    """The chart, where there is anything to see."""
    depths = {f"{bits} bits": [_depth(one, bits) for one in found.runners] for bits in COUNTERPARTS}
    if not found.is_limited or not any(depth for depths_of in depths.values() for depth in depths_of):
        return None
    return figures.by_engine([one.engine.name for one in found.runners], depths, found.model.context_length)


def _depth(runner: Runner, bits: int) -> int | None:
    row = runner.counterparts.get(bits)
    return row.depth if row and row.numbers else None


def _suffix(query: Query) -> str:
    return f"?{query.canonical()}" if query.canonical() else ""


def _body(query: Query, found: Comparison) -> dict[str, Any]:
    suffix = _suffix(query)
    return {
        "model": {"id": None if query.facts else query.model, **model_body(found.model)},
        "devices": [{"id": one.id, "name": one.name, "capacity": one.capacity} for one in found.devices],
        "n_ctx": found.n_ctx,
        "headline": headline(found),
        "detail": detail(found),
        "apart": [asdict(one) for one in apart(found)],
        "engines": [_runner_body(one) for one in (*found.runners, *found.refused)],
        "links": {
            "page": url_for("compare.page", _external=True) + suffix,
            "self": url_for("compare.api_compare", _external=True) + suffix,
        },
    }


def _runner_body(runner: Runner) -> dict[str, Any]:
    return {
        "id": runner.engine.id,
        "name": runner.engine.name,
        "version": runner.engine.version,
        "weights": runner.weights or None,
        "without": runner.without,
        "shares_context": runner.engine.shares_context,
        "refusal": runner.refusal or None,
        "counterparts": {str(bits): row.name for bits, row in runner.counterparts.items()},
        "runs": [] if runner.refusal else [_row_body(row) for row in runner.rows],
        "links": links(runner.query),
    }


def _row_body(row: Row) -> dict[str, Any]:
    return {
        "cache_type_k": row.types[0].id,
        "cache_type_v": row.types[1].id,
        "chosen": row.is_chosen,
        "support": row.support._asdict(),
        "refusal": row.refusal or None,
        "numbers": _numbers_body(row.numbers) if row.numbers else None,
        "links": links(row.query),
    }


def _numbers_body(numbers: Numbers) -> dict[str, Any]:
    return {
        "max_context": numbers.max_context,
        "max_context_of_request": numbers.depth,
        "n_ctx": numbers.n_ctx,
        "n_requests": numbers.n_requests,
        "kv_cache": numbers.cache,
        "kv_cache_per_token": numbers.per_token,
        "total": numbers.total,
        "fits": numbers.fits,
        "budget": asdict(numbers.budget) if numbers.budget else None,
        "at_max_context": asdict(numbers.held) if numbers.held else None,
    }
