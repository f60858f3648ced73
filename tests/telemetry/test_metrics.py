from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tracemalloc
from random import Random
from threading import Event, Thread
from time import sleep
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from sidecar.telemetry.metrics import Metrics

GRANTED = SimpleNamespace(verdict=SimpleNamespace(reason="granted", status=200), plan="team")
REFUSED = SimpleNamespace(verdict=SimpleNamespace(reason="quota_exceeded", status=429), plan="gone")
STRANGER = SimpleNamespace(verdict=SimpleNamespace(reason="not_a_member", status=404), plan=None)
CATALOG = SimpleNamespace(plans={"team": object()})


@pytest.fixture
def metrics():
    return Metrics(engine="embedded", revision="r1")


@pytest.fixture
def often_interrupted():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def samples_in(text):
    """Each sample's value by its name and labels."""
    samples = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples if "_created" not in name}


def decided(reason, status):
    return f'sidecar_decisions_total{{engine="embedded",reason="{reason}",status="{status}"}}'


def test_each_kind_is_counted_under_its_name_and_labels(metrics):
    for decision in (GRANTED, GRANTED, REFUSED, STRANGER):
        metrics.count_decision(decision, catalog=CATALOG)
    metrics.count_evaluation(decision=True)
    for _ in range(2):
        metrics.count_evaluation(decision=False)
    metrics.count_problem("malformed_json")
    for by in ("lane", "lane", "gunicorn"):
        metrics.count_request(by)
    metrics.count_dropped_lines(1)
    metrics.count_dropped_lines(40)
    metrics.count_clock_refusal()
    metrics.observe_memo("hit")
    metrics.count_ledger_change("consume", "replayed")

    found = samples_in(metrics.text())

    assert {name: value for name, value in found.items() if "_total" in name} == {
        decided("granted", 200): 2,
        decided("quota_exceeded", 429): 1,
        decided("not_a_member", 404): 1,
        'sidecar_authzen_decisions_total{decision="true"}': 1,
        'sidecar_authzen_decisions_total{decision="false"}': 2,
        'sidecar_problems_total{code="malformed_json"}': 1,
        'sidecar_requests_total{read_by="lane"}': 2,
        'sidecar_requests_total{read_by="gunicorn"}': 1,
        "sidecar_undeclared_plan_total": 1,
        "sidecar_log_lines_dropped_total": 41,
        "sidecar_clock_refusals_total": 1,
        'sidecar_policy_memo_total{result="hit"}': 1,
        'sidecar_policy_memo_total{result="miss"}': 0,
        'sidecar_ledger_changes_total{change="consume",result="replayed"}': 1,
        "sidecar_process_cpu_seconds_total": 0,
    }


def test_each_duration_is_in_its_own_histogram(metrics):
    metrics.observe_facts(0.001)
    metrics.observe_ledger(0.02)
    metrics.observe_engine(0.3)
    metrics.observe_pool(4, 0)

    found = samples_in(metrics.text())

    engine = '{engine="embedded"}'
    sums = {name: value for name, value in found.items() if "_seconds_sum" in name}
    assert sums == {
        "sidecar_facts_seconds_sum": 0.001,
        "sidecar_ledger_seconds_sum": 0.02,
        f"sidecar_engine_seconds_sum{engine}": 0.3,
        "sidecar_pool_wait_seconds_sum": 4,
    }
    assert found['sidecar_facts_seconds_bucket{le="0.0005"}'] == 0
    assert found['sidecar_facts_seconds_bucket{le="0.001"}'] == 1  # a bound belongs to its own bucket
    assert found['sidecar_pool_wait_seconds_bucket{le="2.5"}'] == 0
    assert found['sidecar_pool_wait_seconds_bucket{le="+Inf"}'] == 1


def test_what_is_counted_is_there_once_it_is_published(metrics):
    before = generate_latest(metrics.registry)
    metrics.count_request("lane")
    metrics.observe_facts(0.001)
    assert generate_latest(metrics.registry) == before

    metrics.publish()
    metrics.publish()

    found = samples_in(generate_latest(metrics.registry))
    assert found['sidecar_requests_total{read_by="lane"}'] == 1
    assert found["sidecar_facts_seconds_count"] == 1


def test_eight_threads_count_exactly_while_others_publish(metrics, often_interrupted):
    ended = Event()

    def count():
        for _ in range(10_000):
            metrics.count_decision(GRANTED, catalog=CATALOG)
            metrics.observe_facts(0.001)
            metrics.observe_memo("hit")

    def publish():
        while not ended.is_set():
            metrics.publish()

    publishers = [Thread(target=publish) for _ in range(2)]
    counters = [Thread(target=count) for _ in range(8)]
    for thread in publishers + counters:
        thread.start()
    for thread in counters:
        thread.join()
    ended.set()
    for thread in publishers:
        thread.join()

    found = samples_in(metrics.text())
    assert found[decided("granted", 200)] == 80_000
    assert found['sidecar_policy_memo_total{result="hit"}'] == 80_000
    assert found["sidecar_facts_seconds_count"] == 80_000
    assert found["sidecar_facts_seconds_sum"] == pytest.approx(80)


