"""The ports, each with how long its calls take."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from sidecar.decisions.model import Facts, Roster, ToCome, Verdict
    from sidecar.decisions.ports import FactStore, PolicyEngine, RuleEngine
    from sidecar.telemetry.metrics import Metrics


T = TypeVar("T")


def timed(start: Callable[..., None], observe: Callable[[float], None]) -> Callable[..., None]:
    """*start*, which tells *done* a result or an error later, and how many seconds that takes."""

    def started(*args: object, deadline: float, done: Callable[[Any, BaseException | None], None]) -> None:
        began = monotonic()

        def told(found: object, error: BaseException | None) -> None:
            observe(monotonic() - began)
            done(found, error)

        start(*args, deadline=deadline, done=told)

    return started


def timing(call: Callable[..., T], observe: Callable[[float], None]) -> Callable[..., T]:
    """*call*, which waits for its result, and how many seconds that takes."""

    def called(*args: object, **more: object) -> T:
        began = monotonic()
        try:
            return call(*args, **more)
        finally:
            observe(monotonic() - began)

    return called


class MeasuredFacts:
    """A fact store, and how long it takes."""

    def __init__(self, store: FactStore, *, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def facts(
        self,
        members: Sequence[tuple[str, str]],
        meters: Sequence[tuple[str, ...]] | None = None,
        /,
        *,
        deadline: float,
    ) -> list[Facts | None]:
        began = monotonic()
        try:
            return self._store.facts(members, meters, deadline=deadline)
        finally:
            self._took(monotonic() - began)

    def to_come(
        self, meters: Mapping[UUID, Sequence[str]], /, *, deadline: float
    ) -> dict[UUID, Mapping[str, ToCome]]:
        began = monotonic()
        try:
            return self._store.to_come(meters, deadline=deadline)
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
