"""What the lane takes it reads and answers as gunicorn's protocol would; what it does not take goes there."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.asgi.parser import CallbackRequest, ParseError  # type: ignore[import-untyped] # it ships none

from sidecar.serving.application import Application
from sidecar.serving.connections import HEAD_S
from sidecar.serving.heads import END, MOST_FIELDS, Heads
from sidecar.serving.http1 import Parser, _fields_of
from tests.api.stage import a_stage
from tests.identity.provider import a_token
from tests.serving.meanwhile import ASK, HEALTH, request
from tests.serving.talk import read_by, talking

if TYPE_CHECKING:
    from tests.serving.serving import Sidecar

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PLAIN = [
    b"POST /v1/authorize HTTP/1.1",
    b"Host: sidecar",
    b"Content-Type: application/json",
    b"Content-Length: 61",
    b"User-Agent: a/1.0 (b)",
    b"Accept: */*",
    b"Connection: keep-alive",
]
ODD_LINES = [
    b"Host: another", b"Host:", b"host: x", b"Content-Length: 7", b"content-length:61",
    b"Content-Length: +61", b"Content-Length: 6 1", b"Content-Length: 61, 61", b"Content-Length:",
    b"Content-Length: 0x3D",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Content_Length: 3",
    b"Expect: 100-continue",
    b"Upgrade: h2c", b"Connection: close", b"Connection: Keep-Alive", b"Connection: upgrade, close",
    b"Connection: close, keep-alive", b"TE: trailers", b"Trailer: X", b"X-A: \xe9\x80", b"X-A:\tb\t",
    b"X-A: a\tb",
    b"X-A: \x00", b"X-A: a\rb", b"X-A", b": b", b"X A: b", b" folded", b"X-A: ", b"X-\xe9: b",
    b"X!#$%&'*+.^`|~: b", b"X_A: b", b"X-A: b", b"x-a:c, d", b"accept: ", b"Cookie: a=1",
    b"Content-Type: text/plain", b"Content-Encoding: gzip", b"Content-Length: 0",
]  # fmt: skip
FIRST_LINES = [
    b"POST /v1/authorize HTTP/1.0", b"POST /v1/authorize HTTP/1.2", b"POST /v1/authorize HTTP/2.0",
    b"POST  /v1/authorize HTTP/1.1", b"post /v1/authorize HTTP/1.1", b"POST /v1/authorize?a=b HTTP/1.1",
    b"POST /v1/authorize#a HTTP/1.1", b"POST http://x/v1/authorize HTTP/1.1", b"POST /v1/authorize",
    b"POST /v1/%61uthorize HTTP/1.1", b"POST /v1/authorize\xe9 HTTP/1.1", b"PO\x00ST /v1/authorize HTTP/1.1",
    b"CONNECT /gw/ext-authz/a HTTP/1.1", b"M-SEARCH /gw/ext-authz/a HTTP/1.1",
    b"GE7 /gw/ext-authz/a HTTP/1.1", b"POST /v1/authorize HTTP/1.1 ",
    b"\r\nPOST /v1/authorize HTTP/1.1",
]  # fmt: skip


def a_head(chance: random.Random) -> bytes:
    first = PLAIN[0] if chance.random() < 0.7 else chance.choice(FIRST_LINES)
    lines = chance.sample(PLAIN[1:], chance.randrange(len(PLAIN)))
    lines += chance.sample(ODD_LINES, chance.choice((0, 0, 0, 1, 1, 2)))
    lines += chance.choices(lines, k=chance.choice((0, 0, 0, 0, 1))) if lines else []
    chance.shuffle(lines)
    head = bytearray(b"\r\n".join([first, *lines]) + END)
    if chance.random() < 0.2:  # any octet anywhere
        head[chance.randrange(len(head))] = chance.randrange(256)
    if chance.random() < 0.05:
        head = head.replace(b"\r\n", b"\n", 1)
    return bytes(head)


def test_every_head_that_the_lane_takes_gunicorn_reads_as_the_same():
    chance, heads = random.Random(7), Heads(Application(a_stage().service), by_socket=False)  # noqa: S311 - no secret
    taken = repeated = 0
    for _ in range(30_000):
        begun, ended, _ = a_head(chance).partition(END)
        raw = begun + ended
        head = heads.head(raw) if ended else None
        if head is None:
            continue
        taken += 1
        repeated += len(head.fields) < raw.count(b"\n") - 2
        parser = Parser(
            limit_request_line=131_072, limit_request_field_size=131_072, limit_request_fields=MOST_FIELDS
        )
        parser.feed(raw)  # raises for what is no head
        read = CallbackRequest.from_parser(parser)
        assert parser.left_over == 0
        assert (read.method, read.uri.partition("?")[0]) == (head.method, head.addressed.target)
        assert _fields_of(read.headers_bytes) == head.fields
        assert read.content_length == head.length
        assert not read.chunked
        assert not (head.length and read._expect_100_continue)  # noqa: SLF001 - what its protocol looks at
        assert read.should_close() != head.keeps
        assert (read.version == (1, 0)) == head.is_1_0
    assert taken > 3_000
    assert repeated > 300


def test_the_lane_waits_for_no_more_of_a_head_than_gunicorn():
    """What gunicorn refuses before the end of a head goes there at once, in whatever pieces it comes."""
    chance, heads = random.Random(8), Heads(Application(a_stage().service), by_socket=False)  # noqa: S311 - no secret
    waits = refused = 0
    for _ in range(6_000):
        raw = a_head(chance)
        if chance.random() < 0.1:
            raw = b"\r\n".join([*PLAIN, *[b"a:"] * MOST_FIELDS])
        parser = Parser(
            limit_request_line=131_072, limit_request_field_size=131_072, limit_request_fields=MOST_FIELDS
        )
        cuts = sorted(chance.sample(range(1, len(raw)), k=3))
        for seen, (start, stop) in zip((0, *cuts), pairwise((0, *cuts)), strict=False):
            begun = raw[:stop]
            if END in begun:
                break
            goes_on = heads.may_become_one(begun, seen=max(0, seen - len(END) + 1))
            try:
                parser.feed(raw[start:stop])
            except ParseError:
                assert not goes_on, begun
                refused += 1
                break
            if not goes_on:
                break
            waits += 1
    assert waits > 3_000
    assert refused > 300


VARYING = [
    b"X-Request-ID: r-%d", b"x-request-id:%d", b"X-Request-Key: %d", b"traceparent: 00-%d-01",
    b"X-B3-SpanId: %d", b"X-Request-ID:  two-spaces-%d", b"X-Request-ID: a blank %d", b"X-Request-Key: %d ",
    b"tracestate: %d,\xe9", b"X-Request_ID: %d", b" X-Request-ID: %d", b"X-Request-ID : %d",
    b"traceparent: " + b"a" * 300 + b"%d",
]  # fmt: skip


def test_a_head_that_came_before_but_for_lines_that_vary_is_read_as_if_it_were_the_first():
    application = Application(a_stage().service)
    chance, heads = random.Random(11), Heads(application, by_socket=False)  # noqa: S311 - no secret
    taken = made = 0
    for _ in range(6_000):
        first, *lines = a_head(chance).partition(END)[0].split(b"\r\n")
        likely = VARYING[:5] if chance.random() < 0.8 else VARYING
        for line in chance.choices(likely, k=chance.choice((0, 1, 1, 2))):
            lines.insert(chance.randrange(len(lines) + 1), line.replace(b"%d", b"@NUMBER@"))
        for number in range(4):
            raw = b"\r\n".join([first, *lines]).replace(b"@NUMBER@", b"%d" % number) + END
            expected = Heads(application, by_socket=False).head(raw)
            made += raw not in heads._kept and heads.kept(raw) is not None  # noqa: SLF001 - that this is tested
            found = heads.head(raw)
            assert (found is None) == (expected is None), raw
            if found is None or expected is None:
                break
            taken += 1
            for name in ("method", "fields", "length", "keeps", "is_1_0", "is_json", "sent_id"):
                assert getattr(found, name) == getattr(expected, name), (name, raw)
            assert found.endpoint is expected.endpoint
            assert str(found.addressed) == str(expected.addressed)
            assert (found.alike is None) == (expected.alike is None)
    assert taken > 3_000
    assert made > 1_000


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-%d: a" % number for number in range(1_000)],
        [b"X: a"] * 1_000,
        [b"X-%d: %b" % (number, b"a" * 7_000) for number in range(10)],
    ],
)
def test_what_is_too_much_for_the_lane_goes_to_gunicorn(lines):
    heads = Heads(Application(a_stage().service), by_socket=False)
    few = len(lines) // 2
    assert heads.head(b"\r\n".join([*PLAIN, *lines[:few]]) + END)
    assert heads.head(b"\r\n".join([*PLAIN, *lines]) + END) is None


def test_what_a_plain_client_sends_is_taken_and_most_of_what_is_odd_is_not():
    heads = Heads(Application(a_stage().service), by_socket=False)
    assert heads.head(b"\r\n".join(PLAIN) + END)
    harmless = {
        line
        for line in ODD_LINES
        if line.lower().startswith((b"x-a:", b"x!", b"te:", b"trailer", b"accept", b"cookie"))
        and not re.search(rb"[\x00\r]", line)
    }
    assert len(harmless) > 8
    for line in ODD_LINES:
        head = heads.head(b"\r\n".join([*PLAIN, line]) + END)
        assert (head is not None) == (line in harmless), line


def test_a_head_that_is_kept_is_the_head_of_those_very_bytes_and_few_are_kept():
    heads = Heads(Application(a_stage().service), by_socket=False)
    for number in [each // 2 for each in range(10_000)]:
        head = heads.head(b"\r\n".join([*PLAIN, b"X-A: %d" % number]) + END)
        assert head is not None
        assert head.header("X-A") == str(number)
    assert len(heads._kept) <= 2_048  # noqa: SLF001 - its bound
    for number in [each // 2 for each in range(4_000)]:
        assert heads.head(b"\r\n".join([*PLAIN, b"X-A: " + b"%d" % number * 500]) + END) is not None
    assert 0 < sum(map(len, heads._kept)) <= 2 * 1024 * 1024  # noqa: SLF001 - ditto


def test_lines_that_vary_do_not_take_a_head_past_the_most_fields():
    heads = Heads(Application(a_stage().service), by_socket=False)
    fits = [*PLAIN, *[b"%d:" % number for number in range(MOST_FIELDS - len(PLAIN))]]
    too_many = [*fits, b"X-Request-ID: a", b"traceparent: b"]
    for lines in (fits, fits, fits):
        assert heads.head(b"\r\n".join(lines) + END) is not None
    assert heads.head(b"\r\n".join(too_many) + END) is None


def test_a_gateways_head_with_a_field_that_is_repeated_is_never_plain():
    """What a gateway joins by a comma and what a client has written with one would be the same here."""
    heads = Heads(Application(a_stage().service), by_socket=False)
    lines = [b"GET /gw/nginx HTTP/1.1", b"Host: x", b"X-Original-URI: /a", b"Cookie: a"]
    for repeated, is_plain in (((), True), ((b"X-Original-URI: /b",), False), ((b"cookie: b",), False)):
        head = heads.head(b"\r\n".join([*lines, *repeated]) + END)
        assert head is not None
        assert (head.alike is not None) is is_plain


def body_of(**fields: object) -> bytes:
    return json.dumps({"user": "adam", "workspace": "acme", "action": "recording.start", **fields}).encode()


def gateway(path: bytes, *lines: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: x", *lines]) + END


ADAM, SAM, STRANGER = (
    b"Authorization: Bearer " + a_token(sub=user).encode() for user in ("adam", "sam", "nobody")
)
ROLEPLAYS = b"/workspaces/acme/roleplays"
TO_ROLEPLAYS = (b"X-Original-Method: POST", b"X-Original-URI: " + ROLEPLAYS)

AN_EVALUATION = {
    "subject": {"type": "user", "id": "adam"},
    "action": {"name": "platform.use"},
    "resource": {"type": "workspace", "id": "acme"},
}
EVALUATION = request("POST", "/access/v1/evaluation", json.dumps(AN_EVALUATION).encode())

REQUESTS = {
    "a check": ASK,
    "a check of a stranger": request("POST", "/v1/authorize", body_of(user="nobody")),
    "an unknown action": request("POST", "/v1/authorize", body_of(action="nothing.at_all")),
    "amounts": request("POST", "/v1/authorize", body_of(amounts={"minutes": 10**9})),
    "a meter that is not taken": request("POST", "/v1/authorize", body_of(amounts={"gold": 1})),
    "a context": request("POST", "/v1/authorize", body_of(context={"a": [1, {"b": None}]})),
    "no JSON": request("POST", "/v1/authorize", b"{"),
    "an empty body": request("POST", "/v1/authorize", b""),
    "a large question": request("POST", "/v1/authorize", body_of(context={"a": "x" * 20_000})),
    "a body that is too large": request("POST", "/v1/authorize", b" " * 70_000),
    "another type": ASK.replace(b"application/json", b"text/plain"),
    "a request id": ASK.replace(b"Host:", b"X-Request-ID: mine-1\r\nHost:"),
    "a request id that is none": ASK.replace(b"Host:", b"X-Request-ID: a b\r\nHost:"),
    "HTTP/1.0": ASK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 that stays": ASK.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
        b"Host:", b"Connection: Keep-Alive\r\nHost:"
    ),
    "the last": ASK.replace(b"Host:", b"Connection: close\r\nHost:"),
    "a query": ASK.replace(b"/v1/authorize", b"/v1/authorize?a=b"),
    "a name that a page elsewhere has": ASK.replace(
        b"Host: x", b"Host: evil.example:8080\r\nUser-Agent: Mozilla/5.0"
    ),
    "a wrong token": ASK.replace(b"Host:", b"Authorization: Bearer wrong\r\nHost:"),
    "a batch": request(
        "POST",
        "/v1/authorize/batch",
        json.dumps(
            {
                "defaults": {"workspace": "acme", "action": "recording.start"},
                "questions": [
                    {"user": "adam"},
                    {"user": "x"},
                    {"user": 7},
                    {"user": "adam", "mode": "consume"},
                ],
            }
        ).encode(),
    ),
    "a large batch": request(
        "POST",
        "/v1/authorize/batch",
        json.dumps({"questions": [json.loads(body_of(user=f"u{n}")) for n in range(300)]}).encode(),
    ),
    "an evaluation": EVALUATION,
    "an evaluation with an id": EVALUATION.replace(b"Host:", b"X-Request-ID: \xe9 any, of mine\r\nHost:"),
    "an evaluation of a stranger": EVALUATION.replace(b"adam", b"nobo"),
    "an evaluation with properties": request(
        "POST",
        "/access/v1/evaluation",
        json.dumps(AN_EVALUATION | {"context": {"amounts": {"minutes": 10**9}}}).encode(),
    ),
    "evaluations": request(
        "POST",
        "/access/v1/evaluations",
        json.dumps(
            {
                "subject": {"type": "user", "id": "adam"},
                "resource": {"type": "workspace", "id": "acme"},
                "evaluations": [
                    {"action": {"name": "recording.start"}},
                    {"action": {}},
                    {"action": {"name": "x"}},
                ],
                "options": {"evaluations_semantic": "deny_on_first_deny"},
            }
        ).encode(),
    ),
    "nginx without a token": gateway(b"/gw/nginx", b"X-Original-Method: GET", b"X-Original-URI: /a"),
    "nginx that says nothing": gateway(b"/gw/nginx"),
    "traefik": gateway(
        b"/gw/forward-auth",
        b"X-Forwarded-Method: GET",
        b"X-Forwarded-Uri: /a?b=c",
        b"X-Forwarded-Host: app.example",
        b"Authorization: Bearer a.b.c",
    ),
    "adam by nginx": gateway(b"/gw/nginx", *TO_ROLEPLAYS, ADAM),
    "adam by nginx, with a query": gateway(b"/gw/nginx?a=b", *TO_ROLEPLAYS, ADAM, b"X-Request-ID: mine-2"),
    "adam by HAProxy, HEAD": gateway(b"/gw/haproxy", *TO_ROLEPLAYS, ADAM, method=b"HEAD"),
    "adam by HAProxy, the last": gateway(b"/gw/haproxy", *TO_ROLEPLAYS, ADAM, b"Connection: close"),
    "adam by Traefik": gateway(
        b"/gw/forward-auth",
        b"X-Forwarded-Method: POST",
        b"X-Forwarded-Uri: " + ROLEPLAYS,
        b"X-Forwarded-Host: app.example",
        ADAM,
    ),
    "adam by Envoy": gateway(b"/gw/ext-authz" + ROLEPLAYS, ADAM, method=b"POST"),
    "adam by Envoy, with a body": gateway(
        b"/gw/ext-authz" + ROLEPLAYS, ADAM, b"Content-Length: 2", method=b"POST"
    )
    + b"{}",
    "what the plan lacks, by HAProxy": gateway(
        b"/gw/haproxy",
        b"X-Original-Method: POST",
        b"X-Original-URI: /workspaces/solo/avatar-roleplays",
        SAM,
    ),
    "a stranger by Envoy": gateway(b"/gw/ext-authz" + ROLEPLAYS, STRANGER, method=b"POST"),
    "envoy, any method": gateway(b"/gw/ext-authz/a/%2e%2e/b?c=d", method=b"PATCH"),
    "envoy, HEAD": gateway(b"/gw/ext-authz/a", method=b"HEAD"),
    "a gateway with a body": gateway(b"/gw/haproxy", b"Content-Length: 3", method=b"POST") + b"abc",
    "apisix": request("POST", "/v1/data/apisix", b'{"input":{}}'),
    "headers that are repeated": gateway(
        b"/gw/nginx",
        b"X-Original-Method: GET",
        b"X-Original-URI: /a",
        b"Cookie: a",
        b"cookie: b",
        b"TE: trailers",
    ),
    "two tokens": gateway(
        b"/gw/nginx",
        b"X-Original-Method: GET",
        b"X-Original-URI: /a",
        b"Authorization: Bearer a.b.c",
        b"Authorization: Bearer d.e.f",
    ),
    "a path that is repeated": gateway(
        b"/gw/nginx", b"X-Original-Method: GET", b"X-Original-URI: /a", b"X-Original-URI: /b"
    ),
    "request ids": ASK.replace(b"Host:", b"X-Request-ID: mine-1\r\nX-Request-ID: mine-2\r\nHost:"),
    "two types": ASK.replace(b"Host:", b"Content-Type: application/json\r\nHost:"),
    "what belongs to a body, without one": gateway(
        b"/gw/haproxy", b"Expect: 100-continue", b"Content-Encoding: gzip", b"Trailer: X"
    ),
    "a compressed question": ASK.replace(b"Host:", b"Content-Encoding: gzip\r\nHost:"),
    "a compressed question of no length": request("POST", "/v1/authorize").replace(
        b"Host:",
        b"Content-Encoding: gzip\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nHost:",
    ),
    "CONNECT": gateway(b"/gw/ext-authz/a", method=b"CONNECT"),
    "M-SEARCH": gateway(b"/gw/ext-authz/a", method=b"M-SEARCH"),
    "many headers": gateway(b"/healthz", *(b"X-%d: a" % number for number in range(1_001))),
    "a head of 60 KB": gateway(b"/healthz", *(b"X-%d: %b" % (number, b"a" * 6_000) for number in range(10))),
    "a head of 120 KB": gateway(b"/healthz", *(b"X-%d: %b" % (number, b"a" * 6_000) for number in range(20))),
    "a head of 180 KB": gateway(b"/healthz", *(b"X-%d: %b" % (number, b"a" * 6_000) for number in range(30))),
    "health": gateway(b"/healthz"),
    "health, HEAD": gateway(b"/healthz", method=b"HEAD"),
    "nothing there": gateway(b"/nothing"),
}
SHORTEST_READ_MS = 0.03
_VARIES = re.compile(
    rb'("(?:decision_id|request_id)": ?"|"at": ?"|[Xx]-(?:Authz-Decision-Id|Request-ID): |Date: )[^"\r\n]*'
)


def answered(sidecar: Sidecar, content: bytes) -> tuple[str, list[str], Any]:
    """The status line, the header lines in order, and the body, without what is another each time."""
    with talking(sidecar) as talk:
        talk.send(content)
        answer = talk.answer(content.partition(b" ")[0].decode())
    lines = [f"{name.lower()}: {_plain(value) if _stays(name) else '*'}" for name, value in answer.headers]
    return answer.line, sorted(lines), _VARIES.sub(rb"\1*", answer.body)


def _stays(name: str) -> bool:
    return name.lower() not in {"date", "x-authz-decision-id"}


def _plain(value: str) -> str:
    return "*" if re.fullmatch(r"[0-9a-f]{32}", value) else value


@pytest.mark.parametrize("name", REQUESTS)
def test_with_the_lane_and_without_the_answers_are_the_same(both, name):
    # Again and again: the second answer of a cell is filled in, the first one is not.
    (first, *others), without = ([answered(sidecar, REQUESTS[name]) for _ in range(3)] for sidecar in both)
    assert [first, *others] == without == [first] * 3


def test_a_connection_stays_in_the_lane_until_something_odd_comes(both):
    with_it, _ = both
    before = read_by(with_it.folder / "socket")
    with talking(with_it) as talk:
        for content in (ASK, REQUESTS["an evaluation"], REQUESTS["health"], REQUESTS["a batch"], ASK):
            talk.send(content)
            assert talk.answer(content.partition(b" ")[0].decode()).status == 200
        talk.send(ASK.replace(b"Host:", b"X_Odd: 1\r\nHost:"))
        assert talk.answer().status == 200
        talk.send(ASK)
        assert talk.answer().status == 200
    after = read_by(with_it.folder / "socket")
    assert (after["lane"] - before["lane"], after["gunicorn"] - before["gunicorn"]) == (
        5,
        3,
    )  # the scrape too


def test_without_the_lane_nothing_is_read_by_it(both):
    _, without = both
    answered(without, ASK)
    assert read_by(without.folder / "socket")["lane"] == 0


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_in_pieces_stays_in_the_lane(both, size):
    with_it, _ = both
    before = read_by(with_it.folder / "socket")
    with talking(with_it) as talk:
        for at in range(0, len(ASK), size):
            talk.send(ASK[at : at + size])
            if size > 1 or at % 16 == 0:
                sleep(0.002)
        assert talk.answer().status == 200
    assert read_by(with_it.folder / "socket")["lane"] == before["lane"] + 1


def test_requests_that_come_together_are_answered_in_their_order(both):
    ids = [f"n-{number}" for number in range(3_000)]
    for sidecar in both:
        with talking(sidecar) as talk:
            content = b"".join(
                (ASK if number % 7 else HEALTH).replace(b"Host:", b"X-Request-ID: %b\r\nHost:" % id_.encode())
                for number, id_ in enumerate(ids)
            )
            sending = Thread(target=talk.send, args=(content,))
            sending.start()
            for number, id_ in enumerate(ids):
                answer = talk.answer("POST" if number % 7 else "GET")
                assert (answer.status, answer.header("x-request-id")) == (200, id_)
            sending.join()


def test_who_sends_requests_and_no_more_gets_all_answers(both):
    """Whenever its end is heard of: some are answered at once, and others wait."""
    chance = random.Random(9)  # noqa: S311 - no secret
    for number in range(120):
        contents = [HEALTH if chance.random() < 0.8 else ASK for _ in range(chance.choice((2, 3, 9)))]
        with talking(both[number % 2]) as talk:
            talk.send(b"".join(contents))
            talk.half_close()
            for content in contents:
                assert talk.answer(content.partition(b" ")[0].decode()).status == 200
            assert talk.has_ended()


@pytest.mark.parametrize("begun", [b"GET /healthz HTTP/1.1\nHost: x\n\n", ASK[:40] + b"\r\nX A: b\r\n"])
def test_half_a_head_that_is_none_is_refused_at_once(both, begun):
    for sidecar in both:
        with talking(sidecar) as talk:
            began = monotonic()
            talk.send(begun)
            assert (talk.answer().code, talk.has_ended()) == ("malformed_request", True)
            assert monotonic() - began < HEAD_S / 2


@pytest.mark.parametrize("name", ["a stranger by Envoy", "a check", "an evaluation of a stranger"])
def test_the_line_says_how_long_the_facts_were_waited_for(both, name):
    """Also of a denial that is made of the facts of a plain question."""
    for sidecar in both:
        request_id = f"waited-{name.replace(' ', '-')}"
        for _ in range(3):
            answered(
                sidecar, REQUESTS[name].replace(b"Host:", b"X-Request-ID: %b\r\nHost:" % request_id.encode())
            )

        def lines(sidecar=sidecar, request_id=request_id):
            return [line["ms"] for line in sidecar.lines if line["request_id"] == request_id]

        assert sidecar.until(lambda: len(lines()) == 3, within_s=5)
        assert all(SHORTEST_READ_MS < ms["facts"] <= ms["total"] for ms in lines()), lines()
