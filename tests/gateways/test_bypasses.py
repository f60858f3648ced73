"""Ways around an authorizer that have worked somewhere: none of them gets to what the user may not do."""

from __future__ import annotations

import re
import socket
import unicodedata
from urllib.parse import unquote

import pytest

from tests.gateways.copies import forms_of
from tests.identity.provider import bearer

pytestmark = [pytest.mark.postgres, pytest.mark.gateways]

MIA = bearer(sub="mia")  # may see pages of acme, but neither its billing nor delete it
BILLING = "/workspaces/acme/billing"
PAGE = "/workspaces/acme/page"
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")


_HOST_OF_ADMIN = re.compile(r"(^|//|@)admin\.example\.*(:\d+)?(/|$)", re.IGNORECASE)


def is_forbidden(reached) -> bool:
    """Whether a backend, however lenient, could take it for what mia may not do."""
    if reached.method == "DELETE" or any(reached.values(name) for name in OVERRIDES):
        return True
    if any(
        _HOST_OF_ADMIN.search(each) for each in (*reached.values("Host"), reached.target.partition("?")[0])
    ):
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
        "/workspaces/acme%20/billing",
        "/workspaces/acme/%20billing",
        "/workspaces/acme./billing",
        "/workspaces/acme/billing..",
        "/workspaces/acme/billing.%20",
        "/workspaces/acme/page%ef%bc%8f..%ef%bc%8fbilling",
        "/workspaces/acme/page/%ef%bc%8e%ef%bc%8e/billing",
        "/workspaces/acme/page/%e2%80%a5/billing",
        "/workspaces/%ef%bd%81cme/billing",
        "/workspaces/acme%ef%bc%8fbilling",
        "/workspaces/acme/billing%ef%bc%9bx",
        "/workspaces/acme/billing%cd%be",
        "/workspaces/acme/billing%e2%80%a4",
        "/workspaces/acme/billing%c2%a8",
        f"{PAGE}?x=1,{BILLING}",
        f"{BILLING}?x=1,{PAGE}",
        f"{BILLING},{PAGE}",
        f"{PAGE},{BILLING}",
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
        f"X-Original-URL: http://app.example{PAGE}\r\nX-Original-URL: http://app.example{PAGE}",
        f"X_Original_URL: http://app.example{PAGE}",
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


# Where nothing is read, nothing that stands there may matter.
CLIENTS_TEXT = [
    "sort=name:asc,date:desc",
    f"x=1,{PAGE}",
    f"x=http://a.example/b,http://app.example{PAGE}",
    "a;b,c d".replace(" ", "+"),
    "a=%00%ff%zz%",
    "a=\\..\\",
    "\xe9\xff",
]


@pytest.mark.parametrize("text", CLIENTS_TEXT)
def test_no_text_of_a_query_keeps_who_may_from_passing(attack, gateway, text):
    answers = [gateway.ask(f"{path}?{text}", bearer=MIA).status for path in (PAGE, BILLING)]
    attack(f"{PAGE}?{text}")

    # What is no URI at all a gateway may refuse itself.
    assert answers in ([200, 403], [400, 400]) if not text.isascii() or "%z" in text else [200, 403]


def test_no_header_that_is_not_read_keeps_who_may_from_passing(gateway):
    for name in ("Cookie", "Accept", "Referer", "X-Anything"):
        for value in (f"a,{BILLING}", "a:b, c:d", "\xe9\xff\t,", ""):
            answer = gateway.ask(PAGE, f"{name}: {value}", f"{name}: {value}", bearer=MIA)

            assert (answer.status, name, value) == (200, name, value)


@pytest.mark.parametrize(
    "host",
    [
        "admin.example.",
        "admin.example..",
        "admin..example",
        "ADMIN.example.:80",
        "app.example@admin.example",
        "app.example:80@admin.example",
        "app.example?@admin.example",
        "app.example#admin.example",
        "app.example,admin.example",
        "app.example admin.example",
        "",
        "admin%2eexample",
        "\xef\xbd\x81dmin.example",
    ],
)
def test_no_spelling_of_a_host_leads_around(attack, host):
    attack(PAGE, host=host)
    attack(f"http://admin.example{PAGE}", host=host)


def raw(gateway, text):
    """The first line of what comes back for *text*, which need not be a request; nothing if nothing comes."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        connection.sendall(text.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as received:
            return received.readline()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    "start",
    [
        f"GET http://admin.example{PAGE}",
        f"GET http://ADMIN.example:80{PAGE}",
        f"GET http://admin.example.{PAGE}",
        f"GET https://admin.example{PAGE}",
        f"GET {PAGE}",
    ],
)
def test_the_absolute_form_is_no_way_around_the_routes_of_a_host(gateway, upstream, start, version):
    """Without `Host`, and with that of another."""
    for host in ("", "Host: app.example\r\n", "Host: \r\n"):
        before = len(upstream.reached)

        raw(gateway, f"{start} HTTP/{version}\r\n{host}Authorization: {MIA}\r\nConnection: close\r\n\r\n")

        assert [each for each in upstream.reached[before:] if is_forbidden(each)] == []


def test_without_a_host_nothing_passes(gateway, upstream):
    before = len(upstream.reached)

    raw(gateway, f"GET {PAGE} HTTP/1.0\r\nAuthorization: {MIA}\r\n\r\n")

    assert upstream.reached[before:] == []
