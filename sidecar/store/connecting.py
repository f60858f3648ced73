"""Connecting to PostgreSQL, one address after the other, each with a time limit. It blocks."""

from __future__ import annotations

import random
import select
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import Error
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PGconn, PollingStatus

from sidecar.store.addresses import conninfo_of, conninfo_to, destination_of
from sidecar.store.outage import cause_by_state, cause_by_text, foremost
from sidecar.store.resolver import RESOLVER
from sidecar.store.session import Connected, Late, Lost, one_line, wait
from sidecar.store.session_setup import SessionSetup, WrongSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.pq import abc

    from sidecar.store.addresses import Destination, Host
    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.resolver import Resolver

# With the second for which a name stays resolved, a server that has moved is found within three.
CONNECT_TIMEOUT_S = 1.4
ADDRESS_TIMEOUT_S = 0.8  # while there is another address to try


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    host: Host
    address: str
    conninfo: bytes
    alone: bool  # there is no other

    @property
    def place(self) -> tuple[Host, str]:
        return self.host, self.address


class Dialer:
    """Connects to the hosts of *conninfo*, beginning with the last good address. From any thread."""

    def __init__(
        self, conninfo: str, *, setup: SessionSetup, options: ConnectionOptions, resolver: Resolver
    ) -> None:
        self._conninfo = conninfo
        self._setup = setup
        self._options = options
        self._resolver = resolver
        self._good: tuple[Host, str] | None = None
        self._silent: frozenset[tuple[Host, str]] = frozenset()  # the last time

    def connect(self) -> Connected:
        """Connect and log in. Lost if each address refused; Late if one, or the name server, was silent."""
        destination = destination_of(self._conninfo, session=self._options.target_session_attrs)
        if not destination.hosts:
            return Connected(pg=self._establish(self._conninfo.encode(), within_s=CONNECT_TIMEOUT_S))
        must_be_off = destination.must_be_off
        if self._options.pooler == "off":
            return Connected(pg=self._connect_to(destination), must_be_off=must_be_off)
        through = replace(destination, sessions=("any",))  # we ask what a pooler would only remember
        pg = self._connect_to(through, takes_writes=bool(must_be_off))
        return Connected(pg=pg, asks=bool(must_be_off))

    def _connect_to(self, destination: Destination, *, takes_writes: bool = False) -> abc.PGconn:
        failures: list[Lost | Late] = []
        silent: list[_Route] = []
        for route in self._routes(destination, failures):
            within_s = CONNECT_TIMEOUT_S if route.alone else ADDRESS_TIMEOUT_S
            try:
                return self._connect_by(route, within_s, takes_writes=takes_writes)
            except Lost as lost:
                failures.append(lost)
            except Late as late:
                failures.append(late)
                if not route.alone:
                    silent.append(route)
        self._silent = frozenset(route.place for route in silent)
        for route in silent[:1]:  # no other address is left, and this one may only be slow
            try:
                return self._connect_by(route, CONNECT_TIMEOUT_S, takes_writes=takes_writes)
            except (Lost, Late) as failure:
                failures.append(failure)
        wrong = [each for each in failures if isinstance(each, WrongSession)]
        if len(wrong) == len(failures):
            raise wrong[0]
        said = "; ".join(dict.fromkeys(str(each) for each in failures))
        cause = foremost(each.cause for each in failures)
        raise (Late if any(isinstance(each, Late) for each in failures) else Lost)(said, cause=cause)

    def _connect_by(self, route: _Route, within_s: float, *, takes_writes: bool) -> abc.PGconn:
        try:
            connection = self._establish(route.conninfo, within_s=within_s, takes_writes=takes_writes)
        except Late as late:
            where = (
                " ".join(dict.fromkeys(filter(None, (route.host.name, route.address)))) or "the local server"
            )
            raise Late(f"{where}, port {route.host.port}, did not let us in within {within_s} s") from late
        self._good = route.place
        return connection

    def _establish(self, conninfo: bytes, *, within_s: float, takes_writes: bool = False) -> abc.PGconn:
        """The first question, which has as much time again, is asked here too.

        A pooler accepts logins in front of a dead server.
        """
        connection = PGconn.connect_start(conninfo)
        try:
            _log_in(connection, monotonic() + within_s)
            answer = _last_value(connection, self._setup.first_statements, monotonic() + within_s)
            self._setup.verify(answer, takes_writes=takes_writes)
        except BaseException:
            connection.finish()
            raise
        return connection

    def _routes(self, destination: Destination, failures: list[Lost | Late]) -> Iterator[_Route]:
        """A name is resolved only in its turn: a good host before it needs no name server."""
        good_host, good_address = self._good or (None, None)
        silent = self._silent
        silent_hosts = {host for host, _ in silent}
        hosts = list(destination.hosts)
        if destination.at_random:
            random.shuffle(hosts)
        else:
            hosts.sort(key=lambda host: (host in silent_hosts, host != good_host))
        for session in destination.sessions:
            for host in hosts:
                try:
                    addresses = self._resolver.addresses(host)
                except (Lost, Late) as failure:
                    failures.append(failure)
                    continue
                if destination.at_random:
                    random.shuffle(addresses)
                else:
                    addresses.sort(key=partial(_rank, host, silent, good_address))
                for address in addresses:
                    yield _Route(
                        host=host,
                        address=address,
                        conninfo=conninfo_to(self._conninfo, host, address, session=session),
                        alone=len(hosts) == len(addresses) == 1,
                    )


