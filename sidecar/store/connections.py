"""Connections to PostgreSQL whose every step ends by a deadline, and a bounded stack of them.

They drive libpq by hand: psycopg's own cursor waits for as long as the server is silent, its pool backs off
for seconds after a failure, and both cost more than the query. docs/decisions/0009 has the figures.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from math import ceil
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PGconn, PollingStatus

from sidecar.errors import ConfigError, FactsUnavailable, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGresult

CONNECT_TIMEOUT_S = 2.0
ROLE = "authz_sidecar"
_LONGEST_POLL_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One statement that answers one value; prepared under its *name*.

    One that is not *repeatable* is never sent twice: an answer that got lost may have had its effect.
    """

    name: bytes
    sql: bytes
    repeatable: bool = True


class Refused(Exception):
    """The server answered with an error: its *sqlstate* and what it said."""

    def __init__(self, sqlstate: str, said: str) -> None:
        super().__init__(said)
        self.sqlstate = sqlstate


class _Lost(Exception):
    """The connection broke: nothing was answered."""


class _Late(Exception):
    """The deadline has passed; whoever waited must close the connection, its answer may still come."""


class Connections:
    """Up to *size* connections, each made when it is first needed and again when it is lost.

    *pooler*: a transaction pooler stands between, so nothing is prepared, and nothing set at the start of a
    session: the login itself must have the rights of authz_sidecar alone, and a statement_timeout. A
    *lock_timeout_s* of 0 is none. *observe* is told of each answer the seconds waited for a connection and
    for the server.
    """

    def __init__(
        self,
        url: str,
        /,
        *,
        size: int,
        statement_timeout_s: float,
        lock_timeout_s: float = 0.0,
        pooler: bool = False,
        observe: Callable[[float, float], None] | None = None,
    ) -> None:
        self._conninfo = _conninfo(
            url, statement_timeout_s=statement_timeout_s, lock_timeout_s=lock_timeout_s, pooler=pooler
        )
        self._size = size
        self._pooler = pooler
        self._observe = observe
        self._idle: list[_Connection] = []  # the last one used stands last: few connections stay warm
        self._free: SimpleQueue[None] = SimpleQueue()  # a place for each (0009: why no Semaphore)
        for _ in range(size):
            self._free.put(None)
        self._open = False

    def open(self) -> None:
        """After the fork: a connection is not to be shared. The first question makes the first one."""
        self._open = True

    def close(self) -> None:
        self._open = False
        self._drop_idle()

    def answer(self, query: Query, params: Sequence[bytes | None], /, *, deadline: float) -> bytes | None:
        """The one value of *query* as text; *deadline* is on the monotonic clock.

        FactsUnavailable when nothing came in time, Refused when the server answered with an error.
        """
        began = monotonic()
        try:
            self._free.get(timeout=max(0.0, min(deadline - began, _LONGEST_POLL_S)))
        except Empty:
            raise FactsUnavailable(
                f"all {self._size} connections to PostgreSQL were busy until the deadline"
            ) from None
        try:
            got = monotonic()
            value = self._answer(query, params, deadline)
        except _Late as late:
            raise FactsUnavailable(f"PostgreSQL did not answer in time: {late}") from late
        except _Lost as lost:
            raise FactsUnavailable(f"PostgreSQL cannot be reached: {lost}") from lost
        finally:
            self._free.put(None)
        if self._observe:
            self._observe(got - began, monotonic() - got)
        return value

    def _answer(self, query: Query, params: Sequence[bytes | None], deadline: float) -> bytes | None:
        if not self._open:
            raise _Lost("the connections are closed")
        if used := self._idle_connection(living=not query.repeatable):
            try:
                return self._answer_on(used, query, params, deadline)
            except _Lost:
                # It broke while nobody looked: a restart must not cost one 503 for each connection. What may
                # be asked twice is asked of a new one; if that breaks, it is an outage.
                if not query.repeatable:
                    raise
        return self._answer_on(self._new_connection(), query, params, deadline)

    def _answer_on(
        self, connection: _Connection, query: Query, params: Sequence[bytes | None], deadline: float
    ) -> bytes | None:
        usable = False
        try:
            value = connection.answer(query, params, deadline)
            usable = True
        except Refused:
            usable = True
            raise
        except _Late:
            # To connect may take longer than a question: the next one goes on with what this one began.
            usable = connection.connecting
            if not usable:
                self._drop_idle()
            raise
        finally:
            if usable and self._open:
                self._idle.append(connection)
            else:
                connection.close()
        return value

    def _new_connection(self) -> _Connection:
        return _Connection(self._conninfo, prepare=not self._pooler)

    def _idle_connection(self, *, living: bool) -> _Connection | None:
        """*living*: one whose server has not said goodbye, as far as anybody can know."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            too_slow = connection.connecting and connection.began < monotonic() - CONNECT_TIMEOUT_S
            if not too_slow and not (living and connection.has_ended()):
                return connection
            connection.close()
        return None

    def _drop_idle(self) -> None:
        """After silence on one: the others may be as dead, and each would cost a question its deadline."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                break


