"""In OPA's place: the three forms of a request and of a result, each at its own path."""

from __future__ import annotations

import json

import pytest

from sidecar.api.gateways.decision import IDENTITY, REMOVED
from sidecar.catalog.routes import Routes
from sidecar.errors import FactsUnavailable
from tests.api.stage import AUDITOR, BACKEND, a_stage
from tests.api.test_gateways import ELSEWHERE, LIMITED, LOOPBACK, MEMBERS, ROUTES, Everybody, with_service
from tests.values import WORKSPACE_ID, some_facts

ANALYTICS = "/workspaces/acme/analytics"


@pytest.fixture
def stage():
    return with_service(a_stage(MEMBERS, identities=Everybody()), routes=Routes(ROUTES))


def a_request(path=ANALYTICS, user="adam", **more):
    headers = {"host": "app.example"} | ({"authorization": f"Bearer {user}"} if user else {})
    return {"method": "GET", "host": "app.example", "path": path, "headers": headers} | more


def ask(stage, gateway, request, came=LOOPBACK):
    inputs = {
        "apisix": {"type": "http", "request": request, "var": {"timestamp": 1}},
        "kong": {"request": {"http": request}, "client_ip": "10.1.1.1"},
        "envoy": {"attributes": {"request": {"http": request}}, "version": {"encoding": "protojson"}},
    }
    return stage.client.post(f"/v1/data/{gateway}", json={"input": inputs[gateway]}, environ_base=came)


every_gateway = pytest.mark.parametrize("gateway", ["apisix", "kong", "envoy"])


@every_gateway
def test_a_yes_has_the_identity(stage, gateway):
    answer = ask(stage, gateway, a_request())

    result = answer.json["result"]
    identity = result.pop("headers")
    assert answer.status_code == 200
    assert list(identity) == list(IDENTITY)
    assert identity["X-Authz-Workspace"] == str(WORKSPACE_ID)
    assert (
        result
        == {
            "apisix": {"allow": True},
            "kong": {"allow": True},
            "envoy": {"allowed": True, "request_headers_to_remove": list(REMOVED)},
        }[gateway]
    )


@every_gateway
def test_what_is_left_is_told_to_the_client_where_that_can_be(stage, gateway):
    passing, none_left = (
        ask(stage, gateway, a_request(LIMITED, user)).json["result"] for user in ("adam", "full")
    )

    assert list(passing["headers"]) == list(IDENTITY)
    assert list(passing.get("response_headers_to_add", {})) == (
        ["RateLimit-Policy", "RateLimit"] if gateway == "envoy" else []
    )
    assert none_left["headers"]["RateLimit"].startswith('"minutes";r=0;t=')


@every_gateway
@pytest.mark.parametrize(
    ("path", "user", "status", "reason"),
    [
        (ANALYTICS, "zoe", 403, "not_a_member"),
        (ANALYTICS, None, 401, "user_unauthenticated"),
        ("/workspaces/solo/analytics", "sam", 402, "feature_not_in_plan"),
        ("/workspaces/acme/recordings", "full", 429, "quota_exceeded"),
        ("/no/such/route", "adam", 403, "unknown_route"),
        ("/workspaces/acme/../acme/analytics", "adam", 403, "unsafe_path"),
        ("/workspaces//acme/analytics", "adam", 403, "unsafe_path"),
        ("/workspaces/acme/analytics;x", "adam", 403, "unsafe_path"),
        ("/workspaces/acme\\analytics", "adam", 403, "unsafe_path"),
        ("/workspaces/acme/%61nalytics", "adam", 403, "unsafe_path"),
        ("", "adam", 403, "gateway_unreadable"),
    ],
)
def test_a_no_is_a_result_with_its_status_and_reason(stage, gateway, path, user, status, reason):
    answer = ask(stage, gateway, a_request(path, user))

    result = answer.json["result"]
    assert answer.status_code == 200
    assert result["headers"]["X-Authz-Reason"] == reason
    problem = {"apisix": "reason", "kong": "message", "envoy": "body"}[gateway]
    told = json.loads(result[problem]) if gateway == "envoy" else result[problem]
    assert (told["code"], told["status"]) == (reason, status)
    assert result[{"apisix": "status_code", "kong": "status", "envoy": "http_status"}[gateway]] == status
    assert result[{"apisix": "allow", "kong": "allow", "envoy": "allowed"}[gateway]] is False
    assert ("Content-Type" in result["headers"]) == (gateway != "kong")


