"""The whole application on a stage: real endpoints, and what stands around them made of plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from werkzeug.test import Client

from sidecar.api.authzen.domain import Authzen
from sidecar.api.authzen.workspaces import Workspaces
from sidecar.api.service import Readiness, Service
from sidecar.catalog.routes import Routes
from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.model import Verdict
from sidecar.engines.memo import MemoisedEngine
from sidecar.errors import UnknownPlan, UnknownWorkspace
from sidecar.identity.callers import Caller, Callers
from sidecar.quota.decider import Decider
from sidecar.quota.spending import Spending
from sidecar.serving.application import Application
from sidecar.telemetry.measured import MeasuredEngine, MeasuredFacts
from sidecar.telemetry.measured_ledger import MeasuredLedger
from sidecar.telemetry.metrics import Metrics
from sidecar.workspaces.administration import (
    Administration,
    FoundWorkspace,
    KnownWorkspace,
    Search,
    StatusChange,
    WorkspaceState,
)
from sidecar.workspaces.invitations import Invitations
from sidecar.workspaces.people import People
from sidecar.workspaces.subscriptions import NO_PLAN, Subscription, SubscriptionChange
from tests.fakes import FactsInMemory, NoPeople
from tests.ledger_in_memory import LedgerInMemory
from tests.values import WORKSPACE_ID, some_facts, the_catalog

if TYPE_CHECKING:
    from sidecar.errors import DependencyError
    from sidecar.workspaces.administration import Change

REVISION = "r1"
OPS, BACKEND, AUDITOR = "ops-token", "backend-token", "auditor-token"
TOKENS = {
    OPS: Caller(name="ops", scopes=frozenset({"admin"})),
    BACKEND: Caller(name="backend", scopes=frozenset({"authorize"})),
    AUDITOR: Caller(name="auditor", scopes=frozenset({"audit"})),
}


class PolicyInPython:
    """A policy engine that knows enough of the seed's rules. *outage* is as in FactsInMemory."""

    name = "embedded"
    revision = REVISION

    def __init__(self, catalog) -> None:
        self._catalog = catalog
        self.outage: DependencyError | None = None

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        if self.outage is not None:
            raise self.outage
        asked = json.loads(situation)
        action = self._catalog.actions.get(asked["action"])
        denied = Verdict(
            allow=False,
            reason="granted",
            status=403,
            charges={},
            upgrade=(),
            waiting_helps=False,
            needs_roles=(),
            needs_feature=None,
            detail=None,
            revision=REVISION,
        )
        if asked["role"] is None:
            return replace(denied, reason="not_a_member")
        if action is None:
            return replace(denied, reason="unknown_action")
        if asked["status"] == "suspended" and not action.while_suspended:
            return replace(denied, reason="workspace_suspended")
        if asked["role"] not in action.roles:
            return replace(denied, reason="role_insufficient", needs_roles=action.roles)
        plan = self._catalog.plans.get(asked["plan"])
        on = asked["overrides"]["features"].get(action.feature)
        if action.feature and not (plan and action.feature in plan.features if on is None else on):
            upgrade = tuple(p.name for p in self._catalog.plans.values() if action.feature in p.features)
            if on is False:
                upgrade = ()
            return replace(
                denied,
                reason="feature_not_in_plan",
                needs_feature=action.feature,
                upgrade=upgrade,
                status=402 if upgrade else 403,
            )
        room = asked["room"]
        if action.takes and not (plan and room and plan.name in room["fits_in"]):
            upgrade = tuple(
                other.name
                for other in self._catalog.plans.values()
                if room
                and other.name in room["fits_in"]
                and (not plan or other.price.amount > plan.price.amount)
            )
            waits = bool(room and room["waiting_helps"])
            return replace(
                denied,
                reason="quota_exceeded",
                upgrade=upgrade,
                waiting_helps=waits,
                status=402 if upgrade else 429 if waits else 403,
            )
        charges = {meter: plan.limits[meter] for meter in action.takes} if plan else {}
        return replace(denied, allow=True, status=200, charges=charges)


