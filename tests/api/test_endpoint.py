"""Endpoints as functions from a request to a reply: no server, no framework, nothing of the thread's."""

from __future__ import annotations

import json
from dataclasses import replace
from time import sleep
from typing import Any

import pytest

from sidecar.api.authzen.endpoints import EVALUATION
from sidecar.api.dispatch import serve
from sidecar.api.gateways.decision import asked_of, decide_for_gateway
from sidecar.api.request import Request
from sidecar.api.v1.questions import AUTHORIZE, AUTHORIZE_BATCH, ENTITLEMENTS
from sidecar.api.v1.usage import USAGE
from sidecar.catalog.routes import Routes
from sidecar.decisions.steps import run
from sidecar.errors import EngineUnavailable, FactsUnavailable
from tests.api.stage import BACKEND, TOKENS, a_stage
from tests.api.test_gateways import ANALYTICS, ROUTES, Everybody
from tests.values import some_facts

COMMIT = next(endpoint for endpoint in USAGE if endpoint.name == "commit")
QUESTION: dict[str, Any] = {"user": "adam", "workspace": "acme", "action": "recording.start"}
SLOW_S = 0.01


@pytest.fixture
def stage():
    return a_stage({("adam", "acme"): some_facts(role="owner", plan="team")})


def a_request(body=None, **more):
    text = json.dumps(body).encode()
    headers = {"Content-Length": str(len(text))} if body is not None else {}
    return Request(id="r-1", caller=TOKENS[BACKEND], body=lambda: text, header=headers.get, **more)


def reply(stage, endpoint, body=None, **more):
    status, _, content = serve(stage.service, endpoint, a_request(body, **more))
    return status, json.loads(content)


def asked_in(line):
    return line["situation"]["action"]


def slow(monkeypatch, owner, name):
    """*name* of *owner* takes its time from now on."""
    real = getattr(owner, name)

    def slowly(*args, **options):
        sleep(SLOW_S)
        return real(*args, **options)

    monkeypatch.setattr(owner, name, slowly)


def test_a_question_that_is_answered_in_the_middle_of_another_is_logged_as_itself(stage, monkeypatch):
    """Both in one thread: each line has its own situation."""
    verdict, inner = stage.engine.verdict, [(AUTHORIZE, QUESTION | {"action": "data.view_own"})]

    def interrupted(situation, **options):
        if inner:
            assert reply(stage, *inner.pop())[0] == 200
        return verdict(situation, **options)

    monkeypatch.setattr(stage.engine, "verdict", interrupted)

    assert reply(stage, AUTHORIZE, QUESTION)[0] == 200

    assert [(line["action"], asked_in(line)) for line in stage.lines] == [
        ("data.view_own", "data.view_own"),
        ("recording.start", "recording.start"),
    ]


def test_each_answer_of_a_batch_is_logged_with_its_own_situation(stage):
    actions = ["recording.start", "data.view_own", "workspace.update"]
    questions = [QUESTION | {"action": action} for action in actions]
    questions.insert(1, QUESTION | {"amounts": {"gold": 1}})

    reply(stage, AUTHORIZE_BATCH, {"questions": questions})

    assert [asked_in(line) for line in stage.lines if "situation" in line] == actions
    assert len(stage.lines) == 4


def test_a_ruling_is_logged_with_its_own_situation(stage):
    service = replace(stage.service, identities=Everybody(), routes=Routes(ROUTES))
    asked = asked_of(
        method="GET", host="a", target=ANALYTICS, header=lambda _: None, authorization="Bearer adam"
    )

    decision = run(
        decide_for_gateway(service, a_request(by_socket=True), "gateway_nginx", lambda: asked, token=None)
    )

    [line] = stage.lines
    assert (decision.status, line["endpoint"], line["action"]) == (200, "gateway_nginx", asked_in(line))


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (AUTHORIZE, QUESTION),
        (AUTHORIZE_BATCH, {"questions": [QUESTION]}),
        (
            EVALUATION,
            {
                "subject": {"type": "user", "id": "adam"},
                "action": {"name": "recording.start"},
                "resource": {"type": "workspace", "id": "acme"},
            },
        ),
    ],
)
def test_the_line_of_a_check_says_where_the_time_went(stage, monkeypatch, endpoint, body):
    slow(monkeypatch, stage.facts, "facts")
    slow(monkeypatch, stage.engine, "verdict")

    reply(stage, endpoint, body)

    [line] = stage.lines
    assert line["ms"]["facts"] >= SLOW_S * 1000
    assert line["ms"]["policy"] >= SLOW_S * 1000
    assert line["ms"]["ledger"] == 0
    assert line["ms"]["total"] >= line["ms"]["facts"] + line["ms"]["policy"]


def test_the_line_of_a_consume_and_that_of_a_commit_say_how_long_the_ledger_took(stage, monkeypatch):
    slow(monkeypatch, stage.ledger, "charge")
    slow(monkeypatch, stage.ledger, "commit")
    _, held = reply(stage, AUTHORIZE, QUESTION | {"mode": "reserve"})

    reply(stage, COMMIT, path={"reservation": held["reservation"]["id"]})

    taken, settled = stage.lines
    assert taken["ms"]["ledger"] >= SLOW_S * 1000
    assert settled["ms"]["ledger"] >= SLOW_S * 1000
    assert set(settled["ms"]) == {"ledger", "total"}


def test_a_line_without_a_decision_has_no_part_that_was_not_measured(stage):
    reply(stage, ENTITLEMENTS, query="user=adam", path={"workspace": "acme"})

    assert set(stage.lines[-1]["ms"]) == {"total"}


@pytest.mark.parametrize(
    ("endpoint", "body"), [(AUTHORIZE, QUESTION), (AUTHORIZE_BATCH, {"questions": [QUESTION]})]
)
def test_the_line_of_an_outage_says_where_the_time_went(stage, monkeypatch, endpoint, body):
    slow(monkeypatch, stage.facts, "facts")
    stage.engine.outage = EngineUnavailable("the deadline is over")
    reply(stage, endpoint, body)
    stage.facts.outage = FactsUnavailable("down")
    reply(stage, endpoint, body)

    engine, facts = stage.lines
    assert (engine["code"], facts["code"]) == ("policy_engine_unavailable", "facts_unavailable")
    assert set(engine["ms"]) == {"facts", "policy", "total"}
    assert engine["ms"]["facts"] >= SLOW_S * 1000
    assert set(facts["ms"]) == {"facts", "total"}
