"""Heads over real sockets: how large one may be, and that its lines arrive as they were written."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.serving.meanwhile import QUESTION, request
from tests.serving.serving import serving
from tests.serving.talk import goes_on_or_has_ended, talking

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

KIB = 1_024
TARGET = "/workspaces/acme/analytics"
TOKEN = f"Authorization: Bearer {a_token()}"
LARGE_TOKEN = f"Authorization: Bearer {a_token(groups=['g' * 60] * 143)}"
assert 12 * KIB < len(LARGE_TOKEN) < 13 * KIB
MANY = [f"X-{number}: {number}" for number in range(200)]
COOKIE = "Cookie: c=" + "c" * (60 * KIB)
QUERY = "?q=" + "q" * (30 * KIB)


@pytest.fixture(scope="module")
def sidecar(database, opa, tmp_path_factory):
    """One that knows end users."""
    folder = tmp_path_factory.mktemp("sidecar")
    secret = folder / "secret"
    secret.write_text(SECRET)
    identity: dict[str, Any] = {"jwt_keys": f"hs256:{secret}", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    with serving(
        folder,
        also_at=folder / "socket",
        database_url=database,
        opa_url=opa.url,
        workers=1,
        deadline_ms=5_000,
        **identity,
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        yield sidecar


def nginx(*lines, query="", token=TOKEN):
    return request(
        "GET", "/gw/nginx", b"", "X-Original-Method: GET", f"X-Original-URI: {TARGET}{query}", token, *lines
    )


def ext_authz(*lines, query="", token=TOKEN):
    return request("GET", f"/gw/ext-authz{TARGET}{query}", b"", token, *lines)


def forward_auth(*lines, query="", token=TOKEN):
    forwarded = ("X-Forwarded-Method: GET", "X-Forwarded-Host: x", f"X-Forwarded-Uri: {TARGET}{query}")
    return request("GET", "/gw/forward-auth", b"", *forwarded, token, *lines)


def ingress_nginx(*lines, query="", token=TOKEN):
    asked = ("X-Original-Method: GET", f"X-Original-URL: http://x{TARGET}{query}")
    return request("GET", "/gw/ingress-nginx", b"", *asked, token, *lines)


def haproxy(*lines, query="", token=TOKEN):
    asked = ("X-Original-Method: GET", f"X-Original-URI: {TARGET}{query}")
    return request("GET", "/gw/haproxy", b"", *asked, token, *lines)


ALL = (nginx, ingress_nginx, haproxy, forward_auth, ext_authz)


def health(*lines, query="", token=TOKEN):
    return request("GET", f"/healthz{query}", b"", token, *lines)


def of_a_user(*lines, query="", token=TOKEN):
    """What Flask serves."""
    return request("GET", "/v1/me/workspaces", b"", token, *lines)


def answered(sidecar, content):
    with talking(sidecar) as talk:
        talk.send(content)
        answer = talk.answer()
        assert goes_on_or_has_ended(talk, answer)
        return answer


def answered_on_one_connection(sidecar, *contents):
    with talking(sidecar) as talk:
        for content in contents:
            talk.send(content)
            yield talk.answer()


@pytest.mark.parametrize(
    "large",
    [
        {"lines": MANY},
        {"lines": [COOKIE]},
        {"query": QUERY},
        {"token": LARGE_TOKEN},
        {"lines": [*MANY, COOKIE], "query": QUERY, "token": LARGE_TOKEN},
    ],
    ids=["200 headers", "60 KiB of cookies", "30 KiB of query", "12 KiB of token", "all four"],
)
@pytest.mark.parametrize("asked", ALL)
def test_a_large_head_is_answered(sidecar, asked, large):
    lines = large.get("lines", ())

    answer = answered(sidecar, asked(*lines, **{name: large[name] for name in large if name != "lines"}))

    assert answer.status == 200
    assert answer.header("x-authz-user") == "adam"


AUTHZEN = {
    "subject": {"type": "user", "id": "adam"},
    "action": {"name": "recording.start"},
    "resource": {"type": "workspace", "id": "acme"},
}
HTTP = {"method": "GET", "host": "x", "path": TARGET + QUERY}
HEADERS = {"authorization": LARGE_TOKEN.partition(": ")[2], "cookie": "c" * 60 * KIB}
INPUTS: dict[str, dict[str, object]] = {
    "apisix": {"request": {**HTTP, "path": TARGET, "query": {"q": "q" * 30 * KIB}, "headers": HEADERS}},
    "kong": {"request": {"http": {**HTTP, "querystring": {"q": "q" * 30 * KIB}, "headers": HEADERS}}},
    "envoy": {"attributes": {"request": {"http": {**HTTP, "headers": HEADERS}}}},
}
BATCH = {"questions": [json.loads(QUESTION)]}
BODIES: dict[str, object] = {
    "/v1/authorize": json.loads(QUESTION),
    "/v1/authorize/batch": BATCH,
    "/access/v1/evaluation": AUTHZEN,
    "/access/v1/evaluations": {**AUTHZEN, "evaluations": [{}, {}]},
    **{f"/v1/data/{name}": {"input": {**INPUTS[name], "more": MANY}} for name in INPUTS},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_large_head_is_answered_at_every_hot_endpoint(sidecar, path):
    """Without a token of the end user's: here it would be the caller's."""
    body, lines = json.dumps(BODIES[path]).encode(), (*MANY, COOKIE, f"X-Token: {LARGE_TOKEN}")

    plain, queried = request("POST", path, body, *lines), request("POST", path + QUERY, body, *lines)
    answer, with_a_query = answered_on_one_connection(sidecar, plain, queried)

    assert answer.status == 200
    assert (with_a_query.status, with_a_query.code) == (400, "invalid_request")  # it is no field there
    if path.startswith("/v1/data/"):
        assert answer.json["result"]["headers"]["X-Authz-User"] == "adam"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?exclude=database", "/statusz"])
def test_a_large_head_is_no_matter_to_health(sidecar, path):
    assert answered(sidecar, request("GET", path, b"", *MANY, COOKIE, LARGE_TOKEN)).status == 200


def head_of(size, start):
    """A whole head of *size* bytes that begins like *start*."""
    lines = start.removesuffix(b"\r\n\r\n")
    filling = size - len(lines) - len(b"\r\nX-Fill: \r\n\r\n")
    return lines + b"\r\nX-Fill: " + b"f" * filling + b"\r\n\r\n"


STARTS = {
    "a check": request("POST", "/v1/authorize", b"", "Content-Length: 0"),
    "a batch": request("POST", "/v1/authorize/batch", b"", "Content-Length: 0"),
    "nginx": nginx(),
    "ext_authz": ext_authz(),
    "AuthZEN": request("POST", "/access/v1/evaluation", b"", "Content-Length: 0"),
    "health": health(),
    "metrics": request("GET", "/metrics"),
    "Flask's": request("GET", "/openapi.json"),
    "nothing": request("GET", "/nowhere"),
}


@pytest.mark.parametrize("to", STARTS)
@pytest.mark.parametrize("ends", [True, False], ids=["whole", "without an end"])
def test_a_head_above_128_kib_is_too_large_at_every_endpoint(sidecar, to, ends):
    content = head_of(129 * KIB, STARTS[to])
    with talking(sidecar) as talk:
        talk.send(content if ends else content[:-4])
        answer = talk.answer()

        assert (answer.status, answer.code) == (431, "head_too_large")
        assert answer.header("x-request-id")
        assert b"ffff" not in answer.body
        assert answer.closes
        assert talk.has_ended()


def test_a_head_of_just_below_128_kib_is_answered(sidecar):
    assert answered(sidecar, head_of(127 * KIB, nginx())).status == 200


def test_a_target_above_it_all_is_too_large_too(sidecar):
    answer = answered(sidecar, request("GET", "/" + "a" * 130 * KIB))

    assert (answer.status, answer.code) == (431, "head_too_large")


def test_many_lines_are_too_large_too(sidecar):
    answer = answered(sidecar, request("GET", "/healthz", b"", *["X-A: 1"] * 20_000))

    assert (answer.status, answer.code) == (431, "head_too_large")


def refusals(sidecar, code):
    """What a Unix socket may see of the counters."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(sidecar.folder / "socket"))
        connection.sendall(request("GET", "/metrics", b"", "Connection: close"))
        text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if f'code="{code}"' in line)


