"""One open connection to PostgreSQL: it sends a query and reads the answer, with a deadline."""

from __future__ import annotations

import select
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import Error
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.pq.abc import PGconn, PGresult

LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One statement that answers one value; prepared under its *name*.

    One that is not *repeatable* is never sent twice: it may have taken effect although its answer got lost.
    """

    name: bytes
    sql: bytes
    repeatable: bool = True


class Refused(Exception):
    """The server answered with an error: its *sqlstate* and what it said."""

    def __init__(self, sqlstate: str, said: str) -> None:
        super().__init__(said)
        self.sqlstate = sqlstate


class Lost(Exception):
    """The connection broke or was refused: nothing was answered."""


class Late(Exception):
    """A timeout; the caller must close the connection, because its answer may still come."""


class Session:
    """For one question at a time. *heard* is when its server last answered, on the monotonic clock."""

    def __init__(self, pg: PGconn, *, prepare: bool) -> None:
        self._pg = pg
        self._prepare = prepare
        self._prepared: set[bytes] = set()
        self._poll = select.poll()
        self._poll.register(pg.socket, select.POLLIN)
        pg.nonblocking = 1
        self.heard = monotonic()

    def close(self) -> None:
        # Never PQcancel: it connects anew, and blocks. statement_timeout ends abandoned queries.
        self._pg.finish()

    def has_ended(self) -> bool:
        """True if the server has sent something unasked: mostly that it is shutting down."""
        return bool(self._poll.poll(0))

    def answer(self, query: Query, params: Sequence[bytes | None], deadline: float) -> bytes | None:
        """Lost, Late, or Refused if there is none."""
        try:
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
            raise Lost(one_line(str(error))) from error

    def _result(self, deadline: float) -> PGresult:
        while self._pg.flush():  # more than the socket takes at once
            self._poll.modify(self._pg.socket, select.POLLIN | select.POLLOUT)
            wait(self._poll, deadline, "still sending")
            self._poll.modify(self._pg.socket, select.POLLIN)
            self._pg.consume_input()
        found: PGresult | None = None
        while True:
            while self._pg.is_busy():
                wait(self._poll, deadline, "still waiting")
                self._pg.consume_input()
            result = self._pg.get_result()
            if result is None:
                break
            # A failed commit is reported after the value: the last result counts.
            found = result if found is None or result.status == ExecStatus.FATAL_ERROR else found
        if found is None or self._pg.status == ConnStatus.BAD:
            raise Lost(one_line(self._pg.get_error_message()))
        if found.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            sqlstate = found.error_field(DiagnosticField.SQLSTATE) or b""
            said = found.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
            raise Refused(sqlstate.decode(), one_line(said.decode(errors="replace")))
        return found


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
