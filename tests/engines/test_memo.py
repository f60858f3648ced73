from __future__ import annotations

import json
from threading import Lock

import pytest

from sidecar.engines.memo import MemoisedEngine
from sidecar.engines.verdict import verdict_from
from sidecar.errors import EngineUnavailable
from tests.engines.documents import REVISION, a_denial, a_grant
from tests.values import FAR_AWAY

CELLS = [json.dumps({"action": f"a{n}"}).encode() for n in range(50)]


class Recording:
    """An engine that answers about anything, notes what it was asked, and fails where told to."""

    name = "recording"
    revision = REVISION

    def __init__(self, *, fails_from: int | None = None, answers_as: str = REVISION) -> None:
        self.asked: list[bytes] = []
        self.fails_from = fails_from
        self.answers_as = answers_as
        self._lock = Lock()

    def verdict(self, situation: bytes, /, *, deadline: float):
        with self._lock:
            self.asked.append(situation)
            count = len(self.asked)
        if self.fails_from is not None and count >= self.fails_from:
            raise EngineUnavailable(f"down at question {count}")
        document = a_denial(revision=self.answers_as) if situation == CELLS[0] else a_grant()
        return verdict_from(document, revision=document["revision"])


@pytest.mark.parametrize("cell", [CELLS[0], CELLS[1]], ids=["a denial", "a grant"])
def test_a_cell_is_asked_for_once(cell):
    engine = Recording()
    memo = MemoisedEngine(engine, cells=CELLS)

    first, second = (memo.verdict(cell, deadline=FAR_AWAY) for _ in range(2))

    assert second is first
    assert engine.asked == [cell]
    assert (memo.hits, memo.misses, memo.outside) == (1, 1, 0)


def test_a_situation_that_is_no_cell_is_asked_each_time():
    engine = Recording()
    memo = MemoisedEngine(engine, cells=CELLS)

    for _ in range(2):
        memo.verdict(b'{"action":"stray"}', deadline=FAR_AWAY)

    assert engine.asked == [b'{"action":"stray"}'] * 2
    assert (memo.hits, memo.misses, memo.outside, len(memo)) == (0, 2, 2, 0)


def test_a_situation_with_context_is_never_kept_even_if_it_is_given_as_a_cell():
    seen = b'{"action":"a","context":{"ip":"::1"}}'
    engine = Recording()
    memo = MemoisedEngine(engine, cells=[seen])

    for _ in range(2):
        memo.verdict(seen, deadline=FAR_AWAY)

    assert engine.asked == [seen, seen]


def test_an_error_is_not_kept():
    engine = Recording(fails_from=1)
    memo = MemoisedEngine(engine, cells=CELLS)
    with pytest.raises(EngineUnavailable):
        memo.verdict(CELLS[0], deadline=FAR_AWAY)

    engine.fails_from = None

    assert memo.verdict(CELLS[0], deadline=FAR_AWAY).reason == "unknown_action"


def test_a_verdict_by_another_revision_is_not_kept():
    engine = Recording(answers_as="r2")
    memo = MemoisedEngine(engine, cells=CELLS)

    for _ in range(2):
        memo.verdict(CELLS[0], deadline=FAR_AWAY)

    assert engine.asked == [CELLS[0]] * 2


def test_what_others_have_learnt_is_not_asked_again():
    engine = Recording()
    known = {cell: engine.verdict(cell, deadline=FAR_AWAY) for cell in CELLS[:49]}
    memo = MemoisedEngine(engine, cells=CELLS, known=known.items())
    engine.asked.clear()

    for cell in CELLS:
        memo.verdict(cell, deadline=FAR_AWAY)

    assert engine.asked == CELLS[49:]
    assert (memo.hits, memo.misses, len(memo), memo.unknown) == (49, 1, 50, [])


def test_learning_that_fails_keeps_what_came_before_and_leaves_the_rest_to_the_next():
    engine = Recording(fails_from=11)
    memo = MemoisedEngine(engine, cells=CELLS)

    def learn() -> None:
        memo.know((cell, engine.verdict(cell, deadline=FAR_AWAY)) for cell in memo.unknown)

    with pytest.raises(EngineUnavailable, match="down at question 11"):
        learn()
    unknown = memo.unknown
    engine.fails_from = None
    learn()

    assert unknown == CELLS[10:]
    assert (len(engine.asked), len(memo)) == (51, 50)


def test_each_question_is_observed_and_learning_is_not():
    observed: list[str] = []
    engine = Recording()
    memo = MemoisedEngine(engine, cells=CELLS, observe=observed.append)

    memo.know([(CELLS[0], engine.verdict(CELLS[0], deadline=FAR_AWAY))])
    memo.verdict(CELLS[0], deadline=FAR_AWAY)
    engine.fails_from = len(engine.asked) + 1
    with pytest.raises(EngineUnavailable):
        memo.verdict(b'{"action":"stray"}', deadline=FAR_AWAY)

    assert observed == ["hit", "miss"]


def test_no_verdict_is_known_that_is_about_no_cell_or_of_another_revision():
    grant, other = (verdict_from(a_grant(revision=each), revision=each) for each in (REVISION, "r2"))
    memo = MemoisedEngine(
        Recording(), cells=CELLS, known=[(CELLS[0], other), (b'{"action":"stray"}', grant), (CELLS[1], grant)]
    )

    assert (len(memo), memo.unknown) == (1, [CELLS[0], *CELLS[2:]])


def test_it_is_the_engine_that_it_wraps_by_name_and_revision():
    memo = MemoisedEngine(Recording(), cells=[])

    assert (memo.name, memo.revision) == ("recording", REVISION)
