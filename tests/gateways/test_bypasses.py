"""Ways around an authorizer that have worked somewhere: none of them gets to what the user may not do."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

import pytest

from tests.gateways.test_gateways import forms_of
from tests.identity.provider import bearer

pytestmark = [pytest.mark.postgres, pytest.mark.gateways]

MIA = bearer(sub="mia")  # may see pages of acme, but neither its billing nor delete it
BILLING = "/workspaces/acme/billing"
PAGE = "/workspaces/acme/page"
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")


def is_forbidden(reached) -> bool:
    """Whether a backend, however lenient, could take it for what mia may not do."""
    if reached.method == "DELETE" or any(reached.values(name) for name in OVERRIDES):
        return True
    if "admin.example" in reached.values("Host"):
        return True
    path = re.sub(r"^https?://[^/]*", "", reached.target).partition("?")[0].partition("#")[0]
    for _ in range(4):
        path = unquote(path)
    path = unicodedata.normalize("NFKC", path).casefold().replace("\\", "/").partition("\0")[0]
    parts: list[str] = []
    for part in (
        each.partition(";")[0].rstrip(". ") if each not in {".", ".."} else each for each in path.split("/")
    ):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return parts[:2] == ["workspaces", "acme"] and bool({"billing", "billing.json"} & set(parts[2:3]))


@pytest.fixture
def attack(gateway, upstream):
    """What reaches the backend of a request, after it was seen to be nothing that mia may not do."""

    def attack(target, *headers, **more):
        before = len(upstream.reached)
        answer = gateway.ask(target, *headers, bearer=MIA, **more)
        reached = upstream.reached[before:]
        assert [each for each in reached if is_forbidden(each)] == []
        assert all(each.values("X-Authz-User") == ["mia"] for each in reached)
        assert bool(reached) == (answer.status == 200)
        return reached

    return attack


def test_the_judge_knows_what_is_forbidden(gateway, upstream):
    gateway.ask(PAGE, bearer=MIA)
    assert not is_forbidden(upstream.reached[-1])

    gateway.ask(BILLING, bearer=bearer(sub="olivia"))
    assert is_forbidden(upstream.reached[-1])


@pytest.mark.parametrize(
    "target",
    [
        BILLING,
        f"{BILLING}/",
        f"{BILLING}?x=/workspaces/acme/page",
        f"{BILLING}#/../page",
        "//workspaces/acme/billing",
        "/workspaces//acme/billing",
        "/workspaces/acme//billing",
        "/workspaces/acme/./billing",
        "/workspaces/acme/page/../billing",
        "/workspaces/acme/page/..//billing",
        "/workspaces/piano/../acme/billing",
        "/workspaces/acme/page/%2e%2e/billing",
        "/workspaces/acme/page/.%2E/billing",
        "/workspaces/acme/page%2f..%2fbilling",
        "/workspaces/acme/page%2F%2E%2E%2Fbilling",
        "/workspaces/acme/page%5c..%5cbilling",
        "/workspaces/acme/page\\..\\billing",
        "/workspaces/acme%2fbilling",
        "/workspaces/acme/%62illing",
        "/workspaces/acme/bill%69ng",
        "/workspaces/acme/%2562illing",
        "/workspaces/acme/Billing",
        "/workspaces/acme/billing.json",
        "/workspaces/acme/billing.",
        "/workspaces/acme/billing%20",
        "/workspaces/acme/billing%00",
        "/workspaces/acme/billing%00.png",
        "/workspaces/acme/billing%0d%0a",
        "/workspaces/acme/billing;x=1",
        "/workspaces/acme/page;/../billing",
        "/workspaces/acme/page/..;/billing",
        "/workspaces/acme/billing%3b",
        "/workspaces/acme/billing%3f",
        "/workspaces/acme/billing%23",
        "/workspaces/acme/%ef%bd%82illing",
        "/workspaces/acme/%c0%ae%c0%ae/billing",
        "/workspaces/acme/page/%ff/../billing",
        "http://app.example/workspaces/acme/billing",
        "http://admin.example/workspaces/acme/page",
        "/gw/ext-authz/workspaces/acme/page",
        "/healthz",
        "/_authz",
        "*",
    ],
)
def test_no_spelling_of_a_path_leads_around(attack, target):
    attack(target)


@pytest.mark.parametrize(
    "header",
    [
        f"X-Original-URI: {PAGE}",
        f"X-Original-URL: http://app.example{PAGE}",
        f"X-Forwarded-Uri: {PAGE}",
        f"X-Rewrite-URL: {PAGE}",
        f"X-Envoy-Original-Path: {PAGE}",
        f"X_Original_URI: {PAGE}",
        f"X_Forwarded_Uri: {PAGE}",
        f"X-Original-URI: {PAGE}\r\nX-Original-URI: {PAGE}",
        f"X-Forwarded-Uri: {PAGE}\r\nX-Forwarded-Uri: {PAGE}",
        f"Forwarded: for=1.2.3.4;host=app.example;proto=http;path={PAGE}",
        "X-Forwarded-Prefix: /workspaces/acme/page",
        "SCRIPT_NAME: /gw",
        "SCRIPT_NAME: /gw/ext-authz",
        "Script-Name: /gw/ext-authz",
        "PATH_INFO: /healthz",
        "X-Authz-User: olivia",
        "X-User: olivia",
        "X-Sidecar-Token: dev-token",
        "User-Agent: kube-probe/1.30",
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Connection: Authorization",
        "Connection: X-Original-URI, X-Forwarded-Uri, X-Original-Method",
    ],
)
def test_no_header_of_another_dialect_is_believed(attack, header):
    assert attack(BILLING, header) == []


@pytest.mark.parametrize(
    "header", ["X-Original-Method: POST", "X-Forwarded-Method: POST", "X_Forwarded_Method: POST"]
)
def test_no_header_changes_the_method_that_is_asked_about(attack, header):
    assert attack("/workspaces/acme", header, method="DELETE") == []


@pytest.mark.parametrize("name", OVERRIDES)
def test_no_override_of_the_method_gets_through(attack, name):
    for form in forms_of(name):
        attack("/workspaces/acme", f"{form}: DELETE", method="POST")


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host: app.example", "X-Host: app.example", "X-Original-Host: app.example"]
)
def test_no_header_changes_the_host_that_is_asked_about(attack, header):
    assert attack(PAGE, header, host="admin.example") == []
    assert attack(PAGE, header, host="ADMIN.example:80") == []
    assert attack(PAGE, header, host="admin.example.") == []


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "TRACE", "PURGE", "PROPFIND", "get", "CONNECT"])
def test_no_method_is_a_yes_by_itself(attack, method):
    assert attack(BILLING, method=method) == []


@pytest.mark.parametrize(
    "query",
    [
        "user=olivia",
        "x-authz-user=olivia",
        "workspace=piano",
        "action=platform.use",
        "mode=check&x=,/",
        "?",
        "a=%2e%2e/&b=//",
    ],
)
def test_a_query_is_only_the_backends(attack, query):
    assert attack(f"{BILLING}?{query}") == []
    for reached in attack(f"{PAGE}?{query}"):
        assert reached.target == f"{PAGE}?{query}"
