from __future__ import annotations

import pytest

from sidecar.decisions.model import Situation, Verdict
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.verdict import NOBODY, named_revision, verdict_from
from sidecar.errors import EngineMisbehaved, RevisionMismatch
from tests.engines.documents import REVISION, a_denial, a_grant

GOOD = [
    a_grant(),
    a_grant(charges={}),
    a_grant(charges={"members": 0}),
    a_denial("not_a_member"),
    a_denial("workspace_suspended"),
    a_denial("role_insufficient", needs={"roles": ["admin", "owner"]}),
    a_denial("role_insufficient", needs={"roles": []}),
    a_denial("feature_not_in_plan", needs={"feature": "analytics"}),
    a_denial("feature_not_in_plan", 402, needs={"feature": "analytics"}, upgrade=["pro"]),
    a_denial("quota_exceeded"),
    a_denial("quota_exceeded", 429, waiting_helps=True),
    a_denial("quota_exceeded", 402, upgrade=["pro", "team"]),
    a_denial("quota_exceeded", 402, upgrade=["pro", "team"], waiting_helps=True),
    a_denial("denied_by_policy", detail="office_hours"),
]

BAD = [
    ({}, "without allow, charges, detail, needs, reason, revision, status, upgrade, waiting_helps"),
    (None, "expected an object, got null"),
    (True, "expected an object, got true"),
    ([a_grant()], "expected an object"),
    ({key: value for key, value in a_grant().items() if key != "needs"}, "without needs"),
    (a_grant(hint="x"), "with hint, which no verdict has"),
    (a_grant(revision=None), "/revision: expected a string, got null"),
    (a_grant(allow=1), "/allow: expected true or false, got 1"),
    (a_grant(allow="true"), '/allow: expected true or false, got "true"'),
    (a_grant(allow=None), "/allow: expected true or false, got null"),
    (a_grant(allow=False), "/allow: false contradicts the reason granted"),
    (a_denial(allow=True), "/allow: true contradicts the reason unknown_action"),
    (a_denial("no_such_reason"), '/reason: expected one of not_a_member, .*, got "no_such_reason"'),
    (a_grant(reason=None), "/reason: expected one of"),
    (a_grant(reason=["granted"]), "/reason: expected one of"),
    (a_grant(status=201), "/status: expected 200 with granted, got 201"),
    (a_grant(status=200.0), "/status: expected 200 with granted, got 200.0"),
    (a_grant(status="200"), '/status: expected 200 with granted, got "200"'),
    (a_grant(status=True), "/status: expected 200 with granted, got true"),
    (a_denial(status=200), "/status: expected 403 with unknown_action, got 200"),
    (a_denial("not_a_member", 402, upgrade=["pro"]), "/status: expected 403 with not_a_member, got 402"),
    (a_denial("quota_exceeded", 500), "/status: expected 402 or 403 or 429 with quota_exceeded, got 500"),
    (a_grant(charges=None), "/charges: expected an object, got null"),
    (a_grant(charges=["minutes"]), "/charges: expected an object"),
    (a_grant(charges={"minutes": -1}), "/charges/minutes: expected a limit or null, got -1"),
    (a_grant(charges={"minutes": True}), "/charges/minutes: expected a limit or null, got true"),
    (a_grant(charges={"minutes": 1.5}), "/charges/minutes: expected a limit or null, got 1.5"),
    (a_grant(charges={"minutes": "unlimited"}), "/charges/minutes: expected a limit or null"),
    (a_denial(charges={"minutes": 100}), '/charges: expected none with a denial, got {"minutes": 100}'),
    (a_grant(upgrade=None), "/upgrade: expected plans, each once, got null"),
    (a_grant(upgrade={}), "/upgrade: expected plans, each once, got {}"),
    (a_grant(upgrade=["pro"]), r'/upgrade: \["pro"\] contradicts the status 200 of granted'),
    (a_denial("quota_exceeded", 402), r"/upgrade: \[\] contradicts the status 402 of quota_exceeded"),
    (a_denial("quota_exceeded", 403, upgrade=["pro"]), "/upgrade: .* contradicts the status 403"),
    (a_denial("quota_exceeded", 402, upgrade=["pro", "pro"]), "/upgrade: expected plans, each once"),
    (a_denial("quota_exceeded", 402, upgrade=[1]), "/upgrade: expected plans, each once"),
    (a_denial("quota_exceeded", 402, upgrade=[["pro"]]), "/upgrade: expected plans, each once"),
    (a_denial("quota_exceeded", 402, upgrade=[""]), "/upgrade: expected plans, each once"),
    (a_denial("quota_exceeded", 402, upgrade="pro"), "/upgrade: expected plans, each once"),
    (a_grant(waiting_helps=None), "/waiting_helps: expected true or false, got null"),
    (a_grant(waiting_helps=0), "/waiting_helps: expected true or false, got 0"),
    (a_grant(waiting_helps=True), "/waiting_helps: true contradicts the reason granted"),
    (
        a_denial("feature_not_in_plan", 402, needs={"feature": "x"}, upgrade=["pro"], waiting_helps=True),
        "/waiting_helps: true contradicts the reason feature_not_in_plan",
    ),
    (a_denial("quota_exceeded", 429), "/waiting_helps: false contradicts the status 429 of quota_exceeded"),
    (a_denial("quota_exceeded", waiting_helps=True), "/waiting_helps: true contradicts the status 403"),
    ({k: v for k, v in a_grant().items() if k != "waiting_helps"}, "without waiting_helps"),
    (a_grant(needs=None), "/needs: expected {} with granted, got null"),
    (a_grant(needs={"feature": "analytics"}), "/needs: expected {} with granted"),
    (a_denial("role_insufficient"), '/needs: expected {"roles": .*} with role_insufficient, got {}'),
    (a_denial("role_insufficient", needs={"roles": "owner"}), "/needs: expected"),
    (a_denial("role_insufficient", needs={"roles": ["owner", "owner"]}), "/needs: expected"),
    (a_denial("role_insufficient", needs={"roles": ["owner"], "feature": "x"}), "/needs: expected"),
    (a_denial("role_insufficient", needs={"feature": "analytics"}), "/needs: expected"),
    (a_denial("feature_not_in_plan"), '/needs: expected {"feature": .*} with feature_not_in_plan, got {}'),
    (a_denial("feature_not_in_plan", needs={"feature": None}), "/needs: expected"),
    (a_denial("feature_not_in_plan", needs={"feature": ""}), "/needs: expected"),
    (a_denial("denied_by_policy"), "/detail: expected the code of the rule that denied, got null"),
    (a_denial("denied_by_policy", detail=""), "/detail: expected the code of the rule that denied"),
    (a_denial("denied_by_policy", detail=7), "/detail: expected the code of the rule that denied, got 7"),
    (a_denial(detail="office_hours"), '/detail: expected null with unknown_action, got "office_hours"'),
]


