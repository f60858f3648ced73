"""The endpoints, on the stage: what stands in an answer, what is refused and how."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from sidecar.api.advice import ADVICE
from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.problems import PROBLEMS, problem
from sidecar.api.service import Readiness
from sidecar.errors import (
    BadQuestion,
    ClockSkew,
    DatabaseNotMigrated,
    DependencyError,
    EngineMisbehaved,
    EngineUnavailable,
    FactsMisread,
    FactsUnavailable,
    IdentityUnavailable,
    LogUnavailable,
    OutcomeUnknown,
    RevisionMismatch,
    SidecarError,
    UsageContended,
    WorkspaceContended,
)
from sidecar.workspaces.administration import OverridesChange, PlanChange, StatusChange
from sidecar.workspaces.subscriptions import SubscriptionChange
from tests.api.stage import AUDITOR, BACKEND, OPS, REVISION, a_stage
from tests.values import NEXT_MONTH, NOON, WORKSPACE_ID, some_facts

MEMBERS = {
    ("adam", "acme"): some_facts(role="admin"),
    ("olivia", "acme"): some_facts(role="owner"),
    ("sam", "solo"): some_facts(role="owner", plan="starter", usage={"minutes": 97}),
    ("pat", "paused"): some_facts(role="owner", status="suspended"),
    ("old", "legacy"): some_facts(role="member", plan="platinum"),
}
UNKNOWN = "x"
QUESTION = {"user": "adam", "workspace": "acme", "action": "platform.use"}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def ask(stage, path="/v1/authorize", *, token=BACKEND, **fields):
    return stage.client.post(path, json=QUESTION | fields, headers=bearer(token))


def test_an_allowed_question_has_exactly_these_fields_in_this_order():
    answer = ask(a_stage(MEMBERS))

    assert answer.status_code == 200
    assert list(answer.json) == [
        "allow", "status", "reason", "message", "role", "plan", "workspace",
        "reservation", "decision_id", "policy_revision", "facts",
    ]  # fmt: skip
    assert answer.json | {"decision_id": "…", "message": "…"} == {
        "allow": True,
        "status": 200,
        "reason": "granted",
        "message": "…",
        "role": "admin",
        "plan": "team",
        "workspace": {"id": str(WORKSPACE_ID), "slug": "acme"},
        "reservation": None,
        "decision_id": "…",
        "policy_revision": REVISION,
        "facts": {"at": "2026-11-24T12:00:00Z", "cached": False},
    }


def test_an_action_that_takes_something_comes_with_its_quota_and_no_other():
    answer = ask(a_stage(MEMBERS), action="recording.start", amounts={"minutes": 5})

    assert answer.json["quota"] == {
        "minutes": {
            "limit": 1000,
            "used": 0,
            "reserved": 0,
            "remaining": 1000,
            "resets_at": "2026-12-01T00:00:00Z",
        }
    }


def test_a_full_meter_is_402_with_the_plans_that_would_do_and_what_they_cost():
    answer = ask(
        a_stage(MEMBERS), user="sam", workspace="solo", action="recording.start", amounts={"minutes": 5}
    )

    assert (answer.status_code, answer.json["allow"], answer.json["status"]) == (200, False, 402)
    assert answer.json["upgrade"] == [
        {"plan": "pro", "title": "Pro", "price": {"amount": 149, "currency": "EUR", "per": "month"}},
        {"plan": "team", "title": "Team", "price": {"amount": 299, "currency": "EUR", "per": "month"}},
    ]
    assert answer.json["quota"]["minutes"]["remaining"] == 3
    assert answer.json["retry_after"] == (NEXT_MONTH - NOON).total_seconds()


def test_what_waiting_would_help_is_429_and_says_how_long():
    stage = a_stage({("adam", "acme"): some_facts(role="member", usage={"minutes": 1000})})

    answer = ask(stage, action="recording.start")

    assert (answer.json["status"], answer.json["reason"]) == (429, "quota_exceeded")
    assert answer.json["retry_after"] == 6 * 24 * 3600 + 12 * 3600
    assert "upgrade" not in answer.json


def test_a_meter_above_its_limit_says_by_how_much():
    stage = a_stage({("adam", "acme"): some_facts(usage={"minutes": 1200}, reserved={"minutes": 10})})

    quota = ask(stage, action="recording.start").json["quota"]["minutes"]

    assert (quota["over_by"], quota["remaining"]) == (210, 0)


def test_an_unlimited_meter_is_null():
    quota = ask(a_stage(MEMBERS), action="scenarios.create").json["quota"]["scenarios"]

    assert quota == {"limit": None, "used": 0, "reserved": 0, "remaining": None, "resets_at": None}


@pytest.mark.parametrize(
    ("fields", "needs", "status"),
    [
        ({"action": "billing.manage"}, {"roles": ["owner"]}, 403),
        ({"user": "sam", "workspace": "solo", "action": "analytics.view"}, {"feature": "analytics"}, 402),
    ],
)
def test_a_denial_says_what_is_needed(fields, needs, status):
    answer = ask(a_stage(MEMBERS), **fields).json

    assert (answer["needs"], answer["status"], "quota" in answer) == (needs, status, False)


def test_a_suspended_workspace_can_still_be_paid_for():
    stage = a_stage(MEMBERS)

    assert ask(stage, user="pat", workspace="paused").json["reason"] == "workspace_suspended"
    assert ask(stage, user="pat", workspace="paused", action="billing.manage").json["reason"] == "granted"


def test_a_stranger_learns_nothing_of_a_workspace_not_even_that_it_exists():
    stage = a_stage(MEMBERS)
    unlike = re.compile(rb'"decision_id":"[0-9a-f]{32}"|"at":"[^"]+"')

    answers = [
        ask(stage, user=user, workspace=workspace, action=action)
        for user, workspace in [
            ("zoe", "acme"),
            ("adam", "nowhere"),
            ("nobody", "acme"),
            ("nobody", "nowhere"),
        ]
        for action in ("recording.start", "recording.start")
    ]

    assert {unlike.sub(b"", answer.data) for answer in answers} == {
        (
            b'{"allow":false,"status":403,"reason":"not_a_member","message":"The user is not a member of this'
            b' workspace.","reservation":null,,"policy_revision":"r1","facts":{,"cached":false}}'
        )
    }
    assert {tuple(name for name, _ in answer.headers) for answer in answers} == {
        ("Content-Type", "Content-Length", "X-Request-ID", "Cache-Control")
    }


def test_an_unknown_action_is_an_answer():
    answer = ask(a_stage(MEMBERS), action="roleplay.strat")

    assert (answer.status_code, answer.json["reason"], answer.json["status"]) == (200, "unknown_action", 403)


def test_a_decision_id_is_never_the_same():
    stage = a_stage(MEMBERS)

    assert len({ask(stage).json["decision_id"] for _ in range(50)}) == 50


def test_a_meter_that_is_not_taken_is_refused_where_it_stands():
    answer = ask(a_stage(MEMBERS), amounts={"scenarios": 1, "a/b": 2})

    assert (answer.status_code, answer.json["code"]) == (400, "meter_not_taken")
    assert [each["pointer"] for each in answer.json["errors"]] == ["/amounts/scenarios", "/amounts/a~1b"]


def test_a_batch_answers_in_order_and_a_bad_item_in_its_place():
    stage = a_stage(MEMBERS)
    body = {
        "defaults": {"user": "adam", "workspace": "acme"},
        "questions": [
            {"action": "platform.use"},
            {"action": "platform.use", "amounts": {"minutes": 1}},
            {"user": "zoe", "action": "platform.use"},
            {"action": 7},
        ],
    }

    answer = stage.client.post("/v1/authorize/batch", json=body, headers=bearer(BACKEND))

    assert answer.status_code == 200
    assert [each.get("reason", each.get("code")) for each in answer.json["answers"]] == [
        "granted",
        "meter_not_taken",
        "not_a_member",
        "invalid_request",
    ]
    assert [each["errors"][0]["pointer"] for each in answer.json["answers"] if "errors" in each] == [
        "/questions/1/amounts/minutes",
        "/questions/3/action",
    ]
    assert [(line.get("action"), line.get("reason"), line.get("code")) for line in stage.lines] == [
        ("platform.use", "granted", None),
        ("platform.use", None, "meter_not_taken"),
        ("platform.use", "not_a_member", None),
        (None, None, "invalid_request"),
    ]


def test_a_batch_takes_a_thousand():
    body = {"defaults": QUESTION, "questions": [{}] * 1000}

    answer = a_stage(MEMBERS).client.post("/v1/authorize/batch", json=body, headers=bearer(BACKEND))

    assert [each["reason"] for each in answer.json["answers"]] == ["granted"] * 1000


def test_entitlements_are_all_that_a_frontend_needs():
    answer = a_stage(MEMBERS).client.get("/v1/workspaces/solo/entitlements?user=sam", headers=bearer(BACKEND))

    assert list(answer.json) == [
        "workspace",
        "role",
        "plan",
        "features",
        "quotas",
        "actions",
        "policy_revision",
    ]
    assert answer.json["workspace"] == {"id": str(WORKSPACE_ID), "slug": "acme", "name": "Acme"}
    assert (answer.json["role"], answer.json["plan"]) == ("owner", "starter")
    assert answer.json["features"]["scenario_builder"] is True
    assert answer.json["features"]["analytics"] is False
    assert answer.json["quotas"]["minutes"]["remaining"] == 3
    assert answer.json["actions"]["billing.manage"] is True
    assert answer.json["actions"]["analytics.view"] is False
    assert "feature:analytics" not in answer.json["actions"]


@pytest.mark.parametrize(("user", "workspace"), [("zoe", "solo"), ("sam", "nowhere"), ("nobody", "nowhere")])
def test_entitlements_of_a_stranger_are_one_and_the_same_problem(user, workspace):
    answer = a_stage(MEMBERS).client.get(
        f"/v1/workspaces/{workspace}/entitlements?user={user}", headers=bearer(BACKEND)
    )

    assert answer.status_code == 403
    assert answer.data == (
        b'{"type":"urn:policy-sidecar:problem:not_a_member","title":"The user is not a member of this'
        b' workspace","status":403,"code":"not_a_member",'
        b'"detail":"ask for a user and a workspace that the user is a member of"}'
    )


def test_the_workspaces_of_a_user_are_those_where_they_may():
    stage = a_stage(MEMBERS)

    def slugs(path):
        answer = stage.client.get(path, headers=bearer(BACKEND))
        assert answer.status_code == 200
        return [each["slug"] for each in answer.json["workspaces"]], answer.json["next"]

    assert slugs("/v1/users/adam/workspaces?action=members.remove") == (["acme"], None)
    assert slugs("/v1/users/adam/workspaces?action=workspace.delete") == ([], None)
    assert slugs("/v1/users/adam/workspaces") == (["acme"], None)
    assert slugs("/v1/users/nobody/workspaces?action=members.remove") == ([], None)
    assert slugs("/v1/users/adam/workspaces?action=no.such") == ([], None)


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("auth0%7C123", "auth0|123"),
        ("a%2Fb", "a/b"),
        ("a@b.example", "a@b.example"),
        ("%C3%BC%20x", "ü x"),
        ("a+b", "a+b"),
    ],
)
def test_a_user_in_a_path_may_hold_any_character(written, user):
    stage = a_stage({(user, "acme"): some_facts()})

    answer = stage.client.get(f"/v1/users/{written}/workspaces", headers=bearer(BACKEND))

    assert [each["slug"] for each in answer.json["workspaces"]] == ["acme"]


@pytest.mark.parametrize(
    ("path", "pointers"),
    [
        ("/v1/workspaces/acme/entitlements", ["/query/user"]),
        ("/v1/workspaces/acme/entitlements?user=", ["/query/user"]),
        ("/v1/workspaces/acme/entitlements?user=a&user=b", ["/query/user"]),
        ("/v1/workspaces/acme/entitlements?user=a&usr=b&x", ["/query/usr", "/query/x"]),
        ("/v1/workspaces/acme/entitlements?user=%FF", ["/query"]),
        ("/v1/workspaces/acme/entitlements?user=%00", ["/query/user"]),
        ("/v1/workspaces/%FF/entitlements?user=a", ["/path/workspace"]),
        ("/v1/workspaces/a%00/entitlements?user=a", ["/path/workspace"]),
        ("/v1/users/a/workspaces?limit=0", ["/query/limit"]),
        ("/v1/users/a/workspaces?limit=1001", ["/query/limit"]),
        ("/v1/users/a/workspaces?limit=x", ["/query/limit"]),
        ("/v1/users/a/workspaces?limit=%D9%A1", ["/query/limit"]),
        ("/v1/users/" + "u" * 257 + "/workspaces", ["/path/user"]),
        ("/healthz?x=1", ["/query/x"]),
    ],
)
def test_a_bad_path_or_query_is_refused_where_it_is_bad(path, pointers):
    answer = a_stage(MEMBERS).client.get(path, headers=bearer(BACKEND))

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [each["pointer"] for each in answer.json["errors"]] == pointers


def test_a_query_on_a_post_is_refused_too():
    assert ask(a_stage(MEMBERS), "/v1/authorize?mode=consume").json["errors"][0]["pointer"] == "/query/mode"


SUBSCRIBED = {"plan": "pro", "status": "active", "as_of": "2026-11-24T12:00:00Z"}
CHANGED = {
    "plan": "team",
    "status": "active",
    "overrides": {"features": {}, "limits": {}},
    "as_of": "2026-11-24T12:00:00Z",
    "applied": True,
}


@pytest.mark.parametrize(
    ("what", "body", "change"),
    [
        (
            "plan",
            {"plan": "pro", "as_of": "2026-11-24T12:00:00Z"},
            PlanChange(plan="pro", as_of=datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ),
        ("plan", {"plan": "pro"}, PlanChange(plan="pro")),
        (
            "status",
            {"status": "suspended", "reason": "unpaid"},
            StatusChange(status="suspended", reason="unpaid"),
        ),
        ("status", {"status": "active", "reason": None}, StatusChange(status="active")),
        (
            "status",
            {"status": "active", "as_of": "2026-11-24T12:00:00Z", "overrule": True},
            StatusChange(status="active", as_of=datetime(2026, 11, 24, 12, tzinfo=UTC), overrule=True),
        ),
        (
            "subscription",
            {"plan": "pro", "status": "trialing", "as_of": "2026-11-24T12:00:00Z"}
            | {"trial_ends_at": "2026-12-24T12:00:00Z", "seats": None, "event": "evt_1"},
            SubscriptionChange(
                plan="pro",
                status="trialing",
                as_of=datetime(2026, 11, 24, 12, tzinfo=UTC),
                trial_ends_at=datetime(2026, 12, 24, 12, tzinfo=UTC),
                event="evt_1",
            ),
        ),
        (
            "overrides",
            {
                "features": {"video_avatar": True, "analytics": None},
                "limits": {"minutes": "unlimited", "members": 0},
            },
            OverridesChange(
                features={"video_avatar": True, "analytics": None},
                limits={"minutes": "unlimited", "members": 0},
            ),
        ),
        (
            "overrides",
            {"limits": {"minutes": None}, "expires_at": "2027-01-01T00:00:00+01:00", "reason": "pilot"},
            OverridesChange(
                limits={"minutes": None},
                expires_at=datetime.fromisoformat("2027-01-01T00:00:00+01:00"),
                reason="pilot",
            ),
        ),
    ],
)
def test_an_administrator_changes_a_workspace(what, body, change):
    stage = a_stage(MEMBERS)

    answer = stage.client.put(f"/v1/workspaces/acme/{what}", json=body, headers=bearer(OPS))

    document = answer.json
    stored = document.pop("subscription", None)

    assert (answer.status_code, document) == (200, CHANGED)
    assert (stored is None) == (what != "subscription")
    assert stage.workspaces.asked == ("acme", change, "ops")


@pytest.mark.parametrize(
    ("what", "body", "code", "pointers"),
    [
        ("plan", {}, "invalid_request", ["/plan"]),
        ("plan", {"plan": "platinum"}, "unknown_plan", ["/plan"]),
        ("plan", {"plan": "pro", "as_of": "yesterday"}, "invalid_request", ["/as_of"]),
        ("plan", {"plan": "pro", "as_of": "2026-13-01T00:00:00Z"}, "invalid_request", ["/as_of"]),
        ("plan", {"plan": "pro", "as_of": "2026-11-24T12:00:00"}, "invalid_request", ["/as_of"]),
        ("status", {"status": "paused"}, "invalid_request", ["/status"]),
        ("subscription", {}, "invalid_request", ["/plan", "/status", "/as_of"]),
        ("subscription", SUBSCRIBED | {"status": "ended"}, "invalid_request", ["/status"]),
        ("subscription", SUBSCRIBED | {"status": "trialing"}, "invalid_request", ["/trial_ends_at"]),
        ("subscription", SUBSCRIBED | {"seats": -1}, "invalid_request", ["/seats"]),
        ("subscription", SUBSCRIBED | {"overrule": True}, "invalid_request", ["/overrule"]),
        ("subscription", SUBSCRIBED | {"plan": "platinum"}, "unknown_plan", ["/plan"]),
        (
            "overrides",
            {"features": {"video": True, "analytics": 1}},
            "invalid_request",
            ["/features/analytics"],
        ),
        ("overrides", {"features": {"video": True}}, "invalid_request", ["/features/video"]),
        ("overrides", {"limits": {"minutes": -1}}, "invalid_request", ["/limits/minutes"]),
        ("overrides", {"limits": {"minutes": "infinite"}}, "invalid_request", ["/limits/minutes"]),
        ("overrides", {"limits": {"hours": 1}}, "invalid_request", ["/limits/hours"]),
        (
            "overrides",
            {"features": {"a/b": True}, "limits": {"hours": 1}},
            "invalid_request",
            ["/features/a~1b"],
        ),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(what, body, code, pointers):
    stage = a_stage(MEMBERS)

    answer = stage.client.put(f"/v1/workspaces/acme/{what}", json=body, headers=bearer(OPS))

    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert [each["pointer"] for each in answer.json["errors"]] == pointers
    assert stage.workspaces.asked == ()


def test_a_plan_that_is_not_declared_is_told_before_a_path_that_cannot_be_read():
    answer = a_stage(MEMBERS).client.put(
        "/v1/workspaces/%FF/plan", json={"plan": "gold"}, headers=bearer(OPS)
    )

    assert (answer.status_code, answer.json["code"]) == (400, "unknown_plan")


def test_an_unknown_workspace_cannot_be_changed():
    answer = a_stage(MEMBERS).client.put(
        "/v1/workspaces/nowhere/plan", json={"plan": "pro"}, headers=bearer(OPS)
    )

    assert (answer.status_code, answer.json["code"]) == (404, "unknown_workspace")


def test_the_bundle_is_sent_once():
    stage = a_stage(MEMBERS)

    first = stage.client.get("/bundles/authz.tar.gz", headers=bearer(AUDITOR))
    tag = first.headers["ETag"]
    again = stage.client.get(
        "/bundles/authz.tar.gz", headers=bearer(AUDITOR) | {"If-None-Match": f'"x", W/{tag}'}
    )
    other = stage.client.get("/bundles/authz.tar.gz", headers=bearer(AUDITOR) | {"If-None-Match": '"x"'})

    assert (first.status_code, first.data) == (200, b"bundle")
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert "Content-Length" not in again.headers
    assert other.status_code == 200


def test_readiness_is_told_part_by_part():
    parts: dict[str, dict[str, object]] = {
        "worker": {"ready": True},
        "database": {"ready": False, "code": "database_unreachable"},
    }
    stage = a_stage(MEMBERS, readiness=lambda: Readiness(ready=False, without_database=True, parts=parts))

    answer = stage.client.get("/readyz")

    assert (answer.status_code, answer.json) == (503, {"ready": False, **parts})


def test_readiness_leaves_the_database_out_where_that_is_asked_and_nothing_else():
    parts: dict[str, dict[str, object]] = {"worker": {"ready": True}, "database": {"ready": False}}
    stage = a_stage(MEMBERS, readiness=lambda: Readiness(ready=False, without_database=True, parts=parts))

    without = stage.client.get("/readyz?exclude=database")
    others = [
        stage.client.get(f"/readyz?{query}")
        for query in (
            "exclude=databse",
            "exclude=worker",
            "exclude=",
            "verbose",
            "exclude=database&exclude=x",
        )
    ]

    assert (without.status_code, without.json) == (200, {"ready": True, "worker": {"ready": True}})
    assert [(each.status_code, each.json["code"]) for each in others] == [(400, "invalid_request")] * 5
    assert others[0].json["errors"] == [
        {
            "pointer": "/query/exclude",
            "detail": 'must be database, got "databse"',
            "suggestion": "database",
        }
    ]


def test_a_cold_sidecar_answers_no_question_but_tells_that_it_lives():
    stage = a_stage(MEMBERS, serving=lambda: False)

    refused = ask(stage)

    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (
        503,
        "starting",
        "1",
    )
    assert stage.client.get("/healthz").status_code == 200
    assert stage.client.get("/bundles/authz.tar.gz", headers=bearer(AUDITOR)).status_code == 200


OUTAGES: list[type[DependencyError]] = [
    EngineUnavailable,
    EngineMisbehaved,
    RevisionMismatch,
    FactsUnavailable,
    FactsMisread,
    DatabaseNotMigrated,
    UsageContended,
    ClockSkew,
]
READS = {
    "authorize": ("POST", "/v1/authorize", QUESTION),
    "authorize_batch": ("POST", "/v1/authorize/batch", {"questions": [QUESTION]}),
    "entitlements": ("GET", "/v1/workspaces/acme/entitlements?user=adam", None),
    "workspaces_of_a_user": ("GET", "/v1/users/adam/workspaces?action=platform.use", None),
}


@pytest.mark.parametrize("endpoint", READS)
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_a_503_and_never_an_answer(outage, endpoint):
    stage = a_stage(MEMBERS)
    of_the_database = FactsUnavailable | FactsMisread | DatabaseNotMigrated | UsageContended | ClockSkew
    broken = stage.facts if issubclass(outage, of_the_database) else stage.engine
    broken.outage = outage("10.1.2.3 said no")
    method, path, body = READS[endpoint]

    answer = stage.client.open(path, method=method, json=body, headers=bearer(BACKEND))

    assert (answer.status_code, answer.json["code"]) == (503, outage.code)
    assert "10.1.2.3" not in answer.text
    assert [(line["code"], line["status"], line["why"]) for line in stage.lines] == [
        (outage.code, 503, "10.1.2.3 said no")
    ]


def test_the_outages_tested_are_all_there_are():
    of_users = {IdentityUnavailable, WorkspaceContended}  # tests/identity/test_jwks.py, tests/people
    of_changes = {OutcomeUnknown}  # tests/serving/test_replicas.py
    of_the_log = {LogUnavailable}  # tests/serving/test_log.py
    assert set(DependencyError.__subclasses__()) == set(OUTAGES) | of_users | of_changes | of_the_log


def test_a_defect_is_a_500_that_tells_nothing_and_a_traceback_in_the_log(caplog):
    stage = a_stage(MEMBERS)
    for broken in (("/v1/authorize", "POST", QUESTION), ("/v1/users/adam/workspaces", "GET", None)):
        path, method, body = broken
        stage.facts.members = None

        answer = stage.client.open(path, method=method, json=body, headers=bearer(BACKEND))

        assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
        assert answer.headers["X-Request-ID"] in caplog.text
        assert "Traceback" in caplog.text
        assert "NoneType" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({"Authorization": ""}, 401, "unauthenticated"),
        ({"Authorization": "Bearer"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer nobody"}, 401, "unauthenticated"),
        ({"Authorization": f"Basic {BACKEND}"}, 401, "unauthenticated"),
        ({"Authorization": f"Bearer {BACKEND}, Bearer {BACKEND}"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGFtIn0.x"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer ü"}, 401, "unauthenticated"),
        (bearer(OPS), 403, "scope_missing"),
        (bearer(AUDITOR), 403, "scope_missing"),
        ({"Authorization": f"bearer  {BACKEND}"}, 200, None),
    ],
)
def test_only_a_caller_with_the_scope_may_ask(headers, status, code):
    answer = a_stage(MEMBERS).client.post("/v1/authorize", json=QUESTION, headers=headers)

    assert (answer.status_code, answer.json.get("code")) == (status, code)
    assert (answer.headers.get("WWW-Authenticate") == 'Bearer realm="sidecar"') is (status == 401)


def test_every_endpoint_wants_the_scope_that_the_design_says():
    assert {
        each.path: each.audience.scope for each in ENDPOINTS if each.audience is not Audience.END_USERS
    } == {
        "/v1/authorize": "authorize",
        "/v1/authorize/batch": "authorize",
        "/v1/reservations/{reservation}/commit": "authorize",
        "/v1/reservations/{reservation}/release": "authorize",
        "/v1/usage/release": "authorize",
        "/v1/workspaces/{workspace}/entitlements": "authorize",
        "/v1/users/{user}/workspaces": "authorize",
        "/ofrep/v1/evaluate/flags/{key}": "authorize",  # or a user's own token: test_ofrep
        "/ofrep/v1/evaluate/flags": "authorize",
        "/access/v1/evaluation": "authorize",
        "/access/v1/evaluations": "authorize",
        "/access/v1/search/subject": "authorize",
        "/access/v1/search/resource": "authorize",
        "/access/v1/search/action": "authorize",
        "/v1/workspaces/{workspace}/plan": "admin",
        "/v1/workspaces/{workspace}/overrides": "admin",
        "/v1/workspaces/{workspace}/status": "admin",
        "/v1/workspaces/{workspace}/subscription": "admin",
        "/v1/workspaces/{workspace}": "admin",
        "/v1/workspaces": "admin or audit",
        "/gw/nginx": None,  # who may ask at a gateway is no matter of Authorization: test_gateways
        "/gw/ingress-nginx": None,
        "/gw/forward-auth": None,
        "/gw/haproxy": None,
        "/gw/ext-authz/{target}": None,
        "/v1/data/apisix": None,
        "/v1/data/kong": None,
        "/v1/data/envoy": None,
        "/bundles/authz.tar.gz": "audit",
        "/metrics": "audit",
        "/.well-known/authzen-configuration": None,
        "/.well-known/authzen-configuration/{tenant}": None,
        "/billing/stripe": None,  # by its signature: test_stripe
        "/plans": None,
        "/healthz": None,
        "/readyz": None,
        "/statusz": None,
        "/openapi.json": None,
    }


@pytest.mark.parametrize(
    "endpoint", [each for each in ENDPOINTS if each.audience.scope], ids=lambda each: each.name
)
def test_no_endpoint_answers_a_caller_without_its_scope(endpoint):
    stage = a_stage(MEMBERS)
    path = endpoint.path.replace("{workspace}", "acme").replace("{user}", "adam")

    nobody = stage.client.open(path, method=endpoint.method)
    others = [
        stage.client.open(path, method=endpoint.method, json={}, headers=bearer(token)).status_code
        for token, scope in ((OPS, "admin"), (BACKEND, "authorize"), (AUDITOR, "audit"))
        if scope not in endpoint.audience.scopes
    ]

    assert (nobody.status_code, others) == (401, [403] * (3 - len(endpoint.audience.scopes)))


def test_without_a_tokens_file_loopback_may_ask_and_no_more():
    stage = a_stage(MEMBERS, tokens=None)

    assert stage.client.post("/v1/authorize", json=QUESTION).status_code == 200
    assert stage.client.put("/v1/workspaces/acme/plan", json={"plan": "pro"}).status_code == 403
    assert stage.client.get("/metrics").status_code == 403
    assert stage.client.post("/v1/authorize", json=QUESTION, headers=bearer("any.jwt.x")).status_code == 401


def by_loopback(stage, endpoint, host):
    path = endpoint.path.replace("{workspace}", "acme").replace("{user}", "adam")
    return stage.client.open(path, method=endpoint.method, json={}, headers={"Host": host}).status_code


@pytest.mark.parametrize("host", ["evil.example:8080", "127.0.0.1.evil.example", "10.1.2.3", "0.0.0.0:8080"])
def test_without_a_tokens_file_a_page_elsewhere_may_not_ask_by_a_name_that_means_this_machine(host):
    stage = a_stage(MEMBERS, tokens=None)
    asked = [each for each in ENDPOINTS if "authorize" in each.audience.scopes]

    assert {by_loopback(stage, each, host) for each in asked} == {401}
    assert 401 not in {by_loopback(stage, each, "127.0.0.1:8080") for each in asked}
    assert (
        a_stage(MEMBERS)
        .client.post("/v1/authorize", json=QUESTION, headers=bearer(BACKEND) | {"Host": host})
        .status_code
        == 200
    ), "who shows a token is no page"
    assert stage.client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/statusz", "/openapi.json"])
def test_what_is_open_is_open_to_any_token(path):
    stage = a_stage(MEMBERS)

    assert [stage.client.get(path, headers=headers).status_code for headers in (None, bearer("x"))] == [
        200,
        200,
    ]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-123", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a b", False),
        ("é", False),
        ("a,b", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/authorize", "/nowhere", "/healthz"])
def test_a_request_id_is_echoed_if_it_is_safe_and_made_if_not(path, sent, kept):
    answer = a_stage(MEMBERS).client.post(path, json=QUESTION, headers={"X-Request-ID": sent})

    actual = answer.headers["X-Request-ID"]

    assert (actual == sent) is kept
    assert kept or re.fullmatch(r"[0-9a-f]{32}", actual)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": 'Application/JSON;charset="UTF-8"'}, 200),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/jsonx"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    ],
)
def test_a_body_is_json_and_says_so(headers, status):
    answer = a_stage(MEMBERS).client.post(
        "/v1/authorize", data=json.dumps(QUESTION), headers=headers | bearer(BACKEND)
    )

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/v1/authorize", 64 * 1024, 200),
        ("/v1/authorize", 64 * 1024 + 1, 413),
        ("/v1/authorize/batch", 1024 * 1024, 200),
        ("/v1/authorize/batch", 1024 * 1024 + 1, 413),
    ],
)
def test_a_body_is_as_large_as_it_may_be_and_no_larger(path, size, status):
    body = json.dumps(QUESTION if path == "/v1/authorize" else {"questions": [QUESTION]}).encode().ljust(size)

    answer = a_stage(MEMBERS).client.post(
        path, data=body, headers={"Content-Type": "application/json"} | bearer(BACKEND)
    )

    assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PURGE"])
def test_no_other_method_is_answered(method):
    stage = a_stage(MEMBERS)

    answer = stage.client.open("/v1/authorize", method=method, json={}, headers=bearer(BACKEND))

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_head_is_get_without_a_body():
    answer = a_stage(MEMBERS).client.head("/healthz")

    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "14")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/authorize/",
        "/v1/authorise",
        "/v1/users//workspaces",
        "/V1/authorize",
        "/v1/authorize/batch/x",
    ],
)
def test_any_other_path_is_a_404_problem(path):
    answer = a_stage(MEMBERS).client.get(path)

    assert (answer.status_code, answer.content_type, answer.json["code"]) == (
        404,
        "application/problem+json",
        "not_found",
    )


def test_a_script_name_moves_no_path():
    stage = a_stage(MEMBERS)

    answer = stage.client.get(
        "/gw/healthz", environ_overrides={"SCRIPT_NAME": "/gw", "PATH_INFO": "/healthz"}
    )

    assert answer.status_code == 404


def test_nothing_is_stored_on_the_way():
    stage = a_stage(MEMBERS)

    answers = [
        ask(stage),
        ask(stage, token=UNKNOWN),
        stage.client.get("/nowhere"),
        stage.client.get("/readyz"),
    ]

    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


def test_the_log_line_holds_what_was_asked_and_what_came_of_it_and_no_secret():
    stage = a_stage(MEMBERS)

    answer = stage.client.post(
        "/v1/authorize",
        json=QUESTION | {"action": "recording.start", "amounts": {"minutes": 5}},
        headers=bearer(BACKEND) | {"X-Request-ID": "r-1"},
    )

    [line] = stage.lines
    assert {name: line[name] for name in line if name not in {"at", "situation", "ms", "facts_at"}} == {
        "v": 1,
        "kind": "decision",
        "catalog": "",
        "resource": None,
        "workspace_id": str(WORKSPACE_ID),
        "facts_version": None,
        "limits": {"minutes": {"limit": 1000, "of": "plan", "used": 0, "reserved": 0}},
        "charges": {"minutes": 1000},
        "upgrade": [],
        "needs": {},
        "waiting_helps": False,
        "request_id": "r-1",
        "caller": "backend",
        "endpoint": "authorize",
        "user": "adam",
        "workspace": "acme",
        "action": "recording.start",
        "mode": "check",
        "amounts": {"minutes": 5},
        "decision_id": answer.json["decision_id"],
        "allow": True,
        "reason": "granted",
        "detail": None,
        "status": 200,
        "policy_revision": REVISION,
        "facts_cached": False,
    }
    assert set(line["ms"]) == {"facts", "policy", "ledger", "total"}
    assert BACKEND not in str(line)


def test_the_situation_in_the_log_can_be_decided_again():
    from sidecar.text.encoding import encoded  # noqa: PLC0415

    stage = a_stage(MEMBERS)
    ask(stage, user="sam", workspace="solo", action="recording.start", amounts={"minutes": 5})

    logged = json.loads(encoded(stage.lines[0]))
    again = stage.engine.verdict(json.dumps(logged["situation"]).encode(), deadline=0)

    assert (again.reason, again.status) == (logged["reason"], logged["status"])


def test_what_is_counted_can_be_scraped():
    stage = a_stage(MEMBERS)
    ask(stage)
    ask(stage, user="zoe")
    ask(stage, user="old", workspace="legacy")
    ask(stage, token=UNKNOWN)
    stage.facts.outage = FactsUnavailable("x")
    ask(stage)

    answer = stage.client.get("/metrics", headers=bearer(AUDITOR))

    assert answer.content_type.startswith("text/plain")
    for line in (
        'sidecar_decisions_total{engine="embedded",reason="granted",status="200"} 2.0',
        'sidecar_decisions_total{engine="embedded",reason="not_a_member",status="403"} 1.0',
        'sidecar_problems_total{code="unauthenticated"} 1.0',
        'sidecar_problems_total{code="facts_unavailable"} 1.0',
        "sidecar_undeclared_plan_total 1.0",
        "sidecar_facts_seconds_count 4.0",
        'sidecar_engine_seconds_count{engine="embedded"} 3.0',
        'sidecar_policy_memo_total{result="miss"} 3.0',
    ):
        assert line in answer.text.splitlines()


def test_no_label_holds_what_a_caller_sends():
    stage = a_stage(MEMBERS)
    for number in range(3):
        ask(stage, user=f"secret{number}", workspace=f"secret{number}", action=f"secret{number}")

    assert "secret" not in stage.client.get("/metrics", headers=bearer(AUDITOR)).text


def test_every_problem_has_the_same_shape():
    stage = a_stage(MEMBERS)

    answers = [
        ask(stage, token=UNKNOWN),
        ask(stage, token=OPS),
        ask(stage, user=None),
        stage.client.get("/nowhere"),
        stage.client.get("/v1/authorize"),
    ]

    for answer in answers:
        assert answer.content_type == "application/problem+json"
        assert list(answer.json)[:4] == ["type", "title", "status", "code"]
        assert answer.json["status"] == answer.status_code
        assert answer.json["type"] == f"urn:policy-sidecar:problem:{answer.json['code']}"
        assert (answer.status_code, answer.json["title"]) == PROBLEMS[answer.json["code"]]


def test_every_problem_says_what_to_do():
    assert set(ADVICE) == set(PROBLEMS)
    for code in PROBLEMS:
        assert len(problem(code)["detail"]) > 20


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v1/authorise", "/v1/authorize"),
        ("/v1/authorize/", "/v1/authorize"),
        ("/V1/Authorize", "/v1/authorize"),
        ("//v1/authorize", "/v1/authorize"),
        ("/v1/workspace/s3cret/plan", "/v1/workspaces/{workspace}/plan"),
        ("/v1/workspaces/s3cret/plans", "/v1/workspaces/{workspace}/plan"),
        ("/v1/reservation/s3cret/commit", "/v1/reservations/{reservation}/commit"),
        ("/gw/ngnix", "/gw/nginx"),
        ("/health", "/healthz"),
        ("/workspaces/s3cret", None),  # no end users are served
        ("/s3cret", None),
        ("/v1/" + "s3cret" * 2_000, None),
    ],
)
def test_a_404_says_the_nearest_path_and_nothing_of_the_request(path, near):
    answer = a_stage(MEMBERS).client.get(path)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert "/openapi.json" in answer.json["detail"]
    found = re.search(r"the nearest path is (\S+);", answer.json["detail"])
    assert (found and found[1]) == near
    assert "s3cret" not in answer.text


def test_a_405_says_the_methods():
    answer = a_stage(MEMBERS).client.get("/v1/authorize")

    assert (answer.status_code, answer.json["detail"]) == (405, "this path takes POST")


@pytest.mark.parametrize("token", [None, UNKNOWN, OPS])
def test_a_401_and_a_403_say_which_credential_and_how_to_make_one(token):
    headers = bearer(token) if token else {}
    answer = a_stage(MEMBERS).client.post("/v1/authorize", json=QUESTION, headers=headers)

    assert answer.status_code == (403 if token == OPS else 401)
    assert "caller token" in answer.json["detail"]
    assert "`sidecar token --name NAME --scope" in answer.json["detail"]
    if token == OPS:
        assert "with the scope authorize" in answer.json["detail"]


def leaves(kind=SidecarError):
    below = kind.__subclasses__()
    return {kind} if not below else set().union(*map(leaves, below))


def test_every_error_that_can_reach_a_caller_has_a_status():
    never_over_http = {"configuration", "interrupted", "not_asked"}

    codes = {leaf.code for leaf in leaves() if leaf.__module__ == "sidecar.errors"} - never_over_http

    assert codes - set(PROBLEMS) == set()
    others = (IdentityUnavailable, WorkspaceContended, OutcomeUnknown, LogUnavailable)
    outages = {each.code for each in OUTAGES} | {each.code for each in others}
    assert {code for code in codes if PROBLEMS[code][0] == 503} == outages


def test_a_uuid_is_taken_in_any_case():
    assert ask(a_stage(MEMBERS), workspace=str(WORKSPACE_ID).upper()).json["allow"] is True


def test_a_bad_question_has_no_status_of_its_own():
    assert PROBLEMS[BadQuestion.code][0] == 400
