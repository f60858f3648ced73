from __future__ import annotations

import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import pytest
import requests
import urllib3

from sidecar.engines.opa import OpaEngine
from sidecar.engines.sockets import TimedSocket
from sidecar.engines.verdict import NOBODY
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable, RevisionMismatch
from sidecar.rego.bundle import bundle
from tests.engines.documents import REVISION, a_denial, a_grant
from tests.engines.sockets import dripping, hanging_up_after, request_on, response, saying, server
from tests.servers import opa_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 0.25
MARGIN_S = 10.0  # what a busy machine may add: the servers that do not answer go on for longer
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


def soon() -> float:
    return monotonic() + PATIENCE_S


def in_time() -> float:
    """Of a question that is answered: a busy machine may take its time."""
    return monotonic() + 10


def verdict_of(engine: OpaEngine):
    return engine.verdict(NOBODY, deadline=in_time())


NO_ANSWER = {
    "nothing at all": (dripping(b"", b""), "timed out"),
    "a head a byte at a time": (dripping(b"HTTP/1.1 200 OK\r\n", b"X"), "timed out"),
    "headers without end": (dripping(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), "timed out|headers"),
    "a body a byte at a time": (dripping(HEAD, b" "), "timed out"),
    "chunks a byte at a time": (
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        "timed out",
    ),
    "always wait a little": (dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "timed out"),
    "a closed connection": (hanging_up_after(b""), "closed connection"),
    "half a body": (hanging_up_after(HEAD + b'{"result": {"allow": true'), "IncompleteRead"),
}

NO_VERDICT = {
    "status 500": (response(a_grant(), status="500 Internal Server Error"), "status 500"),
    "status 500 and why": (response({"code": "internal_error"}, status="500 X"), "internal_error"),
    "status 503": (response(b"", status="503 Service Unavailable"), "status 503"),
    "status 404": (response(b"404 page not found", status="404 Not Found"), "page not found"),
    "status 201 and a verdict": (response({"result": a_grant()}, status="201 Created"), "status 201"),
    "no content": (response(b"", status="204 No Content"), "status 204"),
    "HTML": (response(b"<html><body>Welcome to nginx!</body></html>"), "Expecting value"),
    "an empty body": (response(b""), "Expecting value"),
    "undefined": (response({}), "data.authz.decision is undefined .* is the bundle loaded"),
    "undefined, with a warning": (response({"warning": {}}), "is undefined"),
    "JSON cut short": (response(b'{"result": {"allow": true, "reason":'), "Expecting value"),
    "more after the JSON": (response(b'{"result": {}} {}'), "Extra data"),
    "two verdicts": (response([{"result": a_grant()}]), "no object"),
    "a word": (response("granted"), "no object"),
    "null": (response({"result": None}), "expected an object, got null"),
    "nothing in it": (response({"result": {}}), "without allow"),
    "a truthy text": (response({"result": a_grant(allow="true")}), "/allow: expected true or false"),
    "one for true": (response({"result": a_grant(allow=1)}), "/allow: expected true or false, got 1"),
    "an extra field": (response({"result": a_grant(also=1)}), "with also"),
    "bytes that are no text": (response(b'{"result": "\xff\xfe"}'), "can't decode"),
    "UTF-16": (response('{"result": {}}'.encode("utf-16")), "can't decode"),
    "a number of 5,000 digits": (response(b'{"result": ' + b"9" * 5_000 + b"}"), "digits"),
    "a hundred thousand brackets": (response(b'{"result": ' + b"[" * 50_000 + b"}"), "recursion"),
    "a huge body": (response(b" " * 10_000_000), "more than 1048576 bytes"),
    "a huge header": (response(b"{}", headers=f"X: {'x' * 70_000}\r\n"), "bytes|LineTooLong"),
    "another protocol": (b"-ERR unknown command\r\n" * 10, "does not speak HTTP"),
    "compressed nonsense": (response(b"zzzz", headers="Content-Encoding: gzip\r\n"), "gzip"),
}


