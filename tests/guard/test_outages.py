"""A sidecar that is down, slow, broken or something else: never a yes, never a plausible no, and in time."""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import contextmanager, suppress
from threading import Barrier, Thread
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.guard import Client, Conflict, GuardError, Unavailable
from tests.effort import tries
from tests.engines.sockets import Heard, dripping, request_on, server
from tests.guard.values import (
    WHERE,
    a_denial,
    a_grant,
    a_hold,
    a_problem,
    answering,
    http,
)
from tests.servers import free_port

PATIENT_S = 10
SHORT_S = 0.25
GENEROUS_S = 5  # what a call with a short deadline may take on a busy machine


@contextmanager
def a_client_of(talk, *, timeout_s=PATIENT_S, path=None):
    with server(talk, path=path) as heard, Client(heard.url, timeout_s=timeout_s) as client:
        yield heard, client


def every_call():
    """Each way to ask, by name."""
    return {
        "check": lambda client: client.check("a", **WHERE),
        "authorize": lambda client: client.authorize("a", **WHERE),
        "consume": lambda client: client.consume("a", **WHERE),
        "reserve": lambda client: client.reserve("a", **WHERE),
        "batch": lambda client: client.batch(["a"], **WHERE),
        "commit": lambda client: client.commit("r"),
        "release": lambda client: client.release("r"),
        "usage_release": lambda client: client.usage_release(workspace="acme", idempotency_key="k"),
        "usage_release of a resource": lambda client: client.usage_release(
            workspace="acme", meter="scenarios", resource="s"
        ),
        "entitlements": lambda client: client.entitlements(**WHERE),
        "workspaces_of": lambda client: list(client.workspaces_of("mia")),
    }


def saying_raw(*pieces):
    """Whatever is asked, these very bytes; then the connection is closed."""

    def talk(connection, heard):
        request_on(connection, heard)
        connection.sendall(b"".join(piece(heard) if callable(piece) else piece for piece in pieces))

    return talk


def granted(heard):
    return http(a_grant(), heard=heard)


def silent(connection, heard):
    request_on(connection, heard)
    heard.stopping.wait(30)


MISBEHAVIOURS = {
    "closes": saying_raw(b""),
    "says HTML": answering(b"<html>It works</html>", content_type="text/html"),
    "says a yes as text": answering(a_grant(), content_type="text/plain"),
    "says nothing in JSON": answering(b""),
    "says half of its JSON": answering(b'{"allow": true'),
    "says its JSON twice": answering(b"{}{}"),
    "says yes twice": answering(b'{"allow": true, "allow": true}'),
    "says true": answering(b"true"),
    "says null": answering(b"null"),
    "says a list": answering([a_grant()]),
    "says what is not UTF-8": answering(b'{"allow": "\xff"}'),
    "says NaN": answering(b'{"allow": NaN}'),
    "nests without end": answering(b"[" * 100_000),
    "says yes with 201": saying_raw(lambda heard: http(a_grant(), status="201 Created", heard=heard)),
    "says yes with 204": saying_raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "redirects": saying_raw(
        lambda heard: http(
            a_grant(), status="302 Found", headers="Location: http://127.0.0.1:1/\r\n", heard=heard
        )
    ),
    "redirects with a problem": saying_raw(
        lambda heard: http(a_problem(302, "found"), status="302 Found", heard=heard)
    ),
    "says 404 in HTML": saying_raw(
        lambda heard: http(b"<html>", status="404 Not Found", content_type="text/html", heard=heard)
    ),
    "says 502 as a proxy does": saying_raw(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
    "says 503": answering(a_problem(503, "facts_unavailable")),
    "says 500": answering(a_problem(500, "internal_error")),
    "says 503 without a code": saying_raw(
        lambda heard: http({"status": 503}, status="503 Busy", heard=heard)
    ),
    "says one status and means another": saying_raw(
        lambda heard: http(a_problem(403, "not_a_member"), status="503 Busy", heard=heard)
    ),
    "answers somebody else": saying_raw(lambda heard: http(a_grant())),
    "answers without an id": saying_raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    ),
    "breaks off in the body": saying_raw(lambda heard: granted(heard)[:-20]),
    "breaks off in the head": saying_raw(lambda heard: granted(heard)[:40]),
    "speaks another protocol": saying_raw(b"220 smtp.example.com ESMTP\r\n"),
    "speaks TLS": saying_raw(b"\x15\x03\x01\x00\x02\x02\x46"),
    "has no end of headers": saying_raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200),
    "says a broken chunk": saying_raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_a_sidecar_that_does_so_has_not_answered(how):
    with a_client_of(MISBEHAVIOURS[how]) as (_, client), pytest.raises(Unavailable):
        client.check("a", **WHERE)


