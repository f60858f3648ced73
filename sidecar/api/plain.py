"""Plain questions: what is asked most, from bytes to bytes, without the values in between.

Nothing is decided or rendered here that an endpoint has not decided and rendered before: the templates of a
cell are filled in. Whatever is not a plain question about a cell with templates goes the way of the endpoint
itself, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecar.api import rendered, wire
from sidecar.api.authzen import workspaces
from sidecar.api.authzen.endpoints import EVALUATION
from sidecar.api.gateways.by_header import DIALECTS, TOKEN_HEADER
from sidecar.api.gateways.decision import identity_lines, question_at_once
from sidecar.api.log_lines import PlainLines, also_of, facts_of, took_reading
from sidecar.api.v1.questions import AUTHORIZE
from sidecar.api.varying import LOWER
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.api.endpoint import Endpoint
    from sidecar.api.gateways.by_header import Dialect
    from sidecar.api.rendered import Fills
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.authorizer import Cell
    from sidecar.decisions.model import Verdict
    from sidecar.decisions.ports import PlainFacts
    from sidecar.identity.callers import Caller

_JSON = b"Content-Type: application/json\r\n"
# Of the endpoints whose question is the body: how it is read, and which text of its cell the answer is.
_IN_BODIES = {
    AUTHORIZE.name: (wire.plain_question_in, "native"),
    EVALUATION.name: (workspaces.plain_question_in, "authzen"),
}

_MOST_KEPT, _LONGEST_KEPT = 2_048, 2_048  # questions of one dialect, and characters that each is found by

Header = Callable[[str], str | None]
Plainly = tuple[bytes, bytes]  # header lines of a reply's own and the body; its status is 200


class Asked(NamedTuple):
    """A check without a context of an action that takes nothing; *lines* are those of who asks."""

    user: str
    workspace: str
    action: str
    lines: PlainLines


class Alike(Protocol):
    """Requests with the same head, but for the lines that vary, for an endpoint of this *name*."""

    name: str

    def asked(
        self, body: bytes, *, header: Header, remote: str, request: Callable[[], Request]
    ) -> Asked | None:
        """What one of them asks; None if that is not plain. *remote* is the peer's address."""
        ...

    def reply(self, asked: Asked, cell: Cell, facts: PlainFacts | None, fills: Fills) -> Plainly | None:
        """None if the endpoint itself has to make it."""
        ...


class PlainQuestion(Protocol):
    """One that was *asked* at *began*, on the monotonic clock, when its request was whole."""

    alike: Alike
    asked: Asked
    request_id: str
    began: float


class PlainChecks:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._authorizer = service.authorizer
        self._is_ours = isinstance(service.authzen.domain, workspaces.Workspaces)
        self._nothing_taken = frozenset(
            name for name, action in service.authorizer.catalog.actions.items() if not action.takes
        )
        self._gateways = {
            name: _Gateway(service, name, dialect, self._nothing_taken) for name, dialect in DIALECTS.items()
        }

    def alike_in_bodies(
        self, endpoint: Endpoint, *, caller: Caller | None, query: str, is_json: bool
    ) -> Alike | None:
        """For requests with one head: its *caller* and *query*. None where none of them can be plain."""
        read, form = _IN_BODIES.get(endpoint.name, (None, ""))
        if (
            read is None
            or query
            or not is_json
            or caller is None
            or "authorize" not in caller.scopes
            or (endpoint is EVALUATION and not self._is_ours)
        ):
            return None
        lines = PlainLines.of(self._service, caller, endpoint.name)
        return _AlikeInBodies(endpoint.name, read, form, self._nothing_taken, lines)

    def alike_from_gateway(
        self, endpoint: Endpoint, *, method: str, target: str, by_socket: bool
    ) -> Alike | None:
        """As `alike_in_bodies`, for a head in which no field is repeated."""
        gateway = self._gateways.get(endpoint.name)
        if gateway is None:
            return None
        place = method, target, str(by_socket)
        return _AlikeFromGateway(endpoint.name, gateway, place)

    def answers(
        self, questions: Sequence[PlainQuestion], rows: Sequence[PlainFacts | None], moment: datetime
    ) -> list[Plainly | None]:
        """The replies to *questions*, by a row for each that was true at *moment*, counted and noted.

        None: ask the endpoint.
        """
        service, kept_cell = self._service, self._authorizer.kept_cell
        now, at, facts_at = monotonic(), encoded(datetime.now(UTC)), encoded(moment.astimezone(UTC))
        replies: list[Plainly | None] = []
        lines: list[bytes] = []
        verdicts: list[Verdict] = []
        for question, row in zip(questions, rows, strict=True):
            asked = question.asked
            cell = kept_cell(asked.action, row)
            outcome = None if cell is None else cell.texts.get(rendered.name_of("outcome", row))
            if cell is None or outcome is None:
                replies.append(None)
                continue
            verdict = cell.verdict
            member = cell.member(row)
            if member is None:
                fills = rendered.fills_in(at)
            elif member.at is None:
                fills = rendered.fills_in(facts_at, member)
            else:
                fills = rendered.fills_in(encoded(member.at), member)
            reply = question.alike.reply(asked, cell, row, fills)
            replies.append(reply)
            if reply is None:
                continue
            verdicts.append(verdict)
            if verdict.allow and service.skips_grants:
                service.log.skip()
                continue
            lines.append(
                asked.lines.line(
                    at,
                    question.request_id,
                    asked[:3],
                    facts_of(member),
                    outcome % fills,
                    took_reading(now - question.began),
                )
            )
        service.metrics.count_known_verdicts(verdicts)
        if lines:
            service.log.note_all(lines)
        return replies


