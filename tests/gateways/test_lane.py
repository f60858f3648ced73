"""Gateways stay in the lane, whatever their clients send: who leaves it is slow for all who come after."""

from __future__ import annotations

import pytest

from tests.gateways.processes import KINDS
from tests.gateways.test_gateways import MIA
from tests.gateways.test_idle import KEEP_NONE
from tests.serving.serving import LANE
from tests.serving.talk import read_by

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.gateways,
    pytest.mark.skipif(LANE != "on", reason="the lane is off"),
]

PAGE = "/workspaces/acme/analytics"
LARGE = "a" * 6_000
# What a client may send, and a gateway may pass on.
CLIENTS: dict[str, tuple[str, ...]] = {
    "a browser": (
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: de,en-US;q=0.7,en;q=0.3",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Cookie: session=abc; theme=dark",
        "Sec-Fetch-Mode: navigate",
        'If-None-Match: W/"1"',
        "Priority: u=0, i",
        "TE: trailers",  # Firefox, in HTTP/2
    ),
    "repeated headers": ("Cookie: a=1", "Cookie: b=2", "Accept: text/html", "accept: */*", "X-A: ", "X-A: b"),
    "addresses": ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2", "Via: 1.1 a", "Via: 1.1 b"),
    "an underscore": ("X_Odd: 1", "X_Authz_User: olivia"),
    "an odd name": ("X.Odd: 1", "X!Odd: 1", "X~|`^: 1"),
    "octets": ("X-Name: l\xc3\xa9o", "X-Tab: a\tb"),
    "a compressed body": ("Content-Encoding: gzip",),
    "a body to be asked for": ("Expect: 100-continue",),
    "trailers": ("Trailer: X-Sum", "TE: trailers, deflate", "Connection: TE"),
    "an upgrade": ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings"),
    "a connection to keep": ("Keep-Alive: timeout=5", "Proxy-Connection: keep-alive"),
    "forged headers": (
        "X-Original-URI: /a",
        "X-Original-URI: /b",
        "X-Forwarded-Uri: /a",
        "X-Original-Method: X",
    ),
    "two tokens": ("Authorization: Bearer a.b.c",),
    "large headers": (f"X-A: {LARGE}", f"X-B: {LARGE}", f"X-C: {LARGE}", f"X-D: {LARGE}"),
}


def asks(gateway) -> int:
    """How many questions that is at most: some gateways refuse some of these clients themselves."""
    for lines in CLIENTS.values():
        gateway.ask(f"{PAGE}?a=1&b=%20", *lines, bearer=MIA)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "GET"):
        gateway.ask(PAGE, method=method, bearer=MIA, body="x" * 20_000)
    gateway.ask(f"/workspaces/acme/{'a' * 4_000}", bearer=MIA)
    return len(CLIENTS) + 8


@pytest.mark.parametrize("name", [name for name in KINDS if name != "envoy-grpc"])
def test_every_question_of_a_gateway_is_read_by_the_lane(gateway_of, sidecar, ways, name):
    place = sidecar.folder / "socket"
    gateway = gateway_of(name)
    ways.http.cut()  # those of other tests
    assert sidecar.until(lambda: gateway.ask(PAGE, bearer=MIA).status == 200, within_s=5)
    accepted, before = ways.http.accepted, read_by(place)

    asked = asks(gateway)

    after = read_by(place)
    assert after["gunicorn"] - before["gunicorn"] == 1  # the scrape
    assert asked - 4 <= after["lane"] - before["lane"] <= asked
    assert gateway.ask(PAGE, bearer=MIA).status == 200
    if name not in KEEP_NONE:
        assert ways.http.accepted - accepted < asked / 2  # connections are kept
