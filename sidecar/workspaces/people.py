"""What people do with their workspaces and with each other, once the policy has said that they may."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from sidecar.errors import BadQuestion, FieldFault, OwnerMustTransfer, UnknownMember, UnknownUser
from sidecar.workspaces.actor import AuthorizedActions, Denied, retry
from sidecar.workspaces.creation import Creations
from sidecar.workspaces.membership import FORMER_OWNER, OWNER, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.decisions.authorizer import Authorizer, Entitlements, Page
    from sidecar.decisions.model import Decision, Facts
    from sidecar.workspaces.actor import Actor
    from sidecar.workspaces.membership import Member, WorkspaceSummary
    from sidecar.workspaces.ports import PeopleStore

USE = "platform.use"
VIEW = "data.view_own"
UPDATE = "workspace.update"
DELETE = "workspace.delete"
REMOVE = "members.remove"
CHANGE_ROLE = "members.change_role"
TRANSFER = f"role:{OWNER}"

_PROVISIONED_S = 300.0
_MOST_PROVISIONED = 10_000


class People(AuthorizedActions):
    """What a request states is handed in as something to call: it is read once the policy has agreed."""

    def __init__(self, authorizer: Authorizer, *, store: PeopleStore) -> None:
        super().__init__(authorizer, store=store)
        self._provisioned: dict[tuple[str, str | None, bool], float] = {}
        self._lock = Lock()
        self._creations = Creations(authorizer, store=store)
        below = [role for role in authorizer.catalog.roles if role != OWNER]
        # A catalog without such a role: the highest there is, rather than none.
        self._former_owner = FORMER_OWNER if FORMER_OWNER in below else (below or [FORMER_OWNER])[-1]

    def provision(self, actor: Actor) -> bool:
        """Give a user who comes for the first time a workspace of their own, as a signup does.

        True if it was made, by the decision that allowed it or the actor's *change_id*.

        A user who may not create one stays without. UnknownUser for one who was deleted, even if they were
        provisioned a moment ago; everybody else who was is left as they are.
        """
        key = _key_of(actor)
        if self._provisioned.get(key, 0.0) > monotonic():
            self._refuse_nobody(actor)
            return False
        decision = actor.change_id
        if self._creations.is_asked and self._refuse_nobody(actor) == "homeless":
            try:
                decision = retry(lambda: self._creations.authorize(actor)).decision_id
            except Denied:
                return False
        made = self._store.provision(
            actor.user,
            actor.email,
            verified=actor.email_verified,
            by=actor.by(decision),
            deadline=actor.deadline,
        )
        with self._lock:
            if len(self._provisioned) >= _MOST_PROVISIONED:
                del self._provisioned[next(iter(self._provisioned))]
            self._provisioned.pop(key, None)
            self._provisioned[key] = monotonic() + _PROVISIONED_S
        if made and decision == actor.change_id:
            actor.record_change("provisioned")
        return made

    def is_nobody(self, user: str, *, deadline: float) -> bool:
        """Whether *user* was deleted, and so what proves who they are proves nothing."""
        return self._store.standing(user, deadline=deadline) == "nobody"

    def workspaces(self, actor: Actor, *, after: str | None, limit: int) -> Page:
        """All of the actor's; suspended ones too, so that they can be paid for.

        None only for who may not create one.
        """
        page = self._page(actor, after, limit)
        if not page.workspaces and page.next is None and after is None:
            with self._lock:
                was_provisioned = self._provisioned.pop(_key_of(actor), None)
            if was_provisioned is not None:
                self.provision(actor)  # they have lost every workspace since
                page = self._page(actor, after, limit)
        return page

    def create(self, actor: Actor, name: Callable[[], str]) -> WorkspaceSummary:
        id_ = uuid4()  # ours, so that it is one workspace even if the database is asked twice
        if not self._creations.is_asked:
            return self._store.create(
                id_, actor.user, name(), by=actor.by(actor.change_id), deadline=actor.deadline
            )

        def once() -> WorkspaceSummary | None:
            granted = self._creations.authorize(actor)
            return self._store.create_decided(
                id_,
                actor.user,
                name(),
                seen=granted.seen,
                owned_at_most=granted.owned_at_most,
                by=actor.by(granted.decision_id),
                deadline=actor.deadline,
            )

        return retry(once)

    def details(self, actor: Actor, workspace: str) -> Entitlements:
        facts, _ = self._authorize(actor, workspace, VIEW)
        return self._authorizer.entitlements_from(actor.user, facts, deadline=actor.deadline)

    def rename(self, actor: Actor, workspace: str, name: Callable[[], str]) -> WorkspaceSummary:
        def act(facts: Facts, decision: Decision) -> WorkspaceSummary:
            stated = name()
            self._store.rename(facts, stated, by=actor.by(decision.decision_id), deadline=actor.deadline)
            return replace(summary_of(facts), name=stated)

        return self._act(actor, workspace, UPDATE, act)

    def delete(self, actor: Actor, workspace: str) -> None:
        def act(facts: Facts, decision: Decision) -> bool:
            self._store.delete(facts, by=actor.by(decision.decision_id), deadline=actor.deadline)
            return True

        self._act(actor, workspace, DELETE, act)

    def members(self, actor: Actor, workspace: str, *, after: str | None, limit: int) -> list[Member]:
        facts, _ = self._authorize(actor, workspace, VIEW)
        return self._store.members(facts.workspace_id, after=after, limit=limit, deadline=actor.deadline)

    def change_role(self, actor: Actor, workspace: str, user: str, role: Callable[[], str]) -> Member:
        """OwnerMustTransfer for the owner, who can only change by a transfer."""

        def act(facts: Facts, decision: Decision) -> Member:
            stated = role()
            self._check_reach(actor, workspace, facts, stated)
            member = self._target(actor, workspace, facts, user)
            if member.role == OWNER:
                raise OwnerMustTransfer
            return self._store.change_role(
                facts, user, stated, by=actor.by(decision.decision_id), deadline=actor.deadline
            )

        return self._act(actor, workspace, CHANGE_ROLE, act)

    def remove(self, actor: Actor, workspace: str, user: str) -> None:
        def act(facts: Facts, decision: Decision) -> bool:
            member = self._target(actor, workspace, facts, user)
            if member.role == OWNER:
                raise OwnerMustTransfer
            self._store.remove(facts, user, by=actor.by(decision.decision_id), deadline=actor.deadline)
            return True

        self._act(actor, workspace, REMOVE, act)

    def leave(self, actor: Actor, workspace: str) -> None:
        def act(facts: Facts, decision: Decision) -> bool:
            if facts.role == OWNER:
                raise OwnerMustTransfer
            self._store.remove(facts, actor.user, by=actor.by(decision.decision_id), deadline=actor.deadline)
            return True

        self._act(actor, workspace, USE, act)

    def transfer(self, actor: Actor, workspace: str, user: Callable[[], str]) -> tuple[Member, Member]:
        """The new owner and the former one, who is an admin from now on."""

        def act(facts: Facts, decision: Decision) -> tuple[Member, Member]:
            stated = user()
            if stated == actor.user:
                raise _not_to("is the owner already")
            if self._store.member(facts.workspace_id, stated, deadline=actor.deadline) is None:
                raise _not_to("is no member of this workspace")
            return self._store.transfer(
                facts,
                stated,
                self._former_owner,
                by=actor.by(decision.decision_id),
                deadline=actor.deadline,
            )

        return self._act(actor, workspace, TRANSFER, act)

    def _refuse_nobody(self, actor: Actor) -> Literal["homeless", "member"]:
        standing = self._store.standing(actor.user, deadline=actor.deadline)
        if standing == "nobody":
            raise UnknownUser("the user was deleted")
        return standing

    def _page(self, actor: Actor, after: str | None, limit: int) -> Page:
        return self._authorizer.workspaces_of(
            actor.user, action=None, after=after, limit=limit, deadline=actor.deadline
        )

    def _target(self, actor: Actor, workspace: str, facts: Facts, user: str) -> Member:
        member = self._store.member(facts.workspace_id, user, deadline=actor.deadline)
        if member is None:
            raise UnknownMember
        self._check_reach(actor, workspace, facts, member.role)
        return member


def _key_of(actor: Actor) -> tuple[str, str | None, bool]:
    return actor.user, actor.email, actor.email_verified


def _not_to(detail: str) -> BadQuestion:
    fault = FieldFault(field=("user",), detail=detail)
    return BadQuestion("ownership is given to another member", faults=(fault,))
