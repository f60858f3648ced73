"""Nothing changes the protocol behind the question: no tunnel to the backend is opened, but for WebSocket."""

from __future__ import annotations

import socket
from errno import ECONNRESET, ENOTCONN, EPIPE

import pytest

from tests.gateways import websocket
from tests.gateways.http2 import SETTINGS, a_head, exchange, frames_of
from tests.gateways.test_bypasses import BILLING, PAGE, is_forbidden
from tests.identity.provider import bearer

pytestmark = [pytest.mark.postgres, pytest.mark.gateways]

MIA = bearer(sub="mia")
SMUGGLED = "/workspaces/acme"  # to be deleted, which mia may not do
FORGED = ("x-authz-user", "olivia")
H2C = f"HTTP2-Settings: {SETTINGS}"
BOTH = "Connection: Upgrade, HTTP2-Settings"
TO_BE_DROPPED = ("X-Authz-User: olivia", "X_Authz_User: olivia", "X-HTTP-Method-Override: DELETE", H2C)
HANDSHAKE = (BOTH, *websocket.FIELDS)
UPGRADES = {
    "as clients ask": (BOTH, "Upgrade: h2c", H2C),
    "in capitals": ("Connection: UPGRADE, HTTP2-SETTINGS", "Upgrade: H2C", H2C),
    "without its settings": ("Connection: Upgrade", "Upgrade: h2c"),
    "without Connection": ("Upgrade: h2c", H2C),
    "settings by themselves": ("Connection: HTTP2-Settings", H2C),
    "with an empty line": (BOTH, "Upgrade: h2c", "Upgrade:", H2C),
    "in two lines of Connection": ("Connection: HTTP2-Settings", "Connection: Upgrade", "Upgrade: h2c", H2C),
    "without a handshake": (BOTH, "Upgrade: websocket", "Upgrade: h2c", H2C),
    "behind websocket": (*HANDSHAKE, "Upgrade: websocket, h2c", H2C),
    "before websocket": (*HANDSHAKE, "Upgrade: h2c, websocket", H2C),
    "in a second line": (*HANDSHAKE, "Upgrade: websocket", "Upgrade: h2c", H2C),
    "in a first line": (*HANDSHAKE, "Upgrade: h2c", "Upgrade: websocket", H2C),
    "to TLS": ("Connection: Upgrade", "Upgrade: TLS/1.0"),
    "to any other": ("Connection: Upgrade", "Upgrade: foo"),
    "to any other in a first line": (*HANDSHAKE, "Upgrade: foo", "Upgrade: websocket"),
    "to any other in a second line": (*HANDSHAKE, "Upgrade: websocket", "Upgrade: foo"),
    "to one alike": (*HANDSHAKE, "Upgrade: websockets"),
    "to a version of websocket": (*HANDSHAKE, "Upgrade: websocket/13"),
}


