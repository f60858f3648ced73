"""Questions to a pool of connections, with how long each took and what came of it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

from sidecar.errors import FactsUnavailable
from sidecar.store.connections import Connections, Query, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 0.4
GRACE_S = 2.0  # of a busy machine, on top of a deadline
AT_ONCE_S = 0.1  # the same, on top of nothing
ECHO = Query(name=b"echo", sql=b"SELECT $1::text")
LOCKED = Query(name=b"locked", sql=b"SELECT pg_advisory_xact_lock($1::bigint)::text")
START = Query(name=b"start", sql=b"SELECT pg_postmaster_start_time()::text")


@contextmanager
def a_pool(
    url: str, *, size: int = 4, statement_timeout_s: float = 30, **more: object
) -> Iterator[Connections]:
    pool = Connections(url, size=size, statement_timeout_s=statement_timeout_s, **more)  # type: ignore[arg-type] # any of its own
    pool.open()
    try:
        yield pool
    finally:
        pool.close()


@dataclass(frozen=True)
class Answer:
    began: float  # by the monotonic clock
    took_s: float
    outage: str  # empty if there was none

    @property
    def ok(self) -> bool:
        return not self.outage


def ask(
    pool: Connections, *, within_s: float = DEADLINE_S, query: Query = ECHO, value: bytes = b"7"
) -> Answer:
    began = monotonic()
    outage = ""
    try:
        answered = pool.answer(query, (value,), deadline=began + within_s)
        assert query is not ECHO or answered == value
    except FactsUnavailable as error:
        outage = str(error)
    except Refused as refused:
        outage = f"{refused.sqlstate}: {refused}"
    return Answer(began, monotonic() - began, outage)


@contextmanager
def asking(
    pool: Connections, *, threads: int, pause_s: float = 0.005, query: Query = ECHO, value: bytes = b""
) -> Iterator[list[Answer]]:
    """That many threads ask all the time; their answers, in the order in which they came."""
    answers: list[Answer] = []
    over = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not over.is_set():
                answers.append(ask(pool, query=query, value=value or b"%d" % number))
                over.wait(pause_s)
        except BaseException as failure:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(failure)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield answers
    finally:
        over.set()
        for worker in workers:
            worker.join(DEADLINE_S + GRACE_S)
    assert not any(worker.is_alive() for worker in workers)
    if failures:
        raise failures[0]


def connect_all(pool: Connections, *, size: int = 4) -> None:
    """So that each of its connections is made."""
    workers = [
        threading.Thread(target=ask, args=(pool,), kwargs={"within_s": 10, "query": SLOW})
        for _ in range(size)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert ask(pool, within_s=10).ok


SLOW = Query(name=b"slow", sql=b"SELECT pg_sleep(0.1)::text || $1::text")


def until(found: Callable[[], bool], *, within_s: float = 5.0) -> bool:
    deadline = monotonic() + within_s
    while monotonic() < deadline:
        if found():
            return True
        sleep(0.01)
    return False
