"""The core: questions become decisions, through the two ports.

Every answer comes from the policy. What the ports raise goes through untouched: an outage is not a denial.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING

from sidecar.effects import Effects
from sidecar.errors import BadQuestion, EngineMisbehaved, NotAMember
from sidecar.messages import message_about
from sidecar.model import Decision, Question, Upgrade
from sidecar.quota import amounts_of, exceeded_meters, quotas_of
from sidecar.situation import situation_bytes, situation_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.catalog.catalog import Catalog
    from sidecar.model import Exceeded, Facts, Quota, Verdict
    from sidecar.ports import FactStore, Ledger, PolicyEngine

MAX_ROWS_SCANNED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlements:
    """All that a member may and has in one workspace: every feature, meter and declared action."""

    facts: Facts
    features: Mapping[str, bool]
    quotas: Mapping[str, Quota]
    actions: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """*next* is the cursor to go on from; None at the end."""

    workspaces: tuple[Facts, ...]
    next: str | None


class Authorizer:
    def __init__(
        self,
        *,
        catalog: Catalog,
        context_fields: frozenset[str],
        policy: PolicyEngine,
        facts: FactStore,
        ledger: Ledger,
    ) -> None:
        self.catalog = catalog
        self.effects = Effects(self, catalog=catalog, ledger=ledger)
        self.policy = policy
        self._context_fields = context_fields
        self._facts = facts
        self._upgrades = {
            plan.name: Upgrade(plan=plan.name, title=plan.title, price=plan.price)
            for plan in catalog.plans.values()
        }

    def decision(self, question: Question, *, deadline: float) -> Decision:
        """*deadline* is on the monotonic clock. BadQuestion, what a port raises or Effects.decision does."""
        if question.mode != "check":
            return self.effects.decision(question, deadline=deadline)
        amounts = amounts_of(question, catalog=self.catalog)
        return self.decided(
            question, amounts, self.facts_about(question, deadline=deadline), deadline=deadline
        )

    def facts_about(self, question: Question, *, deadline: float) -> Facts | None:
        [facts] = self._facts.facts([(question.user, question.workspace)], deadline=deadline)
        return facts

    def decisions(self, questions: Sequence[Question], *, deadline: float) -> list[Decision | BadQuestion]:
        """In order, with one read of facts for all; a bad question is its own answer."""
        members = list({(question.user, question.workspace): None for question in questions})
        facts_of = dict(zip(members, self._facts.facts(members, deadline=deadline), strict=True))
        answers: list[Decision | BadQuestion] = []
        for question in questions:
            try:
                amounts = amounts_of(question, catalog=self.catalog)
            except BadQuestion as bad:
                answers.append(bad)
                continue
            facts = facts_of[question.user, question.workspace]
            answers.append(self.decided(question, amounts, facts, deadline=deadline))
        return answers

    def entitlements(self, user: str, workspace: str, *, deadline: float) -> Entitlements:
        """NotAMember for a stranger, whether or not the workspace exists."""
        [facts] = self._facts.facts([(user, workspace)], deadline=deadline)
        if facts is None or facts.role not in self.catalog.roles:
            raise NotAMember

        def allowed(action: str) -> bool:
            question = Question(user=user, workspace=workspace, action=action)
            return self._verdict(question, self.catalog.actions[action].takes, facts, deadline=deadline)[
                0
            ].allow

        return Entitlements(
            facts=facts,
            features={feature: allowed(f"feature:{feature}") for feature in self.catalog.features},
            quotas=quotas_of(self.catalog.meters, facts, catalog=self.catalog),
            actions={action: allowed(action) for action in self.catalog.declared_actions},
        )

    def workspaces_of(
        self, user: str, *, action: str | None, after: str | None, limit: int, deadline: float
    ) -> Page:
        """Where *user* may perform *action* now, quotas included; every workspace of his if it is None.

        At most MAX_ROWS_SCANNED workspaces are looked at for one page: it may be short and yet not the last.
        """
        found: list[Facts] = []
        scanned = 0
        while scanned < MAX_ROWS_SCANNED:
            rows = self._facts.workspaces_of(user, after=after, limit=limit + 1, deadline=deadline)
            for facts in rows[:limit]:
                if len(found) == limit:
                    return Page(workspaces=tuple(found), next=after)
                after = facts.slug
                if self._may(user, action, facts, deadline=deadline):
                    found.append(facts)
            if len(rows) <= limit:
                return Page(workspaces=tuple(found), next=None)
            scanned += limit
        return Page(workspaces=tuple(found), next=after)

    def _may(self, user: str, action: str | None, facts: Facts, *, deadline: float) -> bool:
        if facts.role not in self.catalog.roles:
            return False
        if action is None:
            return True
        question = Question(user=user, workspace=facts.slug, action=action)
        amounts = amounts_of(question, catalog=self.catalog)
        return self._verdict(question, amounts, facts, deadline=deadline)[0].allow

    def _verdict(
        self, question: Question, amounts: Mapping[str, int], facts: Facts | None, *, deadline: float
    ) -> tuple[Verdict, Mapping[str, Exceeded]]:
        exceeded = exceeded_meters(amounts, facts, catalog=self.catalog) if facts and amounts else {}
        situation = situation_of(
            question,
            facts,
            catalog=self.catalog,
            exceeded=exceeded,
            context_fields=self._context_fields,
        )
        return self.policy.verdict(situation_bytes(situation), deadline=deadline), exceeded

    def _upgrade(self, verdict: Verdict) -> tuple[Upgrade, ...]:
        unsold = [plan for plan in verdict.upgrade if plan not in self._upgrades]
        if unsold:
            raise EngineMisbehaved(f"the verdict offers {', '.join(unsold)}, which the catalog does not sell")
        return tuple(self._upgrades[plan] for plan in verdict.upgrade)

    def decided(
        self, question: Question, amounts: Mapping[str, int], facts: Facts | None, *, deadline: float
    ) -> Decision:
        """What the policy says of these facts; nothing is taken."""
        verdict, exceeded = self._verdict(question, amounts, facts, deadline=deadline)
        upgrade = self._upgrade(verdict)
        member = facts if verdict.reason != "not_a_member" else None
        quotas = quotas_of(amounts, member, catalog=self.catalog) if member and amounts else {}
        at = member.at if member else datetime.now(UTC)
        return Decision(
            verdict=verdict,
            message=message_about(
                verdict,
                question=question,
                amounts=amounts,
                facts=member,
                quotas=quotas,
                exceeded=sorted(exceeded),
                catalog=self.catalog,
            ),
            role=member.role if member else None,
            plan=member.plan if member else None,
            workspace_id=member.workspace_id if member else None,
            upgrade=upgrade,
            quota=quotas if quotas and verdict.reason in {"granted", "quota_exceeded"} else None,
            retry_after_s=_wait_s([quotas[meter] for meter in exceeded], at)
            if verdict.status == HTTPStatus.TOO_MANY_REQUESTS
            else None,
            decision_id=secrets.token_hex(16),
            at=at,
        )


def _wait_s(exceeded: Sequence[Quota], at: datetime) -> int:
    """Whole seconds, at least 1, until the last of the *exceeded* meters is back."""
    waits = [(quota.resets_at - at).total_seconds() for quota in exceeded if quota.resets_at]
    return max(1, ceil(max(waits, default=1)))
