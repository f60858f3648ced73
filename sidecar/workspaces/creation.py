"""Whether a user may have one more workspace, which plans.yaml may declare an action for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sidecar.decisions.model import Facts, Question, Usage
from sidecar.decisions.timings import Timings
from sidecar.errors import EngineMisbehaved, WorkspaceContended
from sidecar.workspaces.actor import AuthorizedActions
from sidecar.workspaces.membership import OWNER

if TYPE_CHECKING:
    from sidecar.decisions.model import Decision
    from sidecar.workspaces.actor import Actor

CREATE = "workspaces.create"
_NO_WORKSPACE = UUID(int=0)  # which none has


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A grant. *seen* is of the workspace that it was decided in; None if the user owns none.

    They may own *owned_at_most* before it; None is unlimited.
    """

    seen: Facts | None
    owned_at_most: int | None
    decision_id: str


class Creations(AuthorizedActions):
    @property
    def is_asked(self) -> bool:
        """False where plans.yaml does not declare the action: then everybody may."""
        return CREATE in self._authorizer.catalog.declared_actions

    def authorize(self, actor: Actor) -> Creation:
        """Denied, or WorkspaceContended where something else was faster.

        It is asked in the oldest workspace that the actor owns, and so a suspended one denies it; of who owns
        none, as owner of one on the default plan.
        """
        oldest = self._store.oldest_owned(actor.user, deadline=actor.deadline)
        question = Question(user=actor.user, workspace="" if oldest is None else str(oldest), action=CREATE)
        timings = Timings()
        if oldest is None:
            facts: Facts | None = self._first_workspace()
        else:
            facts = self._authorizer.facts_about(question, deadline=actor.deadline, timings=timings)
        if facts is None:
            raise WorkspaceContended("the oldest workspace of this user is theirs no longer")
        facts, decision = self._require_grant(actor, question, facts, timings)
        return Creation(
            seen=None if oldest is None else facts,
            owned_at_most=self._owned_at_most(facts, decision),
            decision_id=decision.decision_id,
        )

    def _first_workspace(self) -> Facts:
        catalog = self._authorizer.catalog
        return Facts(
            workspace_id=_NO_WORKSPACE,
            slug="",
            name="",
            role=OWNER if OWNER in catalog.roles else list(catalog.roles)[-1],
            plan=catalog.default_plan,
            status="active",
            feature_overrides={},
            limit_overrides={},
            usage={meter: Usage(used=0, reserved=0, resets_at=None) for meter in catalog.meters},
            at=datetime.now(UTC),
            token=None,
        )

    def _owned_at_most(self, facts: Facts, decision: Decision) -> int | None:
        catalog = self._authorizer.catalog
        rooms = []
        for meter, amount in catalog.actions[CREATE].takes.items():
            if catalog.meters[meter].kind != "owned":
                continue
            if meter not in decision.verdict.charges:
                raise EngineMisbehaved(f"the verdict grants a workspace without a limit of {meter}")
            limit = facts.limit_overrides.get(meter, decision.verdict.charges[meter])
            if limit is not None:
                rooms.append(limit - amount)
        return min(rooms, default=None)
