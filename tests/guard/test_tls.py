"""The client over TLS: who the server is gets verified, and every deadline is kept.

tests/guard/test_contract.py runs the whole contract through an nginx that terminates TLS.
"""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from time import monotonic

import pytest

from sidecar.guard import Client, Unavailable
from tests.engines.sockets import dripping, request_on, server
from tests.guard.certificates import a_certificate, an_authority, shows
from tests.guard.values import WHERE, a_grant, answering, http

PATIENT_S = 10
SHORT_S = 0.25
GENEROUS_S = 5  # what a call with a short deadline may take on a busy machine


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return an_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority):
    return a_certificate(authority)


def over_tls(talk, certificate):
    """*talk* behind a handshake."""
    context = shows(certificate)

    def talking(connection, heard):
        with context.wrap_socket(connection, server_side=True) as wrapped:
            talk(wrapped, heard)

    return talking


@contextmanager
def a_client_of(talk, *, host="127.0.0.1", timeout_s=PATIENT_S, **more):
    with server(talk) as heard:
        url = heard.url.replace("http://127.0.0.1", f"https://{host}")
        with Client(url, timeout_s=timeout_s, **more) as client:
            yield heard, client


def test_an_authority_of_ones_own_is_trusted(authority, certificate):
    with a_client_of(over_tls(answering(a_grant()), certificate), ca_file=authority.file) as (heard, client):
        for _ in range(3):
            assert client.check("a", **WHERE)

    assert heard.connections == 1
    assert b"\r\nHost: 127.0.0.1:" in heard.heads[0]


def test_a_host_is_verified_by_its_name(authority):
    named = a_certificate(authority, host="localhost", name="named")
    talk = over_tls(answering(a_grant()), named)
    with a_client_of(talk, host="localhost", ca_file=authority.file) as (_, client):
        assert client.check("a", **WHERE)


def test_the_authorities_of_the_system_are_trusted_by_default(authority, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(authority.file))  # where OpenSSL looks
    with a_client_of(over_tls(answering(a_grant()), certificate)) as (_, client):
        assert client.check("a", **WHERE)


UNPROVEN = {
    "nobody knows the authority": lambda ours, _: (a_certificate(ours), None),
    "another authority": lambda ours, folder: (a_certificate(ours), an_authority(folder).file),
    "another host": lambda ours, _: (a_certificate(ours, host="sidecar.example"), ours.file),
    "ended": lambda ours, _: (a_certificate(ours, ended=True), ours.file),
}


@pytest.mark.parametrize("made", UNPROVEN.values(), ids=UNPROVEN)
def test_a_server_that_does_not_prove_itself_is_told_nothing(made, tmp_path):
    shown, trusted = made(an_authority(tmp_path, "ours"), tmp_path)
    talk = over_tls(answering(a_grant()), shown)
    with (
        a_client_of(talk, ca_file=trusted, token="s3cret") as (heard, client),  # noqa: S106 - a test's
        pytest.raises(Unavailable, match="certificate verify failed") as outage,
    ):
        client.consume("a", **WHERE)

    assert outage.value.code == "sidecar_unreachable"
    assert not outage.value.uncertain  # nothing was sent, so nothing was taken
    assert heard.heads == []


def test_a_server_without_tls_is_an_outage(authority):
    def without(connection, _):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with (
        a_client_of(without, ca_file=authority.file) as (_, client),
        pytest.raises(Unavailable, match="sidecar_unreachable"),
    ):
        client.check("a", **WHERE)


def silent(connection, heard):
    request_on(connection, heard)
    heard.stopping.wait(30)


@pytest.mark.parametrize(
    "talk",
    [
        silent,
        dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["silent", "headers", "body"],
)
def test_the_deadline_is_for_the_whole_answer(talk, authority, certificate):
    with a_client_of(over_tls(talk, certificate), ca_file=authority.file, timeout_s=SHORT_S) as (_, client):
        began = monotonic()
        with pytest.raises(Unavailable):
            client.check("a", **WHERE)

    assert monotonic() - began < GENEROUS_S


def test_the_deadline_is_for_the_handshake_too(authority):
    def no_handshake(_, heard):
        heard.stopping.wait(30)

    with a_client_of(no_handshake, ca_file=authority.file, timeout_s=SHORT_S) as (heard, client):
        began = monotonic()
        with pytest.raises(Unavailable, match="no answer in time") as outage:
            client.consume("a", **WHERE)

    assert monotonic() - began < GENEROUS_S
    assert not outage.value.uncertain
    assert heard.heads == []


def test_the_deadline_is_for_all_that_is_sent(authority, certificate):
    def reads_a_little_at_a_time(connection, heard):
        while not heard.stopping.wait(SHORT_S / 5):
            for _ in range(12):  # records: enough that no single piece has to wait for long
                connection.recv(16_384)

    talk = over_tls(reads_a_little_at_a_time, certificate)
    with a_client_of(talk, ca_file=authority.file, timeout_s=SHORT_S) as (_, client):
        began = monotonic()
        with pytest.raises(Unavailable, match="no answer in time"):
            client.check("a", **WHERE, context={"much": "x" * 30_000_000})
        took_s = monotonic() - began

    assert took_s < GENEROUS_S


def test_a_connection_that_was_closed_meanwhile_is_opened_again(authority, certificate):
    def one_answer(connection, heard):
        request_on(connection, heard)
        connection.sendall(http(a_grant(), heard=heard))

    with a_client_of(over_tls(one_answer, certificate), ca_file=authority.file) as (heard, client):
        for _ in range(3):
            assert client.check("a", **WHERE)

    assert heard.connections == 3


def test_what_comes_unasked_is_never_an_answer(authority, certificate):
    def smuggling(connection, heard):
        while request_on(connection, heard):
            connection.sendall(http(a_grant(message="one"), heard=heard))
            connection.sendall(http(a_grant(message="two"), heard=heard))

    with a_client_of(over_tls(smuggling, certificate), ca_file=authority.file) as (heard, client):
        assert [client.check("a", **WHERE).message for _ in range(3)] == ["one"] * 3

    assert heard.connections == 3


def test_nothing_older_than_tls_1_2_is_spoken(authority, certificate):
    context = shows(certificate)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    def old(connection, heard):
        with context.wrap_socket(connection, server_side=True) as wrapped:
            answering(a_grant())(wrapped, heard)

    with a_client_of(old, ca_file=authority.file) as (heard, client), pytest.raises(Unavailable):
        client.check("a", **WHERE)

    assert heard.heads == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:8080", "ca_file is for https:// alone"),
        ("unix:///run/sidecar.sock", "ca_file is for https:// alone"),
        ("https://127.0.0.1", "holds no certificates that can be read"),
    ],
)
def test_a_file_that_is_of_no_use_is_said(url, says, tmp_path):
    (tmp_path / "empty.pem").write_text("")
    for file in ("none.pem", "empty.pem"):
        with pytest.raises(ValueError, match=says):
            Client(url, ca_file=tmp_path / file)
