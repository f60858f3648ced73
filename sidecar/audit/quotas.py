"""What is answered now, quotas included: by the facts that the sidecar would read, by its own authorizer."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.model import Question
from sidecar.decisions.room import Rooms, amounts_of
from sidecar.decisions.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sidecar.audit.rights import Rights
    from sidecar.decisions.model import Facts, Verdict
    from sidecar.decisions.ports import FactStore
    from sidecar.workspaces.holders import Member, Workspace

_AT_ONCE = 1_000  # members whose facts are read in one round trip


class FactsOfWorkspaces:
    """The facts of each workspace's members, which differ in the role alone.

    But for meters of what each user owns: where one of *meters* is such a one, each member's own are read.
    """

    def __init__(
        self, store: FactStore, workspaces: Iterable[Workspace], *, meters: Sequence[str], own: bool
    ) -> None:
        asked: list[tuple[str, str]] = []
        for workspace in workspaces:
            users = [member.user for member in workspace.members if member.exists is not False]
            asked += [(user, workspace.id) for user in (users if own else users[:1])]
        self._own = own
        self._of: dict[tuple[str, str], Facts] = {}
        for start in range(0, len(asked), _AT_ONCE):
            batch = asked[start : start + _AT_ONCE]
            found = store.facts(batch, [tuple(meters)] * len(batch), deadline=inf)
            for (user, workspace_id), facts in zip(batch, found, strict=True):
                if facts is not None:
                    self._of[user if own else "", workspace_id] = facts

    def of(self, user: str, role: str, workspace: Workspace) -> Facts | None:
        """Of a user with *role*; None in a workspace of which no member was read."""
        facts = self._of.get((user if self._own else "", workspace.id))
        return None if facts is None else replace(facts, role=role)


class Now:
    """The verdict that a question of each member would get now."""

    def __init__(
        self,
        rights: Rights,
        store: FactStore,
        workspaces: Iterable[Workspace],
        *,
        action: str,
        amounts: Mapping[str, int] | None,
    ) -> None:
        """BadQuestion if *action* does not take what *amounts* name."""
        catalog = rights.compiled.catalog
        self._question = Question(
            user="", workspace="", action=action, amounts=amounts, context=rights.context
        )
        self._amounts = amounts_of(self._question, catalog=catalog)
        self._authorizer = Authorizer(
            catalog=catalog,
            context_fields=rights.compiled.context_fields,
            policy=rights.answers,
            facts=store,
            recall=rights.answers.recall,
        )
        own = any(catalog.meters[meter].kind == "owned" for meter in self._amounts)
        read = workspaces if self._amounts else ()
        self._facts = FactsOfWorkspaces(store, read, meters=tuple(self._amounts), own=own)

    def of(self, member: Member, workspace: Workspace, right: Verdict) -> Verdict:
        """*right* is the verdict where room does not count."""
        if not self._amounts or member.exists is False:
            return right
        facts = self._facts.of(member.user, member.role, workspace)
        question = replace(self._question, user=member.user, workspace=workspace.id)
        decision = self._authorizer.decide_at_once(question, self._amounts, facts, timings=Timings())
        if decision is None:
            decision = self._authorizer.decide_from(
                question, self._amounts, facts, deadline=inf, timings=Timings()
            )
        return decision.verdict


class RoomNow:
    """Which declared actions have no room in a workspace now, for what they take by themselves."""

    def __init__(self, rights: Rights, store: FactStore, workspaces: Sequence[Workspace]) -> None:
        catalog = rights.compiled.catalog
        self._takes = {
            name: catalog.actions[name].takes
            for name in catalog.declared_actions
            if catalog.actions[name].takes
        }
        meters = tuple(dict.fromkeys(meter for takes in self._takes.values() for meter in takes))
        own = any(catalog.meters[meter].kind == "owned" for meter in meters)
        self._rooms = Rooms(catalog)
        self._facts = FactsOfWorkspaces(store, workspaces if meters else (), meters=meters, own=own)

    def is_full(self, action: str, user: str, role: str, workspace: Workspace) -> bool:
        """False where nobody is there whose facts could be read."""
        takes = self._takes.get(action)
        facts = self._facts.of(user, role, workspace) if takes else None
        return facts is not None and facts.plan not in self._rooms.room_for(takes or {}, facts).fits_in