class WorkspacesOf:
    """An AdministrationStore that remembers the last change asked for: of which workspace, what, by whom."""

    def __init__(self) -> None:
        self.asked: tuple[object, ...] = ()

    def apply(
        self, workspace: str, change: Change, /, *, actor: str, decision: str | None = None, deadline: float
    ) -> WorkspaceState:
        if workspace != "nowhere" and isinstance(change, SubscriptionChange) and change.plan == NO_PLAN:
            raise UnknownPlan("no event of this name is known")
        self.asked = (workspace, change, actor)
        if workspace == "nowhere":
            raise UnknownWorkspace('there is no workspace "nowhere"')
        return WorkspaceState(
            workspace_id=WORKSPACE_ID,
            slug="acme",
            plan="team",
            as_of=datetime(2026, 11, 24, 12, tzinfo=UTC),
            status="active",
            reason=None,
            overrides=(),
            applied=True,
            subscriptions=_stored(change),
        )

    def was_purged(self, workspace: str, /, *, deadline: float) -> bool:
        return False

    def known(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> KnownWorkspace:
        state = self.apply(workspace, StatusChange(status="active"), actor="", deadline=deadline)
        return KnownWorkspace(
            state=state, name="Acme", external_id=None, owner=None, members=(), created_at=state.as_of
        )

    def name_externally(
        self, workspace: str, external_id: str | None, /, *, actor: str, decision: str | None, deadline: float
    ) -> KnownWorkspace:
        known = self.known(workspace, after=None, limit=1, deadline=deadline)
        known = replace(known, external_id=external_id)
        self.asked = (workspace, external_id, actor)
        return known

    def find(self, search: Search, /, *, limit: int, deadline: float) -> list[FoundWorkspace]:
        self.asked = (search, limit)
        return []


def _stored(change: Change) -> tuple[Subscription, ...]:
    if not isinstance(change, SubscriptionChange):
        return ()
    return (
        Subscription(
            subscription=change.subscription,
            plan=change.plan,
            status=change.status,
            seats=change.seats,
            trial_ends_at=change.trial_ends_at,
            past_due_since=None,
            billing_anchor=change.billing_anchor,
            as_of=change.as_of,
            event=change.name,
            source=change.source,
        ),
    )


class Lines(list[dict[str, Any]]):
    """A decision log that keeps its lines."""

    waits = False
    skipped = 0

    def note(self, line: bytes) -> None:
        self.append(json.loads(line + b"}"))

    def skip(self) -> None:
        self.skipped += 1


def a_stage(members=None, *, tokens=TOKENS, **more):
    """A client of the application, and what it stands on: engine, facts, workspaces, lines, metrics."""
    catalog = more.get("catalog") or the_catalog()
    members = members if members is not None else {("adam", "acme"): some_facts(role="admin")}
    metrics = Metrics(engine="embedded", revision=REVISION)
    engine, facts, workspaces, lines = (
        more.get("engine") or PolicyInPython(catalog),
        FactsInMemory(members),
        WorkspacesOf(),
        Lines(),
    )
    ledger = LedgerInMemory(facts, catalog=catalog)
    measured = MeasuredEngine(engine, metrics=metrics)
    memo = MemoisedEngine(measured, cells=more.get("cells", ()), observe=metrics.observe_memo)
    authorizer = Authorizer(
        catalog=catalog,
        context_fields=frozenset(),
        policy=memo,
        facts=MeasuredFacts(facts, metrics=metrics),
        recall=memo.recall,
    )
    spending = Spending(authorizer, ledger=MeasuredLedger(ledger, metrics=metrics))
    service = Service(
        authorizer=authorizer,
        spending=spending,
        decider=Decider(authorizer, spending),
        people=People(authorizer, store=NoPeople()),  # type: ignore[arg-type] # tests/people has real ones
        invitations=Invitations(authorizer, store=NoPeople()),  # type: ignore[arg-type] # ditto
        routes=Routes(catalog.routes),
        administration=Administration(catalog, store=workspaces),
        callers=Callers(
            tokens
            and {
                __import__("hashlib").sha256(token.encode()).hexdigest(): who for token, who in tokens.items()
            }
        ),
        identities=more.get("identities"),
        metrics=metrics,
        log=lines,  # type: ignore[arg-type] # plays its part
        authzen=more.get("authzen") or Authzen(domain=Workspaces(authorizer, metrics=metrics)),
        own_hosts=frozenset({("127.0.0.1", 8080), ("localhost", 8080)}),
        deadline_s=0.15,
        bundle=more.get("bundle", lambda: b"bundle"),
        readiness=more.get("readiness", lambda: Readiness(ready=True, without_database=True, parts={})),
        status=more.get("status", dict),
        serving=more.get("serving", lambda: True),
        cors_origins=more.get("cors_origins", ()),
        stripe=more.get("stripe"),
    )
    return SimpleNamespace(
        client=Client(Application(service)),
        engine=engine,
        facts=facts,
        ledger=ledger,
        workspaces=workspaces,
        lines=lines,
        metrics=metrics,
        service=service,
    )
