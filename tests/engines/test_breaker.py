from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from time import monotonic, sleep

import pytest

from sidecar.engines.asked import OnThreads
from sidecar.engines.breaker import Breaker
from sidecar.engines.opa import OpaEngine
from sidecar.engines.verdict import NOBODY, verdict_from
from sidecar.errors import EngineMisbehaved, EngineUnavailable, RevisionMismatch
from tests.engines.documents import REVISION, a_grant
from tests.engines.sockets import request_on, response, server
from tests.values import FAR_AWAY

GRANT = verdict_from(a_grant(), revision=REVISION)
SILENCE_S = 0.1
MARGIN_S = 10.0


def soon() -> float:
    return monotonic() + SILENCE_S


class Scripted:
    """An engine that is silent until its caller's deadline, unless *outcome* is set."""

    name = "opa"
    revision = REVISION

    def __init__(self, outcome: object = None) -> None:
        self.outcome = outcome
        self.asked = 0
        self.began = Semaphore(0)
        self.let = Event()

    def document(self, rule, given, /, *, deadline):
        self.asked += 1
        self.began.release()
        match self.outcome:
            case None:
                self.let.wait(min(max(deadline - monotonic(), 0), MARGIN_S))
                raise EngineUnavailable("timed out")
            case Exception() as error:
                raise error
            case answer:
                return answer

    def verdict(self, situation, /, *, deadline):
        self.document("", situation, deadline=deadline)
        return GRANT

    def served_revision(self, *, deadline):
        self.document("", b"", deadline=deadline)
        return REVISION


ASKED = [
    lambda engine, deadline: engine.verdict(NOBODY, deadline=deadline),
    lambda engine, deadline: engine.document("data.x", NOBODY, deadline=deadline),
    lambda engine, deadline: engine.served_revision(deadline=deadline),
]


def silenced(engine: Scripted) -> Breaker:
    breaker = Breaker(engine)
    with pytest.raises(EngineUnavailable):
        breaker.verdict(NOBODY, deadline=soon())
    assert engine.began.acquire(timeout=MARGIN_S)
    return breaker


def test_what_answers_is_asked_as_often_as_one_likes():
    breaker = Breaker(Scripted({"x": 1}))

    assert [ask(breaker, FAR_AWAY) for ask in ASKED for _ in range(2)] == [
        *[GRANT] * 2,
        *[{"x": 1}] * 2,
        *[REVISION] * 2,
    ]
    assert (breaker.name, breaker.revision) == ("opa", REVISION)


@pytest.mark.parametrize("ask", ASKED)
def test_after_silence_one_question_tries_and_the_others_are_refused_at_once(ask):
    engine = Scripted()
    breaker = silenced(engine)

    with ThreadPoolExecutor(1) as other:
        trying = other.submit(breaker.verdict, NOBODY, deadline=monotonic() + MARGIN_S)
        assert engine.began.acquire(timeout=MARGIN_S)
        for _ in range(20):
            with pytest.raises(EngineUnavailable, match="silent, and another question tries it"):
                ask(breaker, FAR_AWAY)
        asked = engine.asked
        engine.let.set()
        with pytest.raises(EngineUnavailable):
            trying.result()

    assert asked == 2


def test_when_the_one_that_tries_has_waited_in_vain_the_next_one_tries():
    engine = Scripted()
    breaker = silenced(engine)

    for _ in range(3):
        with pytest.raises(EngineUnavailable, match="timed out"):
            breaker.verdict(NOBODY, deadline=soon())

    assert engine.asked == 4


@pytest.mark.parametrize(
    "answer", [a_grant(), EngineMisbehaved("500"), RevisionMismatch("r2"), EngineUnavailable("refused")]
)
def test_any_answer_ends_the_silence(answer):
    engine = Scripted()
    breaker = silenced(engine)
    engine.outcome = answer
    _outcome_of(breaker)
    engine.outcome = None

    with ThreadPoolExecutor(2) as others:
        asking = [others.submit(breaker.verdict, NOBODY, deadline=monotonic() + MARGIN_S) for _ in range(2)]
        both = all(engine.began.acquire(timeout=MARGIN_S) for _ in range(3))
        engine.let.set()

    assert both
    assert {str(each.exception()) for each in asking} == {"timed out"}


def test_a_refusal_is_no_silence():
    engine = Scripted(EngineUnavailable("refused"))
    breaker = Breaker(engine)
    for _ in range(3):
        assert str(_outcome_of(breaker)) == "refused"

    assert engine.asked == 3
    assert not breaker.silent


def test_who_came_too_late_says_nothing_about_the_engine():
    breaker = Breaker(Scripted())
    with pytest.raises(EngineUnavailable):
        breaker.verdict(NOBODY, deadline=monotonic() + 0.001)
    before = breaker.silent
    breaker = silenced(Scripted())
    with pytest.raises(EngineUnavailable):
        breaker.verdict(NOBODY, deadline=monotonic() + 0.001)

    assert (before, breaker.silent) == (False, True)


def test_a_mistake_of_ours_leaves_the_way_free():
    engine = Scripted()
    breaker = silenced(engine)
    engine.outcome = ZeroDivisionError()

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            breaker.verdict(NOBODY, deadline=FAR_AWAY)


def test_an_opa_that_falls_silent_is_used_again_as_soon_as_it_answers():
    speaking = Event()

    def talk(connection, heard):
        while request_on(connection, heard):
            if not speaking.wait(0 if heard.stopping.is_set() else SILENCE_S * 3):
                return
            connection.sendall(response({"result": a_grant()}))

    with server(talk) as heard:
        engine = Breaker(OnThreads(OpaEngine(heard.url, revision=REVISION)))
        with ThreadPoolExecutor(20) as callers:
            for _ in range(2):
                outcomes = list(callers.map(lambda _: _outcome_of(engine, soon()), range(20)))
                sleep(SILENCE_S)
        speaking.set()
        ending = monotonic() + MARGIN_S
        while (last := _outcome_of(engine, soon())) is not None and monotonic() < ending:
            sleep(0.02)
        after = [_outcome_of(engine) for _ in range(10)]

    assert sum("another question tries it" in str(each) for each in outcomes) >= 15
    assert last is None
    assert after == [None] * 10


def _outcome_of(engine: Breaker, deadline: float = FAR_AWAY) -> Exception | None:
    try:
        engine.verdict(NOBODY, deadline=deadline)
    except (EngineUnavailable, EngineMisbehaved, RevisionMismatch) as error:
        return error
    return None
