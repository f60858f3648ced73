"""CORS as it is served, by the lane and without it: what the server itself refuses is for the page too."""

from __future__ import annotations

import json

import pytest

from tests.identity.provider import AUDIENCE, ISSUER, a_provider, signed
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LISTED, STRANGE = "https://app.example.com", "https://app.example.com.evil.example"
LARGE = "x" * 140_000
HOT = json.dumps({"user": "mia", "workspace": "acme", "action": "platform.use"})


@pytest.fixture(scope="module")
def sidecar(database, opa, tmp_path_factory):
    """Its provider is down once it has given its keys: a token by a key that is not known is 503."""
    with a_provider() as provider:
        settings = {
            "database_url": database,
            "opa_url": opa.url,
            "deadline_ms": 5_000,
            "jwt_keys": provider.url,
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "cors_origins": f"http://localhost:5173,{LISTED}",
        }
        with serving(tmp_path_factory.mktemp("cors"), workers=1, **settings) as sidecar:
            assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
            assert sidecar.until(lambda: status_of(ask(sidecar, user(), path="/workspaces")) == 200)
            provider.status = 500
            assert sidecar.until(lambda: status_of(ask(sidecar, user(kid="new"), path="/workspaces")) == 503)
            yield sidecar


def user(**more):
    return f"Authorization: {signed(sub='cora', email='cora@example.com', **more)}"


def request(*lines, method="GET", path="/plans", origin=LISTED, body=""):
    length = (
        [f"Content-Length: {len(body)}"]
        if body and not any("Content-Length" in each for each in lines)
        else []
    )
    head = [f"{method} {path} HTTP/1.1", "Host: sidecar", f"Origin: {origin}", *lines, *length, "", body]
    return "\r\n".join(head).encode()


def ask(sidecar, *lines, **more):
    return sidecar.raw(request(*lines, **more))


def status_of(received):
    return int(received.split(b" ", 2)[1])


def fields_of(received):
    head = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    split = [line.partition(": ") for line in head]
    names = [name.lower() for name, _, _ in split]
    assert len(set(names)) == len(names), head
    return {name.lower(): value for name, _, value in split}


JSON = "Content-Type: application/json"
ANSWERS = {
    "200": (200, {}),
    "a HEAD": (200, {"method": "HEAD"}),
    "304": (304, {"lines": ["If-None-Match: *"]}),
    "400 for a query": (400, {"path": "/plans?page=1"}),
    "400 for a line": (400, {"lines": ["not a field"]}),
    "401": (401, {"path": "/workspaces"}),
    "401 for a token": (401, {"path": "/workspaces", "lines": ["Authorization: Bearer x.y.z"]}),
    "403": (403, {"path": "/workspaces/acme/entitlements", "lines": ["USER"]}),
    "404": (404, {"path": "/workspaces/a/b/c/d"}),
    "405": (405, {"path": "/workspaces", "method": "PUT"}),
    "413": (413, {"path": "/workspaces", "method": "POST", "lines": ["USER", JSON], "body": "x" * 70_000}),
    "415": (415, {"path": "/workspaces", "method": "POST", "lines": ["USER"], "body": "{}"}),
    "431": (431, {"path": "/workspaces", "lines": [f"X-Large: {LARGE}"]}),
    "431 for many lines": (431, {"lines": [f"X-{number}: {'x' * 1_000}" for number in range(140)]}),
    "501": (501, {"method": "POST", "lines": ["Transfer-Encoding: br, chunked"], "path": "/workspaces"}),
    "503": (503, {"path": "/workspaces", "lines": ["UNKNOWN KEY"]}),
}


def answered(sidecar, origin, *, lines=(), **more):
    given = {"USER": user(), "UNKNOWN KEY": user(kid="new")}
    return ask(sidecar, *[given.get(line, line) for line in lines], origin=origin, **more)


@pytest.mark.parametrize(("status", "asked"), ANSWERS.values(), ids=ANSWERS)
def test_a_listed_origin_reads_whatever_is_answered(sidecar, status, asked):
    received = answered(sidecar, LISTED, **asked)

    fields = fields_of(received)
    assert status_of(received) == status
    assert fields["access-control-allow-origin"] == LISTED
    assert fields["access-control-expose-headers"] == "ETag, Retry-After, X-Request-ID"
    assert fields["vary"] == "Origin"
    assert "access-control-allow-credentials" not in fields


@pytest.mark.parametrize(("status", "asked"), ANSWERS.values(), ids=ANSWERS)
def test_any_other_origin_gets_the_same_and_no_word_of_cors(sidecar, status, asked):
    received = answered(sidecar, STRANGE, **asked)

    assert status_of(received) == status
    assert [name for name in fields_of(received) if name.startswith("access-control")] == []
    assert fields_of(received)["vary"] == "Origin"


def test_a_preflight_is_answered_on_a_connection_that_was_in_the_lane(sidecar):
    hot = request(JSON, method="POST", path="/v1/authorize", body=HOT)
    preflight = request("Access-Control-Request-Method: PATCH", method="OPTIONS", path="/workspaces/acme")

    received = sidecar.raw(hot + preflight + hot)

    first, second, third = [b"HTTP/1.1 " + part for part in received.split(b"HTTP/1.1 ")[1:]]
    fields = fields_of(second)
    assert [status_of(each) for each in (first, second, third)] == [200, 204, 200]
    assert fields["access-control-allow-methods"] == "DELETE, GET, HEAD, PATCH"
    assert "content-length" not in fields
    assert b"ccess-control" not in first.lower() + third.lower()
    assert b"vary" not in first.lower() + third.lower()


def test_a_preflight_of_another_origin_is_405(sidecar):
    for lines in (["Access-Control-Request-Method: GET"], []):
        received = ask(sidecar, *lines, method="OPTIONS", origin=STRANGE)
        assert status_of(received) == 405
        assert b"access-control" not in received.lower()


def test_two_origins_are_none(sidecar):
    received = ask(sidecar, f"Origin: {LISTED}")

    assert status_of(received) == 200
    assert b"access-control" not in received.lower()