class _Connection:
    def __init__(self, conninfo: bytes, *, prepare: bool) -> None:
        self._prepare = prepare
        self._prepared: set[bytes] = set()
        self._poll = select.poll()
        self._polling = PollingStatus.WRITING
        self.connecting = True
        self.began = monotonic()
        self._pg = PGconn.connect_start(conninfo)

    def close(self) -> None:
        self._pg.finish()

    def has_ended(self) -> bool:
        """True if the server has said something, unasked: mostly that it is going."""
        return not self.connecting and bool(self._poll.poll(0))

    def answer(self, query: Query, params: Sequence[bytes | None], deadline: float) -> bytes | None:
        try:
            if self.connecting:
                self._connect(deadline)
            if not self._prepare:
                self._pg.send_query_params(query.sql, params)
            else:
                if query.name not in self._prepared:
                    self._pg.send_prepare(query.name, query.sql)
                    self._result(deadline)
                    self._prepared.add(query.name)
                self._pg.send_query_prepared(query.name, params)
            return self._result(deadline).get_value(0, 0)
        except Error as error:
            raise _Lost(_one_line(str(error))) from error

    def _connect(self, deadline: float) -> None:
        while self._pg.status != ConnStatus.BAD:
            if self._polling == PollingStatus.OK:
                self._pg.nonblocking = 1
                self._poll.register(self._pg.socket, select.POLLIN)
                self.connecting = False
                return
            # The socket may be another one after each step: libpq tries every address of the host.
            poll = select.poll()
            poll.register(
                self._pg.socket, select.POLLIN if self._polling == PollingStatus.READING else select.POLLOUT
            )
            _wait(poll, deadline, "still connecting")
            self._polling = PollingStatus(self._pg.connect_poll())
        raise _Lost(_one_line(self._pg.get_error_message()))

    def _result(self, deadline: float) -> PGresult:
        while self._pg.flush():  # more than the socket takes at once
            self._poll.modify(self._pg.socket, select.POLLIN | select.POLLOUT)
            _wait(self._poll, deadline, "still sending")
            self._poll.modify(self._pg.socket, select.POLLIN)
            self._pg.consume_input()
        found: PGresult | None = None
        while True:
            while self._pg.is_busy():
                _wait(self._poll, deadline, "still waiting")
                self._pg.consume_input()
            result = self._pg.get_result()
            if result is None:
                break
            # A commit that fails is told after the value: the last word counts.
            found = result if found is None or result.status == ExecStatus.FATAL_ERROR else found
        if found is None or self._pg.status == ConnStatus.BAD:
            raise _Lost(_one_line(self._pg.get_error_message()))
        if found.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            sqlstate = found.error_field(DiagnosticField.SQLSTATE) or b""
            said = found.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
            raise Refused(sqlstate.decode(), _one_line(said.decode(errors="replace")))
        return found


def parameters_of(url: str) -> dict[str, object]:
    """ConfigError where libpq cannot read *url*; in our words, since its own would show a password."""
    try:
        return dict(conninfo_to_dict(url))
    except Error:
        detail = "is not a connection string that libpq can read: expected postgresql://USER:PASSWORD@HOST/DATABASE"
    raise ConfigError(
        f"the database's URL {detail}", problems=(Problem(pointer="SIDECAR_DATABASE_URL", detail=detail),)
    )


def array(texts: Sequence[str | None]) -> bytes:
    """A text[] as PostgreSQL reads it. Text that it cannot hold is NULL: it equals nothing that is stored."""
    literal = "{" + ",".join(map(_element, texts)) + "}"
    return literal.encode()


def _element(text: str | None) -> str:
    if text is None or "\0" in text:
        return "NULL"
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wait(poll: select.poll, deadline: float, doing: str) -> None:
    left = min(deadline - monotonic(), _LONGEST_POLL_S)
    if left <= 0 or not poll.poll(ceil(left * 1000)):
        raise _Late(doing)


def _conninfo(url: str, *, statement_timeout_s: float, lock_timeout_s: float, pooler: bool) -> bytes:
    given = parameters_of(url)
    # A firewall forgets a silent connection: the kernel shall know before a question does.
    ours = {"keepalives_idle": "30", "keepalives_interval": "5", "keepalives_count": "3"}
    ours |= {name: str(value) for name, value in given.items() if name in ours}
    ours |= {"client_encoding": "UTF8", "fallback_application_name": "sidecar"}
    if not pooler:
        # A superuser's session too has the sidecar's rights alone.
        settings = (
            f"-c role={ROLE} -c statement_timeout={ceil(statement_timeout_s * 1000)}"
            f" -c lock_timeout={ceil(lock_timeout_s * 1000)}"
            " -c default_transaction_isolation=read\\ committed"
        )
        ours["options"] = f"{given.get('options') or ''} {settings}".strip()
    return make_conninfo(url, **ours).encode()


def _one_line(text: str) -> str:
    return " ".join(text.split())
