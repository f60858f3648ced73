"""One open connection to PostgreSQL: it sends a query and reads the answer, and never waits."""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import Error
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

from sidecar.errors import BadQuestion, FactsUnavailable
from sidecar.store.outage import SHUTTING_DOWN, cause_by_state

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGcancel, PGconn, PGresult

    from sidecar.errors import DatabaseCause
    from sidecar.store.asked import Asked

LONGEST_WAIT_S = 3600.0
# Text, a date or a number that a type cannot hold, or a whole that is too large; see PostgreSQL's appendix A.
_OF_A_VALUE = frozenset({"22001", "22003", "22007", "22008", "22009", "22021", "22P02", "22P05", "54000"})
_CUT_OFF = select.POLLHUP | select.POLLERR
_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_OFF = (b"off", None)  # None: a pooler tells nothing of it
# Of a question that had no effect: read_only_sql_transaction, too_many_connections, and, where a pooler mixes
# up prepared statements, invalid_sql_statement_name and duplicate_prepared_statement.
_HAD_NO_EFFECT = frozenset({"25006", "53300", "26000", "42P05"})
_FATAL = (b"FATAL", b"PANIC")


class Refused(Exception):
    """The server answered with an error: its *sqlstate* and what it said."""

    def __init__(self, sqlstate: str, said: str) -> None:
        super().__init__(said)
        self.sqlstate = sqlstate

    @property
    def is_of_a_value(self) -> bool:
        """The server is well, and cannot hold a value that it was given: trying again would not help."""
        return self.sqlstate in _OF_A_VALUE

    def outage(self) -> FactsUnavailable:
        """Where no other error stands for it."""
        cause = cause_by_state(self.sqlstate)
        return FactsUnavailable(f"PostgreSQL refused ({self.sqlstate}): {self}", cause=cause)


def not_storable() -> BadQuestion:
    """The request has a value that PostgreSQL does not take. The edge should have said where it stands."""
    return BadQuestion(
        "PostgreSQL cannot hold a value of the request: text with a NUL, a number or date out of range"
    )


class NoAnswer(Exception):
    """*cause* is as in FactsUnavailable."""

    def __init__(self, said: str, *, cause: DatabaseCause = "database_unreachable") -> None:
        super().__init__(said)
        self.cause = cause


class Lost(NoAnswer):
    """The connection broke or was refused: nothing was answered."""


class Unfit(Lost):
    """The server, or what a pooler made of the session, is of no use, nor are the other sessions.

    *had_no_effect*: the question may be asked again, whatever it does.
    """

    def __init__(
        self, said: str, *, cause: DatabaseCause = "database_unreachable", had_no_effect: bool = False
    ) -> None:
        super().__init__(said, cause=cause)
        self.had_no_effect = had_no_effect


class Late(NoAnswer):
    """A timeout; the caller must close the connection, because its answer may still come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A connection that is logged in, and whose session is as it has to be.

    How its server is known to take writes: it reports that each of *must_be_off* is off, or is asked with
    each question (*asks*), since a pooler reports what it remembers.
    """

    pg: PGconn
    must_be_off: tuple[bytes, ...] = ()
    asks: bool = False