@pytest.mark.parametrize("name", every_call())
@pytest.mark.parametrize("how", ["closes", "says HTML", "says true", "says 503", "answers somebody else"])
def test_no_call_takes_it_for_an_answer(how, name):
    with a_client_of(MISBEHAVIOURS[how]) as (_, client), pytest.raises(Unavailable):
        every_call()[name](client)


@pytest.mark.parametrize("name", every_call())
def test_nobody_there_is_an_outage_of_every_call_and_certainly_without_effect(name):
    client = Client(f"http://127.0.0.1:{free_port()}", timeout_s=PATIENT_S)

    with pytest.raises(Unavailable, match="sidecar_unreachable") as outage:
        every_call()[name](client)

    assert not outage.value.uncertain


def test_no_socket_there_is_an_outage(tmp_path):
    with pytest.raises(Unavailable, match="sidecar_unreachable"):
        Client(f"unix://{tmp_path}/nobody.sock").check("a", **WHERE)


def test_a_name_that_leads_nowhere_is_an_outage():
    with pytest.raises(Unavailable, match="sidecar_unreachable"):
        Client("http://sidecar.invalid", timeout_s=PATIENT_S).check("a", **WHERE)


@pytest.mark.parametrize(
    "talk",
    [
        silent,
        dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["silent", "headers", "body", "continue", "chunks"],
)
def test_the_deadline_is_for_the_whole_call(talk):
    with a_client_of(talk, timeout_s=SHORT_S) as (heard, client):
        began = monotonic()
        with pytest.raises(Unavailable) as outage:
            client.consume("a", **WHERE)
        took_s = monotonic() - began

    assert took_s < GENEROUS_S
    assert outage.value.uncertain
    assert len(heard.heads) == 1  # who is slow is not asked again


def test_an_answer_without_end_has_an_end():
    start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    with a_client_of(dripping(start, b" " * 1_000_000)) as (_, client), pytest.raises(Unavailable):
        client.check("a", **WHERE)


def test_one_connection_serves_many_questions():
    with a_client_of(answering(a_grant())) as (heard, client):
        for _ in range(5):
            client.check("a", **WHERE)

    assert heard.connections == 1


def test_a_unix_socket_serves_as_well(tmp_path):
    with a_client_of(answering(a_grant()), path=tmp_path / "sidecar.sock") as (heard, client):
        assert client.check("a", **WHERE)
        assert client.check("a", **WHERE)

    assert heard.connections == 1
    assert b"\r\nHost: localhost\r\n" in heard.heads[0]


def test_no_thread_is_given_the_answer_to_another():
    def naming_the_user(connection, heard):
        own = Heard()  # of this connection alone
        while request_on(connection, own):
            connection.sendall(http(a_grant(message=json.loads(own.bodies[-1])["user"]), heard=own))

    together = Barrier(8)
    answered: list[tuple[str, str]] = []

    def ask(client, user):
        together.wait(10)
        answered.extend((user, client.check("a", user=user, workspace="w").message) for _ in range(20))

    with a_client_of(naming_the_user) as (heard, client):
        threads = [Thread(target=ask, args=(client, f"user-{number}")) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert len(answered) == 160
    assert all(user == named for user, named in answered)
    assert 1 <= heard.connections <= 8


def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with a_client_of(answering(a_grant())) as (_, client):
        assert client.check("a", **WHERE)


def test_after_a_failure_the_connection_is_not_used_again():
    """The late answer to the first question must not be read as the answer to the second."""

    def late(connection, heard):
        while request_on(connection, heard):
            first = len(heard.heads) == 1
            said = http(a_grant() if first else a_denial(), heard=heard)
            if first:
                heard.stopping.wait(2 * SHORT_S)
            connection.sendall(said)

    with a_client_of(late, timeout_s=SHORT_S) as (heard, client):
        with pytest.raises(Unavailable):
            client.check("a", **WHERE)
        with suppress(Unavailable):  # on a very busy machine
            assert not client.check("a", **WHERE)

    assert heard.connections == 2


def test_what_comes_unasked_is_never_an_answer():
    """Somebody smuggles a yes behind the first answer: it must not be read as that of the second question."""

    def smuggling(connection, heard):
        while request_on(connection, heard):
            first = len(heard.heads) == 1
            said = http(a_denial(), heard=heard)
            connection.sendall(said + http(a_grant(), heard=heard) if first else said)

    with a_client_of(smuggling) as (_, client):
        assert not client.check("a", **WHERE)
        assert not client.check("a", **WHERE)


def closing_after_one(connection, heard):
    """One answer a connection, and no word that it was the last."""
    request_on(connection, heard)
    connection.sendall(http(a_grant(reservation=a_hold()), heard=heard))


def test_a_connection_that_was_closed_meanwhile_is_replaced_before_it_is_used():
    with a_client_of(closing_after_one) as (heard, client):
        for _ in range(3):
            assert client.consume("a", **WHERE)
            _until_closed(client)

    assert heard.connections == 3
    assert len(heard.heads) == 3  # nothing was sent into the closed one


def test_a_server_that_says_it_will_close_is_believed():
    with a_client_of(answering(a_grant(), headers="Connection: close\r\n")) as (heard, client):
        client.check("a", **WHERE)
        client.check("a", **WHERE)

    assert heard.connections == 2


# An answer to whatever is asked here.
ANY = a_grant(reservation=a_hold(committed={"minutes": 1}), quota={}, released={})


def hanging_up_on_the_second(connection, heard):
    """Answer the first question of all; hear the second on the same connection, and close without a word."""
    request_on(connection, heard)
    connection.sendall(http(ANY, heard=heard))
    if len(heard.heads) == 1:
        request_on(connection, heard)


@pytest.mark.parametrize("name", ["check", "consume", "reserve", "commit", "usage_release"])
def test_what_a_kept_connection_swallows_is_asked_once_more_with_the_same_words(name):
    with a_client_of(hanging_up_on_the_second) as (heard, client):
        client.check("a", **WHERE)
        every_call()[name](client)

    assert heard.connections == 2
    assert len(heard.heads) == 3
    assert heard.bodies[1] == heard.bodies[2]  # the key of what it takes, too


def test_what_was_swallowed_may_have_been_done_though_nobody_is_there_any_more():
    with a_client_of(hanging_up_on_the_second) as (heard, client):
        client.check("a", **WHERE)
        heard.listener.shutdown(socket.SHUT_RDWR)
        with pytest.raises(Unavailable) as outage:
            client.consume("a", **WHERE)

    assert outage.value.uncertain


def test_a_kept_connection_that_is_silent_is_waited_for_until_the_deadline():
    def answering_once(connection, heard):
        request_on(connection, heard)
        connection.sendall(http(a_grant(), heard=heard))
        silent(connection, heard)

    with a_client_of(answering_once, timeout_s=SHORT_S) as (heard, client):
        client.check("a", **WHERE)
        with pytest.raises(Unavailable, match="in time"):
            client.check("a", **WHERE)

    assert len(heard.heads) == 2
    assert heard.connections == 1


def test_a_connection_that_was_reset_meanwhile_is_replaced():
    def resetting(connection, heard):
        request_on(connection, heard)
        connection.sendall(http(a_grant(), heard=heard))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with a_client_of(resetting) as (heard, client):
        for _ in range(2):
            client.check("a", **WHERE)
            _until_closed(client)

    assert heard.connections == 2


def test_what_must_not_be_done_twice_is_not_asked_twice():
    with a_client_of(hanging_up_on_the_second) as (heard, client):
        client.check("a", **WHERE)
        with pytest.raises(Unavailable) as outage:
            every_call()["usage_release of a resource"](client)

    assert len(heard.heads) == 2
    assert outage.value.uncertain


@pytest.mark.parametrize("name", every_call())
def test_what_a_new_connection_swallows_is_not_asked_again(name):
    with a_client_of(MISBEHAVIOURS["closes"]) as (heard, client), pytest.raises(Unavailable) as outage:
        every_call()[name](client)

    assert len(heard.heads) == 1
    assert outage.value.uncertain


def test_a_503_is_not_asked_again():
    with a_client_of(answering(a_problem(503, "facts_unavailable"))) as (heard, client):
        for _ in range(2):
            with pytest.raises(Unavailable):
                client.check("a", **WHERE)

    assert len(heard.heads) == 2


def test_an_outage_that_is_over_is_over():
    with a_client_of(answering(a_problem(503, "starting"), a_grant())) as (_, client):
        with pytest.raises(Unavailable, match="starting"):
            client.check("a", **WHERE)

        assert client.check("a", **WHERE)


def test_a_fork_asks_by_connections_of_its_own():
    with a_client_of(answering(a_grant())) as (heard, client):
        client.check("a", **WHERE)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if client.check("a", **WHERE) else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)
        client.check("a", **WHERE)

    assert os.waitstatus_to_exitcode(status) == 0
    assert heard.connections == 2  # the parent's first one is still good


def test_the_child_of_a_fork_closes_what_it_has_inherited(monkeypatch):
    with a_client_of(answering(a_grant())) as (heard, client):
        client.check("a", **WHERE)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        client.check("a", **WHERE)
        client.check("a", **WHERE)

    assert heard.connections == 2


def test_without_time_nothing_is_asked():
    with (
        a_client_of(answering(a_grant()), timeout_s=0) as (heard, client),
        pytest.raises(Unavailable, match="in time") as outage,
    ):
        client.consume("a", **WHERE)

    assert not outage.value.uncertain
    assert heard.heads == []


def test_a_closed_client_opens_another_connection():
    with a_client_of(answering(a_grant())) as (heard, client):
        client.check("a", **WHERE)
        client.close()
        client.check("a", **WHERE)

    assert heard.connections == 2


def test_only_so_many_connections_are_kept(monkeypatch):
    monkeypatch.setattr("sidecar.guard.connections._MOST_IDLE", 0)
    with a_client_of(answering(a_grant())) as (heard, client):
        client.check("a", **WHERE)
        client.check("a", **WHERE)

    assert heard.connections == 2


def test_a_refusal_leaves_the_connection_in_use():
    with a_client_of(answering(a_problem(409, "idempotency_key_reused"), a_grant())) as (heard, client):
        with pytest.raises(Conflict):
            client.consume("a", **WHERE)
        client.check("a", **WHERE)

    assert heard.connections == 1


@settings(
    max_examples=tries(150, usual=40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    noise=st.binary(max_size=300)
    | st.builds(
        lambda at, byte: granted(None)[:at] + bytes([byte]) + granted(None)[at + 1 :],
        st.integers(0, len(granted(None)) - 1),
        st.integers(0, 255),
    )
)
def test_no_noise_is_ever_a_yes(noise, noisy):
    heard, client = noisy
    heard.noise = noise
    with pytest.raises(GuardError):
        client.check("a", **WHERE)


@pytest.fixture
def noisy():
    def talk(connection, heard):
        request_on(connection, heard)
        connection.sendall(heard.noise)
        connection.shutdown(socket.SHUT_WR)

    with a_client_of(talk) as both:
        yield both


def _until_closed(client):
    """Wait until the other side's closing has reached the connection that is kept."""
    [kept] = client._connections._idle  # noqa: SLF001 - no test can see it from outside
    ending = monotonic() + 5
    while kept.is_quiet():
        assert monotonic() < ending
