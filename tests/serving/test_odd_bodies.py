"""Odd bodies over real sockets, and answers given before a body has come: one request, one answer."""

from __future__ import annotations

import re
import socket
from time import sleep

import pytest

from sidecar.identity.callers import token_line
from tests.serving.meanwhile import QUESTION, request
from tests.serving.serving import serving
from tests.serving.talk import a_question, goes_on_or_has_ended, read_by, talking

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SIZE = b"%x" % len(QUESTION)
# What ends a body and would be a request of its own to whoever has lost count.
A_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"
A_TRAILER = b"X-T: GET /healthz HTTP/1.1\r\nX-U: 1\r\n\r\n"
HEAD = (
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-ID: mine\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CHUNK = SIZE + b"\r\n" + QUESTION + b"\r\n"
RIGHT = {
    "one chunk": CHUNK + b"0\r\n\r\n",
    "two chunks": b"1\r\n{\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(QUESTION) - 1, QUESTION[1:]),
    "a chunk an octet": b"".join(b"1\r\n%c\r\n" % each for each in QUESTION) + b"0\r\n\r\n",
    "zeros before a size": b"000" + CHUNK + b"000\r\n\r\n",
    "a size in capital letters": SIZE.upper() + b"\r\n" + QUESTION + b"\r\n0\r\n\r\n",
    "an extension": SIZE + b";a=b\r\n" + QUESTION + b"\r\n0;c\r\n\r\n",
    "an extension in quotes": SIZE + b';a="b;c"\r\n' + QUESTION + b"\r\n0\r\n\r\n",
    "a trailer": CHUNK + b"0\r\nX-Checksum: 7\r\n\r\n",
    "trailers": CHUNK + b"0\r\n" + b"X-T: 7\r\n" * 20 + b"\r\n",
    "a trailer with a request in it": CHUNK + b"0\r\n" + A_TRAILER,
}
# Of these there is one answer: what a server makes of a trailer that is none is its own matter.
EITHER = {
    "a trailer that is a request": CHUNK + b"0\r\n" + A_REQUEST,
    "a trailer that is half a request": CHUNK + b"0\r\nGET /healthz HTTP/1.1\r\n\r\n",
}
WRONG = {
    "a size below zero": b"-3d\r\n" + QUESTION + b"\r\n0\r\n\r\n",
    "a size with a sign": b"+" + CHUNK + b"0\r\n\r\n",
    "a size with a prefix": b"0x" + CHUNK + b"0\r\n\r\n",
    "a size with an underscore": b"3_d\r\n" + QUESTION + b"\r\n0\r\n\r\n",
    "a size with a space before": b" " + CHUNK + b"0\r\n\r\n",
    "no size": b"\r\n" + QUESTION + b"\r\n0\r\n\r\n",
    "a size that is none": b"zz\r\n" + QUESTION + b"\r\n0\r\n\r\n",
    "more than its size": b"3\r\n" + QUESTION + b"\r\n0\r\n\r\n",
    "line feeds alone": CHUNK.replace(b"\r\n", b"\n") + b"0\n\n",
}
TOO_LARGE = {
    "a size that nothing holds": b"f" * 40 + b"\r\n" + b" " * 100_000,
    "a size above the limit": b"fffffff\r\n" + b" " * 100_000,
    "chunks above the limit": (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 3 + b"0\r\n\r\n",
    "an extension above the limit": SIZE + b";" + b"a" * 300_000,
    "trailers above the limit": CHUNK + b"0\r\n" + b"X-T: 7\r\n" * 40_000,
}


@pytest.mark.parametrize("name", RIGHT)
def test_chunks_are_a_body(sidecar, name):
    with talking(sidecar) as talk:
        talk.send(HEAD % b"/v1/authorize" + RIGHT[name])
        answer = talk.answer()

        assert (answer.status, answer.header("x-request-id")) == (200, "mine")
        assert answer.json["reason"] == "granted"
        assert goes_on_or_has_ended(talk, answer)


@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_trailer_is_never_a_request(sidecar, name, at_once):
    with talking(sidecar) as talk:
        body, mark, rest = EITHER[name].rpartition(b"0\r\n")
        talk.send(HEAD % b"/v1/authorize" + body)
        if not at_once:
            sleep(0.1)
        talk.send(mark + rest)
        answer = talk.answer()

        assert answer.status in {200, 400}
        assert answer.header("x-request-id") != "smuggled"
        assert goes_on_or_has_ended(talk, answer)


@pytest.mark.parametrize("name", WRONG)
def test_chunks_that_are_none_are_refused(sidecar, name):
    with talking(sidecar) as talk:
        talk.send(HEAD % b"/v1/authorize" + WRONG[name] + A_REQUEST)
        answer = talk.answer()

        assert (answer.status, answer.code) == (400, "malformed_request")
        assert answer.closes
        assert talk.has_ended()


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_not_read_to_its_end(sidecar, name):
    with talking(sidecar) as talk:
        talk.send(HEAD % b"/v1/authorize" + TOO_LARGE[name])
        answer = talk.answer()

        assert answer.status in {400, 413, 431}
        assert answer.code in {"body_too_large", "malformed_request", "head_too_large"}
        assert goes_on_or_has_ended(talk, answer)
    assert sidecar.ask()[0] == 200


@pytest.mark.parametrize("length", [b"65537", b"0065537", b"1" + b"0" * 12, b"1" + b"0" * 40, b"9" * 5_000])
def test_a_length_above_the_limit_is_refused_before_the_body_comes(sidecar, length):
    with talking(sidecar) as talk:
        talk.send(request("POST", "/v1/authorize", QUESTION).replace(b"Length: 61", b"Length: " + length))
        answer = talk.answer()

        assert answer.status in {400, 413}
        assert answer.code in {"body_too_large", "malformed_request"}
        assert answer.closes
        assert talk.has_ended()


@pytest.mark.parametrize("waits", [True, False])
def test_who_expects_to_go_on_is_told_to(sidecar, waits):
    number, content = a_question("Expect: 100-continue")
    head, body, _ = content.partition(QUESTION)
    with talking(sidecar) as talk:
        talk.send(head)
        if waits:
            assert talk.answer().status == 100
        talk.send(body)
        answer = talk.answer()
        if answer.status == 100:
            assert not waits
            answer = talk.answer()

        assert (answer.status, answer.header("x-request-id")) == (200, number)
        assert goes_on_or_has_ended(talk, answer)


def test_who_expects_to_go_on_with_too_much_is_told_at_once(sidecar):
    with talking(sidecar) as talk:
        talk.send(
            HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 99999\r\nExpect: 100-continue")
            % b"/v1/authorize"
        )
        answer = talk.answer()

        assert (answer.status, answer.code) == (413, "body_too_large")
        assert talk.has_ended()


@pytest.mark.parametrize("expected", ["200-ok", "100-continue, 100-continue"])
def test_what_nobody_can_expect_is_refused_or_not_looked_at(sidecar, expected):
    with talking(sidecar) as talk:
        talk.send(a_question(f"Expect: {expected}")[1])
        answer = talk.answer()
        if answer.status == 100:
            answer = talk.answer()

        assert answer.status in {200, 400, 417}
        assert goes_on_or_has_ended(talk, answer)


@pytest.fixture(scope="module")
def guarded(database, opa, tmp_path_factory):
    """It takes callers with tokens alone."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens"
    tokens.write_text(token_line("all", ["authorize", "audit"], "t") + "\n")
    with serving(
        folder,
        also_at=folder / "socket",
        database_url=database,
        opa_url=opa.url,
        tokens=tokens,
        workers=1,
        deadline_ms=5_000,
    ) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        yield sidecar


EARLY = {
    "nobody who is known": (HEAD % b"/v1/authorize", {401}),
    "nobody who is known, with a batch": (HEAD % b"/v1/authorize/batch", {401}),
    "nobody who is known, at AuthZEN": (HEAD % b"/access/v1/evaluation", {401}),
    "no endpoint": (HEAD % b"/v2/nothing", {404}),
    "another method": ((HEAD % b"/v1/authorize").replace(b"POST", b"PUT"), {405}),
    "a gateway without a word": (HEAD % b"/gw/nginx", {403}),
    "health": (HEAD % b"/healthz", {200, 405}),
}


@pytest.mark.parametrize("by", ["at once", "later", "later in parts"])
@pytest.mark.parametrize("trailer", [A_REQUEST, A_TRAILER], ids=["a request", "a trailer"])
@pytest.mark.parametrize("to", EARLY)
def test_an_answer_before_the_body_is_the_only_one(guarded, to, trailer, by):
    """Or it comes after the body has been read, and what stands for a trailer is refused."""
    head, statuses = EARLY[to]
    body = CHUNK + b"0\r\n" + trailer
    with talking(guarded) as talk:
        talk.send(head + (body if by == "at once" else b""))
        if by != "at once":
            sleep(0.2)
            for part in (body[:9], body[9:-30], body[-30:]) if by == "later in parts" else (body,):
                talk.send(part)
                sleep(0.05)
        answer = talk.answer()

        if trailer == A_REQUEST and answer.code == "malformed_request":
            assert answer.closes
        else:
            assert answer.status in statuses
            assert answer.header("x-request-id") == "mine"
        if answer.closes:
            assert talk.has_ended()
        else:  # it has read the body, trailers included
            assert talk.is_quiet()


WITH_A_LENGTH = {
    "no endpoint": ("POST", "/v2/nothing", len(A_REQUEST), 404),
    "another method": ("PUT", "/v1/authorize", len(A_REQUEST), 405),
    "a gateway": ("GET", "/gw/nginx", len(A_REQUEST), 403),
    "health": ("GET", "/healthz", len(A_REQUEST), 200),
    "too much": ("POST", "/access/v1/evaluation", 99_999, 413),
}


@pytest.mark.parametrize("to", WITH_A_LENGTH)
def test_a_body_that_comes_late_is_no_request(guarded, to):
    method, path, length, status = WITH_A_LENGTH[to]
    with talking(guarded) as talk:
        who = "Authorization: Bearer t"
        talk.send(
            request(method, path, b"", who, "Content-Type: application/json", f"Content-Length: {length}")
        )
        sleep(0.1)
        talk.send(A_REQUEST)
        answer = talk.answer()

        assert answer.status == status
        assert talk.has_ended() if answer.closes else talk.is_quiet()


@pytest.mark.parametrize("to", ["/v1/authorize", "/v1/authorize/batch", "/gw/nginx", "/v2/nothing"])
def test_an_early_answer_reaches_who_is_still_sending(guarded, to):
    """A connection that is reset while a body comes would take the answer with it."""
    body = b" " * 1_500_000
    content = request("POST", to, body)
    with talking(guarded) as talk:
        for at in range(0, len(content), 50_000):
            talk.send(content[at : at + 50_000])
            sleep(0.005)
        answer = talk.answer()

        assert answer.status in {401, 403, 404, 413}


LARGE = request("GET", "/openapi.json")


def a_slow_reader(sidecar):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_024)
    connection.settimeout(9)
    connection.connect(("127.0.0.1", sidecar.port))
    return connection


def answered_before_none_is_read(sidecar) -> int:
    """How many large answers the kernel takes; the worker waits with the last of them."""
    before = read_by(sidecar.folder / "socket")["gunicorn"]
    with a_slow_reader(sidecar) as connection:
        connection.sendall(LARGE * 200)
        sleep(0.8)
        return read_by(sidecar.folder / "socket")["gunicorn"] - before - 1


def test_a_body_that_goes_wrong_while_its_answer_waits_to_be_read_has_no_second_one(guarded):
    taken = answered_before_none_is_read(guarded)
    assert 2 < taken < 200
    for number in range(taken - 2, taken + 1):
        with a_slow_reader(guarded) as connection:
            chunked = request("GET", "/openapi.json", b"", "Transfer-Encoding: chunked")
            connection.sendall(LARGE * (number - 1) + chunked)
            sleep(0.5)
            connection.sendall(b"0\r\n" + A_REQUEST)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            text = b"".join(iter(lambda: connection.recv(65_536), b""))

        assert len(re.findall(rb"HTTP/1\.1 [0-9]{3} ", text)) == number


def test_an_answer_that_nothing_has_changed_has_no_body(guarded):
    who = "Authorization: Bearer t"
    with talking(guarded) as talk:
        talk.send(request("GET", "/bundles/authz.tar.gz", b"", who))
        tag = talk.answer().header("etag")
        talk.send(request("GET", "/bundles/authz.tar.gz", b"", who, f"If-None-Match: {tag}"))
        answer = talk.answer()
        talk.send(request("GET", "/healthz", b"", "X-Request-ID: next"))

        assert (answer.status, answer.body) == (304, b"")
        assert talk.answer().header("x-request-id") == "next"
