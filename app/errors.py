"""A request that cannot be answered, and how every failure looks as JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from estimator.errors import FathomError


class RequestError(Exception):
    """A request that names something unknown or out of range.

    Args:
        code: stable, for programs.
        field: the parameter by its name in the query, if it is about one.
        message: one sentence with the field, the value and what would work.
        allowed: what would work, as a list or in words.
        status: of the HTTP reply.
        retry_after: seconds after which it may work, where that is known.
    """

    def __init__(
        self,
        code: str,
        field: str | None,
        message: str,
        allowed: str | tuple[str, ...] | None = None,
        status: int = HTTPStatus.BAD_REQUEST,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.message = message
        self.allowed = allowed
        self.status = status
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Of the HTTP reply."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def shown(text: str, most: int = 40) -> str:
    """What somebody typed, quoted and cut short."""
    return repr(text if len(text) <= most else text[:most] + "...")


def error_body(code: str, field: str | None, message: str, allowed: str | tuple[str, ...] | None) -> dict[str, Any]:
    """The one shape of an error: ``{"error": {"code", "field", "message", "allowed"}}``."""
    return {"error": {"code": code, "field": field, "message": message, "allowed": allowed}}


FIELD_OF: Final = {
    "n_ctx": "ctx",
    "cache_type_k": "kv",
    "cache_type_v": "kv",
    "flash_attn": "fa",
    "n_ubatch": "ub",
    "n_parallel": "np",
    "n_gpu_layers": "ngl",
    "cpu_tensors": "ncmoe",
    "tensor_split": "ts",
    "num_gpu": "ngl",
    "offload_kqv": "kvo",
    "n_cpu_moe": "ncmoe",
    "n_cpu_ffn": "ncffn",
    "n_requests": "np",
    "chunk": "ub",
    "weight_format": "weights",
}
"""The query's name of a setting of the core."""


def as_bad_request(error: FathomError) -> RequestError:
    """A refusal of the core in the names of the query."""
    field = FIELD_OF.get(error.field or "", error.field)
    message = error.message
    if field and error.field and message.startswith(error.field):
        message = field + message.removeprefix(error.field)
    return RequestError(error.code, field, message, error.allowed)
