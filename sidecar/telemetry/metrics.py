"""What is counted, for Prometheus; several workers count into one folder of files.

No label holds anything that a caller sends.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision, Facts, Roster, Verdict
    from sidecar.decisions.ports import FactStore, PolicyEngine, RuleEngine
    from sidecar.quota.model import (
        AlreadyExists,
        Charge,
        Charged,
        Conflict,
        Expired,
        GivenBack,
        NoCapacity,
        Replayed,
        Settlement,
    )
    from sidecar.quota.ports import Ledger

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

    def decided(self, decision: Decision, *, catalog: Catalog) -> None:
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

    def answered(self, *, decision: bool) -> None:
        self._authzen.labels("true" if decision else "false").inc()

    def refused(self, code: str) -> None:
        self._problems.labels(code).inc()

    def dropped(self, lines: int) -> None:
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


class MeasuredFacts:
    """A fact store, and how long it takes."""

    def __init__(self, store: FactStore, *, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[Facts | None]:
        began = monotonic()
        try:
            return self._store.facts(members, deadline=deadline)
        finally:
            self._took(monotonic() - began)

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        began = monotonic()
        try:
            return self._store.workspaces_of(user, after=after, limit=limit, deadline=deadline)
        finally:
            self._took(monotonic() - began)

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:
        began = monotonic()
        try:
            return self._store.members_of(workspace, after=after, limit=limit, deadline=deadline)
        finally:
            self._took(monotonic() - began)

    def _took(self, seconds: float) -> None:
        self._metrics.observe_facts(seconds)


class MeasuredLedger:
    """A ledger, and how long it takes."""

    def __init__(self, ledger: Ledger, *, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics

    def charge(
        self, charge: Charge, /, *, deadline: float
    ) -> Charged | Replayed | AlreadyExists | NoCapacity | Conflict:
        with self._timed():
            return self._ledger.charge(charge, deadline=deadline)

    def find_replay(self, charge: Charge, /, *, deadline: float) -> Replayed | AlreadyExists | None:
        with self._timed():
            return self._ledger.find_replay(charge, deadline=deadline)

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        with self._timed():
            return self._ledger.commit(reservation, amounts, deadline=deadline)

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        with self._timed():
            return self._ledger.release(reservation, deadline=deadline)

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        with self._timed():
            return self._ledger.refund(workspace, key, amounts, deadline=deadline)

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        with self._timed():
            return self._ledger.release_resource(workspace, meter, resource, deadline=deadline)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = monotonic()
        try:
            yield
        finally:
            self._metrics.observe_ledger(monotonic() - began)


class MeasuredEngine:
    """The policy engine itself, and how long it takes: what stands behind the memo."""

    def __init__(self, engine: PolicyEngine, *, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self.name = engine.name
        self.revision = engine.revision

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        began = monotonic()
        try:
            return self._engine.verdict(situation, deadline=deadline)
        finally:
            self._metrics.observe_engine(monotonic() - began)


class MeasuredRules:
    """A rule engine, and how long it takes."""

    def __init__(self, engine: RuleEngine, *, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self.name = engine.name

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        began = monotonic()
        try:
            return self._engine.document(rule, given, deadline=deadline)
        finally:
            self._metrics.observe_engine(monotonic() - began)


def mark_dead(pid: int, *, folder: Path) -> None:
    """What a worker counted stays; its live gauges do not."""
    multiprocess.mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call] # ditto
