"""Another domain's policy: what it says, what it says that is no answer, and an engine that has another."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from sidecar.api.authzen.domain import Authzen
from sidecar.api.authzen.policy import MOST_CANDIDATES, PolicyDomain, Rules
from sidecar.errors import EngineMisbehaved, EngineUnavailable, RevisionMismatch
from sidecar.rego.authzen import AuthzenPolicy
from sidecar.telemetry.metrics import Metrics
from tests.api.stage import BACKEND, a_stage

POLICY = AuthzenPolicy(
    revision="p1",
    modules={},
    data=b"{}",
    rules=MappingProxyType({rule: rule for rule in ("decision", "subjects", "resources", "actions")}),
)
ASKED = {
    "subject": {"type": "user", "id": "alice"},
    "action": {"name": "read"},
    "resource": {"type": "record", "id": "1"},
}
ONE, MANY = "/access/v1/evaluation", "/access/v1/evaluations"


class Says:
    """A rule engine that answers what *rules* say of the input; *given* is what it was asked with."""

    name = "embedded"

    def __init__(self, revision="p1", **rules):
        self._revision = revision
        self._rules = rules
        self.given = []

    def document(self, rule, given, /, *, deadline):
        document = json.loads(given)
        self.given.append((rule, document))
        answer = self._rules.get(rule, False)
        if callable(answer):
            answer = answer(document)
        if isinstance(answer, Exception):
            raise answer
        return {"revision": self._revision, "answer": answer}


def a_domain(engine, policy=POLICY):
    metrics = Metrics(engine="embedded", revision="r1")
    domain = PolicyDomain(Rules(policy, engine), metrics=metrics)
    return a_stage(authzen=Authzen(domain=domain)), metrics


def post(stage, path, body):
    return stage.client.post(path, json=body, headers={"Authorization": f"Bearer {BACKEND}"})


def ask(engine, path=ONE, body=ASKED):
    return post(a_domain(engine)[0], path, body)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, {"decision": True}),
        (False, {"decision": False}),
        ({"decision": True}, {"decision": True}),
        ({"decision": False, "context": {}}, {"decision": False, "context": {}}),
        ({"decision": False, "context": {"a": [1]}}, {"decision": False, "context": {"a": [1]}}),
    ],
    ids=str,
)
def test_a_decision_is_a_boolean_or_comes_with_a_context(answer, expected):
    came = ask(Says(decision=answer))

    assert (came.status_code, came.json) == (200, expected)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "true",
        1,
        0,
        [],
        {},
        {"decision": "true"},
        {"decision": 1},
        {"context": {}},
        {"decision": True, "context": None},
        {"decision": True, "context": "because"},
        {"decision": True, "allow": False},
        EngineMisbehaved("undefined"),
        EngineUnavailable("slow"),
    ],
    ids=str,
)
def test_what_is_no_decision_is_an_outage_and_never_a_denial(answer):
    for path, body in ((ONE, ASKED), (MANY, ASKED | {"evaluations": [{}, {}]}), (MANY, ASKED)):
        came = ask(Says(decision=answer), path, body)

        assert (came.status_code, "decision" in came.json) == (503, False)
        assert came.json["code"] in {"policy_engine_misbehaved", "policy_engine_unavailable"}
        assert "evaluations" not in came.json


def test_an_outage_of_one_evaluation_is_one_of_all():
    engine = Says(
        decision=lambda given: True if given["action"]["name"] == "read" else EngineUnavailable("slow")
    )

    came = ask(engine, MANY, ASKED | {"evaluations": [{}, {"action": {"name": "write"}}, {}]})

    assert (came.status_code, came.json["code"]) == (503, "policy_engine_unavailable")


def test_what_an_answer_makes_needless_is_not_asked():
    engine = Says(decision=lambda given: given["action"]["name"] == "read")
    body = ASKED | {
        "options": {"evaluations_semantic": "permit_on_first_permit"},
        "evaluations": [{"action": {"name": "write"}}, {}, {"action": {"name": "burn"}}],
    }

    came = ask(engine, MANY, body)

    assert came.json == {"evaluations": [{"decision": False}, {"decision": True}]}
    assert [given["action"]["name"] for _, given in engine.given] == ["write", "read"]


@pytest.mark.parametrize("path", [ONE, MANY, "/access/v1/search/subject"])
def test_an_engine_with_another_policy_is_an_outage(path):
    came = ask(Says(revision="p0", decision=True, subjects=[]), path)

    assert (came.status_code, came.json["code"]) == (503, "policy_revision_mismatch")


def test_the_policy_sees_what_was_said_and_is_known_and_nothing_else():
    engine = Says(decision=True)
    body = {
        "subject": {"type": "user", "id": "alice", "properties": {"a": None}, "x": 1},
        "action": {"name": "read", "properties": None},
        "resource": {"type": "record", "id": "1", "properties": {}},
        "context": {"c": [1.5]},
        "x": 1,
    }

    ask(engine, body=body)
    ask(engine)

    assert engine.given == [
        (
            "decision",
            {
                "subject": {"type": "user", "id": "alice", "properties": {"a": None}},
                "action": {"name": "read"},
                "resource": {"type": "record", "id": "1", "properties": {}},
                "context": {"c": [1.5]},
            },
        ),
        ("decision", ASKED),
    ]


def test_what_is_found_are_the_candidates_that_are_granted():
    people = [{"type": "user", "id": name} for name in ("eve", "bob", "alice", "bob")]
    engine = Says(
        subjects=[*people, {"type": "robot", "id": "r2"}],
        decision=lambda given: given["subject"]["id"] != "eve" and given["subject"]["properties"] == {"p": 1},
    )
    body = ASKED | {"subject": {"type": "user", "id": "x", "properties": {"p": 1}}}

    came = ask(engine, "/access/v1/search/subject", body)

    assert came.json == {"results": [{"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}]}
    assert engine.given[0] == ("subjects", body | {"subject": {"type": "user", "properties": {"p": 1}}})
    assert [given["subject"]["id"] for _, given in engine.given[1:]] == ["alice", "bob", "eve"]


def test_actions_are_found_too():
    engine = Says(
        actions=[{"name": "write"}, {"name": "read"}],
        decision=lambda given: given["action"] == {"name": "read"},
    )

    came = ask(
        engine, "/access/v1/search/action", {**ASKED, "action": {"name": "burn", "properties": {"x": 1}}}
    )

    assert came.json == {"results": [{"name": "read"}]}
    assert engine.given[0] == ("actions", {part: ASKED[part] for part in ("subject", "resource")})


@pytest.mark.parametrize(
    "candidates",
    [
        None,
        "alice",
        {},
        ["alice"],
        [{"type": "user"}],
        [{"id": "alice"}],
        [{"type": "user", "id": 7}],
        [{"type": "user", "id": ""}],
        [{"type": "user", "id": "alice", "name": "Alice"}],
        [{"name": "read"}],
        EngineMisbehaved("undefined"),
    ],
    ids=str,
)
def test_candidates_that_are_none_are_an_outage(candidates):
    came = ask(Says(subjects=candidates, decision=True), "/access/v1/search/subject")

    assert (came.status_code, came.json["code"]) == (503, "policy_engine_misbehaved")


def test_a_page_decides_about_a_bounded_number_of_candidates():
    last = f"{MOST_CANDIDATES + 1:05}"
    engine = Says(
        resources=[{"type": "record", "id": f"{number:05}"} for number in range(MOST_CANDIDATES + 2)],
        decision=lambda given: given["resource"]["id"] == last,
    )
    stage, _ = a_domain(engine)
    path = "/access/v1/search/resource"

    first = post(stage, path, ASKED).json
    second = post(stage, path, ASKED | {"page": {"token": first["page"]["next_token"]}}).json

    assert first["results"] == []
    assert second == {"page": {"next_token": "", "count": 1}, "results": [{"type": "record", "id": last}]}


def test_what_the_policy_has_no_candidates_for_is_not_served():
    policy = AuthzenPolicy(revision="p1", modules={}, data=b"{}", rules={"decision": "d", "actions": "a"})
    stage, _ = a_domain(Says(d=True, a=[{"name": "read"}]), policy)

    statuses = [
        post(stage, f"/access/v1/search/{kind}", ASKED).status_code
        for kind in ("subject", "resource", "action")
    ]
    metadata = stage.client.get("/.well-known/authzen-configuration").json

    assert statuses == [404, 404, 200]
    assert [name for name in metadata if name.startswith("search")] == ["search_action_endpoint"]


def test_decisions_are_counted_and_logged_without_what_was_said_besides():
    stage, metrics = a_domain(Says(decision=True))

    post(stage, ONE, ASKED | {"context": {"secret": "s3cret"}})
    post(stage, MANY, ASKED | {"evaluations": [{}, {}]})

    assert b'sidecar_authzen_decisions_total{decision="true"} 3.0' in metrics.text()
    line = stage.lines[0]
    assert {name: line[name] for name in (*ASKED, "decision", "policy_revision", "endpoint", "caller")} == {
        **ASKED,
        "decision": True,
        "policy_revision": "p1",
        "endpoint": "access_evaluation",
        "caller": "backend",
    }
    assert "s3cret" not in json.dumps(stage.lines, default=str)


def test_the_revision_that_is_served_is_told_whichever_it_is():
    assert Rules(POLICY, Says(revision="p0")).served_revision(deadline=1.0) == "p0"
    with pytest.raises(RevisionMismatch):
        Rules(POLICY, Says(revision="p0")).answer("decision", b"{}", deadline=1.0)
    with pytest.raises(EngineMisbehaved):
        Rules(POLICY, Says(decision=7)).served_revision(deadline=1.0)


class HasTwo:
    """An OPA during a release: *plainly* is what it answers by the newest, *ours* by the name of p1."""

    name = "opa"

    def __init__(self, plainly, ours):
        self._answers = {"decision": plainly, "data.authz.revisions.p1.decision": ours}
        self.asked = []

    def document(self, rule, given, /, *, deadline):
        self.asked.append(rule)
        answer = self._answers[rule]
        if isinstance(answer, Exception):
            raise answer
        return answer


UNDEFINED = EngineMisbehaved("undefined")
OF_P0, OF_P1 = ({"revision": revision, "answer": revision == "p1"} for revision in ("p0", "p1"))


@pytest.mark.parametrize(
    ("plainly", "ours", "answer", "questions"),
    [
        (OF_P1, UNDEFINED, True, 1),
        (OF_P0, OF_P1, True, 2),
        (UNDEFINED, OF_P1, True, 2),
        (OF_P0, UNDEFINED, RevisionMismatch, 2),
        (UNDEFINED, UNDEFINED, EngineMisbehaved, 2),
        (EngineUnavailable("slow"), OF_P1, EngineUnavailable, 1),
        (OF_P0, EngineUnavailable("slow"), EngineUnavailable, 2),
    ],
)
def test_while_an_opa_has_two_revisions_ours_is_asked_by_its_name(plainly, ours, answer, questions):
    opa = HasTwo(plainly, ours)
    rules = Rules(POLICY, opa)

    if answer is True:
        assert rules.answer("decision", b"{}", deadline=1.0) is True
        assert rules.served_revision(deadline=1.0) == "p1"
        questions *= 2
    else:
        with pytest.raises(answer):
            rules.answer("decision", b"{}", deadline=1.0)
    assert len(opa.asked) == questions


@pytest.mark.parametrize(
    "document",
    [
        None,
        True,
        {},
        {"answer": True},
        {"revision": 1, "answer": True},
        {"revision": "p1", "answer": True, "x": 1},
    ],
)
def test_an_answer_without_a_revision_is_none(document):
    class Engine:
        name = "opa"

        def document(self, rule, given, /, *, deadline):
            return document

    assert ask(Engine()).status_code == 503