def a_request(target, *headers, method="GET", authorization=MIA) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: app.example", *headers]
    if authorization is not None:
        lines.append(f"Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


def the_smuggled(headers=()) -> bytes:
    """What deletes a workspace as olivia, for whoever reads it, in the protocol that *headers* ask for."""
    if any("h2c" in each.lower() or each == H2C for each in headers):
        return frames_of(a_head("DELETE", SMUGGLED, FORGED), upgraded=True)
    return a_request(SMUGGLED, "x-authz-user: olivia", method="DELETE", authorization=None)


def a_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def read_head(connection: socket.socket) -> tuple[int, bytes]:
    """The status, and everything up to the blank line; what comes behind it is left to be read."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        octet = connection.recv(1)
        assert octet, received
        received += octet
    return int(received.split(b" ", 2)[1]), received


def send_and_drain(connection: socket.socket, data: bytes) -> None:
    """Until the gateway is through with it: it closes once it has read that no more will come."""
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    except OSError as error:
        if error.errno not in {ENOTCONN, ECONNRESET, EPIPE}:  # it has closed already
            raise


@pytest.fixture
def reached_since(upstream):
    """What has reached the backend during this test."""
    before = len(upstream.reached)
    return lambda: upstream.reached[before:]


@pytest.mark.parametrize("name", [name for name in UPGRADES if name != "settings by themselves"])
def test_the_backend_by_itself_opens_a_tunnel(upstream, reached_since, name):
    with a_connection(upstream.port) as connection:
        connection.sendall(a_request(PAGE, *UPGRADES[name]))
        status, head = read_head(connection)
        send_and_drain(connection, the_smuggled(UPGRADES[name]))

    [_, smuggled] = reached_since()
    assert status == 101
    assert b"Upgrade: websocket\r\n" not in head
    assert is_forbidden(smuggled)
    assert smuggled.values("X-Authz-User") == ["olivia"]


def test_the_backend_by_itself_speaks_http2_by_prior_knowledge(upstream, reached_since):
    with a_connection(upstream.port) as connection:
        answers = exchange(connection, a_head("GET", PAGE), a_head("DELETE", SMUGGLED, FORGED))

    assert answers == ["200", "200"]
    assert [is_forbidden(each) for each in reached_since()] == [False, True]


@pytest.mark.parametrize("name", UPGRADES)
def test_no_upgrade_opens_a_tunnel(gateway, reached_since, name):
    with a_connection(gateway.port) as connection:
        connection.sendall(a_request(PAGE, *UPGRADES[name]))
        status, head = read_head(connection)
        send_and_drain(connection, the_smuggled(UPGRADES[name]))

    passed = reached_since()
    assert status in {200, 400, 403} or b"upgrade: websocket\r\n" in head.lower() or status == 426
    assert [(each.method, each.target) for each in passed] in ([], [("GET", PAGE)])
    assert bool(passed) == (status not in {400, 403})
    for each in passed:
        assert each.values("Upgrade") in ([], ["websocket"])
        assert each.values("HTTP2-Settings") == []
        assert "settings" not in ",".join(each.values("Connection")).lower()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_other_method_opens_one_either(gateway, reached_since, method):
    target = "/workspaces/acme" if method == "POST" else "/workspaces/acme/recordings"
    with a_connection(gateway.port) as connection:
        connection.sendall(a_request(target, *UPGRADES["as clients ask"], "Content-Length: 0", method=method))
        read_head(connection)
        send_and_drain(connection, the_smuggled(UPGRADES["as clients ask"]))

    assert [each.method for each in reached_since()] in ([], [method])


@pytest.mark.parametrize("target", ["127.0.0.1:9000", "app.example:80", PAGE])
def test_no_connect_opens_one(gateway, reached_since, target):
    with a_connection(gateway.port) as connection:
        connection.sendall(a_request(target, method="CONNECT"))
        status, _ = read_head(connection)
        send_and_drain(connection, the_smuggled())

    assert status >= 400
    assert reached_since() == []


def test_http2_is_asked_about_request_by_request(gateway, reached_since, request):
    mia = ("authorization", MIA)
    with a_connection(gateway.port) as connection:
        answers = exchange(connection, a_head("GET", PAGE, mia), a_head("DELETE", SMUGGLED, mia, FORGED))

    if "nginx" in request.node.name:  # which speaks it over TLS alone
        assert (answers, reached_since()) == ([None, None], [])
    else:
        [passed] = reached_since()
        assert answers == ["200", "403"]
        assert (passed.target, passed.values("X-Authz-User")) == (PAGE, ["mia"])


def test_http2_that_begins_late_is_not_passed_on(gateway, reached_since):
    with a_connection(gateway.port) as connection:
        connection.sendall(a_request(PAGE))
        read_head(connection)
        send_and_drain(connection, frames_of(a_head("DELETE", SMUGGLED, FORGED)))

    assert [each.target for each in reached_since()] == [PAGE]


@pytest.mark.parametrize("protocol", ["h2c", "foo", "websocket"])
def test_no_connect_over_http2_opens_a_tunnel_either(gateway, reached_since, protocol):
    head = a_head(
        "CONNECT",
        PAGE,
        (":protocol", protocol),
        ("authorization", MIA),
        ("http2-settings", SETTINGS),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", websocket.KEY),
    )
    with a_connection(gateway.port) as connection:
        exchange(connection, head, then=the_smuggled(["h2c"] if protocol == "h2c" else []), within_s=2)

    passed = reached_since()
    assert [(each.method, each.target) for each in passed] in ([], [("GET", PAGE)])
    assert all(each.values("Upgrade") in ([], ["websocket"]) for each in passed)
    assert all(each.values("HTTP2-Settings") == [] for each in passed)


@pytest.mark.parametrize(
    "headers", [(("upgrade", "h2c"), ("http2-settings", SETTINGS)), (("upgrade", "foo"),)]
)
def test_no_header_of_http2_opens_one_either(gateway, reached_since, headers):
    head = a_head("GET", PAGE, ("authorization", MIA), ("connection", "upgrade"), *headers)
    with a_connection(gateway.port) as connection:
        exchange(connection, head, then=the_smuggled(["h2c"] if len(headers) > 1 else []), within_s=2)

    assert [each for each in reached_since() if each.method != "GET" or each.values("Upgrade")] == []


@pytest.mark.parametrize(
    "written", [("Upgrade", "websocket"), ("keep-alive, Upgrade", "WebSocket"), ("upgrade", "WEBSOCKET")]
)
def test_a_websocket_passes_whoever_may(gateway, reached_since, written):
    connection_header, upgrade = written
    headers = (f"Connection: {connection_header}", f"Upgrade: {upgrade}", *websocket.FIELDS)
    with a_connection(gateway.port) as connection, connection.makefile("rb") as stream:
        connection.sendall(a_request(PAGE, *headers, *TO_BE_DROPPED))
        status, head = read_head(connection)
        assert status == 101
        assert f"sec-websocket-accept: {websocket.ACCEPT}\r\n".lower().encode() in head.lower()
        assert websocket.ACCEPT.encode() in head
        for text in (b"hello", b"and again"):
            connection.sendall(websocket.a_text(text, masked=True))
            assert websocket.read_text(stream) == text

    [asked] = reached_since()
    assert (asked.target, asked.values("X-Authz-User")) == (PAGE, ["mia"])
    assert asked.values("HTTP2-Settings") == asked.values("X-HTTP-Method-Override") == []


@pytest.mark.parametrize(
    ("target", "authorization", "expected"),
    [(PAGE, None, 401), (PAGE, "Bearer x.y.z", 401), (BILLING, MIA, 403)],
)
def test_a_websocket_passes_nobody_else(gateway, reached_since, target, authorization, expected):
    with a_connection(gateway.port) as connection:
        connection.sendall(a_request(target, *websocket.HANDSHAKE, authorization=authorization))
        status, _ = read_head(connection)
        send_and_drain(connection, the_smuggled())

    assert status == expected
    assert reached_since() == []


def test_a_handshake_that_the_backend_refuses_opens_no_tunnel(gateway, reached_since):
    old = [each.replace("Version: 13", "Version: 777") for each in websocket.HANDSHAKE]
    with a_connection(gateway.port) as connection:
        connection.sendall(a_request(PAGE, *old))
        status, _ = read_head(connection)
        send_and_drain(connection, the_smuggled())

    assert status == 426
    assert [each.target for each in reached_since()] == [PAGE]
