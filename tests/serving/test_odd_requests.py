"""Odd requests over real sockets: each has one answer, and what comes after it is not taken for another."""

from __future__ import annotations

import json
from time import sleep

import pytest

from sidecar.api.advice import ADVICE
from tests.serving.meanwhile import QUESTION, request
from tests.serving.talk import a_question, goes_on_or_has_ended, talking

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ASK = request("POST", "/v1/authorize", QUESTION)
HEAD, _, _ = ASK.partition(b"\r\n\r\n")


def with_lines(*lines: bytes) -> bytes:
    return HEAD + b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n" + QUESTION


def get(
    path: bytes = b"/healthz", method: bytes = b"GET", version: bytes = b"HTTP/1.1", *lines: bytes
) -> bytes:
    return b"\r\n".join([b"%s %s %s" % (method, path, version), b"Host: x", *lines]) + b"\r\n\r\n"


# By name: the bytes, the method where an answer has no body for it, and the statuses that are right.
RIGHT = {
    "200 headers": (with_lines(*(b"X-%d: %d" % (n, n) for n in range(200))), {200}),
    "a header twice": (with_lines(b"X-A: 1", b"X-A: 2"), {200}),
    "a header with underscores": (with_lines(b"X_Request_ID: a", b"Content_Length: 3"), {200}),
    "a header with every octet that may be": (with_lines(b"X-A: \t !\x7e\x80\xff"), {200}),
    "an empty header": (with_lines(b"X-A:", b"X-B: "), {200}),
    "names in other letters": (ASK.replace(b"Content-Length", b"cONTENT-lENGTH"), {200}),
    "the absolute form": (ASK.replace(b"/v1", b"http://x/v1"), {200}),
    "the absolute form of another host": (ASK.replace(b"/v1", b"http://y:1/v1"), {200, 400}),
    "the absolute form of a host that is none": (ASK.replace(b"/v1", b"http://[::1/v1"), {400, 404}),
    "an upgrade to h2c": (
        with_lines(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        {200},
    ),
    "an upgrade to a websocket": (
        get(b"/healthz", b"GET", b"HTTP/1.1", b"Connection: Upgrade", b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), {200}
    ),
    "an empty line before": (b"\r\n" + ASK, {200}),
    "a body of GET": (get(b"/healthz", b"GET", b"HTTP/1.1", b"Content-Length: 5") + b"hello", {200}),
    "a body of GET that is a request": (
        get(b"/healthz", b"GET", b"HTTP/1.1", b"Content-Length: %d" % len(ASK)) + ASK, {200}
    ),
    "an unknown method": (get(b"/v1/authorize", b"BREW"), {405}),
    "an unknown method nowhere": (get(b"/nowhere", b"BREW"), {404}),
    "TRACE": (get(b"/healthz", b"TRACE"), {405}),
    "OPTIONS": (get(b"/v1/authorize", b"OPTIONS"), {405}),
    "OPTIONS of everything": (get(b"*", b"OPTIONS"), {400, 404, 405}),
    "a tunnel": (get(b"x:443", b"CONNECT"), {400, 404, 405}),
    "a body of an unknown path": (ASK.replace(b"/v1/authorize", b"/v2/nothing"), {404}),
    "a body of another method": (ASK.replace(b"POST", b"PUT"), {405}),
    "no JSON": (request("POST", "/v1/authorize", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), {400}),
}  # fmt: skip
# With another status than 400, if the server knows a better one.
BETTER = {"another version": 505, "a coding that nobody knows": 501}
CODES = {"malformed_request", "transfer_coding_unknown"}
REFUSED = {
    "a method in small letters": get(b"/healthz", b"get"),
    "no version": b"GET /healthz\r\nHost: x\r\n\r\n",
    "another version": get(b"/healthz", b"GET", b"HTTP/3.0"),
    "a version that is none": get(b"/healthz", b"GET", b"HTTP/1.1x"),
    "two spaces": get(b" /healthz"),
    "a space in the target": get(b"/health z"),
    "an octet in the target that none may have": get(b"/healthz\x00"),
    "nonsense": b"nonsense\r\n\r\n",
    "line feeds alone": b"GET /healthz HTTP/1.1\nHost: x\n\n\r\n\r\n",
    "a line feed alone in a head": HEAD + b"\nX-A: 1\r\n\r\n" + QUESTION,
    "a carriage return alone in a value": with_lines(b"X-A: 1\rX-B: 2"),
    "a folded line": with_lines(b"X-A: 1", b" 2"),
    "a folded first line": get(b"/healthz").replace(b"\r\nHost", b"\r\n Host"),
    "a space before the colon": with_lines(b"X-A : 1"),
    "a line without a colon": with_lines(b"X-A"),
    "a line without a name": with_lines(b": 1"),
    "a name with a space": with_lines(b"X A: 1"),
    "a name with an octet above ASCII": with_lines(b"X-\xe4: 1"),
    "a NUL in a value": with_lines(b"X-A: 1\x002"),
    "a NUL in a name": with_lines(b"X-\x00A: 1"),
    "no host": ASK.replace(b"Host: x\r\n", b""),
    "two hosts": with_lines(b"Host: y"),
    "the same host twice": with_lines(b"Host: x"),
    "two lengths": with_lines(b"Content-Length: 3"),
    "two lengths in one": ASK.replace(b"Content-Length: ", b"Content-Length: 3, "),
    "a length and chunks": with_lines(b"Transfer-Encoding: chunked"),
    "a coding that nobody knows": HEAD.replace(b"Content-Length: 61", b"Transfer-Encoding: x") + b"\r\n\r\n",
    "chunks that are not the last coding": HEAD.replace(
        b"Content-Length: 61", b"Transfer-Encoding: chunked, identity"
    ) + b"\r\n\r\n0\r\n\r\n",
    "chunks by two lines": HEAD.replace(
        b"Content-Length: 61", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"
    ) + b"\r\n\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
        b"Content-Length: 61", b"Transfer-Encoding: chunked"
    ) + b"\r\n\r\n0\r\n\r\n",
    **{
        f"a length of {length!r}": ASK.replace(b"Length: 61", b"Length: " + length)
        for length in (b"+61", b"-61", b"6_1", b"0x3d", b"61.0", b"6 1", b"61;", b"\xb2", b"")
    },
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + b"\0" * 150 + b"\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
}  # fmt: skip
assert b"Content-Length: 61\r\n" in HEAD + b"\r\n"


