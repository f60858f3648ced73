"""Checks: questions become decisions by facts and policy, and nothing is taken.

Every answer comes from the policy. What the ports raise goes through untouched: an outage is not a denial.
What all decisions of one cell have in common (see `sidecar.decisions.cells`) is found once and kept.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from sidecar.decisions.foresight import Foresight
from sidecar.decisions.messages import message_about
from sidecar.decisions.misfits import misfit
from sidecar.decisions.model import Decision, Question, Upgrade
from sidecar.decisions.room import Rooms, amounts_of, meters_without_room, quotas_of
from sidecar.decisions.situation import situation_bytes, situation_of
from sidecar.decisions.steps import Pause, Wait, run
from sidecar.decisions.timings import Timings
from sidecar.decisions.waiting import foreseen, seconds_until_room
from sidecar.errors import BadQuestion, EngineMisbehaved, NotAMember
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts, Json, Quota, Room, Verdict
    from sidecar.decisions.ports import FactStore, PlainFacts, PlainFound, PolicyEngine
    from sidecar.decisions.steps import Steps

Read = TypeVar("Read")
MAX_ROWS_SCANNED = 1_000
AT_ONCE = 64  # decisions of one request before others have their turn: less than a millisecond


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlements:
    """All that a member may and has in one workspace: every feature, meter and declared action.

    *unlocked_by* are the plans in which a member would have a feature that they have not, cheapest first.
    """

    facts: Facts
    features: Mapping[str, bool]
    unlocked_by: Mapping[str, tuple[str, ...]]
    quotas: Mapping[str, Quota]
    actions: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureState:
    """Whether a member has a feature, and the policy's reason; *unlocked_by* is as in Entitlements."""

    enabled: bool
    reason: str
    unlocked_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """*next* is the cursor to go on from; None at the end."""

    workspaces: tuple[Facts, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MembersPage:
    """*next* is as in Page."""

    users: tuple[str, ...]
    next: str | None


@dataclass(slots=True, kw_only=True)
class Cell:
    """What all decisions about one situation have in common; *message* is None where it has figures.

    *texts* are theirs: see `Decision`.
    """

    situation: bytes
    verdict: Verdict
    upgrade: tuple[Upgrade, ...]
    message: str | None
    texts: dict[str, bytes] = field(default_factory=dict)

    def member(self, facts: Read | None) -> Read | None:
        """The *facts* of a member; None of anybody else."""
        return None if self.verdict.reason == "not_a_member" else facts


class Authorizer:
    """*recall* gives a verdict that is known for good, None for any other.

    *checked_by* is where the facts of a check are read, which may be a little older than *facts*;
    *plainly_by* reads what plain questions need, for many of them at once. None: nothing is read so.
    What `decide_at_once` keeps is bounded by the verdicts that *recall* knows.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        context_fields: frozenset[str],
        policy: PolicyEngine,
        facts: FactStore,
        recall: Callable[[bytes], Verdict | None] = lambda _: None,
        checked_by: Callable[..., list[Facts | None]] | None = None,
        plainly_by: Callable[..., list[PlainFound]] | None = None,
    ) -> None:
        self.catalog = catalog
        self.policy = policy
        self._recall = recall
        self._cells: dict[Hashable, Cell] = {}
        self._features = {name: action.feature or "" for name, action in catalog.actions.items()}
        self._context_fields = context_fields
        self._facts = facts
        self._read = facts.facts
        self._read_for_check = checked_by or facts.facts
        self._read_plainly = plainly_by
        self.takes_nothing = frozenset(name for name, action in catalog.actions.items() if not action.takes)
        self._foresight = Foresight(catalog, facts)
        self._upgrades = {
            plan.name: Upgrade(plan=plan.name, title=plan.title, price=plan.price)
            for plan in catalog.plans.values()
            if plan.sold
        }
        self._rooms = Rooms(catalog)

    def decide(self, question: Question, *, deadline: float, timings: Timings | None = None) -> Decision:
        """`deciding`, on this thread."""
        return run(self.deciding(question, deadline=deadline, timings=timings))

    def deciding(
        self, question: Question, *, deadline: float, timings: Timings | None = None
    ) -> Steps[Decision]:
        """Answer a question in mode ``check``. BadQuestion, or what a port raises.

        *deadline* is on the monotonic clock. *timings* become the decision's own, and are kept when it fails.
        """
        if question.mode != "check":  # it would be allowed, and nothing taken
            raise ValueError(f"a question in mode {question.mode} is for Spending to decide")
        timings = timings or Timings()
        amounts = amounts_of(question, catalog=self.catalog)
        member = question.user, question.workspace
        [facts] = yield from self._facts_of(
            self._read_for_check, [member], [tuple(amounts)], deadline=deadline, timings=timings
        )
        decision = yield from self.deciding_from(question, amounts, facts, deadline=deadline, timings=timings)
        if not decision.allowed:
            decision = yield from self.completing(question, decision, amounts, deadline=deadline)
        return decision

    def completing(
        self, question: Question, denial: Decision, amounts: Mapping[str, int], *, deadline: float
    ) -> Steps[Decision]:
        """*denial* of *question*, which takes *amounts*, with the exact time to wait where waiting helps."""
        [complete] = yield from self.completing_all([(question, denial, amounts)], deadline=deadline)
        return complete

    def completing_all(
        self, denials: Sequence[tuple[Question, Decision, Mapping[str, int]]], *, deadline: float
    ) -> Steps[list[Decision]]:
        """As `completing`, in order and with one read for all."""
        decided = [(denial, amounts) for _, denial, amounts in denials]
        found = yield from self._foresight.completing_all(decided, deadline=deadline)
        for place, (complete, (question, _, amounts)) in enumerate(zip(found, denials, strict=True)):
            if complete.verdict.waiting_helps and complete.retry_after_s is None:
                # There would be room after a reset, but for an override that has ended by then.
                again = yield from self.deciding_from(
                    question,
                    amounts,
                    complete.facts,
                    deadline=deadline,
                    timings=complete.timings,
                    waits=False,
                )
                found[place] = replace(again, quota=complete.quota)
        return found

    def facts_about(self, question: Question, *, deadline: float, timings: Timings) -> Facts | None:
        """All facts of the user of *question* in its workspace, waited for on this thread."""
        member = question.user, question.workspace
        [facts] = run(self._facts_of(self._read, [member], None, deadline=deadline, timings=timings))
        return facts

    def reading(
        self, question: Question, amounts: Mapping[str, int], *, deadline: float, timings: Timings
    ) -> Steps[Facts | None]:
        """The facts that *question* is charged by, with the usage of the meters alone that it takes.

        *amounts* are what it takes of each.
        """
        member = question.user, question.workspace
        [facts] = yield from self._facts_of(
            self._read, [member], [tuple(amounts)], deadline=deadline, timings=timings
        )
        return facts

    def reading_plainly(
        self, members: Sequence[tuple[str, str]], *, deadline: float, timings: Timings
    ) -> Steps[list[PlainFound] | None]:
        """What questions need that take nothing, of each (user, workspace); None where nothing is read so."""
        if self._read_plainly is None:
            return None
        began = monotonic()
        try:
            found: list[PlainFound] = yield Wait(self._read_plainly, members, deadline=deadline)
        finally:
            timings.facts_s += monotonic() - began
        return found

    def deciding_many(
        self, questions: Sequence[Question], *, deadline: float, timings: Timings | None = None
    ) -> Steps[list[Decision | BadQuestion]]:
        """In order, with one read of facts for all; a bad question is its own answer.

        *timings* are of all of them together; each decision has its own, with the read that all waited for.
        """
        timings = timings or Timings()
        meters: dict[tuple[str, str], tuple[str, ...]] = {}
        wanted: list[Mapping[str, int] | BadQuestion] = []
        for question in questions:
            member = question.user, question.workspace
            try:
                amounts = amounts_of(question, catalog=self.catalog)
            except BadQuestion as bad:
                wanted.append(bad)
                meters.setdefault(member, ())
            else:
                wanted.append(amounts)
                meters.setdefault(member, ())
                if amounts:
                    meters[member] = tuple(dict.fromkeys((*meters[member], *amounts)))
        found = yield from self._facts_of(
            self._read_for_check, list(meters), list(meters.values()), deadline=deadline, timings=timings
        )
        facts_of = dict(zip(meters, found, strict=True))
        answers: list[Decision | BadQuestion] = []
        for place, (question, takes) in enumerate(zip(questions, wanted, strict=True)):
            if place % AT_ONCE == AT_ONCE - 1:
                yield Pause()
            if isinstance(takes, BadQuestion):
                answers.append(takes)
                continue
            own = Timings(facts_s=timings.facts_s)
            try:
                decision = yield from self.deciding_from(
                    question,
                    takes,
                    facts_of[question.user, question.workspace],
                    deadline=deadline,
                    timings=own,
                )
            finally:
                timings.policy_s += own.policy_s
            answers.append(decision)
        answers = yield from self._completing_many(questions, answers, wanted, deadline=deadline)
        return answers

    def _completing_many(
        self,
        questions: Sequence[Question],
        answers: list[Decision | BadQuestion],
        wanted: Sequence[Mapping[str, int] | BadQuestion],
        *,
        deadline: float,
    ) -> Steps[list[Decision | BadQuestion]]:
        denied = {
            place: (question, answer, takes)
            for place, (question, answer, takes) in enumerate(zip(questions, answers, wanted, strict=True))
            if isinstance(answer, Decision) and not isinstance(takes, BadQuestion) and not answer.allowed
        }
        if denied:
            complete = yield from self.completing_all([*denied.values()], deadline=deadline)
            for place, decision in zip(denied, complete, strict=True):
                answers[place] = decision
        return answers

    def entitlements(self, user: str, workspace: str, *, deadline: float) -> Entitlements:
        """NotAMember for a stranger, whether or not the workspace exists."""
        [facts] = self._facts.facts([(user, workspace)], deadline=deadline)
        return self.entitlements_from(user, self._member(facts), deadline=deadline)

    def features_of(
        self, user: str, workspace: str, features: Iterable[str], *, meters: tuple[str, ...], deadline: float
    ) -> tuple[Facts, dict[str, FeatureState]]:
        """A member's facts, with limits and usage of *meters* alone, and the state of each of *features*.

        NotAMember as in `entitlements`.
        """
        [found] = self._facts.facts([(user, workspace)], [meters], deadline=deadline)
        facts = self._member(found)
        return facts, self._states(features, user, facts, deadline=deadline)

    def _member(self, facts: Facts | None) -> Facts:
        if facts is None or facts.role not in self.catalog.roles:
            raise NotAMember
        return facts

    def entitlements_from(self, user: str, facts: Facts, *, deadline: float) -> Entitlements:
        """The entitlements of a member, from *facts* already read."""
        features = self._states(self.catalog.features, user, facts, deadline=deadline)
        return Entitlements(
            facts=facts,
            features={feature: state.enabled for feature, state in features.items()},
            unlocked_by={feature: state.unlocked_by for feature, state in features.items()},
            quotas=quotas_of(self.catalog.meters, facts, catalog=self.catalog),
            actions={
                action: self._may(
                    Question(user=user, workspace=facts.slug, action=action), facts, deadline=deadline
                )
                for action in self.catalog.declared_actions
            },
        )

    def _states(
        self, features: Iterable[str], user: str, facts: Facts, *, deadline: float
    ) -> dict[str, FeatureState]:
        found = {}
        for feature in features:
            question = Question(user=user, workspace=facts.slug, action=f"feature:{feature}")
            verdict = self._verdict(question, facts, deadline=deadline)
            unlocked_by = tuple(upgrade.plan for upgrade in self._upgrade(verdict))
            found[feature] = FeatureState(
                enabled=verdict.allow, reason=verdict.reason, unlocked_by=unlocked_by
            )
        return found

    def workspaces_of(
        self,
        user: str,
        *,
        action: str | None,
        after: str | None,
        limit: int,
        deadline: float,
        amounts: Mapping[str, int] | None = None,
        context: Mapping[str, Json] | None = None,
    ) -> Page:
        """Where *user* may perform *action* now, quotas included; every workspace of theirs if it is None.

        At most MAX_ROWS_SCANNED workspaces are looked at for one page: it may be short and yet not the last.
        """
        question = None
        if action is not None:
            question = Question(
                user=user, workspace="", action=action, amounts=amounts, context=context or {}
            )
            amounts_of(question, catalog=self.catalog)  # is it a question at all?
        found: list[Facts] = []
        scanned = 0
        while scanned < MAX_ROWS_SCANNED:
            rows = self._facts.workspaces_of(user, after=after, limit=limit + 1, deadline=deadline)
            for facts in rows[:limit]:
                if len(found) == limit:
                    return Page(workspaces=tuple(found), next=after)
                after = facts.slug
                if facts.role in self.catalog.roles and (
                    question is None or self._may(question, facts, deadline=deadline)
                ):
                    found.append(facts)
            if len(rows) <= limit:
                return Page(workspaces=tuple(found), next=None)
            scanned += limit
        return Page(workspaces=tuple(found), next=after)

    def members_who_may(
        self, question: Question, *, after: str | None, limit: int, deadline: float
    ) -> MembersPage:
        """Who may do in a workspace what *question* asks, whoever asks it, from one read of its members.

        They differ by their role alone, so one verdict for each role decides; unless it takes a meter of what
        each of them owns: then the facts of each are read too. At most MAX_ROWS_SCANNED of them are looked at
        for one page: it may be short and yet not the last.
        """
        amounts = amounts_of(question, catalog=self.catalog)  # is it a question at all?
        roster = self._facts.members_of(
            question.workspace, after=after, limit=MAX_ROWS_SCANNED + 1, deadline=deadline
        )
        members = roster.members[:MAX_ROWS_SCANNED]
        own: dict[str, Facts | None] = {}
        if any(self.catalog.meters[meter].kind == "owned" for meter in amounts):
            asked = [(user, question.workspace) for user, _ in members]
            facts_of = self._facts.facts(asked, [tuple(amounts)] * len(asked), deadline=deadline)
            own = {user: facts for (user, _), facts in zip(asked, facts_of, strict=True)}
        may: dict[str, bool] = {}
        found: list[str] = []
        for user, role in members:
            if own:
                may[role] = self._may(question, own[user], deadline=deadline)
            elif role not in may and roster.facts is not None:
                may[role] = self._may(question, replace(roster.facts, role=role), deadline=deadline)
            if may[role]:
                if len(found) == limit:
                    return MembersPage(users=tuple(found), next=after)
                found.append(user)
            after = user
        return MembersPage(users=tuple(found), next=after if len(roster.members) > MAX_ROWS_SCANNED else None)

    def actions_of(self, question: Question, *, deadline: float) -> tuple[str, ...]:
        """The declared actions that the user of *question* may perform in its workspace, by name.

        An action that does not take what the question wants to take is none of them.
        """
        [facts] = self._facts.facts([(question.user, question.workspace)], deadline=deadline)
        found = []
        for action in sorted(self.catalog.declared_actions):
            with suppress(BadQuestion):
                if self._may(replace(question, action=action), facts, deadline=deadline):
                    found.append(action)
        return tuple(found)

    def _may(self, question: Question, facts: Facts | None, *, deadline: float) -> bool:
        return self._verdict(question, facts, deadline=deadline).allow

    def _verdict(self, question: Question, facts: Facts | None, *, deadline: float) -> Verdict:
        room = self._room(question, amounts_of(question, catalog=self.catalog), facts)
        situation = self._situation(question, facts, room)
        verdict = self.policy.verdict(situation, deadline=deadline)
        self._require_fit(verdict, question, facts)
        return verdict

    def _require_fit(self, verdict: Verdict, question: Question, facts: Facts | None) -> None:
        """EngineMisbehaved: before anything is made of a verdict, and before it is kept."""
        action = self.catalog.actions.get(question.action)
        if why := misfit(verdict, action=action, facts=facts, catalog=self.catalog):
            raise EngineMisbehaved(f"{question.action}: {why}")

    def _facts_of(
        self,
        read: Callable[..., list[Facts | None]],
        members: Sequence[tuple[str, str]],
        meters: Sequence[tuple[str, ...]] | None,
        *,
        deadline: float,
        timings: Timings,
    ) -> Steps[list[Facts | None]]:
        began = monotonic()
        try:
            found: list[Facts | None] = yield Wait(read, members, meters, deadline=deadline)
        finally:
            timings.facts_s += monotonic() - began
        return found

    def _situation(self, question: Question, facts: Facts | None, room: Room | None) -> bytes:
        situation = situation_of(
            question,
            facts,
            catalog=self.catalog,
            room=room,
            context_fields=self._context_fields,
        )
        return situation_bytes(situation)

    def _room(
        self, question: Question, amounts: Mapping[str, int], facts: Facts | None, *, waits: bool = True
    ) -> Room | None:
        """None where the action takes nothing. Without *amounts* of what it takes, it fits everywhere.

        Not *waits*: it is known that waiting does not help.
        """
        if facts is None or (not amounts and not self._takes(question.action)):
            return None
        room = self._rooms.room_for(amounts, facts)
        return room if waits else replace(room, waiting_helps=False)

    def _takes(self, action: str) -> bool:
        declared = self.catalog.actions.get(action)
        return declared is not None and bool(declared.takes)

    def _upgrade(self, verdict: Verdict) -> tuple[Upgrade, ...]:
        return tuple(self._upgrades[plan] for plan in verdict.upgrade)

    def deciding_from(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        *,
        deadline: float,
        timings: Timings,
        waits: bool = True,
    ) -> Steps[Decision]:
        """As `decide_from`, which is waited for only if `decide_at_once` does not know the answer."""
        decision = self.decide_at_once(question, amounts, facts, timings=timings, waits=waits)
        if decision is None:
            decide = partial(self.decide_from, timings=timings, waits=waits)
            decision = yield Wait(decide, question, amounts, facts, deadline=deadline)
        return decision

    def kept_cell(self, action: str, facts: PlainFacts | None) -> Cell | None:
        """The cell of a declared action that takes nothing, without a context; None where it is not kept.

        Who calls it counts by themselves that a verdict was recalled: one that is kept was.
        """
        if facts is None:
            return self._cells.get((action, False))
        overrides = facts.overrides
        override = overrides.get(self._features[action]) if overrides else None
        return self._cells.get((action, facts.role, facts.plan, facts.status, override, False))

    def decide_at_once(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        *,
        timings: Timings,
        waits: bool = True,
    ) -> Decision | None:
        """As `decide_from`, within microseconds; None where that takes longer or the policy must be asked."""
        room = self._room(question, amounts, facts, waits=waits)
        key = self._key(question, amounts, facts, room)
        cell = self._cells.get(key)
        if cell is None or self._recall(cell.situation) is not cell.verdict:
            return None
        return self._decision(cell, question, amounts, facts, timings)

    def decide_from(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        *,
        deadline: float,
        timings: Timings,
        waits: bool = True,
    ) -> Decision:
        """Decide by *facts* already read; nothing is charged.

        *timings* hold what the facts have cost, and become the decision's own. Not *waits*: waiting for room
        is known not to help, whatever *facts* say.
        """
        room = self._room(question, amounts, facts, waits=waits)
        situation = self._situation(question, facts, room)
        began = monotonic()
        verdict = recalled = self._recall(situation)
        try:
            if verdict is None:
                verdict = self.policy.verdict(situation, deadline=deadline)
        finally:
            timings.policy_s += monotonic() - began
        self._require_fit(verdict, question, facts)
        cell = Cell(situation=situation, verdict=verdict, upgrade=self._upgrade(verdict), message=None)
        decision = self._decision(cell, question, amounts, facts, timings)
        key = self._key(question, amounts, facts, room)
        if recalled is None or key is None:
            return replace(decision, texts=None)
        if verdict.reason != "quota_exceeded":
            cell.message = decision.message
        self._cells[key] = cell
        return decision

    def _key(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        room: Room | None,
    ) -> Hashable:
        """Equal for questions with the same situation and words; None where the words may be others.

        There are no more of them than the cells of a catalog, whoever asks.
        """
        if question.context and not self._context_fields.isdisjoint(question.context):
            return None
        key = self._key_of(question.action, facts, takes=bool(amounts))
        return (key, room) if room is not None and key is not None else key

    def _key_of(self, action: str, facts: Facts | None, *, takes: bool) -> Hashable:
        catalog = self.catalog
        declared = catalog.actions.get(action)
        if facts is None:
            return None if declared is None else declared.name, takes
        if declared is None or facts.role not in catalog.roles or facts.plan not in catalog.plans:
            return None
        feature = declared.feature
        return (
            declared.name,
            facts.role,
            facts.plan,
            facts.status,
            facts.feature_overrides.get(feature) if feature else None,
            takes,
        )

    def _decision(
        self,
        cell: Cell,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        timings: Timings,
    ) -> Decision:
        verdict = cell.verdict
        member = cell.member(facts)
        quotas = quotas_of(amounts, member, catalog=self.catalog) if member and amounts else {}
        lacking = meters_without_room(amounts, quotas) if verdict.reason == "quota_exceeded" else []
        at = member.at if member else datetime.now(UTC)
        message = cell.message or message_about(
            verdict,
            question=question,
            amounts=amounts,
            facts=member,
            quotas=quotas,
            lacking=lacking,
            catalog=self.catalog,
        )
        return Decision(
            verdict=verdict,
            situation=cell.situation,
            message=message,
            role=member.role if member else None,
            plan=member.plan if member else None,
            workspace_id=member.workspace_id if member else None,
            slug=member.slug if member else None,
            upgrade=cell.upgrade,
            quota=quotas if quotas and verdict.reason in {"granted", "quota_exceeded"} else None,
            retry_after_s=_wait_s(amounts, quotas, at) if verdict.waiting_helps else None,
            decision_id=fresh_id(),
            at=at,
            timings=timings,
            texts=cell.texts,
            facts=member,
            amounts=amounts,
        )


def _wait_s(amounts: Mapping[str, int], quotas: Mapping[str, Quota], at: datetime) -> int:
    """Whole seconds, at least 1, until there is room, as far as *quotas* tell: see `Foresight`."""
    limits = {meter: quota.limit for meter, quota in quotas.items()}
    return seconds_until_room(amounts, limits, foreseen(quotas, at=at)) or 1