@pytest.mark.parametrize(
    ("content", "code"),
    [(head_of(129 * KIB, health()), "head_too_large"), (b"nonsense\r\n\r\n", "malformed_request")],
)
def test_what_the_server_refuses_by_itself_is_counted(sidecar, content, code):
    before = refusals(sidecar, code)

    answered(sidecar, content)

    assert sidecar.until(lambda: refusals(sidecar, code) == before + 1, within_s=5)


def test_a_head_that_is_too_large_is_logged(sidecar):
    answer = answered(sidecar, head_of(129 * KIB, nginx()))

    def logged():
        return [line for line in sidecar.lines if line.get("request_id") == answer.header("x-request-id")]

    assert sidecar.until(logged, within_s=5)
    assert [(line["endpoint"], line["code"], line["status"]) for line in logged()] == [
        ("server", "head_too_large", 431)
    ]


REPEATED = {
    "nginx's path": nginx(f"X-Original-URI: {TARGET}"),
    "nginx's path in other letters": nginx(f"x-original-uri: {TARGET}"),
    "nginx's method": nginx("X-Original-Method: GET"),
    "nginx's path, an empty one": nginx("X-Original-URI:"),
    "nginx's path, behind a query": nginx("X-Original-URI: /nowhere", query="?a=1"),
    "nginx's path, within a word of the query": nginx("X-Original-URI: b", query="?a=1"),
    "nginx's URL": nginx(*["X-Original-URL: http://x/"] * 2),
    "ingress-nginx's URL": ingress_nginx(f"X-Original-URL: http://x{TARGET}"),
    "ingress-nginx's URL, behind a query": ingress_nginx("X-Original-URL: http://y/nowhere", query="?a=1"),
    "ingress-nginx's method": ingress_nginx("x-original-method: GET"),
    "HAProxy's path": haproxy(f"X-Original-URI: {TARGET}"),
    "HAProxy's method": haproxy("X-Original-Method:"),
    "Traefik's path, behind a query": forward_auth("X-Forwarded-Uri: /nowhere", query="?a=1"),
    "Traefik's path": forward_auth(f"X-Forwarded-Uri: {TARGET}"),
    "Traefik's host": forward_auth("X-Forwarded-Host: x"),
    "Traefik's method": forward_auth("X-Forwarded-Method: GET"),
}
UNDERSCORED = {
    "nginx": request("GET", "/gw/nginx", b"", "X_Original_Method: GET", f"X_Original_URI: {TARGET}", TOKEN),
    "nginx, half": request(
        "GET", "/gw/nginx", b"", "X-Original-Method: GET", f"X_Original_URI: {TARGET}", TOKEN
    ),
    "Traefik": request(
        "GET", "/gw/forward-auth", b"",
        "X_Forwarded_Method: GET", "X_Forwarded_Host: x", f"X_Forwarded_Uri: {TARGET}", TOKEN,
    ),
}  # fmt: skip
BESIDE = {
    "nginx": nginx("X_Original_URI: /other", "X_Original_Method: PUT", "X_Authz_User: olivia"),
    "Traefik": forward_auth("X_Forwarded_Uri: /other", "X_Forwarded_Host: y"),
    "a token": nginx("Authorization_: Bearer x", "X_Sidecar_Token: x"),
}