class _AlikeInBodies:
    """The question is the body, as *read* finds it there; the answer is the text *form* of its cell."""

    __slots__ = ("_form", "_lines", "_nothing_taken", "_read", "name")

    def __init__(
        self,
        name: str,
        read: Callable[[bytes], tuple[str, str, str] | None],
        form: str,
        nothing_taken: frozenset[str],
        lines: PlainLines,
    ) -> None:
        self.name = name
        self._lines = lines
        self._read = read
        self._form = form
        self._nothing_taken = nothing_taken

    def asked(
        self,
        body: bytes,
        *,
        header: Header,  # noqa: ARG002 - as Alike
        remote: str,  # noqa: ARG002 - ditto
        request: Callable[[], Request],  # noqa: ARG002 - ditto
    ) -> Asked | None:
        found = self._read(body)
        if found is None or found[2] not in self._nothing_taken:
            return None
        return Asked(*found, self._lines)

    def reply(self, asked: Asked, cell: Cell, facts: PlainFacts | None, fills: Fills) -> Plainly | None:  # noqa: ARG002 - as Alike
        template = cell.texts.get(rendered.name_of(self._form, facts))
        return None if template is None else (_JSON, template % fills)


class _Gateway:
    """The plain questions that gateways of one *dialect* have asked, by all that was read to find them.

    *names* are of the header fields that were read of any request until now: requests with the same values of
    these, and with all else alike, ask the same. So other fields may be new with each request.
    """

    def __init__(
        self, service: Service, endpoint: str, dialect: Dialect, nothing_taken: frozenset[str]
    ) -> None:
        self.service = service
        self._endpoint = endpoint
        self.dialect = dialect
        self.lines_on_pass = "".join(f"{name}: {value}\r\n" for name, value in dialect.on_pass)
        self.names: frozenset[str] = frozenset()
        self.reads_what_varies = False
        self.found: dict[tuple[str | None, ...], tuple[Asked, str | None]] = {}
        self._nothing_taken = nothing_taken
        self._notice_credentials()

    def known(self) -> dict[tuple[str | None, ...], tuple[Asked, str | None]]:
        """What was found before, by `key`, and the token that has proved who the user is.

        Another dict as soon as any of it may not hold any more.
        """
        masks = self.service.masks
        if self.service.callers.generation is not self._callers or (
            masks is not None and masks.generation != self._masks
        ):  # a gateway's token may be nobody's now
            self._notice_credentials()
            self.found = {}
        return self.found

    def _notice_credentials(self) -> None:
        masks = self.service.masks
        self._callers = self.service.callers.generation
        self._masks = None if masks is None else masks.generation

    def key(self, place: tuple[str, ...], header: Header) -> tuple[str | None, ...]:
        return (*place, *map(header, self.names))

    def find(self, request: Request, place: tuple[str, ...]) -> Asked | None:
        """What is asked, by the code of the endpoint; *place* is all that counts beside the header fields."""
        header, read = request.header, set[str]()

        def noted(name: str) -> str | None:
            read.add(name)
            return header(name)

        request.header = noted
        known = question_at_once(
            self.service, request, partial(self.dialect.read, request), token=noted(TOKEN_HEADER)
        )
        if known is None:
            return None
        question, proof, said = known
        if (
            question.mode != "check"
            or question.idempotency_key is not None
            or question.action not in self._nothing_taken
        ):
            return None
        lines = PlainLines.of(self.service, request.caller, self._endpoint, also=also_of(self.service, said))
        asked = Asked(question.user, question.workspace, question.action, lines)
        if not read <= self.names:
            self.names |= read
            self.reads_what_varies = not LOWER.isdisjoint(map(str.lower, self.names))
            self.found = {}
        key = self.key(place, header)
        if sum(len(part) for part in key if part) <= _LONGEST_KEPT:
            if len(self.found) >= _MOST_KEPT:
                self.found = {}
            self.found[key] = asked, proof
        return asked

    def counts(self, proof: str | None) -> bool:
        """Whether the token that says who the user is still does."""
        identities = self.service.identities
        return proof is None or (identities is not None and identities.recall(proof) is not None)


class _AlikeFromGateway:
    """The question is in the head. Only a request that may pass is answered."""

    __slots__ = ("_found", "_gateway", "_known", "_place", "_remote", "name")

    def __init__(self, name: str, gateway: _Gateway, place: tuple[str, ...]) -> None:
        self.name = name
        self._gateway = gateway
        self._place = place
        # What the last of these requests asked, from where it came, and among which known ones it was.
        self._found: tuple[Asked, str | None] | None = None
        self._remote = ""
        self._known: object = None

    def asked(self, _: bytes, *, header: Header, remote: str, request: Callable[[], Request]) -> Asked | None:
        gateway = self._gateway
        known = gateway.known()
        if self._known is not known or self._remote != remote or gateway.reads_what_varies:
            self._known, self._remote = known, remote
            self._found = known.get(gateway.key((remote, *self._place), header))
        if self._found is None:
            self._known = None
            return gateway.find(request(), (remote, *self._place))
        asked, proof = self._found
        return asked if gateway.counts(proof) else None

    def reply(self, asked: Asked, cell: Cell, facts: PlainFacts | None, fills: Fills) -> Plainly | None:
        if facts is None or not cell.verdict.allow:
            return None
        lines = identity_lines(asked.user, facts.workspace_id, facts.role, facts.plan, fills[b"id"].decode())
        return (lines + self._gateway.lines_on_pass).encode(), b""
