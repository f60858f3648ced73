"""One request, as every endpoint reads it, whatever server has received it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from sidecar.api import wire
from sidecar.decisions.steps import Wait
from sidecar.decisions.timings import Timings
from sidecar.errors import Problem
from sidecar.text import shapes
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from sidecar.decisions.model import Question
    from sidecar.decisions.steps import Steps
    from sidecar.errors import SidecarError
    from sidecar.identity.callers import Caller
    from sidecar.identity.users import EndUser

Parsed = TypeVar("Parsed")
_SMALL_BODY = 4_096
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


@dataclass(slots=True, kw_only=True)
class Request:
    """One request on its way to its reply.

    *target* (its path), *path* (the parts of it that a template names) and *query* are as they came,
    percent-encoded. *header* gives the value of a header, None where there is none; of several lines all
    values, with commas between. *repeated* are the names, in lower case, that the server has seen in several
    lines. *body* reads the body when it is first wanted: BadQuestion if it is too large or of another type
    than JSON. *refused* is why the caller is not known. *by_socket* and *remote*, an address, are of the
    connection itself. *patience_s* is how long the caller waits, where they say so. *user* is the end user of
    an endpoint for users. *is_noted*: a line of the decision log is about it. *timings* are for the core to
    add to, so that the line of an outage has them too.
    """

    id: str
    method: str = "GET"
    caller: Caller | None = None
    target: str = ""
    query: str = ""
    header: Callable[[str], str | None] = lambda _: None
    repeated: Container[str] = frozenset()
    body: Callable[[], bytes] = bytes
    path: Mapping[str, str] = field(default_factory=dict)
    refused: SidecarError | None = None
    by_socket: bool = False
    remote: str = ""
    patience_s: float = inf
    began: float = field(default_factory=monotonic)
    timings: Timings = field(default_factory=Timings)
    question: Question | None = None
    user: EndUser | None = None
    is_noted: bool = False

    def has_body(self) -> bool:
        """False where nothing was sent; then it need not be JSON either."""
        return self.header("Content-Length") not in {None, "", "0"} or bool(self.header("Transfer-Encoding"))


def parsed(parse: Callable[[bytes], Parsed], raw: bytes, *, deadline: float) -> Steps[Parsed]:
    """What *parse* makes of a body. One that is large may take milliseconds: others do not wait for it."""
    if len(raw) <= _SMALL_BODY:
        return parse(raw)
    found: Parsed = yield Wait(_parse, parse, raw, deadline=deadline)
    return found


def _parse(parse: Callable[[bytes], Parsed], raw: bytes, *, deadline: float) -> Parsed:  # noqa: ARG001 - it takes what it takes
    return parse(raw)


def is_request_id(sent: str) -> bool:
    """Whether it may stand in a log and in a header."""
    return _REQUEST_ID.fullmatch(sent) is not None


def request_id(sent: str) -> str:
    """The one that was *sent*, if it is one; else a new one."""
    return sent if is_request_id(sent) else fresh_id()


def part_of(request: Request, name: str) -> str:
    """One part of the path, decoded. BadQuestion if it is not text that could name something."""
    try:
        text = unquote(request.path[name], errors="strict")
    except UnicodeDecodeError:
        raise shapes.refusal((Problem(pointer=f"/path/{name}", detail="is not UTF-8"),)) from None
    if fault := shapes.fault_in_text(text):
        raise shapes.refusal((Problem(pointer=f"/path/{name}", detail=fault),))
    return text


def workspace_in(request: Request) -> str:
    return wire.workspace_from(part_of(request, "workspace"))