@pytest.mark.parametrize("document", GOOD, ids=lambda each: f"{each['reason']}-{each['status']}")
def test_what_a_policy_may_answer_is_a_verdict(document):
    verdict = verdict_from(document, revision=REVISION)

    needs: dict[str, object] = {}
    if verdict.needs_roles or "roles" in document["needs"]:
        needs["roles"] = list(verdict.needs_roles)
    if verdict.needs_feature is not None:
        needs["feature"] = verdict.needs_feature
    assert {
        "allow": verdict.allow,
        "reason": verdict.reason,
        "status": verdict.status,
        "charges": dict(verdict.charges),
        "upgrade": list(verdict.upgrade),
        "waiting_helps": verdict.waiting_helps,
        "needs": needs,
        "detail": verdict.detail,
        "revision": verdict.revision,
    } == document


@pytest.mark.parametrize(("document", "says"), BAD, ids=lambda each: each if isinstance(each, str) else "")
def test_anything_else_is_an_outage_that_says_what_was_wrong(document, says):
    with pytest.raises(EngineMisbehaved, match=f"^data.authz.decision is no verdict: {says}"):
        verdict_from(document, revision=REVISION)


@pytest.mark.parametrize(
    "document", [a_grant(revision="r2"), {"revision": "r2"}, a_grant(revision="r2", new=1)]
)
def test_another_revision_is_a_mismatch_whatever_else_it_says(document):
    with pytest.raises(RevisionMismatch, match='of revision "r2", and this process of "r1"'):
        verdict_from(document, revision=REVISION)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(EngineMisbehaved) as caught:
        verdict_from(a_grant(allow="x" * 10_000), revision=REVISION)

    assert len(caught.value.detail) < 300


def test_a_verdict_cannot_be_changed_by_who_holds_it():
    verdict: Verdict = verdict_from(a_grant(), revision=REVISION)

    with pytest.raises(TypeError):
        verdict.charges["minutes"] = None  # type: ignore[index] # the point of the test


def test_the_revision_of_any_verdict_can_be_asked_for():
    assert named_revision(a_grant(revision="r7")) == "r7"


@pytest.mark.parametrize("document", [{}, None, {"revision": 7}, {"revision": "r7"}])
def test_what_is_no_verdict_has_no_revision(document):
    with pytest.raises(EngineMisbehaved):
        named_revision(document)


def test_who_is_asked_about_to_learn_the_revision_is_a_stranger():
    assert situation_bytes(Situation(action=None, role=None, plan=None, status=None)) == NOBODY