def _rank(
    host: Host, silent: frozenset[tuple[Host, str]], good: str | None, address: str
) -> tuple[bool, bool]:
    return (host, address) in silent, address != good


def session_faults(
    url: str, *, options: ConnectionOptions, statement_timeout_s: float = 1.0, lock_timeout_s: float = 0.1
) -> list[str]:
    """What is wrong with a session that the sidecar would get by *url*, each in one line with what to do.

    Lost or Late if there is none. It blocks.
    """
    setup = SessionSetup.of(options, statement_timeout_s=statement_timeout_s, lock_timeout_s=lock_timeout_s)
    dialer = Dialer(conninfo_of(url, setup), setup=setup, options=options, resolver=RESOLVER)
    try:
        dialer.connect().pg.finish()
    except WrongSession as wrong:
        return [str(fault) for fault in wrong.faults]
    return []


def _log_in(connection: abc.PGconn, deadline: float) -> None:
    polling = PollingStatus.WRITING
    try:
        while connection.status != ConnStatus.BAD:
            if polling == PollingStatus.OK:
                return
            # The socket may be another one after each step: libpq goes from TLS to plain by a new one.
            poll = select.poll()
            events = select.POLLIN if polling == PollingStatus.READING else select.POLLOUT
            poll.register(connection.socket, events)
            wait(poll, deadline, "still connecting")
            polling = PollingStatus(connection.connect_poll())
    except Error as error:
        raise Lost(one_line(str(error))) from error
    said = one_line(connection.get_error_message())
    raise Lost(said, cause=cause_by_text(said))


def _last_value(connection: abc.PGconn, statements: bytes, deadline: float) -> bytes | None:
    """The value of the last of *statements*. Lost if one is refused."""
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    try:
        connection.send_query(statements)
        value = None
        while True:
            while connection.is_busy():
                wait(poll, deadline, "the first question was not answered")
                connection.consume_input()
            result = connection.get_result()
            if result is None:
                return value
            if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
                said = one_line(result.error_message.decode(errors="replace"))
                sqlstate = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
                raise Lost(said, cause=cause_by_state(sqlstate, said))
            value = result.get_value(0, 0) if result.status == ExecStatus.TUPLES_OK else None
    except Error as error:
        raise Lost(one_line(str(error))) from error
