"""Waits for locks in short attempts with pauses, so that nobody queues behind a migration for long.

PostgreSQL lets nobody pass a session that waits for a lock: one that waits for a dump stops every question.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
ATTEMPT = "SET LOCAL lock_timeout = '50ms'; SET LOCAL statement_timeout = 0"
# All locks of a file together: else each of ten tables may take its own 50 ms while the others are held.
ALL_LOCKS = "SET LOCAL statement_timeout = '100ms'"
NO_TIMEOUT = "SET LOCAL statement_timeout = 0"
PAUSE_S = (0.3, 0.9)
SAYS_EVERY_S = 10
HOLDERS = """
    SELECT DISTINCT ON (a.pid) l.relation::regclass::text, a.pid, NULLIF(a.application_name, ''),
        extract(epoch FROM clock_timestamp() - a.xact_start)::integer
    FROM pg_locks AS l
    JOIN pg_class AS c
        ON c.oid = l.relation AND c.relnamespace = to_regnamespace('authz') AND c.relkind IN ('r', 'v')
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.granted AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY a.pid, a.xact_start
    LIMIT 3
"""
IN_THE_WAY = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)


class Patience:
    """How long a whole migration waits for others: *wait_s* in sum. *says* is told who is in the way."""

    def __init__(self, wait_s: float, says: Callable[[str], None] = lambda _: None) -> None:
        self._until = time.monotonic() + wait_s
        self._says = says
        self._said_at: float | None = None

    @property
    def left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def pause(self, connection: psycopg.Connection, error: psycopg.Error) -> None:
        """Raises *error* when there is no time left."""
        if not self.left_s:
            raise error
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= SAYS_EVERY_S:
            self._said_at = now
            self._says(f"waits for {in_the_way(connection)}; gives up in {self.left_s:.0f} s")
        time.sleep(min(random.uniform(*PAUSE_S), self.left_s))  # noqa: S311 - no secret: two must not keep step


def give_way(
    connection: psycopg.Connection,
    work: Callable[[], T],
    /,
    *,
    patience: Patience,
    locks: Mapping[str, str] | None = None,
) -> T:
    """What *work* returns, done in one transaction that first has all *locks*: tables, each with its mode.

    Where it meets a lock, all is rolled back and tried again; psycopg's error when *patience* has ended.
    """
    while True:
        try:
            with connection.transaction():
                connection.execute(ATTEMPT)
                if locks:
                    connection.execute(ALL_LOCKS)
                    statement = _locking(locks)
                    connection.execute(statement.encode())
                    connection.execute(NO_TIMEOUT)
                return work()
        except IN_THE_WAY as error:
            patience.pause(connection, error)


def in_the_way(connection: psycopg.Connection) -> str:
    """Who holds locks on the schema's tables now, in words."""
    held = [
        f"{table} (pid {pid}, {name or 'no application_name'}"
        + (f", its transaction is {seconds} s old)" if seconds is not None else ")")
        for table, pid, name, seconds in connection.execute(HOLDERS)
    ]
    return ", ".join(held) or "a lock of another session"


def _locking(locks: Mapping[str, str]) -> str:
    # One statement, so that one time-out is for all of it.
    wanted = " ".join(f"LOCK TABLE {table} IN {mode} MODE;" for table, mode in sorted(locks.items()))
    return f"DO $$ BEGIN {wanted} END $$"
