"""Asking somebody in, and coming in. An invitation holds a seat while it is open, and is for one e-mail."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

from sidecar.decisions.model import Question
from sidecar.decisions.room import amounts_of
from sidecar.decisions.timings import Timings
from sidecar.errors import (
    AlreadyAMember,
    BadQuestion,
    EngineMisbehaved,
    InvitationInvalid,
    UnknownInvitation,
)
from sidecar.text.emails import address_of
from sidecar.workspaces.actor import AuthorizedActions, Denied, retry
from sidecar.workspaces.membership import Seats, summary_of
from sidecar.workspaces.people import VIEW

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sidecar.decisions.model import Decision, Facts
    from sidecar.workspaces.actor import Actor
    from sidecar.workspaces.membership import Invitation, Offer, WorkspaceSummary

INVITE = "members.invite"
MANAGE = "role:admin"
TOKEN_PREFIX = "inv_"  # noqa: S105 - what a secret scanner can look for
_RANDOM_BYTES = 32


class Invitations(AuthorizedActions):
    def invite(
        self, actor: Actor, workspace: str, stated: Callable[[], tuple[str, str]]
    ) -> tuple[Invitation, str]:
        """The invitation and its token, which nobody can ask for again. *stated*: the e-mail and the role.

        AlreadyAMember whether or not there is a seat, if the actor may list the members.
        """
        token = f"{TOKEN_PREFIX}{secrets.token_urlsafe(_RANDOM_BYTES)}"
        id_ = uuid4()

        def once() -> Invitation | None:
            question = Question(user=actor.user, workspace=workspace, action=INVITE)
            timings = Timings()
            facts = self._authorizer.facts_about(question, deadline=actor.deadline, timings=timings)
            if facts is not None and self._lacks_seat(actor, question, facts, timings):
                with suppress(BadQuestion):  # who may not invite anyway: their body is not validated
                    email, _ = stated()
                    self._refuse_member(actor, facts, email)
                    if self._store.is_invited(facts.workspace_id, email, deadline=actor.deadline):
                        facts = self._counting(facts, lambda counted: counted - 1)  # which it replaces
            facts, decision = self._require_grant(actor, question, facts, timings)
            email, role = stated()
            self._check_reach(actor, workspace, facts, role)
            self._refuse_member(actor, facts, email)
            return self._store.invite(
                facts,
                id_,
                email,
                role,
                token_hash=hash_of(token),
                seats=self._seats(decision),
                by=actor.by(decision.decision_id),
                deadline=actor.deadline,
            )

        return retry(once), token

    def invitations(self, actor: Actor, workspace: str, *, after: str | None, limit: int) -> list[Invitation]:
        facts, _ = self._authorize(actor, workspace, MANAGE)
        return self._store.invitations(facts.workspace_id, after=after, limit=limit, deadline=actor.deadline)

    def revoke(self, actor: Actor, workspace: str, invitation: UUID | None) -> None:
        """UnknownInvitation too for None, which is no id."""

        def act(facts: Facts, decision: Decision) -> bool:
            if invitation is None or not self._store.revoke(
                facts,
                invitation,
                by=actor.by(decision.decision_id),
                deadline=actor.deadline,
            ):
                raise UnknownInvitation
            return True

        self._act(actor, workspace, MANAGE, act)

    def accept(self, actor: Actor, token: Callable[[], str]) -> WorkspaceSummary:
        """InvitationInvalid says no more to whoever cannot accept it; Denied when no seat is left.

        AlreadyAMember to who has become one by another way; then it is used up.
        """
        digest = hash_of(token())
        return retry(lambda: self._accept(actor, digest))

    def _accept(self, actor: Actor, digest: str) -> WorkspaceSummary | None:
        offer = self._store.offer(digest, deadline=actor.deadline)
        proved = actor.email if actor.email_verified else None
        if offer is None or proved is None or offer.invitation.email != address_of(proved):
            raise InvitationInvalid
        self._use_up_by_member(actor, offer, digest, proved)
        # The inviter's right, as it is now, lets them in.
        question = Question(
            user=offer.invitation.invited_by, workspace=str(offer.workspace_id), action=INVITE
        )
        timings = Timings()
        found = self._authorizer.facts_about(question, deadline=actor.deadline, timings=timings)
        if found is None or offer.invitation.role not in self._authorizer.catalog.roles:
            raise InvitationInvalid
        inviter = replace(actor, user=question.user)
        try:
            counted = self._counting(found, lambda _: offer.members)
            facts, decision = self._require_grant(inviter, question, counted, timings)
            self._check_reach(inviter, question.workspace, facts, offer.invitation.role)
        except Denied as denied:
            if denied.decision.verdict.reason == "quota_exceeded":
                raise
            raise InvitationInvalid from denied
        outcome = self._store.accept(
            facts,
            digest,
            actor.user,
            proved,
            seats=self._seats(decision),
            by=actor.by(decision.decision_id),
            deadline=actor.deadline,
        )
        if outcome == "invalid":
            raise InvitationInvalid
        if outcome == "member":  # since a moment ago
            raise AlreadyAMember
        if outcome == "full":
            return None
        return replace(summary_of(facts), role=offer.invitation.role)

    def _lacks_seat(self, actor: Actor, question: Question, facts: Facts, timings: Timings) -> bool:
        amounts = amounts_of(question, catalog=self._authorizer.catalog)
        decision = self._authorizer.decide_from(
            question, amounts, facts, deadline=actor.deadline, timings=timings
        )
        return decision.verdict.reason == "quota_exceeded"

    def _refuse_member(self, actor: Actor, facts: Facts, email: str) -> None:
        """AlreadyAMember for the address of one, but only to who may list the members."""
        question = Question(user=actor.user, workspace=str(facts.workspace_id), action=VIEW)
        amounts = amounts_of(question, catalog=self._authorizer.catalog)
        decision = self._authorizer.decide_from(
            question, amounts, facts, deadline=actor.deadline, timings=Timings()
        )
        if decision.allowed and self._store.has_member(facts.workspace_id, email, deadline=actor.deadline):
            raise AlreadyAMember

    def _use_up_by_member(self, actor: Actor, offer: Offer, digest: str, proved: str) -> None:
        """AlreadyAMember for a member, whose role stays and who needs no seat."""
        question = Question(user=actor.user, workspace=str(offer.workspace_id), action=VIEW)
        own = self._authorizer.facts_about(question, deadline=actor.deadline, timings=Timings())
        if own is None:
            return
        outcome = self._store.accept(
            own,
            digest,
            actor.user,
            proved,
            seats=Seats(limits={}),
            by=actor.by(actor.change_id),
            deadline=actor.deadline,
        )
        if outcome == "member":
            actor.record_change("invitation used up")
            raise AlreadyAMember
        raise InvitationInvalid

    def _counting(self, facts: Facts, members: Callable[[int], int]) -> Facts:
        """The facts with as many members as *members* makes of those that there are, invitations included."""
        counted = {
            meter: replace(usage, used=members(usage.used)) if self._is_counted(meter) else usage
            for meter, usage in facts.usage.items()
        }
        return replace(facts, usage=counted)

    def _seats(self, decision: Decision) -> Seats:
        charges = decision.verdict.charges
        counted = filter(self._is_counted, self._authorizer.catalog.actions[INVITE].takes)
        try:
            return Seats(limits={meter: charges[meter] for meter in counted})
        except KeyError as error:
            raise EngineMisbehaved(f"the verdict grants a seat without a limit of {error}") from error

    def _is_counted(self, meter: str) -> bool:
        declared = self._authorizer.catalog.meters.get(meter)
        return declared is not None and declared.kind == "members"


def hash_of(token: str) -> str:
    return sha256(token.encode()).hexdigest()
