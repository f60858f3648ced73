"""A worker that replaces a dead one serves at once, though OPA is away: it inherits what is known."""

from __future__ import annotations

import os
import signal
from time import monotonic

import pytest

from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.bundle import served_bundle
from tests.api.authzen_server import SCENARIOS
from tests.servers import opa_process
from tests.serving.processes import children_of, stopped
from tests.serving.scripted_opa import scripted_opa
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

BUSY_S = 2.0  # on a machine with other tests; alone 0.3 s are kept


def kill_its_worker(sidecar):
    """Seconds from the death of the only worker until the next one answers a question."""
    [worker] = children_of(sidecar.process.pid)
    os.kill(worker, signal.SIGKILL)
    began = monotonic()
    assert sidecar.until(lambda: sidecar.ask()[0] == 200, within_s=20), sidecar.said
    return monotonic() - began


@pytest.mark.parametrize("learnt", ["by the master", "by a worker"])
def test_a_successor_serves_without_opa(tmp_path, database, compiled, learnt):
    with scripted_opa(compiled.revision) as opa:
        if learnt == "by a worker":  # OPA is not there yet when the master asks
            opa.misbehaviour = "says 500"
        with serving(
            tmp_path, database_url=database, opa_url=opa.url, workers=1, deadline_ms=2_000
        ) as sidecar:
            opa.misbehaviour = None
            assert sidecar.until(sidecar.is_ready)
            opa.misbehaviour = "says 500"
            asked = opa.asked

            took_s = min(kill_its_worker(sidecar) for _ in range(3))

            assert took_s < BUSY_S
            assert opa.asked - asked < 100  # only whether it is back
            assert sidecar.request("GET", "/readyz")[0] == 200


def test_a_worker_that_dies_while_those_before_a_reload_end_has_a_successor_too(tmp_path, database, compiled):
    with (
        scripted_opa(compiled.revision) as opa,
        serving(tmp_path, database_url=database, opa_url=opa.url, workers=1, grace_s=10) as sidecar,
    ):
        assert sidecar.until(sidecar.is_ready)
        [before] = children_of(sidecar.process.pid)
        with stopped(before):  # so that its end takes all of the grace
            sidecar.signal(signal.SIGHUP)
            assert sidecar.until(lambda: sidecar.said.count("ready: revision") == 2), sidecar.said
            assert sidecar.until(lambda: sidecar.ask()[0] == 200)
            [worker] = children_of(sidecar.process.pid) - {before}
            os.kill(worker, signal.SIGKILL)
            began = monotonic()
            assert sidecar.until(lambda: sidecar.ask()[0] == 200), sidecar.said
            assert monotonic() - began < BUSY_S


@pytest.mark.opa
def test_a_successor_serves_without_opa_where_another_domain_has_a_policy(tmp_path, database, compiled):
    policy = SCENARIOS / "todo"
    with (
        opa_process(served_bundle(compiled, authzen_policy_at(policy))) as (url, pid),
        serving(
            tmp_path, database_url=database, opa_url=url, workers=1, deadline_ms=2_000, authzen_policy=policy
        ) as sidecar,
    ):
        assert sidecar.until(sidecar.is_ready)
        os.kill(pid, signal.SIGKILL)

        assert min(kill_its_worker(sidecar) for _ in range(2)) < BUSY_S
        assert sidecar.until(lambda: sidecar.status()["authzen"]["cause"] == "policy_engine_unavailable")
