from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from time import monotonic

import pytest

from sidecar.engines.asked import OnThreads
from sidecar.engines.opa import OpaEngine
from sidecar.engines.verdict import NOBODY, verdict_from
from sidecar.errors import EngineMisbehaved, EngineUnavailable
from tests.engines.documents import REVISION, a_grant, text_of
from tests.engines.sockets import server
from tests.values import FAR_AWAY

GRANT = verdict_from(a_grant(), revision=REVISION)
MARGIN_S = 10.0


def soon(seconds: float = 0.1) -> float:
    return monotonic() + seconds


class Held:
    """An engine that answers when it is let: it cannot be interrupted, as an embedded one."""

    name = "held"
    revision = REVISION

    def __init__(self) -> None:
        self.began = Semaphore(0)
        self.let = Event()
        self.asked: list[bytes] = []
        self.threads: set[str] = set()

    def verdict(self, situation, /, *, deadline):
        self.asked.append(situation)
        self.threads.add(threading.current_thread().name)
        self.began.release()
        self.let.wait(60)
        return GRANT

    def document(self, rule, given, /, *, deadline):
        raise EngineMisbehaved(f"{rule} about {given!r} until {deadline}")

    def served_revision(self, *, deadline):
        raise ZeroDivisionError


@pytest.fixture
def held():
    held = Held()
    yield held
    held.let.set()


def test_it_answers_as_the_engine_does(engine, compiled, all_cells):
    asked = OnThreads(engine)

    verdicts = [text_of(asked.verdict(cell, deadline=FAR_AWAY)) for cell in all_cells[::100]]

    assert verdicts == [text_of(engine.verdict(cell, deadline=FAR_AWAY)) for cell in all_cells[::100]]
    assert asked.served_revision(deadline=FAR_AWAY) == asked.revision == compiled.revision
    assert asked.document("data.authz.decision", NOBODY, deadline=FAR_AWAY) == engine.document(
        "data.authz.decision", NOBODY, deadline=FAR_AWAY
    )
    assert asked.name == engine.name


def test_what_the_engine_raises_is_raised_where_it_was_asked(held):
    asked = OnThreads(held, threads=1)

    with pytest.raises(EngineMisbehaved, match=r"data.x about b'1' until 7"):
        asked.document("data.x", b"1", deadline=monotonic() * 0 + 7e9)
    with pytest.raises(ZeroDivisionError):
        asked.served_revision(deadline=FAR_AWAY)
    held.let.set()
    assert asked.verdict(b"still there", deadline=FAR_AWAY) is GRANT


def test_who_asks_waits_until_the_deadline_and_no_longer(held):
    asked = OnThreads(held)
    begun = monotonic()

    with pytest.raises(EngineUnavailable, match="the held engine did not answer in time"):
        asked.verdict(b"1", deadline=begun + 0.1)

    assert 0.1 <= monotonic() - begun < MARGIN_S


def test_what_comes_too_late_is_not_taken_for_the_next_answer(held):
    asked = OnThreads(held, threads=1)
    with pytest.raises(EngineUnavailable):
        asked.verdict(b"late", deadline=soon())
    held.let.set()

    with pytest.raises(EngineMisbehaved):
        asked.document("data.x", b"", deadline=FAR_AWAY)


def test_what_waited_in_line_beyond_its_deadline_is_never_asked(held):
    asked = OnThreads(held, threads=1)
    for situation in (b"being answered", b"in line"):
        with pytest.raises(EngineUnavailable):
            asked.verdict(situation, deadline=soon())
    held.let.set()
    asked.verdict(b"next", deadline=FAR_AWAY)

    assert held.asked == [b"being answered", b"next"]


def test_no_more_than_its_threads_ask_at_a_time_and_no_more_than_its_line_waits(held):
    asked = OnThreads(held, threads=2, waiting=3)

    with ThreadPoolExecutor(5) as callers:
        asking = [callers.submit(asked.verdict, b"asked", deadline=FAR_AWAY) for _ in range(2)]
        assert all(held.began.acquire(timeout=MARGIN_S) for _ in range(2))
        asking += [callers.submit(asked.verdict, b"waiting", deadline=FAR_AWAY) for _ in range(3)]
        while asked.waiting < 3:
            assert not any(each.done() for each in asking)
        begun = monotonic()
        with pytest.raises(EngineUnavailable, match="3 questions wait for the held engine already"):
            asked.verdict(b"too many", deadline=FAR_AWAY)
        took = monotonic() - begun
        running = list(held.asked)
        held.let.set()

    assert [each.result() for each in asking] == [GRANT] * 5
    assert running == [b"asked"] * 2
    assert took < MARGIN_S
    assert len(held.threads) == 2


def test_who_has_gone_leaves_the_line(held):
    asked = OnThreads(held, threads=1, waiting=1)

    for _ in range(3):  # the first is being answered; were the second still in line, the third were refused
        with pytest.raises(EngineUnavailable, match="did not answer in time"):
            asked.verdict(b"1", deadline=soon())


def test_a_silent_name_server_holds_nobody_beyond_the_deadline(monkeypatch):
    looking, found = Event(), Event()

    def silent(*_, **__):
        looking.set()
        found.wait(60)
        raise OSError("no such host")

    monkeypatch.setattr("socket.getaddrinfo", silent)
    asked = OnThreads(OpaEngine("http://opa.example:8181", revision=REVISION))
    try:
        for ask in (
            lambda deadline: asked.verdict(NOBODY, deadline=deadline),
            lambda deadline: asked.served_revision(deadline=deadline),
            lambda deadline: asked.document("data.x", NOBODY, deadline=deadline),
        ):
            begun = monotonic()
            with pytest.raises(EngineUnavailable):
                ask(begun + 0.1)
            assert monotonic() - begun < MARGIN_S
        assert looking.is_set()
    finally:
        found.set()


def test_a_silent_opa_holds_nobody_beyond_the_deadline():
    def say_nothing(_, heard):
        heard.stopping.wait(MARGIN_S * 2)

    with server(say_nothing) as heard:
        asked = OnThreads(OpaEngine(heard.url, revision=REVISION))
        begun = monotonic()
        with pytest.raises(EngineUnavailable):
            asked.verdict(NOBODY, deadline=begun + 0.1)

        assert monotonic() - begun < MARGIN_S


def test_an_evaluation_that_takes_long_holds_neither_caller_nor_exit():
    script = """
from time import monotonic
from sidecar.engines.asked import OnThreads
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.errors import EngineUnavailable
from tests.engines.test_apart import TAKES_LONG
asked = OnThreads(EmbeddedEngine({"a.rego": TAKES_LONG}, b"{}", revision="r1"))
for _ in range(3):
    begun = monotonic()
    try:
        asked.verdict(b"{}", deadline=begun + 0.2)
    except EngineUnavailable:
        print(monotonic() - begun < 5)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )

    assert (run.stdout.split(), run.stderr) == (["True"] * 3, "")
