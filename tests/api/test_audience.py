from __future__ import annotations

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.people.acting import SCOPE as PEOPLE
from sidecar.identity.callers import SCOPES, Caller
from tests.api.stage import TOKENS, a_stage


def test_each_scope_of_a_token_is_of_one_audience_but_that_to_act_for_end_users():
    of_one = [each for each in Audience if len(each.scopes) == 1 and each is not Audience.EITHER]

    assert [each.scope for each in of_one] + [PEOPLE] == list(SCOPES)


def test_no_audience_is_without_an_endpoint():
    assert {endpoint.audience for endpoint in ENDPOINTS} == set(Audience)


def test_what_is_open_to_anybody_is_only_what_checks_its_caller_itself_or_tells_no_secret():
    assert {endpoint.name for endpoint in ENDPOINTS if endpoint.audience is Audience.ANYBODY} == {
        "gateway_apisix",
        "gateway_kong",
        "gateway_envoy",
        "authzen_configuration",
        "authzen_configuration_of_tenant",
        "healthz",
        "readyz",
        "statusz",
        "openapi",
        "plans",
        "stripe_events",
    }


def test_a_token_to_act_for_end_users_opens_no_endpoint_of_callers():
    stage = a_stage(tokens={**TOKENS, "portal": Caller(name="portal", scopes=frozenset({PEOPLE}))})
    of_callers = [each for each in ENDPOINTS if each.audience.scopes]

    answers = [
        stage.client.open(
            each.path.replace("{workspace}", "acme").replace("{user}", "adam"),
            method=each.method,
            json={},
            headers={"Authorization": "Bearer portal", "X-Act-As": "adam"},
        )
        for each in of_callers
    ]
    gateway = stage.client.get(
        "/gw/nginx",
        headers={"X-Sidecar-Token": "portal", "X-Original-Method": "GET", "X-Original-URI": "/"},
        environ_base={"REMOTE_ADDR": "127.0.0.1"},
    )

    assert len(of_callers) > 20
    assert {(answer.status_code, answer.json["code"]) for answer in answers} == {(403, "scope_missing")}
    assert (gateway.status_code, gateway.headers["X-Authz-Reason"]) == (403, "gateway_untrusted")
