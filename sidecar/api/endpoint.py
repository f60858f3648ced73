"""An endpoint: one row of the table, and the query parameters that it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from sidecar.api.problems import reply_of
from sidecar.errors import Problem
from sidecar.text import shapes
from sidecar.text.shapes import Shape, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.api.audience import Audience
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.steps import Steps

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
ABOUT_WHO_ASKS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
BODY_CODES = ("malformed_json", "invalid_request", "body_too_large", "unsupported_media_type")
FACTS_OUTAGES = ("facts_unavailable", "facts_misread", "database_not_migrated")
CHANGE_OUTAGES = ("outcome_unknown", *FACTS_OUTAGES)
OUTAGES = (
    "policy_engine_unavailable",
    "policy_engine_misbehaved",
    "policy_revision_mismatch",
    "usage_contended",
    "clock_skew",
    *FACTS_OUTAGES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """How an endpoint tells problems in the words of another protocol: *schema* is that of their bodies.

    Those about who asks (401, 403) stay as they are.
    """

    reply: Callable[[Mapping[str, Any], Request], Reply]
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """*path* is a template; *body* is None where none is asked for. *reply* may be in steps.

    *says* is one sentence for /openapi.json, *answers* its schema there (its media type, where not JSON;
    None for an empty body), *codes* the problems that it has beside those that every endpoint of its kind
    has, *body_codes* those of a body. Its *audience* has no default, so that nobody opens an
    endpoint by forgetting it. One that answers *at_once* waits for nothing and for nobody, so the server's
    loop answers it itself. One that is *for_browsers* may be called by pages of the origins that are listed.
    One that *revalidates* has an ETag, and answers 304 where it is known. *refusals* None: as RFC 9457 says.
    """

    name: str
    method: str
    path: str
    reply: Callable[[Service, Request], Reply | Steps[Reply]]
    says: str
    answers: str | None
    audience: Audience
    codes: tuple[str, ...] = ()
    query: Mapping[str, Shape] = field(default_factory=dict)
    required_query: tuple[str, ...] = ()
    body: Shape | None = None
    body_required: bool = True
    status: int = 200
    body_codes: tuple[str, ...] = BODY_CODES
    while_starting: bool = False
    at_once: bool = False
    for_browsers: bool = False
    revalidates: bool = False
    refusals: Refusals | None = None

    def refused(self, problem: Mapping[str, Any], request: Request) -> Reply:
        if self.refusals is None or problem["status"] in ABOUT_WHO_ASKS:
            return reply_of(problem)
        return self.refusals.reply(problem, request)


def parameters_of(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """The query's parameters. BadQuestion with every problem: unknown, repeated, missing, not as they are."""
    try:
        pairs = parse_qsl(
            request.query, keep_blank_values=True, errors="strict", max_num_fields=shapes.MOST_PROBLEMS
        )
    except ValueError:
        raise shapes.refusal((Problem(pointer="/query", detail="is not readable as UTF-8"),)) from None
    values: dict[str, Any] = {
        name: int(text) if isinstance(endpoint.query.get(name), Whole) and _WHOLE.fullmatch(text) else text
        for name, text in pairs
    }
    repeated = [
        Problem(pointer=shapes.below("/query", name), detail="is there more than once")
        for name in values
        if sum(name == other for other, _ in pairs) > 1
    ]
    shape = shapes.Record(endpoint.query, required=endpoint.required_query)
    if found := (*repeated, *shapes.problems_with(values, shape, at="/query")):
        raise shapes.refusal(found)
    return values
