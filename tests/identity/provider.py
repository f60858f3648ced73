"""An identity provider: its keys, the tokens it signs, and a real HTTP server that publishes the keys."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ISSUER, AUDIENCE = "https://idp.example.com/auth/v1", "authenticated"
SECRET = "a-secret-of-at-least-32-characters"  # noqa: S105 - of tests
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
_TO_JWK: dict[str, Callable[..., str]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


def a_token(key=SECRET, algorithm="HS256", *, headers=None, **claims) -> str:
    """Of adam, good for an hour; a claim that is None is left out."""
    now = int(time.time())
    stated = {
        "sub": "adam",
        "email": "adam@example.com",
        "email_verified": True,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 3_600,
    } | claims
    kept = {name: value for name, value in stated.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers=headers)


def bearer(key=SECRET, algorithm="HS256", **more) -> str:
    return f"Bearer {a_token(key, algorithm, **more)}"


def signed(algorithm="ES256", kid: str | None = "one", **more) -> str:
    """A header with a token by the provider's key *kid*."""
    return bearer(PRIVATE[algorithm], algorithm, headers={"kid": kid} if kid else None, **more)


def a_jwk(algorithm="ES256", kid: str | None = "one", *, key=None, **more) -> dict[str, Any]:
    public = (key or PRIVATE[algorithm]).public_key()
    stated = json.loads(_TO_JWK[algorithm](public)) | {"kid": kid} | more
    return {name: value for name, value in stated.items() if value is not None}


def a_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


class Provider:
    """*answer* is what it says: the body, or something to do with the handler."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/jwks.json"
        self.asked = 0
        self.status = 200
        self.answer: bytes | Callable[[BaseHTTPRequestHandler], None] = a_set(a_jwk())
        self.stopping = threading.Event()


@contextmanager
def a_provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            if callable(provider.answer):
                provider.answer(self)
                return
            self.send_response(provider.status)
            self.send_header("Location", provider.url + "2")
            self.end_headers()
            self.wfile.write(provider.answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The other side has gone: that is what the tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider = Provider(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
