"""What the page shows, as one value: everything that the template reads is declared here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app import text
from estimator.quality import figures, notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.advice import Advice
    from app.hub import Source
    from app.ladder import Rung
    from app.outcome import AnyOutcome
    from app.reach import Reach
    from app.verdict import Verdict
    from estimator import Bound, Device, Estimate, Line, Model
    from estimator.cautions import Caution
    from estimator.engines import result as engines
    from estimator.engines.recipe import Recipe
    from estimator.engines.result import Support
    from estimator.quality import Figure, Note


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of contexts."""

    n_ctx: int
    estimate: Estimate | engines.Result
    note: str
    bound: Bound | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A pair of K and V types, and how far it gets; ``cache`` and ``total`` are bytes at the context asked for.

    ``support`` says how an engine other than llama.cpp's programs runs it there, ``label`` how that calls it.
    """

    kv: tuple[str, str]
    query: str
    chosen: bool
    max_context: int
    cache: int
    total: int
    support: Support | None = None
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or " : ".join(dict.fromkeys(self.kv))

    @property
    def is_refused(self) -> bool:
        """Whether the engine does not run it there: it then has no numbers."""
        return self.support is not None and self.support.speed == "refused"


@dataclass(frozen=True, slots=True)
class RepoRow:
    """A model of the repository; ``size`` is bytes of its ``parts`` files, ``query`` leads to it."""

    label: str
    path: str
    size: int
    parts: int
    query: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a query that can be answered."""

    model: Model
    outcome: AnyOutcome
    device_names: list[str]
    rows: list[Row]
    alternatives: list[Alternative]
    ladder: list[Rung]
    advice: list[Advice]
    reach: tuple[Reach, ...]
    figure: dict[str, Any]
    types_figure: dict[str, Any] | None
    accuracy: str
    recipes: tuple[Recipe, ...]
    cautions: tuple[Caution, ...] = ()
    source: Source | None = None
    quantization: str = ""
    files: tuple[RepoRow, ...] = ()

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.outcome.devices

    @property
    def estimate(self) -> Estimate | engines.Result:
        return self.outcome.estimate

    @property
    def n_ctx(self) -> int:
        """The context that was asked for, as the engine rounds it."""
        return self.outcome.n_ctx

    @property
    def max_context(self) -> int:
        return self.outcome.max_context

    @property
    def verdict(self) -> Verdict:
        return self.outcome.verdict

    @property
    def bound(self) -> str:
        """At most how fast one sequence is decoded when its context is full; empty where that is not known."""
        bound = self.outcome.bound
        return f"{text.rate(bound.tokens_per_second)} at {text.tokens(bound.n_past)} tokens" if bound else ""

    @property
    def lines(self) -> Sequence[Line]:
        return self.estimate.lines

    @property
    def has_cache(self) -> bool:
        """Whether any layer keeps keys and values: encoders and pure state spaces do not."""
        return any(line.kind == "kv_cache" for line in self.lines)

    @property
    def has_state(self) -> bool:
        """Whether any layer keeps recurrent state."""
        return any(line.kind == "recurrent_state" for line in self.lines)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What others measured of the engine's types of cache."""
        return figures(self.outcome.engine_id)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Findings and advice about them, as far as they are about such a model."""
        return notes(self.outcome.engine_id, model=self.model)

    @property
    def warnings(self) -> Sequence[Caution]:
        return [*self.estimate.warnings, *self.cautions]