@every_gateway
def test_in_trouble_there_is_no_result(stage, gateway):
    stage.facts.outage = FactsUnavailable("down")

    answer = ask(stage, gateway, a_request())
    starting = ask(with_service(stage, serving=lambda: False), gateway, a_request())

    assert (answer.status_code, answer.json["code"]) == (503, "facts_unavailable")
    assert (starting.status_code, starting.json["code"]) == (503, "starting")
    assert "result" not in answer.json


@every_gateway
@pytest.mark.parametrize(
    "request_",
    [
        {},
        a_request(method=None),
        a_request(method="GET,POST"),
        a_request(method=["GET"]),
        a_request(host="a,b"),
        a_request(host=None),
        a_request(path=7),
        a_request(headers=None),
    ],
)
def test_what_the_gateway_does_not_say_clearly_is_refused(stage, gateway, request_):
    answer = ask(stage, gateway, request_)

    assert answer.json["result"]["headers"]["X-Authz-Reason"] == "gateway_unreadable"


@every_gateway
@pytest.mark.parametrize("value", [["acme", "acme"], ["acme"], {}, 7, True])
def test_a_header_that_is_there_twice_names_nothing(stage, gateway, value):
    request = a_request("/from-header")
    request["headers"]["x-workspace-id"] = value

    assert ask(stage, gateway, request).json["result"]["headers"]["X-Authz-Reason"] == "gateway_unreadable"


@every_gateway
def test_a_comma_in_a_header_is_part_of_its_text(stage, gateway):
    for value in ("acme,acme", "a, b", "a b"):
        stage.facts.members["adam", value] = some_facts()
        request = a_request("/from-header")
        request["headers"]["X-Workspace-Id"] = value

        assert ask(stage, gateway, request).json["result"]["headers"]["X-Authz-User"] == "adam"


def sent(stage, gateway, http, **more):
    """*http* is the JSON of the request, as it is written."""
    raw = {
        "apisix": b'{"input": {"request": %b}}',
        "kong": b'{"input": {"request": {"http": %b}}}',
        "envoy": b'{"input": {"attributes": {"request": {"http": %b}}}}',
    }[gateway] % http
    return stage.client.post(
        f"/v1/data/{gateway}", data=raw, content_type="application/json", environ_base=LOOPBACK
    )


def written(*headers, path=b"/workspaces/acme/analytics", more=b""):
    named = b", ".join([b'"authorization": "Bearer adam"', *headers])
    return b'{"method": "GET", "host": "app.example", "path": "%b", "headers": {%b}%b}' % (path, named, more)


@every_gateway
def test_a_header_whose_name_is_there_twice_names_nothing(stage, gateway):
    for pair in (
        (b'"x-workspace-id": "acme"', b'"X-Workspace-Id": "acme"'),
        (b'"x-workspace-id": "acme"', b'"x-workspace-id": "acme"'),
    ):
        answer = sent(stage, gateway, written(*pair, path=b"/from-header"))

        assert answer.json["result"]["headers"]["X-Authz-Reason"] == "gateway_unreadable"


@every_gateway
def test_what_the_gateway_says_twice_is_not_said(stage, gateway):
    for again in (b', "path": "/from-header"', b', "host": "x"', b', "method": "GET"', b', "headers": {}'):
        answer = sent(stage, gateway, written(more=again))

        assert answer.json["result"]["headers"]["X-Authz-Reason"] == "gateway_unreadable"


# What a client's query, cookies and other headers may become in the JSON of a gateway.
NOT_READ = {
    "octets": b'"cookie": "\xff\xfe"',
    "a NUL": b'"cookie": "\\u0000"',
    "half of a pair": b'"cookie": "\\ud800"',
    "two of one name": b'"cookie": "a", "Cookie": "b", "cookie": "c"',
    "a list": b'"cookie": ["a", "b", 7, null]',
    "no name": b'"": ""',
    "deep": b'"cookie": ' + b"[" * 60 + b"]" * 60,
}


@every_gateway
def test_what_is_not_read_is_not_looked_at(stage, gateway):
    for what in NOT_READ.values():
        for http in (written(what), written(more=b', "query": {%b}' % what)):
            assert sent(stage, gateway, http).json["result"]["headers"]["X-Authz-User"] == "adam"


@every_gateway
@pytest.mark.parametrize("name", [b"\xff", b"\\ud800", b"\\u0000"])
def test_a_name_that_is_no_text_names_nothing(stage, gateway, name):
    answer = sent(stage, gateway, written(b'"x-workspace-id": "%b"' % name, path=b"/from-header"))
    path = sent(stage, gateway, written(path=b"/workspaces/%b/analytics" % name))

    assert answer.json["result"]["headers"]["X-Authz-Reason"] == "workspace_missing"
    assert path.json["result"]["headers"]["X-Authz-Reason"] == "unsafe_path"


