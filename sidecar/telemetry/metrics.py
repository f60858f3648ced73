"""What is counted, for Prometheus; several workers publish into one folder of files.

Counting appends to a list, which is exact from any thread and touches no file. `Metrics.publish` adds what
is on the lists to prometheus_client's own metrics. No label holds anything that a caller sends.
"""

from __future__ import annotations

from collections import Counter as Tally
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

from sidecar.telemetry.durations import SECONDS, Durations, RequestDurations
from sidecar.telemetry.figures import Figures
from sidecar.telemetry.waiting import taken_from
from sidecar.telemetry.worker_files import read_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision, Verdict

NO_ENDPOINT = "none"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_MOST_WAITING = 2_048  # events of a kind; who counts one more publishes


class _Counters(dict[Any, Counter]):
    """The counter of each label, made when it is first asked for."""

    def __init__(self, made: Callable[[Any], Counter]) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, label: Any) -> Counter:  # noqa: ANN401 - whatever the counter is labelled with
        counter = self[label] = self._made(label)
        return counter


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
        self._batch_sizes: dict[str, list[float]] = {}
        self.registry = registry = CollectorRegistry()
        self.figures = Figures(registry, revision=revision, engine=engine)
        self._request_durations = RequestDurations(registry)

        decisions = Counter(
            "sidecar_decisions_total",
            "Questions that were decided.",
            ("reason", "status", "engine"),
            registry=registry,
        )
        self._decisions = _Counters(lambda kind: decisions.labels(*kind, engine))
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
        facts_reads = Counter(
            "sidecar_facts_reads_total",
            "Reads of facts for checks, by who answered; nothing without SIDECAR_FACTS_URLS.",
            ("answered_by",),
            registry=registry,
        )
        self._facts_reads = _Counters(facts_reads.labels)
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
        ledger_changes = Counter(
            "sidecar_ledger_changes_total",
            "Changes of the ledger, by what was asked for and what became of it.",
            ("change", "result"),
            registry=registry,
        )
        self._ledger_changes = _Counters(lambda which: ledger_changes.labels(*which))
        self._batches = Durations(
            "sidecar_batch_size",
            "How many questions a request with several has.",
            ("endpoint",),
            registry=registry,
            buckets=_BATCH_SIZES,
        )
        self._facts = Durations(
            "sidecar_facts_seconds",
            "One read of facts, waiting included.",
            registry=registry,
            buckets=SECONDS,
        )
        self._ledger = Durations(
            "sidecar_ledger_seconds",
            "One effect in the ledger: taken, reserved, committed, released or given back; waiting included.",
            registry=registry,
            buckets=SECONDS,
        )
        self._engine = Durations(
            "sidecar_engine_seconds",
            "One question to the policy engine itself.",
            ("engine",),
            registry=registry,
            buckets=SECONDS,
        ).labels(engine)
        self._pool_wait = Durations(
            "sidecar_pool_wait_seconds",
            "How long a question waited for a database connection.",
            registry=registry,
            buckets=SECONDS,
        )

    def count_decision(self, decision: Decision, *, catalog: Catalog) -> None:
        verdict, plan = decision.verdict, decision.plan
        if plan is not None and plan not in catalog.plans:
            self._counted.append(self._undeclared)
        self.count_verdict(verdict)

    def count_verdict(self, verdict: Verdict) -> None:
        """A decision about a workspace whose plan is declared."""
        self._count(self._decisions[verdict.reason, verdict.status])

    def count_known_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """As `count_verdict`, of several that the memo had."""
        counters = self._decisions
        self._counted += [counters[verdict.reason, verdict.status] for verdict in verdicts]
        self._counted += [self._memo["hit"]] * len(verdicts)
        if len(self._counted) >= _MOST_WAITING:
            self._publish_unless_busy()

    def count_evaluation(self, *, decision: bool) -> None:
        self._count(self._authzen[decision])

    def count_problem(self, code: str) -> None:
        self._count(self._problems[code])

    def count_stripe_event(self, result: str) -> None:
        """*result* is one of ours, or the code of a problem."""
        self._count(self._stripe[result])

    def count_request(self, read_by: Literal["lane", "gunicorn"]) -> None:
        self._count(self._requests[read_by])

    def count_requests_of_lane(self, requests: int) -> None:
        self._counted += [self._requests["lane"]] * requests

    def count_facts_read(self, answered_by: Literal["replica", "primary"]) -> None:
        self._count(self._facts_reads[answered_by])

    def observe_request(self, endpoint: str, status: int, seconds: float) -> None:
        """On the loop. *endpoint* is the name of one of ours, or NO_ENDPOINT."""
        if self._request_durations.observe(endpoint, status, seconds):
            self._publish_unless_busy()

    def observe_batch(self, endpoint: str, questions: int) -> None:
        self._took(questions, self._batch_sizes.setdefault(endpoint, []))

    def count_ledger_change(self, change: str, result: str) -> None:
        self._count(self._ledger_changes[change, result])

    def count_dropped_lines(self, lines: int) -> None:
        self._counted.extend([self._dropped] * (lines - 1))
        self._count(self._dropped)

    def count_clock_refusal(self) -> None:
        self._count(self._clock_refusals)

    def observe_facts(self, seconds: float) -> None:
        self._took(seconds, self._facts_took)

    def observe_all_facts(self, seconds: Iterable[float]) -> None:
        """As `observe_facts`, of several."""
        self._facts_took += seconds
        if len(self._facts_took) >= _MOST_WAITING:
            self._publish_unless_busy()

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
        return read_from(self._folder, lambda: generate_latest(together))

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
        self._request_durations.publish()
        for counter, times in Tally(taken_from(self._counted)).items():
            counter.inc(times)
        for endpoint, sizes in list(self._batch_sizes.items()):
            if sizes:
                self._batches.labels(endpoint).observe_all(taken_from(sizes))
        for durations, took in (
            (self._facts, self._facts_took),
            (self._ledger, self._ledger_took),
            (self._engine, self._engine_took),
            (self._pool_wait, self._pool_waited),
        ):
            if took:
                durations.observe_all(taken_from(took))
