"""Errors of the API as problem documents (RFC 9457). None quotes what was sent: it may hold a secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, Field

TITLES = {
    400: "The request can't be read",
    401: "Who is asking?",
    403: "Not allowed",
    404: "There is no such thing",
    405: "Not with this method",
    409: "It doesn't fit what is there",
    412: "It was changed meanwhile",
    413: "Too large",
    422: "Some values can't be",
    428: "If-Match is missing",
    429: "Too many tries",
    500: "A fault of ours",
    503: "A part of the pipeline does not answer",
}


class FieldFault(BaseModel):
    """A value that can't be: where, and why."""

    field: str = Field(examples=["client_s3_bucket"])
    message: str


class ProblemDocument(BaseModel):
    """application/problem+json, RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: list[FieldFault] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A value that can't be. `field` is the name of the setting, empty for the whole."""

    field: str
    message: str


class Problem(Exception):  # noqa: N818 - it is an answer, not an accident
    """Ends a request with this answer."""

    def __init__(self, status: int, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)


def response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The answer for `problem`."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
        "errors": [{"field": fault.field, "message": fault.message} for fault in problem.faults],
    }
    return Response(orjson.dumps(document), problem.status, media_type="application/problem+json", headers=headers)


def faults_of(errors: Sequence[Any]) -> list[Fault]:
    """Faults from pydantic's errors, without the values that were given."""
    return [Fault(field=_path(error["loc"]), message=_words(error)) for error in errors]


def _path(loc: Sequence[str | int]) -> str:
    parts = list(loc)
    if parts and parts[0] in ("body", "query", "path", "header"):
        parts = parts[1:]
    return ".".join(str(part) for part in parts)


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a setting that can be given here",
    "json_invalid": "the body is not JSON",
    "bool_parsing": "is true or false",
    "bool_type": "is true or false",
}


def _words(error: Any) -> str:
    kind = error["type"]
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return "has characters that can't stand here, or another form than expected"
    if kind == "enum" and error.get("ctx"):
        return f"is one of {error['ctx']['expected']}"
    return _WORDS.get(kind, str(error["msg"]))
