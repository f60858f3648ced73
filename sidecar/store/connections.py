"""A bounded stack of connections to PostgreSQL, on which every question ends by its deadline.

They drive libpq directly, on one event loop and without a lock: psycopg's own connections have no timeout for
a silent server, and cost more than the query. docs/decisions/0009 and 0037 have the figures.
"""

from __future__ import annotations

import random
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import FactsUnavailable, OutcomeUnknown
from sidecar.store.addresses import conninfo_of, parameters_of
from sidecar.store.asked import Asked, Query
from sidecar.store.breaker import SHORTEST_SILENCE_S, Breaker
from sidecar.store.cancelling import Canceller
from sidecar.store.connecting import Dialer
from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.connector import Connector
from sidecar.store.line import Line
from sidecar.store.loop import Loop, closed, late
from sidecar.store.resolver import RESOLVER
from sidecar.store.session import Late, Lost, Refused, Session, Unfit, array
from sidecar.store.session_setup import SessionSetup
from sidecar.store.stack import Stack
from sidecar.store.ticks import Ticks

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence

    from sidecar.store.asked import Done
    from sidecar.store.connection_options import ConnectionOptions

__all__ = ["Connections", "Query", "Refused", "array", "parameters_of"]  # all that a store needs


class Connections:
    """Up to *size* connections, each made when it is first needed and again when it is lost.

    A *lock_timeout_s* of 0 is none. Whoever has sent a change waits for *patience_s* at least, and hears
    OutcomeUnknown then; 0: a change has a deadline as all else. *cancels*: what is late is ended in
    PostgreSQL too. A commit that waits for a standby would stay for ever: no statement_timeout holds for it.
    *observe* gets, for each question, failed ones too, the seconds it waited for a connection and for the
    server; it is called on the loop.
    """

    def __init__(
        self,
        url: str,
        /,
        *,
        size: int,
        statement_timeout_s: float,
        lock_timeout_s: float = 0.0,
        patience_s: float = 0.0,
        cancels: bool = False,
        options: ConnectionOptions = DEFAULT_OPTIONS,
        observe: Callable[[float, float], None] | None = None,
    ) -> None:
        setup = SessionSetup.of(
            options, statement_timeout_s=statement_timeout_s, lock_timeout_s=lock_timeout_s
        )
        self.size = size
        self.lock_timeout_s = lock_timeout_s
        self.loop = Loop()
        self._dialer = Dialer(conninfo_of(url, setup), setup=setup, options=options, resolver=RESOLVER)
        self._options = options
        self._observe = observe
        self._patience_s = patience_s
        self._canceller = Canceller() if cancels else None
        self._breaker = Breaker()
        self._stack = Stack(size)
        self._line = Line()
        self._earliest = inf  # no deadline in the line or of a busy session is before
        self._open = False

    def open(self, loop: AbstractEventLoop | None = None) -> AbstractEventLoop:
        """After the fork: connections and threads do not survive one. The first question connects.

        Without a *loop* one runs on a thread of its own; with one, its thread does all the work. The
        loop is returned.
        """
        started = self.loop.start(loop)
        self._schedule = started.call_soon
        self._connector = Connector(
            self._dialer.connect,
            prepare=self._options.pooler != "transaction",
            breaker=self._breaker,
            loop=started,
            came=self._connected,
        )
        self._ticks = Ticks(started, self._look)
        self._open = True
        return started

    def close(self) -> None:
        """From any thread; whoever waits is told. Somebody else's loop must go round once more for that."""
        if self._open:
            self._open = False
            self.loop.run(self._end)
            self.loop.stop()

    @property
    def silent(self) -> bool:
        """While True, one question at a time tries the server, and the others fail at once."""
        return self._breaker.suspected is not None and self._breaker.is_open()

    @property
    def used(self) -> tuple[int, int]:
        """How many connections there are, and how many of them are busy."""
        return self._stack.size - self._stack.room, len(self._stack.busy)

    def answer(self, query: Query, params: Sequence[bytes | None], /, *, deadline: float) -> bytes | None:
        """The one value of *query* as text; *deadline* is on the monotonic clock.

        FactsUnavailable on a timeout, Refused when the server answered with an error; RuntimeError on the
        loop's own thread.
        """
        since = monotonic()

        def ask(done: Done) -> None:
            self.ask(query, params, deadline=deadline, done=done, since=since)

        longest = deadline + self._patience_s if query.changes else deadline
        return self.loop.answer(ask, deadline=longest)

    def ask(
        self,
        query: Query,
        params: Sequence[bytes | None],
        /,
        *,
        deadline: float,
        done: Done,
        since: float | None = None,
    ) -> None:
        """As `answer`, on the loop's own thread and after `open`: *done* gets the value or the error, once.

        It is called later, never from here. *since* is when the question began to wait, if that was before.
        """
        now = monotonic()
        asked = Asked(query, params, deadline=deadline, done=done, since=now if since is None else since)
        if not self._open:
            self._fail(asked, closed())
        elif now >= deadline:
            # Said as any other lateness, but nothing was learnt about the server.
            self._fail(asked, late("the deadline had passed before it was asked"))
        elif self.silent:
            # Not limited by the size: all connections may be taken by questions that wait for the silence.
            if self._line.trial is None:
                self._line.trial = asked
                self._begin(asked)
            else:
                self._fail(asked, _silent())
        elif self._line.is_full:
            self._fail(asked, FactsUnavailable("too many questions wait for PostgreSQL"))
        else:
            self._begin(asked)

    def _begin(self, asked: Asked) -> None:
        self._earliest = min(self._earliest, asked.deadline)
        self._ticks.go_on()
        session = self._stack.take(asked)
        if session is not None:
            self._send(session, asked)
            return
        self._line.append(asked)
        self._connect()

    def _send(self, session: Session, asked: Asked) -> None:
        asked.is_sent()
        if asked.query.changes:
            asked.deadline = max(asked.deadline, asked.since + self._patience_s)
        self._stack.busy.add(session)
        try:
            session.ask(asked)
        except Lost as lost:
            self._lost(session, lost)

    def _came(self, session: Session, value: bytes | None, error: Lost | Refused | None) -> None:
        if isinstance(error, Lost):
            self._lost(session, error)
        elif (asked := session.asked) is not None:
            session.heard = self._breaker.heard = monotonic()
            session.used = True
            session.asked = None
            self._stack.busy.discard(session)
            self._line.end_trial(asked)
            self._free(session)
            self._tell(asked, value, error)

    def _free(self, session: Session) -> None:
        """Give *session* to the first in the line that may use it, or keep it."""
        if session.cut_off or session.retired:
            session.close()
            self._connect()
            return
        asked = self._line.take(session, has_room=self._stack.room > 0)
        if asked is None:
            self._stack.keep(session)
        else:
            self._send(session, asked)

    def _lost(self, session: Session, lost: Lost) -> None:
        """A connection that broke while idle: a restart must not cost one 503 for each of them."""
        asked = self._stack.drop(session)
        if isinstance(lost, Unfit):
            self._stack.drop_idle(heard_before=inf)
        if asked is not None and not asked.heard_since and _may_be_repeated(asked, session, lost):
            asked.waits()
            asked.heard_since = asked.since
            self._line.put_first(asked)
        elif asked is not None:
            self._fail(asked, lost)
        self._connect()

    def _retire(self, session: Session) -> None:
        """It is old enough. A busy one ends with its answer."""
        if session.asked is None:
            self._stack.drop(session)

    def _connect(self) -> None:
        """Begin to connect for those who wait for it."""
        if wanted := len(self._line.for_new_sessions(self._stack)):
            try:
                self._connector.start_up_to(wanted)
            except Lost as lost:
                self._fail_line(lost, began=inf)

    def _connected(self, made: Session | Lost | Late, began: float) -> None:
        """A connect that *began* then has ended."""
        if isinstance(made, Exception):
            self._fail_line(made, began=began)
        elif self._open:
            made.came = self._came
            # Not all at once, since they were made at once.
            made.retire_in(self._options.max_age_s * random.uniform(0.8, 1.0), self._retire)  # noqa: S311 - no secret
            self._free(made)
        else:
            made.close()
        self._connect()

    def _fail_line(self, failure: Lost | Late, *, began: float) -> None:
        """Those who wait for a new connection share the failure of a connect that *began* after they did."""
        for asked in self._line.for_new_sessions(self._stack):
            if asked.since <= began:
                self._line.remove(asked)
                kind = Late if isinstance(failure, Late) else Lost
                self._fail(asked, kind(str(failure), cause=failure.cause))

    def _look(self) -> bool:
        """At each tick: who is late, and whether the server is found to be silent."""
        if len(self._line) and self.silent:
            for asked in self._line:
                if asked is not self._line.trial:
                    self._line.remove(asked)
                    self._fail(asked, _silent())
        now = monotonic()
        if now >= self._earliest:
            for session in tuple(self._stack.busy):
                if (on_it := session.asked) is not None and on_it.deadline <= now:
                    self._look_again(session, on_it)
            for asked in self._line:
                if asked.deadline <= now:
                    self._line.remove(asked)
                    self._fail(asked, self._why_late())
            there = (*self._line, *(session.asked for session in self._stack.busy))
            self._earliest = min((asked.deadline for asked in there if asked is not None), default=inf)
            self._connect()
        return bool(self._stack.busy or self._line)

    def _look_again(self, session: Session, asked: Asked) -> None:
        """If it is the loop itself that is late, the answer may be there."""
        session.look()
        if session.asked is not asked:
            return
        if self._canceller is not None and (request := session.cancel_request()) is not None:
            self._canceller.cancel(request)
        self._stack.drop(session)
        if asked.query.changes and self._patience_s > 0:
            self._went_late(asked)
            self._fail(asked, OutcomeUnknown("a change was sent, and PostgreSQL did not answer"))
        else:
            self._fail(asked, Late("still sending" if session.sending else "still waiting"))

    def _why_late(self) -> Late:
        busy = len(self._stack.busy) >= self.size
        return Late(f"all {self.size} connections were busy" if busy else "still connecting")

    def _fail(self, asked: Asked, failure: Lost | Late | FactsUnavailable | OutcomeUnknown) -> None:
        """Later, so that who asks is not told before it has asked."""
        if isinstance(failure, Late):
            self._went_late(asked)
            failure = late(str(failure), cause=failure.cause)
        elif isinstance(failure, Lost):
            failure = FactsUnavailable(f"PostgreSQL cannot be reached: {failure}", cause=failure.cause)
        self._line.end_trial(asked)
        self._schedule(self._tell, asked, None, failure)

    def _tell(self, asked: Asked, value: bytes | None, error: Exception | None) -> None:
        if self._observe:
            self._observe(*asked.seconds())
        asked.done(value, error)

    def _went_late(self, asked: Asked) -> None:
        if monotonic() - asked.since < SHORTEST_SILENCE_S:
            return
        # Sessions without an answer since may be dead too, and each would cost a question its deadline.
        self._stack.drop_idle(heard_before=asked.since)
        if self._breaker.suspect(since=asked.since):
            with suppress(Lost):
                self._connector.start_up_to(1)

    def _end(self) -> None:
        self._ticks.stop()
        self._stack.drop_idle(heard_before=inf)
        for asked in self._line:
            self._line.remove(asked)
            self._fail(asked, closed())
        for asked in filter(None, map(self._stack.drop, tuple(self._stack.busy))):
            self._fail(asked, closed())


def _may_be_repeated(asked: Asked, session: Session, lost: Lost) -> bool:
    if isinstance(lost, Unfit):
        return lost.had_no_effect or asked.query.repeatable
    return asked.query.repeatable and session.used


def _silent() -> FactsUnavailable:
    return FactsUnavailable("PostgreSQL is silent: one question at a time tries it, the others do not wait")
