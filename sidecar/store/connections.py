"""A bounded stack of connections to PostgreSQL, on which every question ends by its deadline.

They drive libpq directly: psycopg's own cursor has no timeout for a silent server, its pool backs off for
seconds after a failure, and both cost more than the query. docs/decisions/0009 has the figures.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import FactsUnavailable
from sidecar.store.addresses import conninfo_of, parameters_of
from sidecar.store.asked import Asked
from sidecar.store.breaker import SHORTEST_SILENCE_S, Breaker
from sidecar.store.connecting import ADDRESS_TIMEOUT_S, Dialer
from sidecar.store.connector import Connector
from sidecar.store.places import Places
from sidecar.store.session import Late, Lost, Query, Refused, Session, array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Connections", "Query", "Refused", "array", "parameters_of"]  # all that a store needs

SIGN_OF_LIFE = Query(name=b"sign_of_life", sql=b"SELECT 1")
_LOOK_EVERY_S = 0.05  # how often waiting questions check whether the breaker has opened


class Connections:
    """Up to *size* connections, each made when it is first needed and again when it is lost.

    *pooler*: a transaction pooler stands between, so nothing is prepared, and nothing set at the start of a
    session: the login itself must have the rights of authz_sidecar alone, and a statement_timeout. A
    *lock_timeout_s* of 0 is none. *observe* gets, for each question, failed ones too, the seconds it waited
    for a connection and for the server.
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
        conninfo = conninfo_of(
            url, statement_timeout_s=statement_timeout_s, lock_timeout_s=lock_timeout_s, pooler=pooler
        )
        self._dialer = Dialer(conninfo)
        self._size = size
        self._pooler = pooler
        self._observe = observe
        self._breaker = Breaker()
        self._connector = Connector(self._new_session, self._keep_new)
        self._idle: list[Session] = []  # the last used is at the end: few connections stay warm
        self._new: list[Session] = []  # connected, and not used yet
        self._places = Places(size)
        self._open = False

    def open(self) -> None:
        """After the fork: connections and threads do not survive one. The first question connects."""
        self._open = True

    def close(self) -> None:
        self._open = False
        self._connector.fail(_closed())
        self._drop_idle(heard_before=inf)

    def answer(self, query: Query, params: Sequence[bytes | None], /, *, deadline: float) -> bytes | None:
        """The one value of *query* as text; *deadline* is on the monotonic clock.

        FactsUnavailable on a timeout, Refused when the server answered with an error.
        """
        asked = Asked(query, params, deadline)
        try:
            return self._answer(asked)
        except Late as late:
            self._went_late(asked)
            raise FactsUnavailable(f"PostgreSQL did not answer in time: {late}") from late
        except Lost as lost:
            raise FactsUnavailable(f"PostgreSQL cannot be reached: {lost}") from lost
        finally:
            if self._observe:
                self._observe(*asked.seconds())

    def _answer(self, asked: Asked) -> bytes | None:
        if not self._open:
            raise _closed()
        if asked.began >= asked.deadline:
            raise Late("the deadline had passed before it was asked")
        if self._breaker.suspected is not None and self._breaker.is_open():
            return self._try(asked)
        self._take_place(asked)
        try:
            return self._answer_in_place(asked)
        finally:
            self._places.give_back()

    def _try(self, asked: Asked) -> bytes | None:
        """Not limited by the places, which may all be taken by questions that wait for the silent server."""
        if not self._breaker.begin_trial():
            raise _silent()
        asked.trying = True
        try:
            return self._answer_in_place(asked)
        finally:
            self._breaker.end_trial()

    def _take_place(self, asked: Asked) -> None:
        gate = self._places.take()
        if gate is None:
            return
        taken = False
        try:
            while not taken and (left := self._until(asked) - monotonic()) > 0:
                taken = gate.acquire(timeout=min(left, _LOOK_EVERY_S))
        finally:
            if not taken:
                self._places.leave(gate)
        if not taken:
            raise Late(f"all {self._size} connections were busy")

    def _answer_in_place(self, asked: Asked) -> bytes | None:
        session = self._idle_session(living=not asked.query.repeatable)
        if session is None:
            return self._answer_on(self._session(asked, self._any_session), asked)
        try:
            return self._answer_on(session, asked)
        except Lost:
            # It broke while idle: a restart must not cost one 503 for each connection. A repeatable query
            # gets one retry on a new connection; if that breaks too, it is an outage.
            if not asked.query.repeatable:
                raise
        return self._answer_on(self._session(asked, self._new_one), asked)

    def _session(self, asked: Asked, take: Callable[[], Session | None]) -> Session:
        asked.waits()
        return self._connector.session(take, until=lambda: self._until(asked))

    def _until(self, asked: Asked) -> float:
        """The longest wait for now; only the question that tests a silent server waits for it."""
        if not self._open:
            raise _closed()
        opens_at = self._breaker.opens_at()
        if asked.trying:
            return asked.deadline
        if opens_at <= monotonic():
            raise _silent()
        return min(asked.deadline, opens_at)

    def _answer_on(self, session: Session, asked: Asked) -> bytes | None:
        asked.is_sent()
        usable = False
        try:
            value = session.answer(asked.query, asked.params, asked.deadline)
            usable = True
        except Refused:
            usable = True
            raise
        finally:
            if usable:
                session.heard = self._breaker.heard = monotonic()
            if usable and self._open and (not asked.trying or self._has_room()):
                self._idle.append(session)
                if self._connector.waiting:
                    self._connector.wake()
            else:
                session.close()
        return value

    def _went_late(self, asked: Asked) -> None:
        if monotonic() - asked.since < SHORTEST_SILENCE_S:
            return
        # Sessions without an answer since may be dead too, and each would cost a question its deadline.
        self._drop_idle(heard_before=asked.since)
        if self._breaker.suspect(since=asked.since):
            self._connector.start()
            self._connector.wake()

    def _any_session(self) -> Session | None:
        return self._idle_session(living=True) or self._new_one()

    def _idle_session(self, *, living: bool) -> Session | None:
        """*living*: one whose server has not said goodbye, as far as anybody can know."""
        return _pop(self._idle, living=living)

    def _new_one(self) -> Session | None:
        return _pop(self._new, living=True)

    def _new_session(self) -> Session:
        """On a thread of the connector."""
        began = monotonic()
        try:
            session = Session(self._dialer.connect(), prepare=not self._pooler)
        except Lost:
            self._breaker.heard = monotonic()  # a refusal is an answer
            raise
        if self._breaker.suspected is not None:
            self._ask_for_a_sign_of_life(session)
        self._breaker.learn(connected_in_s=monotonic() - began)
        return session

    def _ask_for_a_sign_of_life(self, session: Session) -> None:
        """Ask a query too, because a pooler accepts logins in front of a dead server."""
        try:
            with suppress(Refused):
                session.answer(SIGN_OF_LIFE, (), monotonic() + ADDRESS_TIMEOUT_S)
        except BaseException:
            session.close()
            raise
        self._breaker.heard = monotonic()

    def _keep_new(self, session: Session) -> None:
        """On a thread of the connector, which then wakes the waiting questions."""
        if self._open and (self._connector.waiting or self._has_room()):
            self._new.append(session)
        else:
            session.close()

    def _has_room(self) -> bool:
        return len(self._idle) + len(self._new) < self._places.free

    def _drop_idle(self, *, heard_before: float) -> None:
        for sessions in (self._idle, self._new):
            for session in tuple(sessions):
                if session.heard < heard_before:
                    with suppress(ValueError):  # another thread has just taken it
                        sessions.remove(session)
                        session.close()


def _pop(sessions: list[Session], *, living: bool) -> Session | None:
    while sessions:
        try:
            session = sessions.pop()
        except IndexError:  # another thread was faster
            break
        if not (living and session.has_ended()):
            return session
        session.close()
    return None


def _silent() -> FactsUnavailable:
    return FactsUnavailable("PostgreSQL is silent: one question at a time tries it, the others do not wait")


def _closed() -> Lost:
    return Lost("the connections are closed")
