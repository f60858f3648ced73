"""What is counted, for Prometheus; several workers publish into one folder of files.

Counting appends to a list, which is exact from any thread and touches no file. `Metrics.publish` adds what
is on the lists to prometheus_client's own metrics. No label holds anything that a caller sends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from sidecar.telemetry.waiting import taken_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision, Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_MOST_WAITING = 2_048  # events of a kind; who counts one more publishes


class _Counters(dict[Any, Counter]):
    """The counter of each label, made when it is first asked for."""

    def __init__(self, made: Callable[[Any], Counter]) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, label: Any) -> Counter:  # noqa: ANN401 - whatever the counter is labelled with
        counter = self[label] = self._made(label)
        return counter


class _Durations(Histogram):
    """A histogram that many durations are added to at once."""

    # Observing one by one writes to a file twice each time; prometheus_client has no public way to add many.
    # tests/telemetry/test_metrics.py compares this with `observe`.
    def observe_all(self, seconds: list[float]) -> None:
        buckets = Tally(map(partial(bisect_left, self._upper_bounds), seconds))
        for bucket, times in buckets.items():
            self._buckets[bucket].inc(times)
        self._sum.inc(sum(seconds))


class Metrics:
    def __init__(self, *, engine: str, revision: str, folder: Path | None = None) -> None:
        """*folder* is where all workers publish; None: this process alone."""
        self._folder = folder
        self._publishing = Lock()
        # Each counter as often as it is to be incremented, and seconds.
        self._counted: list[Counter] = []
        self._facts_took: list[float] = []
        self._ledger_took: list[float] = []
        self._engine_took: list[float] = []
        self._pool_waited: list[float] = []
        self.registry = registry = CollectorRegistry()

        decisions = Counter(
            "sidecar_decisions_total",
            "Questions that were decided.",
            ("reason", "status", "engine", "revision"),
            registry=registry,
        )
        self._decisions = _Counters(lambda kind: decisions.labels(*kind, engine, revision))
        authzen = Counter(
            "sidecar_authzen_decisions_total",
            "Evaluations that a policy of another domain has decided, those of searches left out.",
            ("decision",),
            registry=registry,
        )
        self._authzen = _Counters(lambda decision: authzen.labels("true" if decision else "false"))
        problems = Counter(
            "sidecar_problems_total",
            "Requests that were answered with a problem.",
            ("code",),
            registry=registry,
        )
        self._problems = _Counters(problems.labels)
        stripe = Counter(
            "sidecar_stripe_events_total",
            "Events that came from Stripe, by what became of them.",
            ("result",),
            registry=registry,
        )
        self._stripe = _Counters(stripe.labels)
        requests = Counter(
            "sidecar_requests_total",
            "Requests by what has read them.",
            ("read_by",),
            registry=registry,
        )
        self._requests = {"lane": requests.labels("lane"), "gunicorn": requests.labels("gunicorn")}
        self._undeclared = Counter(
            "sidecar_undeclared_plan_total",
            "Decisions about a workspace whose plan the catalog does not declare.",
            registry=registry,
        )
        self._dropped = Counter(
            "sidecar_log_lines_dropped_total",
            "Lines that the decision log could not write.",
            registry=registry,
        )
        self._anchor_age = Gauge(
            "sidecar_log_anchor_age_seconds",
            "For how long lines of the decision log have had no anchor in the database; 0: all have.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._converged = Gauge(
            "sidecar_converged",
            "1 where all of this server is as its files say, 0 where something is not: /statusz says what.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._clock_refusals = Counter(
            "sidecar_clock_refusals_total",
            "Questions that were refused because the database's clock is not trusted.",
            registry=registry,
        )
        memo = Counter(
            "sidecar_policy_memo_total",
            "Situations by whether the verdict was known.",
            ("result",),
            registry=registry,
        )
        self._memo = {"hit": memo.labels("hit"), "miss": memo.labels("miss")}
        self._facts = _Durations(
            "sidecar_facts_seconds",
            "One read of facts, waiting included.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._ledger = _Durations(
            "sidecar_ledger_seconds",
            "One effect in the ledger: taken, reserved, committed, released or given back; waiting included.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._engine = _Durations(
            "sidecar_engine_seconds",
            "One question to the policy engine itself.",
            ("engine", "revision"),
            registry=registry,
            buckets=_SECONDS,
        ).labels(engine, revision)
        self._pool_wait = _Durations(
            "sidecar_pool_wait_seconds",
            "How long a question waited for a database connection.",
            registry=registry,
            buckets=_SECONDS,
        )

    def count_decision(self, decision: Decision, *, catalog: Catalog) -> None:
        verdict, plan = decision.verdict, decision.plan
        if plan is not None and plan not in catalog.plans:
            self._counted.append(self._undeclared)
        self.count_verdict(verdict)

    def count_verdict(self, verdict: Verdict) -> None:
        """A decision about a workspace whose plan is declared."""
        self._count(self._decisions[verdict.reason, verdict.status])

    def count_evaluation(self, *, decision: bool) -> None:
        self._count(self._authzen[decision])

    def count_problem(self, code: str) -> None:
        self._count(self._problems[code])

    def count_stripe_event(self, result: str) -> None:
        """*result* is one of ours, or the code of a problem."""
        self._count(self._stripe[result])

    def count_request(self, read_by: Literal["lane", "gunicorn"]) -> None:
        self._count(self._requests[read_by])

    def count_dropped_lines(self, lines: int) -> None:
        self._counted.extend([self._dropped] * (lines - 1))
        self._count(self._dropped)

    def count_clock_refusal(self) -> None:
        self._count(self._clock_refusals)

    def observe_facts(self, seconds: float) -> None:
        self._took(seconds, self._facts_took)

    def observe_ledger(self, seconds: float) -> None:
        self._took(seconds, self._ledger_took)

    def observe_engine(self, seconds: float) -> None:
        self._took(seconds, self._engine_took)

    def observe_pool(self, waited_s: float, _: float) -> None:
        self._took(waited_s, self._pool_waited)

    def observe_anchor_age(self, seconds: float) -> None:
        self._anchor_age.set(seconds)

    def observe_converged(self, converged: bool) -> None:  # noqa: FBT001 - the gauge's value
        self._converged.set(converged)

    def observe_memo(self, result: Literal["hit", "miss"]) -> None:
        self._count(self._memo[result])

    def publish(self) -> None:
        """Let other processes see what was counted until now: once a second, and before this one ends."""
        with self._publishing:
            self._publish()

    def text(self) -> bytes:
        """All that this process has counted, and what the others have published, as Prometheus reads it."""
        self.publish()
        if self._folder is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together, path=str(self._folder))  # type: ignore[no-untyped-call] # its types are partial
        return generate_latest(together)

    def _count(self, counter: Counter) -> None:
        counted = self._counted
        counted.append(counter)
        if len(counted) >= _MOST_WAITING:
            self._publish_unless_busy()

    def _took(self, seconds: float, took: list[float]) -> None:
        took.append(seconds)
        if len(took) >= _MOST_WAITING:
            self._publish_unless_busy()

    def _publish_unless_busy(self) -> None:
        if self._publishing.acquire(blocking=False):  # else another thread is about to take these events
            try:
                self._publish()
            finally:
                self._publishing.release()

    def _publish(self) -> None:
        for counter, times in Tally(taken_from(self._counted)).items():
            counter.inc(times)
        for durations, took in (
            (self._facts, self._facts_took),
            (self._ledger, self._ledger_took),
            (self._engine, self._engine_took),
            (self._pool_wait, self._pool_waited),
        ):
            if took:
                durations.observe_all(taken_from(took))


def mark_dead(pid: int, *, folder: Path) -> None:
    """What a worker counted stays; its live gauges do not."""
    multiprocess.mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call] # ditto
