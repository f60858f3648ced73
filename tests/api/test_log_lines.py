"""What the lines of the decision log say: all that was decided, and on what."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from sidecar.api.masking import Masks
from sidecar.audit.masks import mac_of
from sidecar.engines.verdict import verdict_from
from sidecar.telemetry.fitted import fitted
from tests.api.stage import BACKEND, OPS, REVISION, a_stage
from tests.values import WORKSPACE_ID, some_facts

KEY = b"0123456789abcdef"
MEMBERS = {
    ("adam", "acme"): some_facts(role="admin", usage={"minutes": 10}),
    ("rich", "acme"): some_facts(role="admin", limit_overrides={"minutes": 5_000}, usage={"minutes": 4_000}),
}
QUESTION = {"user": "adam", "workspace": "acme", "action": "recording.start"}


@pytest.fixture
def stage():
    return a_stage(MEMBERS)


def post(stage, path, body=None, *, token=BACKEND, method="POST"):
    return stage.client.open(path, method=method, json=body, headers={"Authorization": f"Bearer {token}"})


def masked(stage, names):
    """A stage whose log hides *names*."""
    object.__setattr__(stage.service, "masks", Masks(names, key=KEY))
    return stage


def test_a_limit_that_was_overridden_is_told_with_the_figures_before_the_effect(stage):
    post(stage, "/v1/authorize", QUESTION | {"user": "rich", "mode": "consume", "amounts": {"minutes": 900}})

    [line] = stage.lines
    assert line["limits"] == {"minutes": {"limit": 5_000, "of": "override", "used": 4_000, "reserved": 0}}
    assert line["amounts"] == {"minutes": 900}
    assert line["workspace_id"] == str(WORKSPACE_ID)


def test_what_an_action_takes_by_itself_is_told_too(stage):
    answer = post(stage, "/v1/authorize", QUESTION | {"mode": "consume", "resource": "r-7"})

    [line] = stage.lines
    taken = answer.json["quota"]["minutes"]["used"] - 10
    assert line["amounts"] == {"minutes": taken}
    assert line["limits"]["minutes"]["used"] == 10
    assert line["resource"] == "r-7"


def test_of_a_stranger_nothing_of_the_workspace_is_told(stage):
    post(stage, "/v1/authorize", QUESTION | {"user": "eve"})

    [line] = stage.lines
    assert (line["workspace_id"], line["facts_version"], line["limits"]) == (None, None, {})


@pytest.mark.parametrize(
    ("action", "amounts"),
    [
        ("recording.start", None),
        ("recording.start", {"minutes": 10**6}),
        ("workspace.delete", None),
        ("x", None),
    ],
)
def test_a_line_has_the_whole_verdict(stage, action, amounts):
    post(stage, "/v1/authorize", QUESTION | {"action": action} | ({"amounts": amounts} if amounts else {}))

    [line] = stage.lines
    names = ("allow", "charges", "detail", "needs", "reason", "status", "upgrade", "waiting_helps")
    document = {name: line[name] for name in names} | {"revision": line["policy_revision"]}
    situation = json.dumps(line["situation"], sort_keys=True, separators=(",", ":")).encode()
    assert verdict_from(document, revision=REVISION) == stage.engine.verdict(situation, deadline=0)


@pytest.mark.parametrize(
    ("path", "body", "method", "found"),
    [
        ("/v1/workspaces/acme/entitlements?user=adam", None, "GET", None),
        ("/v1/users/adam/workspaces", None, "GET", 1),
        (
            "/access/v1/search/subject",
            {
                "subject": {"type": "user"},
                "action": {"name": "platform.use"},
                "resource": {"type": "workspace", "id": "acme"},
            },
            "POST",
            2,
        ),
    ],
)
def test_a_listing_tells_its_revision_how_many_and_which_answer_it_was(stage, path, body, method, found):
    answer = post(stage, path, body, method=method)

    [line] = stage.lines
    assert (line["kind"], line["policy_revision"]) == ("listing", REVISION)
    assert line["sha256"] == sha256(answer.data).hexdigest()
    assert line["found"] == (sum(answer.json["actions"].values()) if found is None else found)


def test_a_change_of_an_administrator_tells_who_what_and_the_id_of_its_history(stage):
    post(stage, "/v1/workspaces/acme/plan", {"plan": "team"}, token=OPS, method="PUT")

    [line] = stage.lines
    assert (line["kind"], line["who"], line["what"]["plan"]) == ("change", line["caller"], "team")
    assert line["workspace_id"] == str(WORKSPACE_ID)
    assert len(line["decision_id"]) == 32


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/authorize", {"user": "adam"}, "problem"),
        ("/v1/authorize/batch", {"questions": [{"user": "adam"}]}, "problem"),
        ("/access/v1/evaluations", {"evaluations": [{}]}, "problem"),
        ("/v1/authorize/batch", {"questions": [QUESTION]}, "decision"),
    ],
)
def test_each_line_says_its_kind(stage, path, body, kind):
    post(stage, path, body)

    [line] = stage.lines
    assert (line["v"], line["kind"]) == (1, kind)


def test_a_late_commit_is_a_decision_with_a_line_before_that_of_the_commit(stage):
    held = post(stage, "/v1/authorize", QUESTION | {"mode": "reserve"}).json["reservation"]["id"]
    stage.ledger.expire(held)
    assert post(stage, f"/v1/reservations/{held}/commit").status_code == 200

    assert [(line["kind"], line["endpoint"]) for line in stage.lines[1:]] == [
        ("decision", "commit"),
        ("settle", "commit"),
    ]


def test_granted_checks_can_be_left_out_and_nothing_else(stage):
    object.__setattr__(stage.service, "skips_grants", True)

    for more in ({}, {"user": "eve"}, {"mode": "consume"}, {"amounts": {"minutes": 10**6}}):
        post(stage, "/v1/authorize", QUESTION | more)
    post(stage, "/v1/authorize/batch", {"questions": [QUESTION, QUESTION]})

    assert stage.lines.skipped == 3
    assert [line["reason"] for line in stage.lines] == ["not_a_member", "granted", "quota_exceeded"]


def test_a_masked_value_is_the_same_code_wherever_it_stands(stage):
    masked(stage, {"user", "resource"})

    post(stage, "/v1/authorize", QUESTION | {"resource": "r-7"})
    post(stage, "/v1/users/adam/workspaces", method="GET")
    post(
        stage,
        "/access/v1/search/action",
        {"subject": {"type": "user", "id": "adam"}, "resource": {"type": "workspace", "id": "acme"}},
    )

    decision, listing, search = stage.lines
    code = mac_of(KEY, "adam")
    assert decision["user"] == listing["user"] == search["subject"]["id"] == code
    assert decision["resource"] == mac_of(KEY, "r-7")
    assert search["resource"]["id"] == mac_of(KEY, "acme")
    assert "adam" not in json.dumps(stage.lines)
    assert code.startswith("mac:")
    assert len(code) == len("mac:") + 16


def test_a_masked_context_says_which_situation_it_was():
    situation = b'{"action":"x","context":{"country":"DE","ip":"10.0.0.1"}}'
    outcome = b'{"allow":true,"situation":%b}' % situation

    line = json.loads(Masks({"context.ip"}, key=KEY).document(outcome))

    assert line["situation"]["context"] == {"country": "DE", "ip": mac_of(KEY, "10.0.0.1")}
    assert line["situation_sha256"] == sha256(situation).hexdigest()
    assert Masks({"context.mfa"}, key=KEY).document(outcome) == outcome


def line_with(context, **more):
    situation = json.dumps({"action": "x", "context": context}, sort_keys=True, separators=(",", ":"))
    return situation, json.dumps({"v": 1, "kind": "decision", **more})[:-1].encode() + (
        b',"situation":%b' % situation.encode()
    )


def test_a_line_that_is_too_long_gives_up_the_largest_values_of_its_context_first():
    situation, line = line_with({"a": "x" * 5_000, "b": "y" * 200}, user="u" * 250)

    short = json.loads(fitted(line, 1_000) + b"}")

    text = json.dumps("x" * 5_000).encode()
    assert short["situation"]["context"] == {
        "a": {"sha256": sha256(text).hexdigest(), "bytes": 5_002},
        "b": "y" * 200,
    }
    assert short["situation_sha256"] == sha256(situation.encode()).hexdigest()
    assert short["user"] == "u" * 250


@pytest.mark.parametrize(
    ("context", "more"),
    [
        ({str(number): number for number in range(2_000)}, {}),  # none of them is large
        ({"a": "x"}, {"request_id": "\x01" * 9_000}),
        ({}, {"why": "w" * 5_000, "request_id": "r" * 5_000}),
    ],
)
def test_any_line_fits(context, more):
    situation, line = line_with(context, **more)

    short = fitted(line, 1_000)

    assert len(short) <= 1_000
    document = json.loads(short + b"}")
    assert (document["v"], document["kind"]) == (1, "decision")
    if document["situation"] != json.loads(situation):
        assert document["situation_sha256"] == sha256(situation.encode()).hexdigest()
