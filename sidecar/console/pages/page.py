"""A page, what it is asked with, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.console.sources import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.api.endpoint import Endpoint
    from sidecar.console.sources import Sources
    from sidecar.identity.callers import Caller

_WITHIN_S = 2.0  # a person waits; rather slow than an outage


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Of one request: *path* are the parts of its path, *query* its parameters, decoded."""

    sources: Sources
    caller: Caller
    request_id: str
    path: Mapping[str, str]
    query: Mapping[str, str]

    @property
    def deadline(self) -> float:
        return monotonic() + _WITHIN_S

    def of(self, name: str) -> str:
        """A parameter without blanks around it; empty where there is none."""
        return self.query.get(name, "").strip()

    def endpoint(self, endpoint: Endpoint, query: Mapping[str, object], **path: str) -> Any:  # noqa: ANN401 - JSON
        """As `asked`, for this request's caller."""
        return asked(self.sources.service, endpoint, self.caller, query, request_id=self.request_id, **path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A template and its values; or *text* as it is, of *content_type*."""

    template: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = HTTPStatus.OK
    text: str | None = None
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """*title* is its heading, its title and its name in the navigation, where it is one *of_navigation*."""

    name: str
    title: str
    paths: tuple[str, ...]
    make: Callable[[Asked], Made]
    of_navigation: bool = True
    within: str = ""  # the page whose entry of the navigation is marked, if it has none itself

    @property
    def link(self) -> str:
        return f"/console{self.paths[0]}"