@pytest.mark.parametrize(
    "count",
    [
        lambda metrics: metrics.count_decision(REFUSED, catalog=CATALOG),
        lambda metrics: metrics.count_dropped_lines(3),
        lambda metrics: metrics.count_problem("not_found"),
        lambda metrics: metrics.observe_facts(Random(1).random()),  # noqa: S311 - a number of its own
        lambda metrics: metrics.observe_pool(Random(1).random(), 0),  # noqa: S311 - ditto
    ],
)
def test_memory_is_bounded_though_nobody_publishes(metrics, count):
    for _ in range(3_000):
        count(metrics)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            count(metrics)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 150_000


def test_nobody_who_counts_waits_for_one_who_publishes(metrics):
    def count():
        for _ in range(5_000):
            metrics.count_request("lane")

    thread = Thread(target=count, daemon=True)
    with metrics._publishing:  # noqa: SLF001 - as if another thread were at it
        thread.start()
        thread.join(timeout=5)
        assert not thread.is_alive()

    assert samples_in(metrics.text())['sidecar_requests_total{read_by="lane"}'] == 5_000


# prometheus_client decides when it is imported whether processes count together: so in a process of its own.
HISTOGRAMS = """
import os, sys
from pathlib import Path
from random import Random

from prometheus_client import CollectorRegistry, Histogram, generate_latest, multiprocess
from sidecar.telemetry.durations import SECONDS, Durations

folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
random = Random(7)
seconds = [*SECONDS, 0.0, 1e-9, 3.0, 1e6, *(random.expovariate(100) for _ in range(5_000))]
registry = CollectorRegistry()
for labels in ((), ("engine",)):
    name = "labelled" if labels else "plain"
    one_by_one = Histogram(f"one_{name}", "", labels, registry=registry, buckets=SECONDS)
    at_once = Durations(f"all_{name}", "", labels, registry=registry, buckets=SECONDS)
    if labels:
        one_by_one, at_once = one_by_one.labels("e"), at_once.labels("e")
    for each in seconds:
        one_by_one.observe(each)
    at_once.observe_all(seconds[:40])
    at_once.observe_all(seconds[40:])
if folder:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=folder)
sys.stdout.buffer.write(generate_latest(registry))
"""


@pytest.mark.parametrize("together", [False, True])
def test_durations_added_at_once_are_the_same_as_observed_one_by_one(tmp_path, together):
    found = samples_in(in_a_process(HISTOGRAMS, folder=tmp_path if together else None))

    one_by_one = {name[3:]: value for name, value in found.items() if name.startswith("one")}
    at_once = {name[3:]: value for name, value in found.items() if name.startswith("all")}
    assert len(one_by_one) == 2 * (15 + 2)
    assert {name for name, value in one_by_one.items() if value == 0} == set()
    assert at_once == pytest.approx(one_by_one)


WORKER = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace

from sidecar.telemetry.metrics import Metrics

metrics = Metrics(engine="embedded", revision="r1", folder=Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
decision = SimpleNamespace(verdict=SimpleNamespace(reason="granted", status=200), plan=None)
for _ in range(int(sys.argv[1])):
    metrics.count_decision(decision, catalog=SimpleNamespace(plans={}))
    metrics.observe_facts(0.001)
if sys.argv[2] == "scrape":
    sys.stdout.buffer.write(metrics.text())
else:
    metrics.publish()
    print("published", flush=True)
    time.sleep(60)
"""


def in_a_process(script, *arguments, folder):
    environment = {**os.environ, **({"PROMETHEUS_MULTIPROC_DIR": str(folder)} if folder else {})}
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        timeout=30,
        check=True,
    )
    return ran.stdout


def test_a_scrape_has_what_this_worker_counted_and_what_others_published_killed_or_not(tmp_path):
    others = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, times, "publish"],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
        )
        for times in ("100", "2500")
    ]
    try:
        for other in others:
            assert other.stdout
            assert other.stdout.readline() == b"published\n"
        others[0].send_signal(signal.SIGKILL)
        others[0].wait(timeout=10)

        found = samples_in(in_a_process(WORKER, "7", "scrape", folder=tmp_path))
    finally:
        for other in others:
            other.kill()
            other.communicate(timeout=10)

    assert found[decided("granted", 200)] == 2607
    assert found["sidecar_facts_seconds_count"] == 2607
    assert found["sidecar_facts_seconds_sum"] == pytest.approx(2.607)
    assert found['sidecar_requests_total{read_by="lane"}'] == 0


def test_a_scrape_waits_for_the_file_that_a_worker_has_begun_to_make(tmp_path):
    begun = tmp_path / "counter_77.db"
    begun.touch()  # the first of two steps
    other = subprocess.Popen(
        [sys.executable, "-c", WORKER, "7", "scrape"],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while not (tmp_path / "lock").exists():
            assert other.poll() is None
            sleep(0.005)
        begun.write_bytes(struct.pack("i", 8).ljust(4096, b"\0"))
        text, said = other.communicate(timeout=30)
    finally:
        other.kill()
    assert (other.returncode, said) == (0, b"")
    assert samples_in(text)[decided("granted", 200)] == 7
