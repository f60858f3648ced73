"""Plain questions that wait together are one query; what is not plain about its answer goes the usual way."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.errors import FactsMisread, FactsUnavailable
from sidecar.serving.plain_questions import MOST_AT_ONCE, MOST_TOGETHER, PlainQuestions, Question
from sidecar.store.rows import PlainRow
from sidecar.store.session import Refused

NOW = datetime.now(UTC)
MAKE: Any = PlainQuestions  # its parts are played here
ASK: Any = Question
ID = "6f1c0b3e-8a57-4c5e-9a0e-000000000015"


class Loop:
    """Calls what is due when it is told to."""

    def __init__(self):
        self.soon, self.later, self.defects = [], [], []

    def call_soon(self, call, *what):
        self.soon.append((call, what))

    def call_later(self, _, call):
        self.later.append(call)
        return call

    def call_exception_handler(self, context):
        self.defects.append(context["exception"])

    def turn(self):
        """Until nothing is due: a burst ends with a turn that brings nothing more."""
        while self.soon:
            due, self.soon = self.soon, []
            for call, what in due:
                call(*what)

    def tick(self):
        due, self.later = self.later, []
        for call in due:
            call()


class Stage:
    """The store and the templates; each question is a number, and so is its answer."""

    silent = False

    def __init__(self):
        self.loop, self.out, self.told, self.lane = Loop(), [], {}, 0
        metrics = SimpleNamespace(count_requests_of_lane=self.count, observe_all_facts=lambda _: None)
        service = SimpleNamespace(metrics=metrics, serving=lambda: True, log=SimpleNamespace(waits=False))
        self.questions = MAKE(self, store=self, service=service, loop=self.loop)

    def meaning(self, error):
        return error

    def count(self, requests):
        self.lane += requests

    def ask_plainly(self, users, workspaces, /, *, deadline, since, done):
        self.out.append(([int(user) for user in users], done))

    def answers(self, questions, rows, _):
        return [
            None if row is None or row.role == "rare" else (b"", row.slug.encode())
            for _, row in zip(questions, rows, strict=True)
        ]

    def put(self, number, *, for_s=10.0):
        asked = SimpleNamespace(user=str(number), workspace="w")
        now = monotonic()
        question = ASK(None, asked, "r", now, now + for_s, Asker(self, number))
        self.questions.put(question)
        return question

    def come(self, place=0, *, error=None, rows=None):
        numbers, done = self.out.pop(place)
        if error is not None:
            done(None, error)
        else:
            done(([a_row(number) for number in numbers] if rows is None else rows, NOW), None)
        return numbers


class Asker:
    def __init__(self, stage, number):
        self.stage, self.number = stage, number

    def tell(self, what):
        assert self.number not in self.stage.told
        self.stage.told[self.number] = what

    def take(self, _, reply, __):
        self.tell(int(reply[1]))

    def take_facts(self, _, facts):
        self.tell(facts)

    def take_failure(self, _, error):
        self.tell(error)


def a_row(number, **more):
    fields = {"role": "member", "plan": "pro", "status": "active", "overrides": None, "version": 1} | more
    return PlainRow(workspace_id=fields.pop("id", ID), slug=str(number), name="W", **fields)


def test_each_is_answered_once_by_a_query_that_was_sent_after_it_came():
    stage, chance = Stage(), random.Random(1)  # noqa: S311 - no secret
    asked = 0
    while asked < 3_000 or stage.out or stage.loop.soon:
        match chance.randrange(4):
            case 0 if asked < 3_000:
                for _ in range(chance.choice((1, 1, 2, 40, 600))):
                    stage.put(asked)
                    asked += 1
            case 1 | 2:
                stage.loop.turn()
            case 3 if stage.out:
                before = asked
                come = stage.come(chance.randrange(len(stage.out)))
                assert max(come) < before
            case _:
                pass
        assert len(stage.out) <= MOST_AT_ONCE
        assert all(len(numbers) <= MOST_TOGETHER for numbers, _ in stage.out)
    assert stage.told == {number: number for number in range(asked)}
    assert stage.lane == asked


def test_who_comes_while_all_queries_are_out_goes_with_the_others_once_one_is_back():
    stage = Stage()
    for number in range(MOST_AT_ONCE):
        stage.put(number)
        stage.loop.turn()
    stage.put(8)
    stage.put(9)
    stage.loop.turn()
    assert [numbers for numbers, _ in stage.out] == [[0], [1]]
    stage.come(1)
    assert [numbers for numbers, _ in stage.out] == [[0], [8, 9]]


@pytest.mark.parametrize("error", [Refused("22021", "no text"), FactsMisread("a row")])
def test_what_may_be_the_fault_of_one_is_asked_for_each_in_the_usual_way(error):
    stage = Stage()
    stage.put(1)
    stage.put(2)
    stage.loop.turn()
    assert stage.questions.is_open()
    stage.come(error=error)
    assert stage.told == {1: None, 2: None}
    assert not stage.questions.is_open()


def test_an_outage_is_told_to_all():
    stage, outage = Stage(), FactsUnavailable("PostgreSQL cannot be reached")
    stage.put(1)
    stage.put(2)
    stage.loop.turn()
    stage.come(error=outage)
    assert stage.told == {1: outage, 2: outage}


def test_a_silent_server_is_not_tried_by_many():
    stage = Stage()
    stage.silent = True
    stage.put(1)
    stage.put(2)
    stage.loop.turn()
    assert (stage.told, stage.out) == ({1: None, 2: None}, [])


def test_what_has_no_template_yet_is_answered_from_its_facts():
    stage = Stage()
    for number in range(4):
        stage.put(number)
    stage.loop.turn()
    stage.come(
        rows=[
            a_row(0, role="rare", overrides={"sso": True}),
            a_row(1),
            None,
            a_row(3, role="rare", id="x" * 36),
        ]
    )
    facts = stage.told[0]
    assert (str(facts.workspace_id), facts.role, facts.feature_overrides) == (ID, "rare", {"sso": True})
    assert (facts.at, facts.usage, facts.version) == (NOW, {}, 1)
    assert [stage.told[number] for number in (1, 2, 3)] == [1, None, None]


def test_a_defect_of_the_templates_leaves_all_to_the_endpoints():
    stage = Stage()
    stage.answers = lambda *_: 1 / 0  # type: ignore[method-assign] # a defect
    stage.put(1)
    stage.loop.turn()
    stage.come()
    assert stage.told[1].slug == "1"


def test_who_cannot_be_told_keeps_nobody_from_their_answer():
    stage = Stage()
    broken = stage.put(1).asker
    broken.take = lambda *_: 1 / 0
    stage.put(2)
    stage.loop.turn()
    stage.come()
    assert stage.told == {2: 2}
    assert [type(defect) for defect in stage.loop.defects] == [ZeroDivisionError]


def test_each_question_keeps_its_own_deadline():
    stage = Stage()
    for number in range(MOST_AT_ONCE):
        stage.put(number, for_s=0.0 if number else 10.0)
        stage.loop.turn()
    stage.put(8, for_s=0.0)
    stage.put(9)
    stage.loop.tick()
    assert {number: type(told) for number, told in stage.told.items()} == {
        1: FactsUnavailable,
        8: FactsUnavailable,
    }
    noted: list[Any] = []

    def answers(questions, rows, at):
        noted.extend(questions)
        return stage.answers(questions, rows, at)

    stage.questions._plain = SimpleNamespace(answers=answers)  # noqa: SLF001 - what notes them
    stage.come(0)
    assert stage.told[0] == 0
    assert stage.out[-1][0] == [9]
    stage.loop.tick()
    stage.come(0)
    assert [question.asked.user for question in noted] == ["0"]  # who was told an outage has no decision


def test_a_query_that_cannot_be_sent_leaves_its_questions_to_the_usual_way():
    stage = Stage()
    stage.ask_plainly = lambda *_, **__: 1 / 0  # type: ignore[method-assign] # a defect
    stage.put(1)
    stage.loop.turn()
    stage.loop.turn()
    assert stage.told == {1: None}
    del stage.ask_plainly
    stage.put(2)
    stage.loop.turn()
    stage.come()
    assert stage.told[2] == 2
