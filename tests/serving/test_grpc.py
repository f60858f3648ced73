"""Envoy's Check over gRPC: a real server and a real channel, and behind them what stands on the stage."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic, sleep

import pytest

from sidecar.api.gateways.decision import IDENTITY, REMOVED
from sidecar.api.service import Readiness
from sidecar.catalog.routes import Routes
from sidecar.decisions.steps import Wait
from sidecar.errors import FactsUnavailable
from tests.api.stage import AUDITOR, BACKEND, a_stage
from tests.api.test_gateways import LIMITED, MEMBERS, ROUTES, Everybody, with_service
from tests.api.test_strangers import a_generous_stage
from tests.servers import free_port
from tests.values import some_facts

grpc = pytest.importorskip("grpc", reason="needs the extra `grpc`")

from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc  # noqa: E402 - once it is there
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402 - ditto

from sidecar.serving.driver import Driver  # noqa: E402 - ditto
from sidecar.serving.grpc import EnvoyServer, remote_of  # noqa: E402 - ditto
from sidecar.serving.threads import Threads  # noqa: E402 - ditto

ANALYTICS = "/workspaces/acme/analytics"
WITHIN_S = 20


@contextmanager
def a_loop():
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WITHIN_S)
        loop.close()


class Served:
    """A server on a loop of its own. *starts* are of its driver; every other call is made on its threads."""

    def __init__(self, service, loop, *, threads, starts):
        self.address = f"127.0.0.1:{free_port()}"
        self._service, self._loop, self._threads, self._starts = service, loop, threads, starts
        self._server = self._on_loop(self._start())

    async def _start(self):
        threads = Threads(self._threads, loop=self._loop)
        driver = Driver(loop=self._loop, threads=threads, starts=self._starts)
        server = EnvoyServer(self._service, [self.address], driver=driver)
        await server.start()
        return server

    def end(self, *, grace_s):
        self._on_loop(self._server.end(grace_s=grace_s))

    def _on_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WITHIN_S)


@contextmanager
def served(service, *, threads=2, starts=None):
    with a_loop() as loop:
        server = Served(service, loop, threads=threads, starts=starts or {})
        try:
            yield server
        finally:
            server.end(grace_s=0)


@contextmanager
def a_channel(service, **options):
    with served(service, **options) as server, grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stage():
    return with_service(a_stage(MEMBERS, identities=Everybody()), routes=Routes(ROUTES))


@pytest.fixture
def channel(stage):
    with a_channel(stage.service) as channel:
        yield channel


def check(channel, path=ANALYTICS, method="GET", *, user="adam", metadata=(), host="app.example", **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if user is not None:
        sent["authorization"] = f"Bearer {user}"
    return check_raw(
        channel, {"method": method, "path": path, "host": host, "headers": sent}, metadata=metadata
    )


def check_raw(channel, http, *, metadata=(), timeout=WITHIN_S):
    return begin(channel, http, metadata=metadata, timeout=timeout).result()


def begin(channel, http, *, metadata=(), timeout=WITHIN_S):
    """A call that is not waited for."""
    request = external_auth_pb2.CheckRequest(attributes={"request": {"http": http}})
    stub = external_auth_pb2_grpc.AuthorizationStub(channel)
    return stub.Check.future(request, timeout=timeout, metadata=metadata)


def headers_of(options):
    return {each.header.key: each.header.value for each in options}


def reason_of(response):
    return headers_of(response.denied_response.headers)["X-Authz-Reason"]


def test_a_yes_sets_the_identity_in_place_of_what_was_sent(channel):
    response = check(channel)

    assert response.status.code == 0
    assert response.WhichOneof("http_response") == "ok_response"
    assert list(headers_of(response.ok_response.headers)) == list(IDENTITY)
    assert all(each.HasField("append") and not each.append.value for each in response.ok_response.headers)
    assert list(response.ok_response.headers_to_remove) == [name.lower() for name in REMOVED]


def test_what_is_left_is_told_to_the_client_and_not_to_the_backend(channel):
    passing, none_left = (check(channel, LIMITED, user=user) for user in ("adam", "full"))

    assert list(headers_of(passing.ok_response.headers)) == list(IDENTITY)
    assert list(headers_of(passing.ok_response.response_headers_to_add)) == ["RateLimit-Policy", "RateLimit"]
    assert headers_of(none_left.denied_response.headers)["RateLimit"].startswith('"minutes";r=0;t=')
    assert not check(channel).ok_response.response_headers_to_add


@pytest.mark.parametrize(
    ("path", "user", "code", "status", "reason"),
    [
        (ANALYTICS, "zoe", 7, 403, "not_a_member"),
        (ANALYTICS, None, 16, 401, "user_unauthenticated"),
        ("/workspaces/solo/analytics", "sam", 7, 402, "feature_not_in_plan"),
        ("/workspaces/acme/recordings", "full", 8, 429, "quota_exceeded"),
        ("/no/such/route", "adam", 7, 403, "unknown_route"),
        ("/workspaces/acme/../acme/analytics", "adam", 7, 403, "unsafe_path"),
        ("", "adam", 7, 403, "gateway_unreadable"),
    ],
)
def test_a_no_is_denied_with_the_clients_status(channel, path, user, code, status, reason):
    response = check(channel, path, user=user)

    denied = response.denied_response
    assert (response.status.code, denied.status.code, reason_of(response)) == (code, status, reason)
    assert json.loads(denied.body)["code"] == reason
    headers = headers_of(denied.headers)
    assert headers["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in headers) == (status == 401)
    assert ("Retry-After" in headers) == (status == 429)


def test_trouble_is_denied_too_and_not_left_to_failure_mode_allow(stage):
    stage.facts.outage = FactsUnavailable("down")
    for service in (stage.service, with_service(stage, serving=lambda: False).service):
        with a_channel(service) as channel:
            response = check(channel)

        assert (response.status.code, response.denied_response.status.code) == (14, 503)


def test_a_policy_that_grants_a_stranger_something_is_trouble():
    with a_channel(a_generous_stage().service) as channel:
        assert reason_of(check(channel, user="zoe")) == "policy_engine_misbehaved"
        assert check(channel, user="adam").status.code == 0


def test_no_response_is_ever_empty(channel, stage):
    requests = [
        external_auth_pb2.CheckRequest(),
        external_auth_pb2.CheckRequest(attributes={}),
        external_auth_pb2.CheckRequest(attributes={"request": {"http": {"method": "CONNECT"}}}),
        external_auth_pb2.CheckRequest(attributes={"request": {"http": {"method": "GET", "path": "*"}}}),
    ]
    stub = external_auth_pb2_grpc.AuthorizationStub(channel)

    for request in requests:
        response = stub.Check(request, timeout=WITHIN_S)
        assert response.status.code != 0
        assert response.WhichOneof("http_response") == "denied_response"


def test_headers_count_however_envoy_sends_them(channel):
    raw = [{"key": "Authorization", "raw_value": b"Bearer adam"}, {"key": "X-Workspace-Id", "value": "acme"}]
    http = {"method": "GET", "path": "/from-header", "host": "a", "header_map": {"headers": raw}}

    assert check_raw(channel, http).status.code == 0

    http["header_map"] = {"headers": [*raw, raw[1]]}
    assert reason_of(check_raw(channel, http)) == "gateway_unreadable"

    http["header_map"] = {"headers": [*raw, raw[0]]}
    assert reason_of(check_raw(channel, http)) == "user_unauthenticated"


def test_the_host_is_the_requests(channel):
    assert reason_of(check(channel, "/acme", host="ADMIN.example:80")) == "role_insufficient"
    assert check(channel, "/acme", host="app.example").status.code == 0


def test_a_comma_in_a_header_is_part_of_its_text(channel, stage):
    for name in ("acme,acme", "a, b", "a b"):
        stage.facts.members["adam", name] = some_facts()

        assert check(channel, "/from-header", x_workspace_id=name).status.code == 0


@pytest.mark.parametrize("name", [b"\xff", b"\xed\xa0\x80", b"a\0"])
def test_a_name_that_is_no_text_names_nothing(channel, name):
    raw = [{"key": "authorization", "value": "Bearer adam"}, {"key": "x-workspace-id", "raw_value": name}]
    http = {"method": "GET", "path": "/from-header", "host": "a", "header_map": {"headers": raw}}

    assert reason_of(check_raw(channel, http)) == "workspace_missing"


def test_a_query_is_not_looked_at_whatever_it_holds(channel):
    for query in ("sort=name:asc,date:desc", "a b", "#/../x", "%zz%00", "\0", "x" * 30_000):
        assert check(channel, f"{ANALYTICS}?{query}").status.code == 0


def test_once_a_route_names_a_host_it_has_to_be_known(channel):
    for host in ("", "127.0.0.1:8080", "localhost:8080", "admin.example.", "a,b", "admin.example?"):
        assert reason_of(check(channel, "/acme", host=host)) == "gateway_unreadable"


def test_two_tokens_of_a_gateway_are_none(channel):
    shown = ("x-sidecar-token", BACKEND)

    assert reason_of(check(channel, metadata=(shown, shown))) == "gateway_untrusted"


def test_a_user_in_a_header_counts_from_an_envoy_that_shows_a_token(channel):
    def asked(*metadata):
        return check(channel, "/user-from-header/acme", user=None, x_user="adam", metadata=metadata)

    assert reason_of(asked()) == "gateway_untrusted"
    assert reason_of(asked(("x-sidecar-token", "nobodys"))) == "gateway_untrusted"
    assert reason_of(asked(("x-sidecar-token", AUDITOR))) == "gateway_untrusted"
    assert asked(("x-sidecar-token", BACKEND)).status.code == 0
    sent_by_the_client = check(
        channel, "/user-from-header/acme", user=None, x_user="adam", x_sidecar_token=BACKEND
    )
    assert reason_of(sent_by_the_client) == "gateway_untrusted"


@pytest.mark.parametrize(
    ("peer", "remote"),
    [
        ("ipv4:127.0.0.1:50000", "127.0.0.1"),
        ("ipv4:10.0.0.7:50000", "10.0.0.7"),
        ("ipv6:%5B::1%5D:50000", "::1"),
        ("ipv6:[2001:db8::1]:50000", "2001:db8::1"),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_peer_is_found(peer, remote):
    assert remote_of(peer) == remote


class Deadlines:
    """A decider that keeps the deadlines it is given."""

    def __init__(self, decider):
        self._decider = decider
        self.given: list[float] = []

    def deciding(self, question, *, deadline, timings):
        self.given.append(deadline)
        return self._decider.deciding(question, deadline=deadline, timings=timings)


@pytest.mark.parametrize(("envoys_s", "own_s"), [(500.0, 100.0), (100.0, 500.0)])
def test_the_deadline_is_the_shorter_of_envoys_and_ours(stage, envoys_s, own_s):
    deadlines = Deadlines(stage.service.decider)
    service = with_service(stage, decider=deadlines, deadline_s=own_s).service
    http = {"method": "GET", "path": ANALYTICS, "host": "a", "headers": {"authorization": "Bearer adam"}}

    began = monotonic()
    with a_channel(service) as channel:
        check_raw(channel, http, timeout=envoys_s)

    assert deadlines.given[0] - began == pytest.approx(100, abs=WITHIN_S)


def test_a_defect_is_no_yes_and_tells_the_log_alone(stage, monkeypatch, caplog):
    monkeypatch.setattr(stage.service.routes, "match", None)

    with a_channel(stage.service) as channel, pytest.raises(grpc.RpcError) as failed:
        check(channel, x_request_id="abc-2")

    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "NoneType" not in failed.value.details()
    assert "request abc-2 met a defect" in caplog.text
    assert "NoneType" in caplog.text


PLAIN = {"method": "GET", "path": ANALYTICS, "host": "a", "headers": {"authorization": "Bearer adam"}}


class Held:
    """Steps of the decider that wait on a thread until they are let go on."""

    def __init__(self, stage, **settings):
        self.begun, self.go_on = Event(), Event()
        self._decider = stage.service.decider
        self.service = with_service(stage, decider=self, **settings).service

    def deciding(self, question, *, deadline, timings):
        yield Wait(self.wait, deadline=deadline)
        return (yield from self._decider.deciding(question, deadline=deadline, timings=timings))

    def wait(self, *, deadline):
        self.begun.set()
        assert self.go_on.wait(WITHIN_S)


@pytest.fixture
def held(stage):
    held = Held(stage, deadline_s=WITHIN_S)
    yield held
    held.go_on.set()


def test_a_defect_of_what_is_called_on_the_loop_is_no_yes(held):
    def defective(**_):
        raise KeyError("unforeseen")

    starts = {held.wait: defective}
    with a_channel(held.service, starts=starts) as channel, pytest.raises(grpc.RpcError) as failed:
        check_raw(channel, PLAIN)

    assert failed.value.code() is grpc.StatusCode.INTERNAL


def until(condition):
    ending = monotonic() + WITHIN_S
    while not condition():
        assert monotonic() < ending
        sleep(0.01)


def test_a_call_whose_client_is_gone_goes_on_to_its_line_in_the_log(stage, held, caplog):
    with a_channel(held.service) as channel:
        call = begin(channel, PLAIN)
        assert held.begun.wait(WITHIN_S)
        call.cancel()
        before = len(stage.lines)
        held.go_on.set()

        until(lambda: len(stage.lines) > before)

    assert stage.lines[-1]["user"] == "adam"
    assert "Exception" not in caplog.text


def test_who_finds_no_thread_until_the_deadline_is_denied_as_in_an_outage(stage):
    held = Held(stage, deadline_s=0.1)
    with a_channel(held.service, threads=1) as channel:
        first = begin(channel, PLAIN)
        assert held.begun.wait(WITHIN_S)
        second = check_raw(channel, PLAIN)
        held.go_on.set()
        first.result()

    assert (second.status.code, second.denied_response.status.code) == (14, 503)
    assert reason_of(second) == "overloaded"
    assert "overloaded" in [line.get("code") for line in stage.lines]


@pytest.mark.parametrize("is_gone", [False, True])
def test_calls_in_progress_are_bounded_also_those_whose_client_is_gone(held, monkeypatch, is_gone):
    monkeypatch.setattr("sidecar.serving.grpc._MOST_IN_PROGRESS", 1)
    with a_channel(held.service) as channel:
        first = begin(channel, PLAIN)
        assert held.begun.wait(WITHIN_S)
        if is_gone:
            first.cancel()

        with pytest.raises(grpc.RpcError) as failed:
            check_raw(channel, PLAIN)
        held.go_on.set()

        until(lambda: _passes(channel))

    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def _passes(channel):
    with suppress(grpc.RpcError):
        return check_raw(channel, PLAIN).status.code == 0
    return False


def test_an_end_waits_for_what_has_begun(held):
    with served(held.service) as server, grpc.insecure_channel(server.address) as channel:
        call = begin(channel, PLAIN)
        assert held.begun.wait(WITHIN_S)
        ending = Thread(target=server.end, kwargs={"grace_s": WITHIN_S})
        ending.start()
        ending.join(0.2)
        assert ending.is_alive()
        held.go_on.set()

        assert call.result().status.code == 0
        ending.join(WITHIN_S)
        assert not ending.is_alive()


def test_an_end_cuts_off_what_is_not_answered_when_the_grace_is_over(held):
    with served(held.service) as server, grpc.insecure_channel(server.address) as channel:
        call = begin(channel, PLAIN)
        assert held.begun.wait(WITHIN_S)

        server.end(grace_s=0.1)

        with pytest.raises(grpc.RpcError):
            call.result()
        held.go_on.set()


def test_the_log_has_a_line_with_envoys_request_id(channel, stage):
    check(channel, x_request_id="abc-1")

    line = stage.lines[-1]
    assert (line["request_id"], line["endpoint"], line["user"]) == ("abc-1", "gateway_envoy_grpc", "adam")
    assert line["situation"] is not None


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("service", ["", "envoy.service.auth.v3.Authorization"])
def test_its_health_is_that_of_the_sidecar(stage, ready, service):
    asked = with_service(
        stage, readiness=lambda: Readiness(ready=ready, without_database=ready, parts={})
    ).service

    with a_channel(asked) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        health = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=WITHIN_S)

    assert health.status == (1 if ready else 2)


def test_the_health_of_another_service_is_not_known(channel):
    stub = health_pb2_grpc.HealthStub(channel)

    with pytest.raises(grpc.RpcError) as failed:
        stub.Check(health_pb2.HealthCheckRequest(service="grpc.x"), timeout=WITHIN_S)

    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
