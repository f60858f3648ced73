"""The lane: plain requests for hot endpoints, read and answered by the loop in as little time as it takes.

Every connection begins here. At the first request that is not plainly one for the lane, the connection goes
to gunicorn's protocol, with every byte of that request, for the rest of its life; there the same endpoints
answer it. So SIDECAR_LANE=off changes nothing but speed.
"""

from __future__ import annotations

from functools import partial
from socket import AF_UNIX
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.serving.application import json_body
from sidecar.serving.heads import END
from sidecar.serving.plain_questions import Question
from sidecar.serving.responses import response, standing
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from sidecar.api.plain import Plainly
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.decisions.model import Facts
    from sidecar.serving.application import Application
    from sidecar.serving.connections import Connection, Reader
    from sidecar.serving.driver import Driver
    from sidecar.serving.heads import Head, Heads
    from sidecar.serving.plain_questions import PlainQuestions

_PLAINLY = (
    b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\nX-Request-ID: %b\r\nCache-Control: no-store\r\n%b%b\r\n%b"
)


class Lane:
    """One connection, behind its guard. *heads* are by whether they come by a Unix socket.

    *otherwise* makes the protocol that takes over; *plain* takes plain questions; *read_facts* is the call by
    which a decision reads them.
    """

    __slots__ = (
        "_application",
        "_begun",
        "_body",
        "_by_socket",
        "_connection",
        "_driver",
        "_head",
        "_heads",
        "_heads_of",
        "_is_blocked",
        "_is_stopping",
        "_metrics",
        "_needed",
        "_otherwise",
        "_plain",
        "_question",
        "_read_facts",
        "_remote",
        "_request",
        "_searched",
        "_sent",
        "_since",
        "_transport",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        application: Application,
        driver: Driver,
        heads: Mapping[bool, Heads],
        otherwise: Callable[[Connection], Reader],
        plain: PlainQuestions,
        read_facts: Callable[..., Any],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._application = application
        self._metrics = application.service.metrics
        self._driver = driver
        self._heads_of = heads
        self._otherwise = otherwise
        self._plain = plain
        self._question: Question | None = None  # the plain one that waits
        self._read_facts = read_facts
        self._is_stopping = is_stopping
        self._begun = bytearray()  # what has come and is not answered yet
        self._searched = 0  # bytes of it, in which no head ends
        self._since = 0.0  # when the first byte of it came; 0: nothing has begun
        self._sent: tuple[str, int, float] | None = None  # the reply that the peer has not taken yet
        self._needed = 0  # bytes of the request that has begun, once its head is known
        self._head: Head | None = None
        self._body = b""
        self._request: Request | None = None
        self._is_blocked = False  # the peer takes no more for now

    # What the guard tells.

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._by_socket = transport.get_extra_info("socket").family == AF_UNIX
        self._heads = self._heads_of[self._by_socket]
        peer = transport.get_extra_info("peername")
        self._remote = peer[0] if isinstance(peer, tuple) else ""

    def data_received(self, data: bytes) -> None:
        state = self._connection.state
        if state == "idle":  # as mostly; and mostly it is one whole request with a head that has come before
            end = data.find(END) + len(END)
            head = self._heads.kept(data[:end])
            if head is not None and len(data) == end + head.length:
                self._head = head
                self._answer_one(head, data[end:])
            else:
                self._read(data)
        elif state in {"answering", "sending"}:
            self._begun += data  # little, for the guard stops reading; its turn comes
        elif self._begun:
            self._begun += data
            self._read(None)
        else:
            self._read(data)

    def time_out(self) -> None:
        self._hand_over(bytes(self._begun))
        self._connection.reader.time_out()

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self._connection.state == "sending":
            self._finish_sending()
        self._observe_sent()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the guard's signature
        """What is being decided goes on: it may have an effect, which belongs in the log."""
        self._observe_sent()

    # Reading.

    def _read(self, data: bytes | None) -> None:
        """One request of *data*, or of what has begun (None)."""
        begun = self._begun if data is None else data
        if self._head is None:
            end = begun.find(END, self._searched)
            if end < 0:
                seen, self._searched = self._searched, max(0, len(begun) - len(END) + 1)
                if self._heads.may_become_one(bytes(begun), seen=seen):
                    self._wait_for_more(data)
                else:
                    self._hand_over(bytes(begun))
                return
            self._searched = 0
            end += len(END)
            head = self._heads.head(bytes(begun[:end]))
            if head is None:
                self._hand_over(bytes(begun))
                return
            self._head, self._needed = head, end + head.length
        if len(begun) < self._needed:
            self._wait_for_more(data)
            self._connection.begin_body()
            return
        self._answer(begun)

    def _wait_for_more(self, data: bytes | None) -> None:
        if data is not None:
            self._begun += data
        if not self._since:
            self._since = monotonic()
        self._connection.begin_head()
        self._connection.wants_more()

    def _hand_over(self, begun: bytes) -> None:
        connection = self._connection
        connection.reader = reader = self._otherwise(connection)
        reader.connection_made(self._transport)
        if self._is_blocked:
            reader.pause_writing()
        if begun:
            reader.data_received(begun)

    # Answering.

    def _answer(self, begun: bytes | bytearray) -> None:
        head = self._head
        assert head is not None  # noqa: S101 - for the type checker
        body = bytes(begun[self._needed - head.length : self._needed]) if head.length else b""
        if begun is self._begun:
            del self._begun[: self._needed]
        elif len(begun) > self._needed:
            self._begun += begun[self._needed :]
        self._answer_one(head, body)

    def _answer_one(self, head: Head, body: bytes) -> None:
        self._connection.begin_answer()
        began = monotonic()
        if not self._since:
            self._since = began
        alike, asked = head.alike, None
        self._body = body
        if alike is not None and self._plain.is_open():
            try:
                asked = alike.asked(body, header=head.header, remote=self._remote, request=self._own_request)
            except Exception:  # noqa: BLE001 - the endpoint meets this defect too, and answers
                asked = None
        if alike is None or asked is None:
            self._metrics.count_request("lane")
            steps = self._application.answering(self._own_request(), head.endpoint)
            self._driver.drive(steps, self._reply)
            return
        until = began + self._application.service.deadline_s
        self._question = Question(alike, asked, head.sent_id or fresh_id(), began, until, self)
        self._plain.put(self._question)

    def take(self, question: Question, reply: Plainly, now: float) -> None:
        if question is not self._question:
            return
        self._question = None
        closes = b"" if not self._is_stopping() else b"Connection: close\r\n"
        lines, text = reply
        self._write(
            _PLAINLY % (lines, len(text), question.request_id.encode("latin-1"), closes, standing()[1], text),
            status=200,
            keeps=not closes,
            now=now,
        )

    def take_facts(self, question: Question, facts: Facts | None) -> None:
        if question is self._question:
            self._answer_usually(question, [facts], None)

    def take_failure(self, question: Question, error: Exception | None) -> None:
        if question is self._question:
            self._answer_usually(question, None, error)

    def _answer_usually(
        self, question: Question, found: list[Facts | None] | None, error: Exception | None
    ) -> None:
        """By the endpoint. Without facts and without an error it asks for them."""
        self._question = None
        head = self._head
        assert head is not None  # noqa: S101 - for the type checker
        request = self._own_request()
        request.id, request.began = question.request_id, question.began
        request.timings.facts_s = monotonic() - question.began  # that is all it has waited for
        steps = self._application.answering(request, head.endpoint)
        if found is None and error is None:
            self._driver.drive(steps, self._reply)
        else:
            self._driver.drive_from(steps, self._reply, self._read_facts, found, error)

    def _own_request(self) -> Request:
        head, body = self._head, self._body
        assert head is not None  # noqa: S101 - for the type checker
        self._request = request = head.addressed.request(
            head.method,
            header=head.header,
            repeated=head.fields.repeated,
            by_socket=self._by_socket,
            remote=self._remote,
        )
        if head.is_json:
            request.body = partial(bytes, body)
        else:
            request.body = partial(json_body, request, body, largest=head.length)
        return request

    def _reply(self, reply: Reply | None) -> None:
        head, request = self._head, self._request
        assert head is not None and request is not None  # noqa: S101, PT018 - for the type checker
        if reply is None:
            reply = self._application.overloaded(request, head.endpoint)
        keeps = head.keeps and not self._is_stopping()
        written = response(reply, method=head.method, is_1_0=head.is_1_0, keeps=keeps)
        self._write(written, status=reply[0], keeps=keeps, now=monotonic())

    def _write(self, response: bytes, *, status: int, keeps: bool, now: float) -> None:
        head, since = self._head, self._since
        assert head is not None  # noqa: S101 - for the type checker
        self._head = self._request = None
        self._body = b""
        self._since = 0.0
        connection = self._connection
        is_there = connection.state == "answering"  # else they have gone, or the worker has ended them
        if is_there:
            self._transport.write(response)
        if self._is_blocked and is_there:
            self._sent = head.endpoint.name, status, since
        else:
            self._metrics.observe_request(head.endpoint.name, status, now - since)
        if not is_there:
            return
        if keeps and not self._is_blocked and not self._begun:
            connection.finish_answer(now)
            return
        if self._is_blocked or not keeps:
            connection.begin_sending()
        if not keeps:
            connection.end()
        elif not self._is_blocked:
            self._finish_sending()

    def _observe_sent(self) -> None:
        if self._sent is not None:
            endpoint, status, since = self._sent
            self._sent = None
            self._metrics.observe_request(endpoint, status, monotonic() - since)

    def _finish_sending(self) -> None:
        more = bool(self._begun)
        self._connection.finish_sending(more=more)
        if more:
            self._driver.soon(self._read_next)  # not at once: thousands of requests may have come together

    def _read_next(self) -> None:
        if self._connection.state == "head" and self._head is None and self._begun:
            self._read(None)
