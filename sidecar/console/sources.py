"""What pages are made of: the collaborators of one worker, and the endpoints that they ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sidecar.api.dispatch import serve
from sidecar.api.request import Request
from sidecar.text.encoding import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.api.endpoint import Endpoint
    from sidecar.api.service import Service
    from sidecar.console.engines import Engines
    from sidecar.console.sold import Sold
    from sidecar.decisions.ports import FactStore
    from sidecar.identity.callers import Caller
    from sidecar.rego.compile import Compiled
    from sidecar.workspaces.ports import PeopleStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """*audit_url* is None where nobody gave a login that may read histories; *log_dir* as in Settings."""

    service: Service
    compiled: Compiled
    facts: FactStore
    people: PeopleStore
    engines: Engines
    sold: Sold
    plans_text: bytes
    audit_url: str | None
    log_dir: Path | None


class Refused(Exception):
    """What an endpoint has refused: *problem* is its document."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem["code"])
        self.problem = problem


def asked(
    service: Service,
    endpoint: Endpoint,
    caller: Caller,
    query: Mapping[str, object],
    *,
    request_id: str,
    **path: str,
) -> Any:  # noqa: ANN401 - JSON
    """What *endpoint* answers *caller*, as over HTTP, its line in the decision log included. Refused."""
    given = {name: str(value) for name, value in query.items() if value not in {None, ""}}
    request = Request(
        id=request_id,
        caller=caller,
        target=endpoint.path,
        query=urlencode(given),
        path={name: quote(value, safe="") for name, value in path.items()},
    )
    _, headers, body = serve(service, endpoint, request)
    document = decoded(body)
    if ("Content-Type", "application/problem+json") in headers:
        raise Refused(document)
    return document