class Session:
    """For one question at a time, on the event loop *loop*; *heard* is when its server last answered.

    *came*, to be set, is called on the loop with the answer, or with Lost or Refused; with Lost also when an
    idle session has ended. After Lost, and once *cut_off* or *retired*, it must be closed. An answer counts
    only while the server takes writes, if that was asked for (see Connected).
    """

    def __init__(self, connected: Connected, *, prepare: bool, loop: AbstractEventLoop) -> None:
        self.came: Callable[[Session, bytes | None, Lost | Refused | None], None]
        self.asked: Asked | None = None
        self.heard = monotonic()
        self.used = False
        self.cut_off = False
        self.retired = False
        self._retires: TimerHandle | None = None
        self._must_be_off = connected.must_be_off
        self._asks = connected.asks
        self._pg = pg = connected.pg
        # Our own: libpq closes its when the connection breaks, and no loop may watch what is closed.
        self._socket = os.dup(pg.socket)
        self._prepare = prepare
        self._prepared: set[bytes] = set()
        self._preparing = False
        self._found: PGresult | None = None
        self._loop = loop
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.sending = False
        pg.nonblocking = 1
        # For good: an idle session that becomes readable has ended, and no question costs a system call.
        loop.add_reader(self._socket, self.look)

    def close(self) -> None:
        # Never PQcancel here: it connects anew, and blocks. statement_timeout ends abandoned queries.
        if self._retires is not None:
            self._retires.cancel()
        self._loop.remove_reader(self._socket)
        self._send_no_more()
        os.close(self._socket)
        self._pg.finish()

    def cancel_request(self) -> PGcancel | None:
        """For whoever may block: it ends what the server does for the question, also after `close`.

        None: the connection is broken.
        """
        try:
            return self._pg.get_cancel()
        except Error:
            return None

    def retire_in(self, seconds: float, retire: Callable[[Session], None]) -> None:
        """Be *retired* then; *retire* is told."""

        def end() -> None:
            self.retired = True
            retire(self)

        self._retires = self._loop.call_later(seconds, end)

    def has_ended(self) -> bool:
        """True if the server has sent something unasked: mostly that it is shutting down.

        The loop says so too, but only after the question that is asked meanwhile.
        """
        return bool(self._poll.poll(0))

    def ask(self, asked: Asked) -> None:
        """Send the question, all that the socket takes of it. Lost if it is known to be in vain."""
        self.asked = asked
        query = asked.query
        try:
            if not self._prepare:
                self._pg.send_query_params(query.asking if self._asks else query.sql, asked.params)
            elif query.name in self._prepared:
                self._pg.send_query_prepared(query.name, asked.params)
            else:
                self._pg.send_prepare(query.name, query.asking if self._asks else query.sql)
                self._preparing = True
            self._flush()
        except Error as error:
            raise Lost(one_line(str(error))) from error

    def look(self) -> None:
        """Read what has come, without waiting.

        An answer may have come together with the end of the connection; of that uvloop does not tell again.
        """
        if self.asked is None:
            self.came(self, None, Lost("the session has ended"))
            return
        try:
            came = self._read(self.asked)
            self.cut_off = any(flags & _CUT_OFF for _, flags in self._poll.poll(0))
            while came is None and self.cut_off:
                came = self._read(self.asked)
        except Error as error:
            self.came(self, None, Lost(one_line(str(error))))
        except Lost as lost:
            self.came(self, None, lost)
        else:
            if came is not None:
                self.came(self, *came)

    def _read(self, asked: Asked) -> tuple[bytes | None, Refused | None] | None:
        """None as long as the answer has not come whole."""
        pg = self._pg
        pg.consume_input()
        if self.sending:
            self._flush()
        while True:
            if pg.is_busy():
                return None
            result = pg.get_result()
            if result is None:
                break
            # A failed commit is reported after the value: the last result counts.
            if self._found is None or result.status == ExecStatus.FATAL_ERROR:
                self._found = result
        found, self._found = self._found, None
        preparing, self._preparing = self._preparing, False
        if found is None or pg.status == ConnStatus.BAD:
            raise Lost(one_line(pg.get_error_message()))
        if found.status not in _GOOD:
            return None, _refusal(found)
        if preparing:
            self._prepared.add(asked.query.name)
            self.ask(asked)
            return None
        return self._value(found), None

    def _value(self, found: PGresult) -> bytes | None:
        """Unfit if the server takes no writes any more."""
        for name in self._must_be_off:
            # A change is reported with the answer to the first question after it.
            if self._pg.parameter_status(name) not in _OFF:
                raise Unfit(
                    f"the server takes no writes any more: {name.decode()} is on", cause="database_read_only"
                )
        if not self._asks or found.nfields == 1:  # what begins with no SELECT is refused by such a server
            return found.get_value(0, 0)
        if found.get_value(0, 0) == b"t":
            raise Unfit("the server takes no writes any more", cause="database_read_only")
        return found.get_value(0, 1)

    def _flush(self) -> None:
        if not self._pg.flush():
            self._send_no_more()
        elif not self.sending:
            self.sending = True
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            self._flush()
        except Error as error:
            self.came(self, None, Lost(one_line(str(error))))

    def _send_no_more(self) -> None:
        if self.sending:
            self.sending = False
            self._loop.remove_writer(self._socket)


def _refusal(found: PGresult) -> Refused:
    """Lost or Unfit where the session is at its end, or of no use."""
    sqlstate = (found.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    said = one_line((found.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
    if sqlstate in _HAD_NO_EFFECT:
        cause = cause_by_state(sqlstate)
        raise Unfit(f"{said} ({sqlstate})", cause=cause, had_no_effect=True)
    if sqlstate in SHUTTING_DOWN:
        raise Unfit(f"{said} ({sqlstate})")
    if found.error_field(DiagnosticField.SEVERITY) in _FATAL:
        raise Lost(f"{said} ({sqlstate})")
    return Refused(sqlstate, said)


def array(texts: Sequence[str | None]) -> bytes:
    """A text[] as PostgreSQL reads it. Text that it cannot store is NULL, which equals nothing."""
    try:
        raw = '","'.join(texts).encode()  # type: ignore[arg-type] # None is in the except
    except (TypeError, UnicodeEncodeError):
        pass
    else:
        # Nothing to escape, as mostly: no backslash, no NUL, and no quotation mark but those of the commas.
        if texts and raw.count(b'"') == 2 * (len(texts) - 1) and b"\\" not in raw and b"\0" not in raw:
            return b'{"' + raw + b'"}'
    return ("{" + ",".join(map(_element, texts)) + "}").encode()


def _element(text: str | None) -> str:
    if text is None or "\0" in text:
        return "NULL"
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def wait(poll: select.poll, deadline: float, doing: str) -> None:
    """Late if nothing has happened by *deadline*."""
    left = min(deadline - monotonic(), LONGEST_WAIT_S)
    if left <= 0 or not poll.poll(ceil(left * 1000)):
        raise Late(doing)


def one_line(text: str) -> str:
    return " ".join(text.split())
