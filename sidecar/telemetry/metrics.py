"""What is counted, for Prometheus; several workers count into one folder of files.

No label holds anything that a caller sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5)


class Metrics:
    def __init__(self, *, engine: str, revision: str, folder: Path | None = None) -> None:
        """*folder* is where all workers count; None: this process alone."""
        self._folder = folder
        self.registry = registry = CollectorRegistry()
        labels = (engine, revision)

        self._decisions = Counter(
            "sidecar_decisions_total",
            "Questions that were decided.",
            ("reason", "status", "engine", "revision"),
            registry=registry,
        )
        self._decisions_by: dict[tuple[str, int], Counter] = {}
        self._engine_and_revision = labels
        self._authzen = Counter(
            "sidecar_authzen_decisions_total",
            "Evaluations that a policy of another domain has decided, those of searches left out.",
            ("decision",),
            registry=registry,
        )
        self._problems = Counter(
            "sidecar_problems_total",
            "Requests that were answered with a problem.",
            ("code",),
            registry=registry,
        )
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
        memo = Counter(
            "sidecar_policy_memo_total",
            "Situations by whether the verdict was known.",
            ("result",),
            registry=registry,
        )
        self._memo = {"hit": memo.labels("hit"), "miss": memo.labels("miss")}
        self._facts = Histogram(
            "sidecar_facts_seconds",
            "One read of facts, waiting included.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._ledger = Histogram(
            "sidecar_ledger_seconds",
            "One effect in the ledger: taken, reserved, committed, released or given back; waiting included.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._engine = Histogram(
            "sidecar_engine_seconds",
            "One question to the policy engine itself.",
            ("engine", "revision"),
            registry=registry,
            buckets=_SECONDS,
        ).labels(*labels)
        self._pool_wait = Histogram(
            "sidecar_pool_wait_seconds",
            "How long a question waited for a database connection.",
            registry=registry,
            buckets=_SECONDS,
        )

    def count_decision(self, decision: Decision, *, catalog: Catalog) -> None:
        verdict = decision.verdict
        kind = verdict.reason, verdict.status
        counter = self._decisions_by.get(kind)
        if counter is None:
            counter = self._decisions_by[kind] = self._decisions.labels(
                verdict.reason, str(verdict.status), *self._engine_and_revision
            )
        counter.inc()
        if decision.plan is not None and decision.plan not in catalog.plans:
            self._undeclared.inc()

    def count_evaluation(self, *, decision: bool) -> None:
        self._authzen.labels("true" if decision else "false").inc()

    def count_request(self, read_by: Literal["lane", "gunicorn"]) -> None:
        self._requests[read_by].inc()

    def count_problem(self, code: str) -> None:
        self._problems.labels(code).inc()

    def count_dropped_lines(self, lines: int) -> None:
        self._dropped.inc(lines)

    def text(self) -> bytes:
        if self._folder is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together, path=str(self._folder))  # type: ignore[no-untyped-call] # its types are partial
        return generate_latest(together)

    def observe_facts(self, seconds: float) -> None:
        self._facts.observe(seconds)

    def observe_ledger(self, seconds: float) -> None:
        self._ledger.observe(seconds)

    def observe_engine(self, seconds: float) -> None:
        self._engine.observe(seconds)

    def observe_pool(self, waited_s: float, _: float) -> None:
        self._pool_wait.observe(waited_s)

    def observe_memo(self, result: Literal["hit", "miss"]) -> None:
        self._memo[result].inc()


def mark_dead(pid: int, *, folder: Path) -> None:
    """What a worker counted stays; its live gauges do not."""
    multiprocess.mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call] # ditto