@pytest.mark.parametrize(("talk", "says"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_no_answer_in_time_is_unavailable_and_nothing_is_asked_twice(talk, says):
    with server(talk) as heard:
        begun = monotonic()
        with pytest.raises(EngineUnavailable, match=says):
            OpaEngine(heard.url, revision=REVISION).verdict(
                NOBODY, deadline=soon() if "timed out" in says else in_time()
            )
        took = monotonic() - begun

    assert took < PATIENCE_S + MARGIN_S
    assert heard.bodies == [b'{"input":' + NOBODY + b"}"]


@pytest.mark.parametrize(("reply", "says"), NO_VERDICT.values(), ids=NO_VERDICT)
def test_an_answer_that_is_no_verdict_is_misbehaviour_and_nothing_is_asked_twice(reply, says):
    with (
        server(saying(reply)) as heard,
        pytest.raises(EngineMisbehaved, match=says),
    ):
        verdict_of(OpaEngine(heard.url, revision=REVISION))

    # Where our own revision is undefined, the plain name is another question.
    questions = 2 if "undefined" in says else 1
    assert heard.bodies == [b'{"input":' + NOBODY + b"}"] * questions


def test_an_opa_that_is_not_there_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]

    with pytest.raises(EngineUnavailable, match=f"OPA at http://127.0.0.1:{port} did not answer: .*refused"):
        verdict_of(OpaEngine(f"http://127.0.0.1:{port}", revision=REVISION))


def test_a_socket_that_is_not_there_is_unavailable(tmp_path):
    with pytest.raises(EngineUnavailable, match="No such file"):
        verdict_of(OpaEngine(f"unix://{tmp_path}/none.sock", revision=REVISION))


def test_a_host_that_has_no_address_is_unavailable():
    with pytest.raises(EngineUnavailable, match="did not answer"):
        verdict_of(OpaEngine("http://nowhere.invalid:8181", revision=REVISION))


def test_an_opa_that_does_not_accept_is_unavailable_by_the_deadline():
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for caller in (first, second):  # so that the queue is full
            caller.settimeout(0)
            caller.connect_ex(full.getsockname())
        begun = monotonic()
        with pytest.raises(EngineUnavailable):
            OpaEngine(f"http://127.0.0.1:{full.getsockname()[1]}", revision=REVISION).verdict(
                NOBODY, deadline=soon()
            )
        took = monotonic() - begun

    assert took < PATIENCE_S + MARGIN_S


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_is_not_followed(status):
    with server(saying(response({"result": a_grant()}))) as elsewhere:
        reply = response({"result": a_grant()}, status=status, headers=f"Location: {elsewhere.url}/\r\n")
        with server(saying(reply)) as heard, pytest.raises(EngineMisbehaved, match=f"status {status[:3]}"):
            verdict_of(OpaEngine(heard.url, revision=REVISION))

    assert elsewhere.connections == 0


def test_the_environment_is_ignored(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    with server(saying(response({"result": a_grant()}))) as heard:
        verdict_of(OpaEngine(heard.url, revision=REVISION))

    assert (
        heard.heads[0].splitlines()[0]
        == f"POST /v1/data/authz/revisions/{REVISION}/authz/decision HTTP/1.1".encode()
    )
    assert b"authorization" not in heard.heads[0].lower()


@pytest.mark.parametrize(
    ("leak", "translated"),
    [
        (requests.RequestException(), EngineUnavailable),
        (requests.exceptions.SSLError(), EngineUnavailable),
        (urllib3.exceptions.HTTPError(), EngineUnavailable),
        (urllib3.exceptions.ProtocolError(), EngineUnavailable),
        (requests.TooManyRedirects(), EngineUnavailable),
        (requests.exceptions.InvalidHeader(), EngineMisbehaved),
        (urllib3.exceptions.LocationParseError(""), EngineMisbehaved),
    ],
    ids=repr,
)
def test_what_the_client_leaks_is_translated(monkeypatch, leak, translated):
    def leaking(*_: object, **__: object) -> None:
        raise leak

    monkeypatch.setattr("sidecar.engines.opa.OpaClient.query_rule", leaking)

    with pytest.raises(translated):
        verdict_of(OpaEngine("http://127.0.0.1:1", revision=REVISION))


def test_another_revision_is_a_mismatch():
    with (
        server(saying(response({"result": a_grant(revision="r2")}))) as heard,
        pytest.raises(RevisionMismatch),
    ):
        verdict_of(OpaEngine(heard.url, revision=REVISION))


def test_the_served_revision_is_that_of_the_answer():
    with server(saying(response({"result": a_denial(revision="r2")}))) as heard:
        served = OpaEngine(heard.url, revision=REVISION).served_revision(deadline=in_time())

    assert served == "r2"


def test_the_situation_is_sent_byte_for_byte():
    situation = (
        '{"action":"é \\u0000 \\" 😀","context":{"n":1e2,"big":123456789012345678901234567890}}'.encode()
    )

    with server(saying(response({"result": a_grant()}))) as heard:
        OpaEngine(heard.url, revision=REVISION).verdict(situation, deadline=in_time())

    assert heard.bodies == [b'{"input":' + situation + b"}"]


def test_questions_of_a_thread_share_a_connection():
    with server(saying(response({"result": a_grant()}))) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        for _ in range(10):
            verdict_of(engine)

    assert (heard.connections, len(heard.bodies)) == (1, 10)


def test_a_connection_can_be_ended_and_the_next_question_makes_another():
    with server(saying(response({"result": a_grant()}))) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        for _ in range(2):
            verdict_of(engine)
            engine.close()

    assert (heard.connections, len(heard.bodies)) == (2, 2)


def test_threads_do_not_share_a_connection():
    with server(saying(response({"result": a_grant()}))) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        for _ in range(2):
            with ThreadPoolExecutor(1) as thread:
                thread.submit(verdict_of, engine).result()

    assert heard.connections == 2


def test_a_connection_that_opa_closed_while_idle_is_replaced_before_anything_is_sent():
    with server(hanging_up_after(response({"result": a_grant()}))) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        for _ in range(3):
            verdict_of(engine)
            time.sleep(0.05)  # so that the closing has arrived

    assert (heard.connections, len(heard.bodies)) == (3, 3)


def test_an_answer_that_came_too_late_is_not_taken_for_the_next():
    def late_at_first(connection, heard):
        while request_on(connection, heard):
            if len(heard.bodies) == 1:
                time.sleep(PATIENCE_S + 0.1)
                connection.sendall(response({"result": a_grant()}))
            else:
                connection.sendall(response({"result": a_denial()}))

    with server(late_at_first) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        with pytest.raises(EngineUnavailable):
            engine.verdict(NOBODY, deadline=soon())
        time.sleep(0.2)

        assert verdict_of(engine).allow is False


def test_bytes_after_an_answer_are_not_taken_for_the_next():
    smuggled = response({"result": a_denial()}) + response({"result": a_grant()})
    with server(saying(smuggled, response({"result": a_denial()}))) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        verdict_of(engine)
        time.sleep(0.05)

        assert verdict_of(engine).allow is False


def test_a_failure_is_over_when_opa_is_well_again():
    replies = [response(b"", status="500 X"), response(b"<html>"), response({"result": a_grant()})]
    with server(saying(*replies)) as heard:
        engine = OpaEngine(heard.url, revision=REVISION)
        for _ in range(2):
            with pytest.raises(EngineMisbehaved):
                verdict_of(engine)

        assert verdict_of(engine).allow


def test_bytes_that_have_arrived_are_not_read_after_the_deadline():
    ours, theirs = socket.socketpair()
    with TimedSocket(fileno=ours.detach()) as timed, theirs:
        timed.settimeout(0.01)
        theirs.sendall(b"late")
        time.sleep(0.02)

        with pytest.raises(TimeoutError):
            timed.recv_into(bytearray(4))


def test_a_deadline_that_passes_while_a_thread_makes_its_client_asks_nothing(monkeypatch):
    made = requests.Session.__init__

    def slowly(session):
        time.sleep(0.05)
        made(session)

    monkeypatch.setattr(requests.Session, "__init__", slowly)
    with (
        server(saying(response({"result": a_grant()}))) as heard,
        pytest.raises(EngineUnavailable, match="no time was left"),
    ):
        OpaEngine(heard.url, revision=REVISION).verdict(NOBODY, deadline=monotonic() + 0.02)

    assert heard.connections == 0


def test_a_deadline_that_is_over_asks_nothing():
    with server(saying(response({"result": a_grant()}))) as heard, pytest.raises(EngineUnavailable):
        OpaEngine(heard.url, revision=REVISION).verdict(NOBODY, deadline=monotonic())

    assert heard.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "opa:8181",
        "https://127.0.0.1:8181",
        "unix://relative.sock",
        "unix://",
        "http://",
        "http://h:99999",
    ],
)
def test_an_address_that_is_none_is_a_configuration_error(url):
    with pytest.raises(ConfigError, match="is no address of OPA"):
        OpaEngine(url, revision=REVISION)


@contextmanager
def opa_on(path: Path, bundle_file: Path) -> Iterator[None]:
    address = f"unix://{path}"
    with subprocess.Popen(
        [opa_binary(), "run", "--server", "--addr", address, "--log-level", "error", "--bundle", bundle_file],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()
    path.unlink(missing_ok=True)


@pytest.mark.opa
def test_an_opa_that_was_killed_and_started_again_is_used_again_without_a_restart(tmp_path, compiled):
    bundle_file, path = tmp_path / "bundle.tar.gz", tmp_path / "opa.sock"
    bundle_file.write_bytes(bundle(compiled))
    engine = OpaEngine(f"unix://{path}", revision=compiled.revision)

    def until_it_answers() -> str:
        deadline = monotonic() + 20
        while True:
            try:
                return engine.served_revision(deadline=deadline)
            except (EngineUnavailable, EngineMisbehaved):
                if monotonic() > deadline:
                    raise
                time.sleep(0.05)

    with opa_on(path, bundle_file):
        before = until_it_answers()
    with pytest.raises(EngineUnavailable):
        verdict_of(engine)
    with opa_on(path, bundle_file):
        after = until_it_answers()

    assert (before, after) == (compiled.revision, compiled.revision)
