"""A policy that grants a stranger something is an outage at every endpoint that asks it."""

from __future__ import annotations

import pytest

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.catalog.routes import Routes
from tests.api.stage import BACKEND, a_stage
from tests.api.test_gateways import (
    ANALYTICS,
    ROUTES,
    Everybody,
    ext_authz,
    forward_auth,
    haproxy,
    ingress_nginx,
    nginx,
    with_service,
)
from tests.api.test_gateways_opa import a_request
from tests.api.test_gateways_opa import ask as ask_like_opa
from tests.api.test_http import bearer
from tests.decisions.test_misfits import CELLS, UNDECLARED, grants_all
from tests.values import some_facts

CODE = "policy_engine_misbehaved"
QUESTION = {"user": "zoe", "workspace": "acme", "action": "scenarios.create"}
PARTS = {
    "subject": {"type": "user", "id": "zoe"},
    "resource": {"type": "workspace", "id": "acme"},
    "action": {"name": "platform.use"},
}


class Generous:
    """Grants anything to anybody, by the revision of the stage."""

    name, revision = "embedded", "r1"

    def verdict(self, situation, /, *, deadline):
        return grants_all(situation)


def post(path, body):
    return lambda stage: stage.client.post(path, json=body, headers=bearer(BACKEND))


def get(path):
    return lambda stage: stage.client.get(path, headers=bearer(BACKEND))


def without(name):
    return {part: each for part, each in PARTS.items() if part != name}


# Endpoint → what a stranger's question looks like there, in each of its forms.
ASKED = {
    "authorize": [
        post("/v1/authorize", QUESTION),
        post("/v1/authorize", QUESTION | {"mode": "consume", "idempotency_key": "k"}),
        post("/v1/authorize", QUESTION | {"mode": "reserve"}),
        post("/v1/authorize", QUESTION | {"action": "platform.use", "mode": "consume"}),
    ],
    "authorize_batch": [
        post("/v1/authorize/batch", {"questions": [QUESTION]}),
        post("/v1/authorize/batch", {"questions": [QUESTION | {"user": "adam"}, QUESTION]}),
    ],
    "access_evaluation": [post("/access/v1/evaluation", PARTS)],
    "access_evaluations": [
        post("/access/v1/evaluations", {**PARTS, "evaluations": [{}, {"action": {"name": "analytics.view"}}]})
    ],
    "search_action": [post("/access/v1/search/action", without("action"))],
    "gateway_nginx": [lambda stage: nginx(stage, user="zoe")],
    "gateway_ingress_nginx": [lambda stage: ingress_nginx(stage, user="zoe")],
    "gateway_forward_auth": [lambda stage: forward_auth(stage, user="zoe")],
    "gateway_haproxy": [lambda stage: haproxy(stage, user="zoe")],
    "gateway_ext_authz": [lambda stage: ext_authz(stage, user="zoe")],
    **{
        f"gateway_{name}": [lambda stage, name=name: ask_like_opa(stage, name, a_request(ANALYTICS, "zoe"))]
        for name in ("apisix", "kong", "envoy")
    },
}
FLAGS, ABOUT = "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "zoe", "workspace": "acme"}}
NOT_ASKED = {
    "entitlements": get("/v1/workspaces/acme/entitlements?user=zoe"),
    "workspaces_of_a_user": get("/v1/users/zoe/workspaces"),
    "search_subject": post("/access/v1/search/subject", PARTS | {"subject": {"type": "user"}}),
    "search_resource": post("/access/v1/search/resource", PARTS | {"resource": {"type": "workspace"}}),
    "evaluate_flag": post(f"{FLAGS}/analytics", ABOUT),
    "evaluate_flags": post(FLAGS, ABOUT),
}
SPENT_BEFORE = {"commit", "release", "release_usage"}  # they settle a right that was given
AUDIENCES = {Audience.AUTHORIZE, Audience.EITHER, Audience.GATEWAYS}


def a_generous_stage(role=None):
    members = {("adam", "acme"): some_facts(role="owner")}
    if role is not None:
        members["zoe", "acme"] = some_facts(role=role)
    stage = a_stage(members, engine=Generous(), cells=CELLS, identities=Everybody())
    return with_service(stage, routes=Routes(ROUTES))


def test_every_endpoint_that_asks_about_a_user_is_asked_here():
    """Those of end users are asked over a database: tests/workspaces/test_outages.py."""
    there = {each.name for each in ENDPOINTS if each.audience in AUDIENCES}
    like_opa = {each.name for each in ENDPOINTS if each.path.startswith("/v1/data/")}

    assert ASKED.keys() | NOT_ASKED.keys() | SPENT_BEFORE == there | like_opa


def told(answer):
    """The code that it says, wherever it says so; or that there is no result, which is a 503 too."""
    return answer.headers.get("X-Authz-Reason") or answer.get_json()["code"]


@pytest.mark.parametrize("role", [None, UNDECLARED], ids=["a stranger", "an undeclared role"])
@pytest.mark.parametrize(
    "ask", [each for asked in ASKED.values() for each in asked], ids=[n for n, a in ASKED.items() for _ in a]
)
def test_a_grant_of_who_has_no_role_is_an_outage(ask, role):
    stage = a_generous_stage(role)
    before = stage.facts.members

    for _ in range(2):  # the second time the policy's verdict is known
        answer = ask(stage)
        assert told(answer) == CODE
        assert answer.status_code in {401, 403, 500, 503}, "a gateway passes on 2xx alone"
    assert stage.facts.members == before
    assert not [line for line in stage.lines if line.get("status") == 200 and line["user"] == "zoe"]


@pytest.mark.parametrize("name", ["authorize", "access_evaluation", "gateway_nginx"])
def test_a_member_is_granted_by_the_same_policy(name):
    stage = a_generous_stage("member")

    assert all(ask(stage).status_code == 200 for ask in ASKED[name])


@pytest.mark.parametrize("ask", NOT_ASKED.values(), ids=NOT_ASKED)
def test_where_strangers_are_nobody_the_policy_is_not_asked(ask):
    answer = ask(a_generous_stage())

    assert answer.status_code in {200, 403}
    assert b"true" not in answer.data
    assert b"zoe" not in answer.data
