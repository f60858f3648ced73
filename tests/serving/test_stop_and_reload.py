"""Stops and reloads under load: no request is lost, nothing is left open, and no peer can put off an end.

``STOPS_AND_RELOADS=50`` in the environment does each of them 50 times.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
from contextlib import contextmanager, suppress
from time import monotonic, sleep

import pytest

from tests.servers import free_port
from tests.serving.meanwhile import ASK, Clients
from tests.serving.peers import (
    Peers,
    a_batch,
    absent_body,
    sends,
    silent,
    slow_body,
    slow_head,
    unread,
    unread_pipeline,
)
from tests.serving.processes import at_most, children_of, descriptors_of
from tests.serving.scripted_opa import scripted_opa
from tests.serving.serving import serving
from tests.serving.talk import talking
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

TIMES = int(os.environ.get("STOPS_AND_RELOADS", "3"))
GRACE_S = 3
SLACK_S = 2.0


@pytest.fixture
def settings(database, opa):
    return {"database_url": database, "opa_url": opa.url, "deadline_ms": 5_000, "grace_s": GRACE_S}


@contextmanager
def ready(folder, **settings):
    with serving(folder, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        yield sidecar


def load_on(sidecar):
    return Clients(sidecar.port, kept=4, fresh=4, pause_s=0.003)


def stop(sidecar):
    """How many seconds it takes."""
    began = monotonic()
    sidecar.signal(signal.SIGTERM)
    sidecar.process.wait(GRACE_S + 20)
    return monotonic() - began


@pytest.mark.parametrize("_", range(TIMES))
def test_a_stop_loses_no_request(tmp_path, settings, _):
    with ready(tmp_path, **settings) as sidecar, load_on(sidecar) as load:
        sleep(0.5)
        took_s = stop(sidecar)

    assert (set(load.seen.answers), load.seen.lost) == ({"200"}, [])
    assert load.seen.refused > 0  # it was under load to its very end
    assert took_s < GRACE_S + SLACK_S
    assert sidecar.process.returncode == 0
    assert "Traceback" not in sidecar.said


def reloads(sidecar):
    return sidecar.said.count("reloaded: revision")


def reload(sidecar):
    before = reloads(sidecar)
    sidecar.signal(signal.SIGHUP)
    assert sidecar.until(lambda: reloads(sidecar) > before, within_s=30), sidecar.said


def test_reloads_lose_no_request_and_leave_nothing_open(tmp_path, settings):
    with ready(tmp_path, **settings) as sidecar:
        master = sidecar.process.pid
        reload(sidecar)
        open_before = descriptors_of(master)
        with load_on(sidecar) as load:
            for _ in range(TIMES):
                workers = children_of(master)
                reload(sidecar)
                assert sidecar.until(lambda old=workers: not old & children_of(master), within_s=10)
                assert len(children_of(master)) == sidecar.workers
        open_after = descriptors_of(master)

    assert (set(load.seen.answers), load.seen.lost, load.seen.refused) == ({"200"}, [], 0)
    assert open_after == open_before
    assert "Traceback" not in sidecar.said


STUBBORN = [
    *[slow_head(0.2)] * 9,
    *[slow_body(0.2)] * 9,
    *[absent_body()] * 9,
    *[unread_pipeline(), unread(a_batch())] * 4,
    *[silent()] * 20,
    *[sends(ASK, slowly=ASK * 100, every_s=0.01)] * 9,
]


def test_a_stop_is_not_put_off_by_any_peer(tmp_path, settings):
    with ready(tmp_path, **settings) as sidecar, Peers(sidecar.port, *STUBBORN):
        sleep(1.0)
        took_s = stop(sidecar)

    assert took_s < GRACE_S + SLACK_S
    assert sidecar.process.returncode == 0
    assert "Traceback" not in sidecar.said


def test_a_stop_is_not_put_off_by_a_database_that_is_silent(tmp_path, settings, database):
    with (
        Proxy(database) as proxy,
        ready(tmp_path, **settings | {"database_url": proxy.url, "deadline_ms": 10_000}) as sidecar,
    ):
        proxy.silent = True
        with Peers(sidecar.port, *[sends(ASK)] * 20):
            sleep(0.5)
            took_s = stop(sidecar)

    assert took_s < GRACE_S + SLACK_S
    assert sidecar.process.returncode == 0


def test_a_stop_tells_who_asks_and_soon_leaves_who_does_not(tmp_path, settings):
    """Somebody who sends a body keeps the workers there meanwhile."""
    with (
        ready(tmp_path, **settings | {"workers": 1, "grace_s": 6}) as sidecar,
        talking(sidecar) as asking,
        talking(sidecar) as idle,
        Peers(sidecar.port, slow_body(0.5)),
    ):
        for each in (asking, idle):
            each.send(ASK)
            assert not each.answer().closes
        sleep(0.3)
        began = monotonic()
        sidecar.signal(signal.SIGTERM)
        sleep(0.4)
        asking.send(ASK)
        answer = asking.answer()
        assert (answer.status, answer.closes) == (200, True)
        assert asking.has_ended()
        assert idle.has_ended()
        left_after_s = monotonic() - began

    assert 0.5 < left_after_s < 2.5


@contextmanager
def without_its_folder(sidecar, folder):
    """As a machine does that cleans /tmp once a week."""
    for each in folder.glob("sidecar-*"):
        shutil.rmtree(each)
    yield


@contextmanager
def without_descriptors(sidecar, _):
    with at_most(3, sidecar.process.pid):
        yield


@contextmanager
def without_memory(sidecar, _):
    master = sidecar.process.pid
    before = resource.prlimit(master, resource.RLIMIT_AS)
    resource.prlimit(master, resource.RLIMIT_AS, (64 * 1024 * 1024, before[1]))
    try:
        yield
    finally:
        resource.prlimit(master, resource.RLIMIT_AS, before)


@contextmanager
def with_workers_that_die(sidecar, _):
    """As soon as there is one, as by an out-of-memory killer. OPA, which builds the files first, is none."""
    old = workers_begun(sidecar)
    yield
    assert sidecar.until(lambda: workers_begun(sidecar) - old, within_s=20)
    for each in workers_begun(sidecar) - old:
        with suppress(ProcessLookupError):  # the master has given up, and ended it
            os.kill(each, signal.SIGKILL)


def workers_begun(sidecar):
    return {int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", sidecar.said)}


TROUBLES = (without_its_folder, without_descriptors, without_memory, with_workers_that_die)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.__name__)
def test_a_generation_that_cannot_be_made_leaves_the_one_that_serves(
    tmp_path, settings, trouble, monkeypatch
):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with ready(tmp_path, **settings) as sidecar:
        old = children_of(sidecar.process.pid)
        with load_on(sidecar) as load:
            with trouble(sidecar, folder):
                sidecar.signal(signal.SIGHUP)
                if trouble is not with_workers_that_die:
                    assert sidecar.until(lambda: "reloaded" in sidecar.said, within_s=20)
            assert sidecar.until(lambda: "reloaded" in sidecar.said, within_s=20)
            sleep(0.5)
        refused = "not reloaded" in sidecar.said
        workers = children_of(sidecar.process.pid)
        reload(sidecar)  # which nothing is in the way of any more
        asked = sidecar.ask()[0]

    assert (set(load.seen.answers), load.seen.lost) == ({"200"}, [])
    assert refused or trouble is without_its_folder  # which it may as well make again
    assert (workers == old) == refused
    assert asked == 200


def test_a_stop_during_a_reload_is_a_stop(tmp_path, settings, compiled):
    """The new generation waits for an OPA that does not answer by its revision."""
    with (
        scripted_opa(compiled.revision) as opa,
        ready(tmp_path, **settings | {"opa_url": opa.url}) as sidecar,
    ):
        opa.revision = "another"
        sidecar.signal(signal.SIGHUP)
        sleep(1.0)
        took_s = stop(sidecar)

    assert took_s < GRACE_S + SLACK_S
    assert sidecar.process.returncode == 0


def test_a_stop_while_a_worker_starts_is_not_lost(tmp_path, database):
    """It waits for a policy engine that is not there, and its loop does not run yet."""
    settings = {"database_url": database, "opa_url": f"http://127.0.0.1:{free_port()}", "grace_s": 30}
    with serving(tmp_path, alive=False, workers=1, **settings) as sidecar:
        assert sidecar.until(lambda: "Booting worker" in sidecar.said)
        sleep(0.5)

        began = monotonic()
        sidecar.signal(signal.SIGTERM)
        sidecar.process.wait(20)

    assert monotonic() - began < 10
    assert "SIGKILL" not in sidecar.said
