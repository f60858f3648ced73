"""What a sidecar answers, as documents; and servers that answer so on real sockets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.engines.sockets import request_on

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.engines.sockets import Heard

WHERE: dict[str, Any] = {"user": "mia", "workspace": "acme"}
PRO = {"plan": "pro", "title": "Pro", "price": {"amount": 149, "currency": "EUR", "per": "month"}}
_REQUEST_ID = re.compile(rb"\r\nx-request-id: ([^\r\n]+)", re.IGNORECASE)


def a_grant(**changes: Any) -> dict[str, Any]:
    return {
        "allow": True,
        "status": 200,
        "reason": "granted",
        "message": "Member may perform roleplay.start.",
        "role": "member",
        "plan": "team",
        "workspace": {"id": "3f2b8a52-1111-4222-8333-444455556666", "slug": "acme"},
        "reservation": None,
        "decision_id": "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d",
        "policy_revision": "cddbf12225d6c4d134a941d1a8ff99e7",
        "facts": {"at": "2026-11-24T12:00:00Z", "cached": False},
    } | changes


def a_denial(**changes: Any) -> dict[str, Any]:
    denied = {"allow": False, "status": 403, "reason": "role_insufficient", "message": "This needs Admin."}
    return a_grant(**denied, needs={"roles": ["admin", "owner"]}) | changes


def a_quota(**changes: Any) -> dict[str, Any]:
    return {
        "limit": 100,
        "used": 97,
        "reserved": 0,
        "remaining": 3,
        "resets_at": "2026-12-01T00:00:00Z",
    } | changes


def a_hold(**changes: Any) -> dict[str, Any]:
    return {"id": "hold-1", "expires_at": "2026-11-24T12:01:00Z", "amounts": {"minutes": 30}} | changes


def a_problem(status: int, code: str, **more: Any) -> dict[str, Any]:
    return {
        "type": f"urn:policy-sidecar:problem:{code}",
        "title": code,
        "status": status,
        "code": code,
    } | more


def http(
    document: object,
    *,
    status: str = "200 OK",
    content_type: str | None = None,
    headers: str = "",
    heard: Heard | None = None,
) -> bytes:
    """A response as the sidecar sends it, to the last request that was *heard*; bytes go as they are."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    usual = "application/json" if status.startswith("200") else "application/problem+json"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type or usual}\r\nContent-Length: {len(content)}\r\n"
    return (
        head.encode() + b"X-Request-ID: " + asked_as(heard) + b"\r\n" + headers.encode() + b"\r\n" + content
    )


def asked_as(heard: Heard | None) -> bytes:
    """The id of the last request."""
    found = _REQUEST_ID.search(heard.heads[-1]) if heard and heard.heads else None
    return found[1] if found else b"none"


def answering(*documents: object, **response: Any) -> Callable[[socket.socket, Heard], None]:
    """Answer with each of *documents*, over all connections, then with the last of them for ever.

    A document with a code is sent as the problem that it is.
    """

    def talk(connection: socket.socket, heard: Heard) -> None:
        while request_on(connection, heard):
            document = documents[min(len(heard.heads), len(documents)) - 1]
            if isinstance(document, dict) and "code" in document:
                said = http(document, status=f"{document['status']} Problem", heard=heard)
            else:
                said = http(document, heard=heard, **response)
            connection.sendall(said)

    return talk