@pytest.mark.parametrize("what", REPEATED)
def test_a_line_that_is_there_twice_is_not_one(sidecar, what):
    answer = answered(sidecar, REPEATED[what])

    assert (answer.status, answer.header("x-authz-reason")) == (403, "gateway_unreadable")


@pytest.mark.parametrize("more", [TOKEN, "Authorization:", "authorization: Bearer x"])
def test_two_tokens_are_none(sidecar, more):
    asked = [each(more) for each in ALL]

    assert [each.status for each in answered_on_one_connection(sidecar, *asked)] == [401] * len(ALL)


QUERIES = [
    "?sort=name:asc,date:desc",
    "?a=1,/b",
    "?a=1, /b",
    "?,http://x/",
    "?#/../b",
    "?%zz%00",
    "?\xe9\xff\t!",
]


@pytest.mark.parametrize("asked", ALL)
def test_no_octet_of_a_query_matters(sidecar, asked):
    # No request line has a space or a tab in it.
    queries = [each for each in QUERIES if asked is not ext_authz or not set(each) & set(" \t")]

    answers = answered_on_one_connection(sidecar, *(asked(query=each) for each in queries))

    assert [each.status for each in answers] == [200] * len(queries)


def test_two_lines_of_what_is_not_read_are_nobodys_matter(sidecar):
    twice = ["Cookie: a", "Accept: b", "X-Any: c", "X-Rewrite-URL: /"] * 2

    answers = answered_on_one_connection(sidecar, *(each(*twice) for each in ALL))

    assert [each.status for each in answers] == [200] * len(ALL)


@pytest.mark.parametrize("by", UNDERSCORED)
def test_a_name_with_underscores_is_another(sidecar, by):
    answer = answered(sidecar, UNDERSCORED[by])

    assert (answer.status, answer.header("x-authz-reason")) == (403, "gateway_unreadable")


@pytest.mark.parametrize("by", BESIDE)
def test_a_name_with_underscores_changes_nothing(sidecar, by):
    answer = answered(sidecar, BESIDE[by])

    assert (answer.status, answer.header("x-authz-user")) == (200, "adam")


@pytest.mark.parametrize("encoded", ["%61cme", "acme?x=%00", "acme?a=b,c:d"])
def test_a_target_arrives_as_it_was_written(sidecar, encoded):
    """A path that is decoded on the way would be another route, or another workspace."""
    target = f"/gw/ext-authz/workspaces/{encoded.partition('?')[0]}/analytics?{encoded.partition('?')[2]}"

    answer = answered(sidecar, request("GET", target, b"", TOKEN))

    assert answer.status in ({200} if "%61" not in encoded else {200, 403})


def test_a_question_beside_all_this_is_still_answered(sidecar):
    assert answered(sidecar, request("POST", "/v1/authorize", QUESTION, *MANY)).status == 200
