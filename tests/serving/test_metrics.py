"""What a real server has counted after real requests, and what becomes of it when workers end."""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import pytest

from sidecar.identity.callers import token_line
from tests.serving.serving import QUESTION, serving
from tests.serving.talk import talking

DOCUMENT = Path(__file__).parent.parent.parent / "docs/metrics.md"
OF_FEATURES = {  # counted where the feature is used, in tests of their own
    "sidecar_facts_reads_total",
    "sidecar_replica_lag_seconds",
    "sidecar_replica_used",
    "sidecar_authzen_decisions_total",
    "sidecar_stripe_events_total",
    "sidecar_problems_total",
    "sidecar_reloads_total",
    "sidecar_clock_skew_seconds",
}


def samples(sidecar):
    """Of one scrape: the value of each name with its labels."""
    status, text = sidecar.request("GET", "/metrics")
    assert status == 200
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def of(found, name, **labels):
    """The sum over all samples of *name* that have *labels*."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for each, value in found.items()
        if each.partition("{")[0] == name and all(label in each for label in wanted)
    )


@contextmanager
def counting(folder, database, opa):
    """A sidecar of two workers, asked by somebody who may ask for its metrics too."""
    tokens = folder / "tokens"
    tokens.write_text(token_line("all", ["authorize", "audit"], "t") + "\n")
    with serving(folder, database_url=database, opa_url=opa.url, tokens=tokens, deadline_ms=5_000) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(sidecar.is_ready, within_s=30)
        yield sidecar


@pytest.fixture(scope="module")
def busy(database, opa, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    with counting(folder, database, opa) as sidecar:
        for _ in range(20):
            assert sidecar.ask()[0] == 200
        assert sidecar.request("POST", "/v1/authorize", {"user": "adam"})[0] == 400
        assert sidecar.request("POST", "/v1/authorize/batch", {"questions": [QUESTION] * 7})[0] == 200
        assert sidecar.request("GET", "/nowhere")[0] == 404
        consume = QUESTION | {"mode": "consume", "idempotency_key": "metrics-1", "amounts": {"minutes": 1}}
        for _ in range(2):
            assert sidecar.request("POST", "/v1/authorize", consume)[0] == 200
        yield sidecar


def asked(found, **labels):
    return of(found, "sidecar_request_duration_seconds_count", **labels)


def test_requests_are_counted_by_endpoint_and_status_with_their_durations(busy):
    assert busy.until(lambda: asked(samples(busy), endpoint="authorize", status=200) >= 20, within_s=10)

    found = samples(busy)
    assert asked(found, endpoint="authorize", status=400) == 1
    assert asked(found, endpoint="authorize_batch", status=200) == 1
    assert asked(found, endpoint="none", status=404) == 1
    assert of(found, "sidecar_ledger_changes_total", change="consume", result="done") == 1
    assert of(found, "sidecar_ledger_changes_total", change="consume", result="replayed") == 1
    assert of(found, "sidecar_batch_size_sum", endpoint="authorize_batch") == 7
    assert 0 < of(found, "sidecar_request_duration_seconds_sum", endpoint="authorize") < 60


def test_every_metric_of_the_document_is_there_after_real_requests(busy):
    described = set(re.findall(r"`(sidecar_\w+)`", DOCUMENT.read_text()))

    def missing():
        names = {name.partition("{")[0] for name in samples(busy)}
        base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} | names
        return described - base - OF_FEATURES

    assert busy.until(lambda: not missing(), within_s=10), missing()


def test_what_a_worker_is_at_the_moment_is_told_of_those_that_live(busy):
    assert busy.until(lambda: of(samples(busy), "sidecar_workers") == 2, within_s=10)

    found = samples(busy)
    assert of(found, "sidecar_pool_limit", pool="facts") == 2 * 4
    assert of(found, "sidecar_pool_connections", pool="facts") >= 1
    assert of(found, "sidecar_build_info", engine="opa") == 1
    assert of(found, "sidecar_connections") <= 2
    assert of(found, "sidecar_process_resident_memory_bytes") > 20_000_000
    assert not [name for name in found if "revision=" in name and "build_info" not in name]


def test_a_slow_clients_request_takes_from_its_first_byte_on(busy):
    before = of(samples(busy), "sidecar_request_duration_seconds_sum", endpoint="healthz")
    with talking(busy) as talk:
        talk.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        sleep(0.6)
        talk.send(b"\r\n")
        assert talk.answer("GET").status == 200

    def took():
        return of(samples(busy), "sidecar_request_duration_seconds_sum", endpoint="healthz") - before

    assert busy.until(lambda: took() >= 0.55, within_s=5), took()


def children_of(sidecar):
    pid = sidecar.process.pid
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_counts_outlive_workers_and_their_files_do_not(tmp_path, database, opa, monkeypatch):
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with counting(tmp_path, database, opa) as sidecar:
        for _ in range(30):
            assert sidecar.ask()[0] == 200
        assert sidecar.until(lambda: asked(samples(sidecar), endpoint="authorize") == 30, within_s=10)
        for _ in range(2):
            victim = children_of(sidecar)[0]
            os.kill(victim, signal.SIGKILL)
            assert sidecar.until(lambda gone=victim: gone not in children_of(sidecar), within_s=20)
            assert sidecar.until(lambda: of(samples(sidecar), "sidecar_workers") == 2, within_s=20)
        sidecar.signal(signal.SIGHUP)
        assert sidecar.until(
            lambda: of(samples(sidecar), "sidecar_reloads_total", result="taken") == 1, within_s=40
        )
        assert sidecar.until(lambda: of(samples(sidecar), "sidecar_worker_exits_total") == 4, within_s=10)
        found = samples(sidecar)
        there = {path.stem.rpartition("_")[2] for path in temporary.glob("sidecar-*/metrics/*.db")}
        assert there - {"dead", str(sidecar.process.pid)} == {*map(str, children_of(sidecar))}

    assert asked(found, endpoint="authorize") == 30
    assert of(found, "sidecar_workers") == 2
