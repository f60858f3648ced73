"""Requests by chance, for hot endpoints: what is asked, how it is written, and what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.identity.provider import a_token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

USERS = ("olivia", "adam", "mia", "pia", "sam", "zoe", "nobody")
WORKSPACES = ("acme", "piano", "solo", "zoe", "nowhere")
ACTIONS = (
    "platform.use", "analytics.view", "billing.manage", "members.remove", "roleplay.start_with_avatar",
    "team_analytics.view", "recording.start", "members.invite",
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "a b", "a:b", "{}", 'say "a"', "a\\b", "\u00fc\u00ef", "\U0001f600", "a%20b", "ext:", "ext:acme",
    "a" * 256, "a" * 257, "a\0b", "\ud800", "a\n", "\ufeffa", "ADAM", "00000000-0000-0000-0000-000000000000",
    "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE", "feature:analytics", "role:admin", "feature:none",
)  # fmt: skip
ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    1.5,
    -1,
    10**30,
    "",
    [],
    {},
    ["a"],
    {"a": {"b": [1]}},
    "a" * 600,
)
MORE = {
    "mode": ("check", "Check", "take"),
    "amounts": ({"minutes": 1}, {"minutes": 10**9}, {"minutes": 0}, {"minutes": 1.0}, {"gold": 1}, {}),
    "context": ({}, {"a": 1}, {"a": "\ud800"}, {"": ""}),
    "resource": ("r", ""),
    "idempotency_key": ("k", ""),
    "more": (1,),
}
IN_TEXT = (
    b"\\u0061", b"\\ud800", b"\\u0000", b"\\ud83d\\ude00", b"\\x61", b"\\/", b"\\", b"\xff", b"\xed\xa0\x80",
    b"\n", b"\x7f", b"\xc3\xa9", b'"', b":",
)  # fmt: skip
IN_PLACE_OF_A_BODY = (b"", b"null", b"[]", b"7", b"NaN", b"{", b"\0", b"[" * 3_000, b'{"user"', b"{}{}")
NUMBERS = (b"1e0", b"1.0", b"01", b"-0", b"1E400", b"1" * 70, b"1" * 5_000, b"0x1", b"+1", b"1000000000001")
TOKENS = {user: f"Bearer {a_token(sub=user)}" for user in USERS}
NO_TOKENS = ("Bearer a.b.c", "Bearer ", "Basic eA==", f"Bearer {a_token(exp=1)}", f"bearer  {a_token()}")
TARGETS = (
    "/workspaces/{}/analytics", "/workspaces/{}/roleplays", "/workspaces/{}/avatar-roleplays", "/nowhere",
    "/workspaces/{}/analytics?a=%00", "/workspaces/%61cme/analytics", "/workspaces/{}/../acme/analytics",
    "//workspaces/{}/analytics", "/workspaces/{}/analytics/", "/workspaces/{}/analytics#a", "", "*",
)  # fmt: skip
ODD_IN_TARGETS = (" ", "\t", "\0", "\xe9", "%", "%61", "/./", "/../", "\\")
LINES = (
    "X-A: b", "X_A: b", "X-A:\tb\t", "X-A: \xe9\xff", "X-A:", "x-a: c", "Cookie: a", "TE: trailers",
    "Connection: keep-alive", "Connection: Close", "Connection: close, x", "Connection: upgrade",
    "Upgrade: h2c", "Expect: 100-continue", "Expect: x", "Content-Encoding: gzip",
    "Content-Encoding: identity", "Transfer-Encoding: chunked", "Transfer-Encoding: ChunkeD",
    "Transfer-Encoding: identity",
    "transfer_encoding: chunked", "Content_Length: 1", "Content-Length: 0", "Host: y", "Host:",
    "Content-Type: text/plain", "X-A : b", "X A: b", ": b", "X-A", " folded", "X-A: a\x00b", "X-A: a\rb",
    "X-A: a\nb", "X-\xe9: b", "X!#$%&'*+.^`|~: b", "X-A: " + "a" * 9_000, "X-Request-ID: mine",
    "X-Request-ID: a b", "X-Request-ID: \xe9", "X-Request-ID: " + "a" * 129, "Authorization: Bearer t",
    "Authorization:", "Origin: http://x", "User-Agent: Mozilla/5.0", "X-Sidecar-Token: t",
    "X-Original-URI: /",
)  # fmt: skip
VERSIONS = ("HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/1.01", "")
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "M-SEARCH", "CONNECT", "get", "G@T", "")
LENGTHS = ("+{}", "-{}", "00{}", "{} ", "{0}, {0}", "{};", "0x{}", "{}.0", "", "{}\xb2")


def question(chance: Random) -> dict[str, Any]:
    asked: dict[str, Any] = {
        name: chance.choice(usual if chance.random() < 0.85 else ODD_TEXTS)
        for name, usual in (("user", USERS), ("workspace", WORKSPACES), ("action", ACTIONS))
    }
    if chance.random() < 0.2:
        name = chance.choice([*MORE])
        asked[name] = chance.choice(MORE[name])
    if chance.random() < 0.1:
        asked[chance.choice([*asked])] = chance.choice(ODD_VALUES)
    if chance.random() < 0.05:
        del asked[chance.choice([*asked])]
    return asked


def evaluation(chance: Random) -> dict[str, Any]:
    asked = question(chance)
    found: dict[str, Any] = {
        "subject": {"type": "user", "id": asked.get("user")},
        "action": {"name": asked.get("action")},
        "resource": {"type": "workspace", "id": asked.get("workspace")},
    }
    if chance.random() < 0.2:
        found[chance.choice(["context", "subject", "more"])] = chance.choice([*ODD_VALUES, *MORE["context"]])
    elif chance.random() < 0.2:
        part = found[chance.choice([*found])]
        part[chance.choice(["type", "properties", "more", *part])] = chance.choice([*ODD_VALUES, "group"])
    return found


def body(chance: Random, path: str) -> bytes:
    """Of /v1/authorize, /v1/authorize/batch, /access/v1/evaluation or /access/v1/evaluations."""
    one = evaluation if path.startswith("/access") else question
    asked = one(chance)
    if path.endswith(("batch", "evaluations")):
        items = [one(chance) for _ in range(chance.choice((0, 1, 2, 5)))]
        for each in items:
            for name in chance.sample([*each], chance.choice((0, 0, 1)) and len(each) > 0):
                del each[name]  # the default's stands for it
        semantic = chance.choice(("execute_all", "deny_on_first_deny", "permit_on_first_permit", "", None))
        more = {"options": {"evaluations_semantic": semantic}} if chance.random() < 0.5 else {}
        asked = (
            asked | more | {"evaluations": items}
            if one is evaluation
            else {"questions": items, "defaults": asked}
        )
    indent, separators = chance.choice(((None, None), (None, (",", ":")), (1, None)))
    text = json.dumps(asked, indent=indent, separators=separators, ensure_ascii=chance.random() < 0.5)
    return text.encode(errors="surrogatepass")


def odd_body(chance: Random, raw: bytes) -> bytes:
    at, name = chance.randrange(len(raw) + 1), chance.choice((b'"user"', b'"action"', b'"subject"', b'"id"'))
    deep = chance.choice((10, 61, 62, 63, 64, 65, 500))
    return chance.choice(
        (
            raw[:at],
            raw[:at] + bytes([chance.randrange(256)]) + raw[at + chance.choice((0, 1)) :],
            chance.choice((b"\xef\xbb\xbf", b" ", b"\r\n\t", b"\0", b"\xa0")) + raw,
            raw + chance.choice((b" ", b"\n", b"\0", b"x", b"{}", b",", b" " * 5_000)),
            raw.replace(name, name + b': "a", ' + name, 1),
            raw.replace(name, name[:1] + b"\\u%04x" % name[1] + name[2:], 1),
            raw.replace(b"a", chance.choice(IN_TEXT), 1 + chance.choice((0, 0, 9))),
            raw.replace(b"{", b'{"context":' + b'{"a":' * deep + b"1" + b"}" * deep + b",", 1),
            raw.replace(b"{", b'{"context":{"a":' + b"[" * deep + b"]" * deep + b"},", 1),
            raw.replace(b"{", b'{"amounts":{"minutes":' + chance.choice(NUMBERS) + b"},", 1),
            raw.replace(b"}", b",}", 1),
            raw.decode(errors="replace").encode("utf-16"),
            chance.choice(IN_PLACE_OF_A_BODY),
        )
    )


def gateways_question(chance: Random) -> tuple[str, str, list[str]]:
    """The method, the path and the header lines."""
    of = chance.choice(("nginx", "ingress-nginx", "forward-auth", "haproxy", "ext-authz"))
    asked = chance.choice(TARGETS[:3] if chance.random() < 0.8 else TARGETS).format(chance.choice(WORKSPACES))
    method = "POST" if "roleplays" in asked else "GET"
    lines = {
        "nginx": [f"X-Original-Method: {method}", f"X-Original-URI: {asked}"],
        "haproxy": [f"X-Original-Method: {method}", f"X-Original-URI: {asked}"],
        "ingress-nginx": [f"X-Original-Method: {method}", f"X-Original-URL: http://x{asked}"],
        "forward-auth": [f"X-Forwarded-Method: {method}", "X-Forwarded-Host: x", f"X-Forwarded-Uri: {asked}"],
        "ext-authz": [],
    }[of]
    shown = chance.choice([*TOKENS.values()] if chance.random() < 0.8 else NO_TOKENS)
    lines.append(f"Authorization: {shown}")
    if chance.random() < 0.1:
        lines.append(chance.choice(lines))
    if chance.random() < 0.2:
        lines.append(chance.choice(("Content-Type: application/grpc", "X-Sidecar-Token: t", "X-User: adam")))
    return (method, f"/gw/ext-authz{asked}", lines) if of == "ext-authz" else ("GET", f"/gw/{of}", lines)


def as_to_an_opa(chance: Random) -> tuple[str, bytes]:
    method, path, _ = gateways_question(chance)
    asked = {
        "method": method,
        "host": "x",
        "path": path.removeprefix("/gw/ext-authz"),
        "headers": {"authorization": chance.choice([*TOKENS.values(), *NO_TOKENS])},
    }
    inputs = {
        "apisix": {"request": asked},
        "kong": {"request": {"http": asked}},
        "envoy": {"attributes": {"request": {"http": asked}}},
    }
    of = chance.choice([*inputs])
    return f"/v1/data/{of}", json.dumps({"input": inputs[of]}).encode()


def a_request(chance: Random, *, is_odd: bool) -> bytes:
    """*is_odd*: how it is written may be wrong too; else it is right in all but the question itself."""
    which = chance.random()
    method, lines, content = "POST", list[str](), b""
    if which < 0.7:
        paths: Sequence[str] = (
            "/v1/authorize",
            "/v1/authorize/batch",
            "/access/v1/evaluation",
            "/access/v1/evaluations",
        )
        path = chance.choices(paths, (4, 1, 2, 1))[0]
        content = body(chance, path)
        if chance.random() < 0.3:
            content = odd_body(chance, content)
    elif which < 0.9:
        method, path, lines = gateways_question(chance)
    elif which < 0.96:
        path, content = as_to_an_opa(chance)
    else:
        method, path = (
            chance.choice(("GET", "HEAD")),
            chance.choice(("/healthz", "/nowhere", "/v1/authorize")),
        )
    if content or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines.insert(0, "Host: x")
    version = "HTTP/1.1"
    if is_odd:
        method, path, version = _odd_first_line(chance, method, path)
        _make_odd(chance, lines, len(content))
    raw = "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode("latin-1") + content
    return _odd_octets(chance, raw) if is_odd and chance.random() < 0.1 else raw


def _odd_first_line(chance: Random, method: str, path: str) -> tuple[str, str, str]:
    if chance.random() < 0.05:
        method = chance.choice(METHODS)
    if chance.random() < 0.1:
        at, within = chance.randrange(len(path) + 1), chance.choice(ODD_IN_TARGETS)
        path = chance.choice(
            (
                path[:at] + within + path[at:],
                chance.choice(("/", "http://x", "HTTP://y:1", "https://[::1")) + path,
                path + chance.choice(("?", "?a=b", "#a", "/", ";a", "?" + "a" * 9_000)),
                path.upper(),
                "*",
            )
        )
    return method, path, chance.choice(VERSIONS) if chance.random() < 0.1 else "HTTP/1.1"


def _make_odd(chance: Random, lines: list[str], length: int) -> None:
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(LINES))
    if chance.random() < 0.1:
        lines[:] = [line for line in lines if not line.startswith("Content-Length")]
        lines.append(f"Content-Length: {chance.choice(LENGTHS).format(length)}")
    if chance.random() < 0.05:
        lines.remove("Host: x")
    if chance.random() < 0.1:
        chance.shuffle(lines)


def _odd_octets(chance: Random, raw: bytes) -> bytes:
    """In the head: for half a body see tests/serving/test_odd_bodies.py."""
    at = chance.randrange(raw.index(b"\r\n\r\n") + 4)
    return chance.choice(
        (
            raw[:at],
            raw[:at] + bytes([chance.randrange(256)]) + raw[at + chance.choice((0, 1)) :],
            raw.replace(b"\r\n", b"\n", chance.choice((1, 2, 99))),
            chance.choice((b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\0")) + raw,
        )
    )