@pytest.mark.parametrize("gateway", ["kong", "envoy"])
def test_a_query_is_not_looked_at_whatever_it_holds(stage, gateway):
    for query in ("sort=name:asc,date:desc", "a b", "#/../x", "\0\ud800", "x" * 30_000):
        answer = ask(stage, gateway, a_request(f"{ANALYTICS}?{query}"))

        assert answer.json["result"]["headers"]["X-Authz-User"] == "adam"


@every_gateway
def test_two_tokens_are_none(stage, gateway):
    request = a_request()
    request["headers"]["authorization"] = ["Bearer adam", "Bearer adam"]

    assert ask(stage, gateway, request).json["result"]["headers"]["X-Authz-Reason"] == "user_unauthenticated"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/a b", "unsafe_path"),
        ("/a\uff0fb", "unsafe_path"),
        ("/a.", "unsafe_path"),
        ("/\ud800", "unsafe_path"),
        ("/完", "not_a_member"),
        ("/a:b@c|d", "not_a_member"),
        ("/50%", "unsafe_path"),
        ("/a?b", "unsafe_path"),
        ("/a#b", "unsafe_path"),
        ("/a\x01b", "unsafe_path"),
    ],
)
def test_apisix_has_decoded_the_path_already(stage, path, reason):
    answer = ask(stage, "apisix", a_request(path))

    assert answer.json["result"]["headers"]["X-Authz-Reason"] == reason


@every_gateway
@pytest.mark.parametrize(
    "body", [{}, {"input": {}}, {"input": []}, {"input": {"request": 7}}, {"inputs": {}}, 7]
)
def test_a_body_without_a_request_gets_no_yes(stage, gateway, body):
    answer = stage.client.post(f"/v1/data/{gateway}", json=body, environ_base=LOOPBACK)

    assert answer.status_code == 400 or answer.json["result"]["headers"]["X-Authz-Reason"]
    assert "true" not in answer.text


@every_gateway
def test_each_path_has_its_dialect_and_no_other(stage, gateway):
    for other in {"apisix", "kong", "envoy"} - {gateway}:
        inputs = {"apisix": {"request": a_request()}, "kong": {"request": {"http": a_request()}}}
        body = {"input": inputs.get(other, {"attributes": {"request": {"http": a_request()}}})}

        answer = stage.client.post(f"/v1/data/{gateway}", json=body, environ_base=LOOPBACK)

        assert answer.json["result"]["headers"]["X-Authz-Reason"] == "gateway_unreadable"


@every_gateway
def test_from_another_machine_nobody_is_believed(stage, gateway):
    answer = ask(stage, gateway, a_request(), came=ELSEWHERE)

    assert answer.json["result"]["headers"]["X-Authz-Reason"] == "gateway_untrusted"


@every_gateway
def test_a_token_may_be_where_it_is_under_v1(stage, gateway):
    def asked(came=LOOPBACK, **headers):
        body = {"apisix": {"request": BY_HEADER}, "kong": {"request": {"http": BY_HEADER}}}.get(
            gateway, {"attributes": {"request": {"http": BY_HEADER}}}
        )
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return stage.client.post(
            f"/v1/data/{gateway}", json={"input": body}, headers=given, environ_base=came
        )

    for trusted in ({"Authorization": f"Bearer {BACKEND}"}, {"X_Sidecar_Token": BACKEND}):
        assert "X-Authz-User" in asked(ELSEWHERE, **trusted).json["result"]["headers"]
    assert asked().json["result"]["headers"]["X-Authz-Reason"] == "gateway_untrusted"
    assert asked(Authorization="Bearer an.end.users").status_code == 401
    assert asked(Authorization=f"Bearer {AUDITOR}").json["result"]["headers"]["X-Authz-Reason"] == (
        "gateway_untrusted"
    )


BY_HEADER = {
    "method": "GET",
    "host": "app.example",
    "path": "/user-from-header/acme",
    "headers": {"x-user": "adam"},
}


def test_only_what_opa_has_is_there(stage):
    assert stage.client.get("/v1/data/apisix", environ_base=LOOPBACK).status_code == 405
    assert stage.client.post("/v1/data", json={"input": {}}, environ_base=LOOPBACK).status_code == 404
