"""The sidecar as a backend sees it: questions in, decisions out, whatever framework the backend has."""

from __future__ import annotations

import json
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode
from uuid import uuid4

from sidecar.guard.answers import (
    committed_from,
    decision_from,
    entitlements_from,
    given_back_from,
    page_from,
    released_from,
)
from sidecar.guard.connections import Call, Connections
from sidecar.guard.errors import Denied
from sidecar.guard.hold import Hold
from sidecar.guard.wire import answered, misbehaved, problem_from, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import Self

    from sidecar.guard.answers import Decision, Entitlements, Settled, Workspace
    from sidecar.guard.connections import Reply

_PER_QUESTION_S = 0.002  # as the sidecar gives each further question of a batch


class Replies(Protocol):
    def reply(self, call: Call, /, *, deadline: float) -> Reply: ...

    def close(self) -> None: ...


class Client:
    """Safe to share by all threads of a process, and to inherit by a fork.

    Raises Unavailable when there is no well-formed answer (a timeout, for one), and Refused when the sidecar
    rejects the question. Only `check` and `batch` return denials; they are falsy. All others raise Denied.

    In every method *amounts* and further keywords mean the same: how much of which meter, ``minutes=5``.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        timeout_s: float = 1.0,
        ca_file: str | PathLike[str] | None = None,
    ) -> None:
        """*url* is ``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:///PATH``.

        *timeout_s* is for a whole call, a new connection's handshake too. Over TLS the server's certificate
        is verified: by the authorities in *ca_file* (PEM), by default those of the system.
        """
        self._connections: Replies = Connections(url, token=token, ca_file=ca_file)
        self._timeout_s = timeout_s

    def check(
        self,
        action: str,
        *,
        user: str,
        workspace: str,
        amounts: Mapping[str, int] | None = None,
        resource: str | None = None,
        context: Mapping[str, Any] | None = None,
        **meters: int,
    ) -> Decision:
        """Whether the user may. Nothing is taken. A denial is returned, and is falsy."""
        question = _question(
            action=action, user=user, workspace=workspace, resource=resource, context=context
        ) | _amounts(amounts, meters)
        return self._decision(question)

    def authorize(
        self,
        action: str,
        *,
        user: str,
        workspace: str,
        amounts: Mapping[str, int] | None = None,
        resource: str | None = None,
        context: Mapping[str, Any] | None = None,
        **meters: int,
    ) -> Decision:
        """As `check`, but a denial is raised as Denied."""
        return _require_granted(
            self.check(
                action,
                user=user,
                workspace=workspace,
                amounts={**(amounts or {}), **meters},
                resource=resource,
                context=context,
            )
        )

    def consume(
        self,
        action: str,
        *,
        user: str,
        workspace: str,
        amounts: Mapping[str, int] | None = None,
        idempotency_key: str | None = None,
        resource: str | None = None,
        context: Mapping[str, Any] | None = None,
        **meters: int,
    ) -> Decision:
        """Take it now, or raise Denied and take nothing.

        With an *idempotency_key* the call is idempotent until the key expires after the period, or what it
        took was given back: a retry gets the first answer, with ``replayed``. Without one, each call takes.
        """
        question = _question(
            action=action, user=user, workspace=workspace, resource=resource, context=context
        ) | _amounts(amounts, meters)
        return self._take(question, "consume", idempotency_key)

    def reserve(
        self,
        action: str,
        *,
        user: str,
        workspace: str,
        amounts: Mapping[str, int] | None = None,
        ttl_s: int | None = None,
        idempotency_key: str | None = None,
        resource: str | None = None,
        context: Mapping[str, Any] | None = None,
        **meters: int,
    ) -> Hold:
        """Hold it for *ttl_s* seconds (1 to 3600, by default 60), or raise Denied and hold nothing.

        A retry with the same *idempotency_key* gets the first hold, until that was released or has expired.
        """
        question = _question(
            action=action,
            user=user,
            workspace=workspace,
            resource=resource,
            context=context,
            ttl_seconds=ttl_s,
        ) | _amounts(amounts, meters)
        decision = self._take(question, "reserve", idempotency_key)
        if decision.reservation is None:
            raise misbehaved("a reservation was granted, and there is none in the answer")
        return Hold(self, decision, decision.reservation)

    def commit(
        self, reservation_id: str, amounts: Mapping[str, int] | None = None, /, **meters: int
    ) -> Settled:
        """Take *amounts* of what is held and give the rest back; meters that are not named are taken in full.

        An amount may be 0, but not all of them. Conflict when it is more than is held (the hold stays), when
        it was settled differently, or when it has expired and there is no longer room or a right.
        """
        # An empty mapping is sent and refused: what was measured as nothing must not be taken in full.
        body = None if amounts is None and not meters else {"amounts": {**(amounts or {}), **meters}}
        return read(committed_from, self._answer("POST", _reservation(reservation_id, "commit"), body))

    def release(self, reservation_id: str) -> Settled:
        """Give back all that is held. Idempotent, and no error for an expired hold."""
        return read(released_from, self._answer("POST", _reservation(reservation_id, "release")))

    def usage_release(
        self,
        *,
        workspace: str,
        idempotency_key: str | None = None,
        amounts: Mapping[str, int] | None = None,
        meter: str | None = None,
        resource: str | None = None,
    ) -> Settled:
        """Give back what was taken under *idempotency_key*, once; or the *resource* of a level *meter*.

        All of it, or *amounts*, which may not be empty. Conflict when it is more than was taken.
        """
        # As in `commit`: nothing must not become everything.
        body = _question(
            workspace=workspace,
            idempotency_key=idempotency_key,
            amounts=amounts,
            meter=meter,
            resource=resource,
        )
        # No retry: the resource may have been created again in between, and would be given back.
        repeatable = resource is None
        return read(given_back_from, self._answer("POST", "/v1/usage/release", body, repeatable=repeatable))

    def batch(
        self,
        questions: Sequence[str | Mapping[str, Any]],
        *,
        user: str | None = None,
        workspace: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> tuple[Decision, ...]:
        """Check up to 1,000 *questions* at once; the answers are in their order, and the denials falsy.

        A question is an action, or a mapping with the fields of `/v1/authorize`; *user*, *workspace* and
        *context* are the defaults. Refused, for all of them, if one question is not valid.
        """
        if not questions:
            return ()
        items = [{"action": each} if isinstance(each, str) else dict(each) for each in questions]
        body = {
            "defaults": _question(user=user, workspace=workspace, context=context),
            "questions": items,
        }
        document = self._answer(
            "POST", "/v1/authorize/batch", body, extra_s=(len(items) - 1) * _PER_QUESTION_S
        )
        match document:
            case {"answers": [*answers]} if len(answers) == len(items):
                for answer in answers:
                    if isinstance(answer, dict) and "allow" not in answer:
                        raise problem_from(answer.get("status"), answer)
                return tuple(read(decision_from, answer) for answer in answers)
            case _:
                raise misbehaved(f"{len(items)} questions have not as many answers")

    def entitlements(self, *, user: str, workspace: str) -> Entitlements:
        """All that *user* may and has in *workspace*. Denied when they are not a member."""
        target = f"/v1/workspaces/{quote(workspace, safe='')}/entitlements?{urlencode({'user': user})}"
        return read(entitlements_from, self._answer("GET", target))

    def workspaces_of(self, user: str, *, action: str | None = None) -> Iterator[Workspace]:
        """Where *user* may perform *action* now; by default all their workspaces. Fetches pages as needed."""
        query = _question(action=action)
        while True:
            target = f"/v1/users/{quote(user, safe='')}/workspaces?{urlencode(query)}"
            page = read(page_from, self._answer("GET", target))
            yield from page.workspaces
            if page.next is None:
                return
            if page.next == query.get("after"):
                raise misbehaved("the next page is the same page")
            query["after"] = page.next

    def close(self) -> None:
        """Close idle connections; a later call opens another."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, question: dict[str, Any], mode: str, idempotency_key: str | None) -> Decision:
        # With a key each call allows a retry when its connection breaks, and a refund.
        key = uuid4().hex if idempotency_key is None else idempotency_key
        decision = _require_granted(self._decision({**question, "mode": mode, "idempotency_key": key}))
        return replace(decision, idempotency_key=key)

    def _decision(self, question: Mapping[str, Any]) -> Decision:
        return read(decision_from, self._answer("POST", "/v1/authorize", question))

    def _answer(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
        *,
        extra_s: float = 0,
        repeatable: bool = True,
    ) -> object:
        """The document of an answer with 200; everything else is raised.

        A *repeatable* call may be sent twice: it is idempotent, by its key if it takes something.
        """
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        call = Call(method, target, content, request_id=uuid4().hex, repeatable=repeatable)
        reply = self._connections.reply(call, deadline=monotonic() + self._timeout_s + extra_s)
        return answered(reply, request_id=call.request_id)


def _question(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {name: value for name, value in fields.items() if value is not None}


def _reservation(reservation_id: str, effect: str) -> str:
    return f"/v1/reservations/{quote(reservation_id, safe='')}/{effect}"


def _amounts(amounts: Mapping[str, int] | None, meters: Mapping[str, int]) -> dict[str, Any]:
    both = {**(amounts or {}), **meters}
    return {"amounts": both} if both else {}


def _require_granted(decision: Decision) -> Decision:
    if not decision:
        raise Denied(decision.status, decision.reason, decision.message, decision=decision)
    return decision
