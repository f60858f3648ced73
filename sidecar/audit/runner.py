"""Runs a case through the core and a real engine, with the facts that it states instead of a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.model import Roster
from sidecar.errors import BadQuestion, DependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sidecar.audit.cases import Case
    from sidecar.decisions.model import Decision, Facts, ToCome
    from sidecar.decisions.ports import PolicyEngine
    from sidecar.rego.compile import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field of the answer that is not as it was *wanted*."""

    field: str
    wanted: Any
    got: Any


class CaseRunner:
    def __init__(self, policy: PolicyEngine, *, compiled: Compiled) -> None:
        self._policy = policy
        self._compiled = compiled

    def differences(self, case: Case, *, deadline: float) -> list[Difference]:
        """Empty if the answer is as it was wanted; an outage or a bad question is a difference too."""
        authorizer = Authorizer(
            catalog=self._compiled.catalog,
            context_fields=self._compiled.context_fields,
            policy=self._policy,
            facts=_TheseFacts(case.facts),
        )
        try:
            answer = _said_by(authorizer.decide(case.question, deadline=deadline))
        except (BadQuestion, DependencyError) as error:
            said = "; ".join(fault.detail for fault in error.faults) or error.detail
            return [Difference(field="answer", wanted=dict(case.want), got=f"{said} ({error.code})")]
        wanted = dict(case.want) | ({"message": case.message} if case.message else {})
        return [
            Difference(field=field, wanted=value, got=answer[field])
            for field, value in wanted.items()
            if answer[field] != value
        ]


def _said_by(decision: Decision) -> dict[str, Any]:
    verdict = decision.verdict
    needs: dict[str, Any] = {"roles": list(verdict.needs_roles), "feature": verdict.needs_feature}
    return {
        "allow": verdict.allow,
        "status": verdict.status,
        "reason": verdict.reason,
        "upgrade": [upgrade.plan for upgrade in decision.upgrade],
        "needs": {kind: value for kind, value in needs.items() if value},
        "detail": verdict.detail,
        "message": decision.message,
    }


class _TheseFacts:
    """A FactStore that knows one membership, whoever is asked about."""

    def __init__(self, facts: Facts | None) -> None:
        self._facts = facts

    def facts(
        self,
        members: Sequence[tuple[str, str]],
        meters: Sequence[tuple[str, ...]] | None = None,  # noqa: ARG002
        /,
        *,
        deadline: float,  # noqa: ARG002
    ) -> list[Facts | None]:
        return [self._facts] * len(members)

    def to_come(
        self,
        meters: Mapping[UUID, Sequence[str]],  # noqa: ARG002
        /,
        *,
        deadline: float,  # noqa: ARG002
    ) -> dict[UUID, Mapping[str, ToCome]]:
        return {}  # a case says nothing of when

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:  # noqa: ARG002
        return [self._facts] if self._facts else []

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:  # noqa: ARG002
        return Roster(facts=None, members=())  # a case is one question, never who may
