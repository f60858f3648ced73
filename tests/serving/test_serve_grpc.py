"""`sidecar serve` with an address for gRPC: several workers on one port, and how they come and go."""

from __future__ import annotations

import re
import shutil
import signal
import socket
from collections import Counter
from contextlib import contextmanager
from threading import Event, Thread
from time import sleep

import pytest

from sidecar.settings import shipped
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, bearer
from tests.servers import free_port
from tests.serving.serving import run_to_its_end, serving

grpc = pytest.importorskip("grpc", reason="needs the extra `grpc`")

from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc  # noqa: E402 - once it is there
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402 - ditto

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

HTTP = {"method": "GET", "path": "/workspaces/acme/analytics", "host": "app.example"}


@contextmanager
def serving_grpc(folder, database, opa, **settings):
    """A sidecar, and the way to it."""
    (folder / "secret").write_text(SECRET)
    grpc_port, port = free_port(), free_port()
    chosen = {
        "database_url": database,
        "opa_url": opa.url,
        "bind": f"127.0.0.1:{port},grpc://127.0.0.1:{grpc_port}",
        "jwt_keys": f"hs256:{folder / 'secret'}",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "deadline_ms": 2_000,
    } | settings
    with serving(folder, port=port, **chosen) as sidecar:
        workers = chosen.get("workers", 2)
        assert sidecar.until(lambda: sidecar.said.count("ready: revision") == workers), sidecar.said
        yield sidecar, Way(grpc_port)


class Way:
    """To a sidecar: each channel is a connection of its own, so that any worker may have it."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"

    def channel(self):
        return grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])


def check(channel, user="mia"):
    headers = {"authorization": bearer(sub=user)}
    request = external_auth_pb2.CheckRequest(attributes={"request": {"http": {**HTTP, "headers": headers}}})
    return external_auth_pb2_grpc.AuthorizationStub(channel).Check(request, timeout=20).status.code


def is_well(way):
    with way.channel() as one:
        health = health_pb2_grpc.HealthStub(one).Check(health_pb2.HealthCheckRequest(), timeout=20)
    return health.status == health_pb2.HealthCheckResponse.SERVING


def test_all_workers_answer_and_the_sidecar_says_that_it_is_well(tmp_path, database, opa):
    with serving_grpc(tmp_path, database, opa) as (sidecar, way):
        for _ in range(20):
            with way.channel() as one:
                assert (check(one), check(one, user="zoe")) == (0, 7)
        assert sidecar.until(lambda: is_well(way))  # as the next look at its parts finds out
        assert sidecar.until(lambda: len(sidecar.lines) == 40)
        assert Counter(line["status"] for line in sidecar.lines) == {200: 20, 403: 20}
        assert "Traceback" not in sidecar.said


# A worker that ends cuts off a call that it has not begun; Envoy's example in the documents asks twice more:
# both workers of a generation end at once.
CUT_OFF = {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


class Load:
    """Envoys that ask without a pause, twice more if they are cut off; *lost* are calls without an answer."""

    def __init__(self, way, callers=3):
        self.codes: Counter[int] = Counter()
        self.lost: list[str] = []
        self._stop = Event()
        self._threads = [Thread(target=self._ask, args=(way,)) for _ in range(callers)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, way):
        with way.channel() as one:
            while not self._stop.is_set():
                try:
                    self.codes[self._check(one)] += 1
                except grpc.RpcError as error:
                    self.lost.append(str(error))

    def _check(self, channel, *, retries=2):
        try:
            return check(channel)
        except grpc.RpcError as error:
            if error.code() not in CUT_OFF or not retries:
                raise
            return self._check(channel, retries=retries - 1)


def test_a_reload_loses_no_call(tmp_path, database, opa):
    plans = tmp_path / "plans.yaml"
    shutil.copy(shipped("plans.yaml"), plans)
    with (
        serving_grpc(tmp_path, database, opa, plans=plans) as (sidecar, way),
        Load(way) as load,
    ):
        sleep(0.5)
        # A comment changes no revision, so that neither OPA nor the database has to follow.
        plans.write_text(f"{plans.read_text()}# read again\n")
        sidecar.signal(signal.SIGHUP)
        assert sidecar.until(lambda: "reloaded: revision" in sidecar.said, within_s=30)
        sleep(0.5)

    assert load.codes[0] > 10
    assert (set(load.codes), load.lost) == ({0}, [])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_quick_though_envoy_keeps_its_connection(tmp_path, database, opa, how):
    with serving_grpc(tmp_path, database, opa, grace_s=30) as (sidecar, way), way.channel() as one:
        assert check(one) == 0

        sidecar.signal(how)

        assert sidecar.process.wait(20) == 0
        assert not {"Traceback", "Exception", "never"} & set(re.findall(r"\w+", sidecar.said)), sidecar.said


def test_an_address_that_another_has_is_told_before_anything_starts(database, opa):
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{free_port()},grpc://127.0.0.1:{other.getsockname()[1]}"
        ended = run_to_its_end(database_url=database, opa_url=opa.url, bind=bind)

    assert ended.returncode == 78
    assert "SIDECAR_BIND: cannot listen on grpc://127.0.0.1:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_sidecars_do_not_share_an_address(tmp_path, database, opa):
    with serving_grpc(tmp_path, database, opa, workers=1) as (_, way):
        bind = f"127.0.0.1:{free_port()},grpc://{way.address}"
        ended = run_to_its_end(database_url=database, opa_url=opa.url, bind=bind)

    assert ended.returncode == 78
    assert "cannot listen on" in ended.stderr


def test_envoy_on_another_machine_needs_a_token():
    bind = f"127.0.0.1:{free_port()},grpc://0.0.0.0:{free_port()}"

    ended = run_to_its_end(database_url="postgresql://x/y", bind=bind)

    assert ended.returncode == 78
    assert "can be reached from other machines" in ended.stderr
