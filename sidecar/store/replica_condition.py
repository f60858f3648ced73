"""How a replica is, as a worker would find it: what `sidecar doctor` asks. It blocks."""

from __future__ import annotations

from contextlib import closing
from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg.conninfo import make_conninfo

from sidecar.errors import DatabaseNotMigrated, NotAsked
from sidecar.store.addresses import conninfo_of
from sidecar.store.connecting import CONNECT_TIMEOUT_S
from sidecar.store.positions import Positions, replayed_in, written_in
from sidecar.store.session import one_line
from sidecar.store.session_setup import SessionSetup

if TYPE_CHECKING:
    from sidecar.store.connection_options import ConnectionOptions

WRITTEN = "SELECT authz.written_now()::text"
REPLAYED = "SELECT authz.replayed_facts('{}', '{}', '{}', NULL)::text"
_WITHIN_S, _PAUSE_S = 1.0, 0.01
_NOT_THERE = (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName)


def lag_of(primary: str, replica: str, *, options: ConnectionOptions) -> float:
    """How many seconds the replica at most lacks; inf: more than a second.

    NotAsked if one of them does not let us in or refuses; DatabaseNotMigrated if the replica lacks what it is
    asked; Unproven if it is of no use.
    """
    positions = Positions(most_lag_s=inf)
    with (
        closing(_connection(primary, options, "the primary", session="read-write")) as written,
        closing(_connection(replica, options, "it", session="any")) as replayed,
    ):
        asked_at = monotonic()
        try:
            answer = _value(written, WRITTEN)
        except _NOT_THERE as error:
            raise DatabaseNotMigrated("run `sidecar migrate` with this server's files") from error
        positions.note(written_in(answer), asked_at=asked_at, now=monotonic())
        while True:
            try:
                found = replayed_in(_value(replayed, REPLAYED))
            except _NOT_THERE as error:
                raise DatabaseNotMigrated("it has not replayed the migrations of this version") from error
            age_s = positions.age_of(found, now=(now := monotonic()))
            if age_s < inf or now > asked_at + _WITHIN_S:
                return age_s
            sleep(_PAUSE_S)


def _connection(
    url: str, options: ConnectionOptions, who: str, *, session: Literal["read-write", "any"]
) -> psycopg.Connection:
    setup = SessionSetup.of(options, statement_timeout_s=_WITHIN_S, lock_timeout_s=_WITHIN_S)
    try:
        connection = psycopg.connect(
            make_conninfo(
                conninfo_of(url, setup), target_session_attrs=session if options.pooler == "off" else "any"
            ),
            autocommit=True,
            connect_timeout=int(CONNECT_TIMEOUT_S),
            prepare_threshold=None,
        )
        connection.execute(setup.first_statements)
    except psycopg.Error as error:
        raise NotAsked(f"{who} cannot be asked: {one_line(str(error))}") from error
    return connection


def _value(connection: psycopg.Connection, query: str) -> bytes:
    try:
        row = connection.execute(query.encode()).fetchone()
    except _NOT_THERE:
        raise
    except psycopg.Error as error:
        raise NotAsked(one_line(str(error))) from error
    return b"" if row is None else str(row[0]).encode()
