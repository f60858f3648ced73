"""What people do with their workspaces and with each other, once the policy has said that they may."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from sidecar.errors import BadQuestion, FieldFault, OwnerMustTransfer, UnknownMember
from sidecar.workspaces.acting import Acting
from sidecar.workspaces.membership import FORMER_OWNER, OWNER, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.decisions.authorizer import Authorizer, Entitlements, Page
    from sidecar.decisions.model import Decision, Facts
    from sidecar.workspaces.acting import Asking
    from sidecar.workspaces.membership import Member, Place
    from sidecar.workspaces.ports import PeopleStore

USE = "platform.use"
VIEW = "data.view_own"
UPDATE = "workspace.update"
DELETE = "workspace.delete"
REMOVE = "members.remove"
CHANGE_ROLE = "members.change_role"
TRANSFER = f"role:{OWNER}"

_SEEN_S = 300.0
_MOST_SEEN = 10_000


class People(Acting):
    """What a request states is handed in as something to call: it is read once the policy has agreed."""

    def __init__(self, authorizer: Authorizer, *, store: PeopleStore) -> None:
        super().__init__(authorizer, store=store)
        self._seen: dict[tuple[str, str | None, bool], float] = {}
        self._lock = Lock()
        below = [role for role in authorizer.catalog.roles if role != OWNER]
        # A catalog without such a role: the highest there is, rather than none.
        self._former_owner = FORMER_OWNER if FORMER_OWNER in below else (below or [FORMER_OWNER])[-1]

    def see(self, asking: Asking, *, again: bool = False) -> None:
        """Whoever comes for the first time gets a workspace of his own, like after a signup.

        Who was seen a while ago is not looked up *again*, unless that is wanted.
        """
        key = (asking.user, asking.email, asking.email_verified)
        if self._seen.get(key, 0.0) > monotonic() and not again:
            return
        self._store.see(asking.user, asking.email, verified=asking.email_verified, deadline=asking.deadline)
        with self._lock:
            if len(self._seen) >= _MOST_SEEN:
                del self._seen[next(iter(self._seen))]
            self._seen.pop(key, None)
            self._seen[key] = monotonic() + _SEEN_S

    def workspaces(self, asking: Asking, *, after: str | None, limit: int) -> Page:
        """All of his, suspended ones too: whoever cannot see one cannot pay for it. Nobody is without any."""
        page = self._page(asking, after, limit)
        if not page.workspaces and page.next is None and after is None:
            self.see(asking, again=True)  # he was in one when he was seen, and has lost it since
            page = self._page(asking, after, limit)
        return page

    def create(self, asking: Asking, name: str) -> Place:
        # The id is ours, so that it is one workspace even if the database is asked twice.
        return self._store.create(uuid4(), asking.user, name, deadline=asking.deadline)

    def details(self, asking: Asking, workspace: str) -> Entitlements:
        facts, _ = self._asked(asking, workspace, VIEW)
        return self._authorizer.entitlements_from(asking.user, facts, deadline=asking.deadline)

    def rename(self, asking: Asking, workspace: str, name: Callable[[], str]) -> Place:
        def act(facts: Facts, _: Decision) -> Place:
            stated = name()
            self._store.rename(facts, stated, actor=asking.user, deadline=asking.deadline)
            return replace(place_of(facts), name=stated)

        return self._done(asking, workspace, UPDATE, act)

    def delete(self, asking: Asking, workspace: str) -> None:
        def act(facts: Facts, _: Decision) -> bool:
            self._store.delete(facts, actor=asking.user, deadline=asking.deadline)
            return True

        self._done(asking, workspace, DELETE, act)

    def members(self, asking: Asking, workspace: str, *, after: str | None, limit: int) -> list[Member]:
        facts, _ = self._asked(asking, workspace, VIEW)
        return self._store.members(facts.workspace_id, after=after, limit=limit, deadline=asking.deadline)

    def change_role(self, asking: Asking, workspace: str, user: str, role: Callable[[], str]) -> Member:
        """OwnerMustTransfer for the owner: he cannot become less without somebody becoming owner."""

        def act(facts: Facts, _: Decision) -> Member:
            stated = role()
            self._check_reach(asking, workspace, facts, stated)
            member = self._target(asking, workspace, facts, user)
            if member.role == OWNER:
                raise OwnerMustTransfer
            return self._store.change_role(facts, user, stated, actor=asking.user, deadline=asking.deadline)

        return self._done(asking, workspace, CHANGE_ROLE, act)

    def remove(self, asking: Asking, workspace: str, user: str) -> None:
        def act(facts: Facts, _: Decision) -> bool:
            member = self._target(asking, workspace, facts, user)
            if member.role == OWNER:
                raise OwnerMustTransfer
            self._store.remove(facts, user, actor=asking.user, deadline=asking.deadline)
            return True

        self._done(asking, workspace, REMOVE, act)

    def leave(self, asking: Asking, workspace: str) -> None:
        def act(facts: Facts, _: Decision) -> bool:
            if facts.role == OWNER:
                raise OwnerMustTransfer
            self._store.remove(facts, asking.user, actor=asking.user, deadline=asking.deadline)
            return True

        self._done(asking, workspace, USE, act)

    def transfer(self, asking: Asking, workspace: str, user: Callable[[], str]) -> tuple[Member, Member]:
        """The new owner and the former one, who is an admin from now on."""

        def act(facts: Facts, _: Decision) -> tuple[Member, Member]:
            stated = user()
            if stated == asking.user:
                raise _not_to("is the owner already")
            if self._store.member(facts.workspace_id, stated, deadline=asking.deadline) is None:
                raise _not_to("is no member of this workspace")
            return self._store.transfer(
                facts, stated, self._former_owner, actor=asking.user, deadline=asking.deadline
            )

        return self._done(asking, workspace, TRANSFER, act)

    def _page(self, asking: Asking, after: str | None, limit: int) -> Page:
        return self._authorizer.workspaces_of(
            asking.user, action=None, after=after, limit=limit, deadline=asking.deadline
        )

    def _target(self, asking: Asking, workspace: str, facts: Facts, user: str) -> Member:
        member = self._store.member(facts.workspace_id, user, deadline=asking.deadline)
        if member is None:
            raise UnknownMember
        self._check_reach(asking, workspace, facts, member.role)
        return member


def _not_to(detail: str) -> BadQuestion:
    fault = FieldFault(field=("user",), detail=detail)
    return BadQuestion("ownership is given to another member", faults=(fault,))
