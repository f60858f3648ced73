"""How long each peer may take, and what it gets: all of them at once, while others ask.

A head has 5 s, a body 10 s, an answer that is not read 10 s; whoever keeps to that is answered, however
slowly it comes. The server looks once a second.
"""

from __future__ import annotations

import json
from time import sleep

import pytest

from tests.serving.meanwhile import ASK, QUESTION, Others, request
from tests.serving.peers import (
    CHECK_HEAD,
    Peers,
    a_batch,
    absent_body,
    asks_again,
    endless_head,
    sends,
    slow_body,
    slow_chunks,
    slow_head,
    unread,
    unread_pipeline,
)
from tests.serving.processes import children_of
from tests.serving.stand import WELL, Stand, seen_by

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

WATCHED_S = 14.0
HEAD_S, BODY_S = (4.5, 8.0), (9.0, 13.0)
UNREAD_S = (9.0, 13.5)  # counted here from the connection: before the last answer that can be written
CHUNKED = CHECK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WITH_BODY = CHECK_HEAD + b"Content-Length: %d\r\n\r\n" % len(QUESTION)
EXPECTING = WITH_BODY.replace(b"Host", b"Expect: 100-continue\r\nHost")
OPENAPI = request("GET", "/openapi.json")
GATEWAYS = ("/gw/nginx", "/gw/forward-auth", "/gw/haproxy", "/gw/ext-authz/workspaces/acme/analytics")

TOO_LATE = {
    "a head of a byte every 4 s": (slow_head(4.0), HEAD_S),
    "a head of a byte every half second": (slow_head(0.5), HEAD_S),
    "empty lines before a head": (sends(b"", slowly=b"\r\n" * 100), (0.0, 8.0)),
    "half the name of a method": (sends(b"PO"), HEAD_S),
    "a head that never ends on a kept connection": (endless_head(), HEAD_S),
    "a head behind a whole request": (sends(ASK + b"GET /healthz HTTP/1.1\r\nHo"), HEAD_S),
    "a body of a byte every 4 s": (slow_body(), BODY_S),
    "a body of a byte every half second": (slow_body(0.5), BODY_S),
    "a body of a chunk every second": (slow_chunks(), BODY_S),
    "a body that never comes": (absent_body(), BODY_S),
    "a batch that never comes": (absent_body("/v1/authorize/batch"), BODY_S),
    "a body that was expected and never comes": (sends(EXPECTING), BODY_S),
    "the size of a chunk that never ends": (sends(CHUNKED + b"1;", slowly=b"a" * 100), BODY_S),
    "a trailer that never ends": (sends(CHUNKED + b"0\r\nX-T: ", slowly=b"a" * 100), BODY_S),
    "questions whose answers are not read": (unread_pipeline(), UNREAD_S),
    "descriptions that are not read": (unread_pipeline(OPENAPI, 2_000), UNREAD_S),
    "a batch whose answer is not read": (unread(a_batch()), UNREAD_S),
}
IN_TIME = {
    "a request of a byte every 10 ms": sends(b"", slowly=ASK, every_s=0.01),
    "a body of a byte every 50 ms": sends(WITH_BODY, slowly=QUESTION, every_s=0.05),
    "the end of a body after 8 s": sends(WITH_BODY + QUESTION[:-4], slowly=QUESTION[-4:], every_s=2.0),
    "a request whose sender has closed its end": sends(ASK, then_half_closes=True),
    "a slow request whose sender has closed its end": sends(
        b"", slowly=ASK, every_s=0.005, then_half_closes=True
    ),
}
BROKEN_OFF = {
    "half a head": sends(ASK[:40], then_half_closes=True),
    "a head without its body": sends(WITH_BODY, then_half_closes=True),
    "half a body": sends(WITH_BODY + QUESTION[:9], then_half_closes=True),
    "half a chunk": sends(CHUNKED + b"9\r\nabc", then_half_closes=True),
    "nothing": sends(b"", then_half_closes=True),
}
UNWANTED = {path: absent_body(path) for path in GATEWAYS}
IDLE = asks_again(after_s=WATCHED_S - 2)


@pytest.fixture(scope="module")
def watched(database, opa, tmp_path_factory):
    """Each peer's line when the watch is over, by its name, and what others saw."""
    folder = tmp_path_factory.mktemp("sidecar")
    peers = {name: peer for name, (peer, _) in TOO_LATE.items()}
    peers |= IN_TIME | BROKEN_OFF | UNWANTED | {"idle": IDLE}
    with Stand(folder, database_url=database, opa_url=opa.url, deadline_ms=1_000) as stand:
        sidecar = stand.sidecar
        with Others(sidecar.port) as others, Peers(sidecar.port, *peers.values()) as all_of_them:
            sleep(WATCHED_S)
            lines = dict(zip(peers, all_of_them.lines, strict=True))
            ended = {name: line.ended_s for name, line in lines.items()}
        alive = children_of(sidecar.process.pid) == stand.workers
    for name, line in lines.items():
        line.ended_s = ended[name]
    return lines, others, alive


@pytest.mark.long
def test_others_are_answered_meanwhile(watched):
    _, others, alive = watched

    assert seen_by(others) == WELL
    assert alive


@pytest.mark.long
@pytest.mark.parametrize("name", TOO_LATE)
def test_it_is_too_late(watched, name):
    line = watched[0][name]
    earliest, latest = TOO_LATE[name][1]

    assert line.ended_s is not None
    assert earliest < line.ended_s < latest
    # An answer to what came before is one; to what did not come there is none, or that it was too late.
    before = name.endswith(("kept connection", "whole request"))
    late = line.statuses[1 if before else 0 :]
    assert late in ([], [408]) or name.startswith("empty lines")
    if 408 in late:
        head, _, body = line.received.rpartition(b"\r\n\r\n")
        assert json.loads(body)["code"] == "request_timeout"
        assert b"application/problem+json" in head
        assert b"\r\nX-Request-ID: " in head


@pytest.mark.parametrize("name", IN_TIME)
def test_it_is_in_time(watched, name):
    line = watched[0][name]

    assert line.statuses == [200]
    assert line.received.endswith(b"}")


def test_an_idle_connection_is_kept(watched):
    assert watched[0]["idle"].statuses == [200, 200]


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_who_will_send_no_more_is_not_waited_for(watched, name):
    line = watched[0][name]

    assert line.ended_s is not None
    assert line.ended_s < 1.5
    assert line.statuses in ([], [400])


@pytest.mark.parametrize("path", UNWANTED)
def test_a_body_that_nobody_wants_is_not_waited_for(watched, path):
    line = watched[0][path]

    assert line.statuses == [403]
    assert line.ended_s is not None
    assert line.ended_s < 1.5