@pytest.mark.parametrize("name", RIGHT)
def test_it_has_one_answer_and_so_has_the_next(sidecar, name):
    content, statuses = RIGHT[name]
    with talking(sidecar) as talk:
        talk.send(content)
        answer = talk.answer()

        assert answer.status in statuses
        assert answer.header("x-request-id")
        assert goes_on_or_has_ended(talk, answer)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_our_words_and_nothing_after_it_is_read(sidecar, name):
    secret = b"GET /v1/s3cret HTTP/1.1\r\nHost: s3cret\r\n\r\n"
    with talking(sidecar) as talk:
        talk.send(REFUSED[name] + secret)
        answer = talk.answer()

        assert answer.status in {400, BETTER.get(name)}
        assert answer.code in CODES
        assert answer.header("content-type") == "application/problem+json"
        assert answer.json["detail"] == ADVICE[answer.code]
        assert answer.header("x-request-id")
        assert answer.closes
        assert talk.has_ended()
        for part in (b"s3cret", b"nonsense", b"Transfer", b"X-A", QUESTION):
            assert part not in answer.body
    assert sidecar.ask()[0] == 200


@pytest.mark.parametrize("host", [b"", b"a b", b"x:port", b"[::1"])
def test_a_host_that_is_none_is_no_matter_to_who_does_not_ask_for_one(sidecar, host):
    with talking(sidecar) as talk:
        talk.send(ASK.replace(b"Host: x", b"Host: " + host))
        answer = talk.answer()

        assert answer.status in {200, 400}
        assert goes_on_or_has_ended(talk, answer)


def test_a_request_may_come_byte_by_byte(sidecar):
    number, content = a_question()
    with talking(sidecar) as talk:
        for byte in content:
            talk.send(bytes([byte]))
            sleep(0.001)
        answer = talk.answer()

        assert (answer.status, answer.header("x-request-id")) == (200, number)
        assert goes_on_or_has_ended(talk, answer)


def test_answers_come_in_the_order_of_the_requests(sidecar):
    """Checks, what Flask serves and what is refused by an endpoint, in one write."""
    questions = [a_question() for _ in range(3)]
    numbers = [number for number, _ in questions]
    health, missing = (
        request("GET", path, b"", f"X-Request-ID: {path[1:]}") for path in ("/healthz", "/missing")
    )
    content = questions[0][1] + health + questions[1][1] + missing + questions[2][1]
    with talking(sidecar) as talk:
        talk.send(content)
        answers = [talk.answer() for _ in range(5)]

        assert [each.status for each in answers] == [200, 200, 200, 404, 200]
        assert [each.header("x-request-id") for each in answers] == [
            numbers[0], "healthz", numbers[1], "missing", numbers[2],
        ]  # fmt: skip
        assert goes_on_or_has_ended(talk, answers[-1])


def test_two_bodies_in_one_write_are_two_questions(sidecar):
    bodies = [
        json.dumps({"user": user, "workspace": "acme", "action": "billing.manage"}).encode()
        for user in ("olivia", "mia")
    ]
    with talking(sidecar) as talk:
        talk.send(b"".join(request("POST", "/v1/authorize", body) for body in bodies))

        assert [talk.answer().json["allow"] for _ in bodies] == [True, False]


@pytest.mark.parametrize(("line", "keeps"), [(b"X-A: 1", False), (b"Connection: keep-alive", True)])
def test_http_1_0_keeps_a_connection_only_if_it_is_asked_to(sidecar, line, keeps):
    with talking(sidecar) as talk:
        talk.send(with_lines(line).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = talk.answer()

        assert answer.status == 200
        if not keeps:
            assert talk.has_ended()
        elif (answer.header("connection") or "").lower() == "keep-alive":
            assert goes_on_or_has_ended(talk, answer)


def test_what_asks_to_close_is_answered_and_closed(sidecar):
    with talking(sidecar) as talk:
        talk.send(with_lines(b"Connection: close") + ASK)

        assert talk.answer().closes
        assert talk.has_ended()


@pytest.mark.parametrize("path", [b"/healthz", b"/gw/nginx", b"/v1/authorize", b"/nowhere", b"/openapi.json"])
def test_an_answer_to_head_has_no_body(sidecar, path):
    with talking(sidecar) as talk:
        for lines, body in (((), b""), ((b"Content-Length: 5",), b"hello")):
            talk.send(get(path, b"HEAD", b"HTTP/1.1", *lines) + body)
            answer = talk.answer("HEAD")
            if answer.closes:
                assert body
                assert talk.has_ended()
                return
        assert goes_on_or_has_ended(talk, answer)
