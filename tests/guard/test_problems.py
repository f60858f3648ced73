"""An end user meets the guards' problems and those of the sidecar's own routes: they are of one kind."""

from __future__ import annotations

import json

import pytest

from sidecar.api import problems, wire
from sidecar.api.v1.usage import USAGE
from sidecar.guard import Conflict, Denied
from sidecar.guard.answers import decision_from
from sidecar.guard.errors import (
    BadRequest,
    Misconfigured,
    Refused,
    Repeated,
    Unauthenticated,
    Unavailable,
)
from sidecar.guard.problems import CONFLICTS, DENIALS, problem_reply
from sidecar.text.encoding import encoded
from tests.api.stage import a_stage
from tests.guard.values import a_denial
from tests.values import FAR_AWAY, a_question, some_facts

MEMBERS = {
    ("sam", "solo"): some_facts(role="owner", plan="starter", usage={"minutes": 150}),
    ("mia", "acme"): some_facts(role="member", plan="team", usage={"minutes": 999}),
    ("ida", "idle"): some_facts(role="owner", plan="team", status="suspended"),
}


def test_both_have_the_same_words_for_the_same_reasons():
    ours = {reason: title for reason, title in problems.DENIALS.items() if reason != "unknown_action"}

    assert ours == DENIALS


def test_every_conflict_has_the_title_that_the_sidecar_gives_it():
    of_usage = {code for endpoint in USAGE for code in endpoint.codes} | {"idempotency_key_reused"}
    conflicts = {code: problems.PROBLEMS[code] for code in of_usage if problems.PROBLEMS[code][0] == 409}

    assert {code: title for code, (_, title) in conflicts.items()} == CONFLICTS
    assert len(set(CONFLICTS.values())) == len(CONFLICTS)
    for code, title in CONFLICTS.items():
        assert json.loads(problem_reply(Conflict(code, "why"), view="v")[2])["title"] == title


@pytest.mark.parametrize(
    ("user", "workspace", "action", "status"),
    [
        ("zoe", "acme", "platform.use", 403),
        ("ida", "idle", "platform.use", 403),
        ("mia", "acme", "members.invite", 403),
        ("sam", "solo", "analytics.view", 402),
        ("sam", "solo", "recording.start", 402),
        ("mia", "acme", "recording.start", 429),
    ],
)
def test_a_denial_says_the_same_through_both(user, workspace, action, status):
    question = a_question(action, user=user, workspace=workspace, amounts=_amounts(action))
    decision = a_stage(MEMBERS).service.authorizer.decide(question, deadline=FAR_AWAY)
    own = json.loads(encoded(problems.denial(decision)))

    answered = decision_from(json.loads(encoded(wire.document_about(decision))))
    denied = Denied(answered.status, answered.reason, answered.message, decision=answered)
    _, headers, body = problem_reply(denied, view="v")

    assert own["status"] == status
    assert json.loads(body) == own | {"decision_id": decision.decision_id}
    assert headers.get("Retry-After") == dict(problems.reply_of(own)[1]).get("Retry-After")


def _amounts(action):
    return {"minutes": 2} if action == "recording.start" else None


def test_a_reason_of_a_newer_sidecar_is_a_denial_all_the_same():
    decision = decision_from(a_denial(reason="moon_is_full"))
    status, _, body = problem_reply(Denied(403, "moon_is_full", "No.", decision=decision), view="v")

    assert (status, json.loads(body)["code"]) == (403, "moon_is_full")


@pytest.mark.parametrize(
    "error",
    [
        Unauthenticated(),
        Repeated(),
        Refused(401, "unauthenticated", "s3cret"),
        Misconfigured("s3cret"),
        Denied(403, "unknown_action", "s3cret"),
        Unavailable("facts_unavailable", "s3cret"),
        BadRequest("minutes must be a whole number"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_problem_says_what_to_do(error):
    _, _, body = problem_reply(error, view="v")

    assert len(json.loads(body)["detail"]) > 20
    assert b"s3cret" not in body
