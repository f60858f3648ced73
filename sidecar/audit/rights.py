"""What members may by role, plan, status and overrides: the right itself, whether or not there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.questions import QuestionCell, Situations
from sidecar.decisions.model import Situation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.audit.answers import Answers
    from sidecar.decisions.model import Json, Verdict
    from sidecar.rego.compile import Compiled
    from sidecar.workspaces.holders import Member, Workspace


class Rights:
    """By one policy, with one context. One verdict is for all who differ in nothing that a policy sees."""

    def __init__(self, compiled: Compiled, answers: Answers, *, context: Mapping[str, Json]) -> None:
        self.compiled = compiled
        self.answers = answers
        self.context = context
        self._situations = Situations(compiled.catalog, context_fields=compiled.context_fields)
        self._verdicts: dict[tuple[str, str, str, bool | None], dict[str, Verdict]] = {}
        self._as_sold: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, action: str, member: Member, workspace: Workspace) -> Verdict:
        if member.exists is False:
            return self.of_stranger(action)
        known = self.by_role(action, workspace)
        verdict = known.get(member.role)
        if verdict is None:
            cell = QuestionCell(action=action, role=member.role, plan=workspace.plan, status=workspace.status)
            feature, override = self._override(action, workspace)
            features = {} if feature is None or override is None else {feature: override}
            situation = self._situations.of(cell, context=self.context, features=features)
            verdict = known[member.role] = self.answers.about(situation)
        return verdict

    def by_role(self, action: str, workspace: Workspace) -> dict[str, Verdict]:
        """What was asked so far about members who exist, of workspaces like this one."""
        _, override = self._override(action, workspace)
        return self._verdicts.setdefault((action, workspace.plan, workspace.status, override), {})

    def _override(self, action: str, workspace: Workspace) -> tuple[str | None, bool | None]:
        """The feature that *action* needs, and the workspace's override of it."""
        declared = self.compiled.catalog.actions.get(action)
        feature = declared.feature if declared else None
        return feature, workspace.features.get(feature) if feature else None

    def of_stranger(self, action: str) -> Verdict:
        """Also of whoever was deleted, whatever rows are left of them."""
        name = action if action in self.compiled.catalog.actions else None
        declared = self.compiled.context_fields
        context = {field: value for field, value in self.context.items() if field in declared}
        return self.answers.about(Situation(action=name, role=None, plan=None, status=None, context=context))

    def as_sold(self, role: str, plan: str) -> tuple[str, ...]:
        """The declared actions that *role* may on *plan*: active, without override, with room."""
        key = role, plan
        if key not in self._as_sold:
            actions = self.compiled.catalog.declared_actions
            of = {
                name: self._situations.of(
                    QuestionCell(action=name, role=role, plan=plan), context=self.context
                )
                for name in actions
            }
            self.answers.learn(of.values())
            self._as_sold[key] = tuple(name for name in actions if self.answers.about(of[name]).allow)
        return self._as_sold[key]
