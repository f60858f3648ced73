"""The core on fakes: what it asks of its ports, and that nothing but a verdict becomes a decision."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sidecar.decisions.authorizer import MAX_ROWS_SCANNED, Authorizer
from sidecar.decisions.model import Decision, Roster, Verdict
from sidecar.decisions.steps import run
from sidecar.decisions.timings import Timings
from sidecar.errors import BadQuestion, EngineMisbehaved, EngineUnavailable, FactsUnavailable, NotAMember
from tests.values import FAR_AWAY, NEXT_MONTH, NOON, a_question, some_facts, the_catalog

CATALOG = the_catalog()


def a_verdict(reason="granted", status=200, **more) -> Verdict:
    values: dict[str, Any] = {
        "charges": {},
        "upgrade": (),
        "waiting_helps": status == 429,
        "needs_roles": (),
        "needs_feature": None,
        "detail": None,
        "revision": "r1",
    }
    return Verdict(allow=reason == "granted", reason=reason, status=status, **{**values, **more})


class Answers:
    """A policy engine that gives *verdict*, or raises it, and remembers what it was asked."""

    name = "scripted"
    revision = "r1"

    def __init__(self, verdict):
        self.verdicts = verdict
        self.asked = []

    def verdict(self, situation, /, *, deadline):
        self.asked.append(situation)
        if isinstance(self.verdicts, Exception):
            raise self.verdicts
        return self.verdicts(situation) if callable(self.verdicts) else self.verdicts


class Knows:
    """A store of (user, workspace) → facts; *reads* counts round trips."""

    def __init__(self, facts=None, workspaces=()):
        self._facts = facts or {}
        self._workspaces = sorted(workspaces, key=lambda facts: facts.slug)
        self.reads = 0

    def facts(self, members, meters=None, /, *, deadline):
        self.reads += 1
        if isinstance(self._facts, Exception):
            raise self._facts
        return [self._facts.get(member) for member in members]

    def to_come(self, meters, /, *, deadline):
        self.reads += 1
        return {}

    def workspaces_of(self, user, /, *, after, limit, deadline):
        self.reads += 1
        return [facts for facts in self._workspaces if after is None or facts.slug > after][:limit]

    def members_of(self, workspace, /, *, after, limit, deadline):
        self.reads += 1
        of_it = {user: facts for (user, slug), facts in self._facts.items() if slug == workspace}
        page = [user for user in sorted(of_it) if user > (after or "")][:limit]
        return Roster(
            facts=of_it[page[0]] if page else None, members=tuple((user, of_it[user].role) for user in page)
        )


def an_authorizer(verdict, facts, *, fields=frozenset()) -> Authorizer:
    policy = verdict if isinstance(verdict, Answers) else Answers(verdict)
    store = facts if isinstance(facts, Knows) else Knows({("adam", "acme"): facts} if facts else {})
    return Authorizer(catalog=CATALOG, context_fields=fields, policy=policy, facts=store)


@pytest.mark.parametrize("outage", [EngineUnavailable("slow"), FactsUnavailable("down")])
def test_an_outage_is_never_a_decision(outage):
    verdict, facts = (
        (outage, some_facts()) if isinstance(outage, EngineUnavailable) else (a_verdict(), Knows(outage))
    )

    with pytest.raises(type(outage)):
        an_authorizer(verdict, facts).decide(a_question(), deadline=FAR_AWAY)


def test_a_denial_is_falsy_and_so_is_its_verdict():
    decision = an_authorizer(a_verdict("not_a_member", 403), None).decide(a_question(), deadline=FAR_AWAY)

    assert not decision
    assert not decision.verdict


def test_a_stranger_s_decision_carries_nothing_of_the_workspace():
    decision = an_authorizer(a_verdict("not_a_member", 403), None).decide(
        a_question("recording.start"), deadline=FAR_AWAY
    )

    assert (decision.role, decision.plan, decision.workspace_id, decision.quota) == (None, None, None, None)
    assert decision.message == "The user is not a member of this workspace."


def test_quota_comes_with_granted_and_quota_exceeded_alone():
    facts = some_facts(role="owner")

    def quota_with(reason, status, action="recording.start"):
        decision = an_authorizer(a_verdict(reason, status), facts).decide(
            a_question(action), deadline=FAR_AWAY
        )
        return decision.quota and list(decision.quota)

    assert quota_with("granted", 200) == ["minutes"]
    assert quota_with("quota_exceeded", 429) == ["minutes"]
    assert quota_with("workspace_suspended", 403) is None
    assert quota_with("granted", 200, "platform.use") is None


def test_whoever_must_wait_is_told_for_how_many_whole_seconds():
    facts = some_facts(plan="team", usage={"minutes": 1000})

    decision = an_authorizer(
        a_verdict("quota_exceeded", 429), replace(facts, at=NEXT_MONTH - timedelta(seconds=1.2))
    )

    answer = decision.decide(a_question("recording.start"), deadline=FAR_AWAY)
    assert answer.retry_after_s == 2


def test_whoever_may_wait_or_pay_is_told_both():
    verdict = a_verdict("quota_exceeded", 402, upgrade=("team",), waiting_helps=True)
    facts = replace(some_facts(plan="pro", usage={"minutes": 500}), at=NEXT_MONTH - timedelta(seconds=3))

    answer = an_authorizer(verdict, facts).decide(a_question("recording.start"), deadline=FAR_AWAY)
    assert ([each.plan for each in answer.upgrade], answer.retry_after_s) == (["team"], 3)


def test_the_upgrade_says_what_the_plan_costs():
    verdict = a_verdict("feature_not_in_plan", 402, upgrade=("pro",), needs_feature="video_avatar")

    decision = an_authorizer(verdict, some_facts(plan="starter")).decide(
        a_question("roleplay.start_with_avatar"), deadline=FAR_AWAY
    )

    [upgrade] = decision.upgrade
    assert (upgrade.title, upgrade.price.amount, upgrade.price.currency) == ("Pro", 149, "EUR")
    assert decision.message == "The Starter plan does not include Video avatar; Pro does."


def test_a_plan_that_is_not_sold_is_never_offered():
    verdict = a_verdict("feature_not_in_plan", 402, upgrade=("pro", "gold"), needs_feature="video_avatar")

    with pytest.raises(EngineMisbehaved, match="gold"):
        an_authorizer(verdict, some_facts(plan="starter")).decide(
            a_question("roleplay.start_with_avatar"), deadline=FAR_AWAY
        )


def of_members(situation):
    return a_verdict("not_a_member", 403) if b'"role":null' in situation else a_verdict()


def test_a_batch_reads_facts_once_and_keeps_its_order():
    store = Knows({("adam", "acme"): some_facts()})
    authorizer = an_authorizer(Answers(of_members), store)

    questions = [
        a_question(),
        a_question("recording.start", amounts={"gold": 1}),
        a_question(user="zoe"),
        a_question(),
    ]
    answers = run(authorizer.deciding_many(questions, deadline=FAR_AWAY))

    assert store.reads == 1
    assert [isinstance(answer, BadQuestion) for answer in answers] == [False, True, False, False]
    assert [getattr(answer, "role", None) for answer in answers] == ["member", None, None, "member"]


def test_a_decision_carries_what_the_policy_was_asked():
    policy = Answers(a_verdict())
    store = Knows({("adam", "acme"): some_facts()})

    questions = [
        a_question(),
        a_question("recording.start", amounts={"gold": 1}),
        a_question("recording.start"),
    ]
    [one, _, other] = run(an_authorizer(policy, store).deciding_many(questions, deadline=FAR_AWAY))

    assert [one.situation, other.situation] == policy.asked  # type: ignore[union-attr] # decisions, both
    assert b'"recording.start"' in other.situation  # type: ignore[union-attr] # ditto


class Slow:
    """A port that takes *seconds* for each answer of *port*."""

    def __init__(self, port, seconds):
        self._port, self._seconds = port, seconds

    def facts(self, members, meters=None, /, *, deadline):
        time.sleep(self._seconds)
        return self._port.facts(members, deadline=deadline)

    def verdict(self, situation, /, *, deadline):
        time.sleep(self._seconds)
        return self._port.verdict(situation, deadline=deadline)


def a_slow_authorizer(verdict) -> Authorizer:
    return Authorizer(
        catalog=CATALOG,
        context_fields=frozenset(),
        policy=Slow(Answers(verdict), 0.02),  # type: ignore[arg-type] # as much of one as is asked
        facts=Slow(Knows({("adam", "acme"): some_facts()}), 0.01),  # type: ignore[arg-type] # ditto
    )


def test_a_decision_says_how_long_each_part_took():
    timings = a_slow_authorizer(a_verdict()).decide(a_question(), deadline=FAR_AWAY).timings

    assert timings.facts_s >= 0.01
    assert timings.policy_s >= 0.02
    assert timings.ledger_s == 0


def test_a_question_of_a_batch_has_its_own_time_and_the_read_that_all_waited_for():
    timings = Timings()

    authorizer = a_slow_authorizer(a_verdict())
    answers = run(authorizer.deciding_many([a_question()] * 3, deadline=FAR_AWAY, timings=timings))

    own = [answer.timings for answer in answers if isinstance(answer, Decision)]
    assert len(own) == 3
    assert {each.facts_s for each in own} == {timings.facts_s}
    assert sum(each.policy_s for each in own) == pytest.approx(timings.policy_s)
    assert timings.policy_s >= 0.06


@pytest.mark.parametrize("ask", ["deciding", "deciding_many"])
def test_an_outage_leaves_the_time_that_it_took(ask):
    authorizer, timings = a_slow_authorizer(EngineUnavailable("slow")), Timings()
    question = a_question() if ask == "deciding" else [a_question()]

    with pytest.raises(EngineUnavailable):
        run(getattr(authorizer, ask)(question, deadline=FAR_AWAY, timings=timings))

    assert timings.facts_s >= 0.01
    assert timings.policy_s >= 0.02


@pytest.mark.parametrize("mode", ["consume", "reserve"])
def test_what_would_take_quota_is_not_merely_checked(mode):
    with pytest.raises(ValueError, match=mode):
        an_authorizer(a_verdict(), some_facts()).decide(a_question(mode=mode), deadline=FAR_AWAY)


def test_a_bad_question_is_refused_before_anything_is_read():
    store = Knows()

    with pytest.raises(BadQuestion):
        an_authorizer(Answers(a_verdict()), store).decide(
            a_question("recording.start", amounts={"gold": 1}), deadline=FAR_AWAY
        )

    assert store.reads == 0


@pytest.mark.parametrize("facts", [None, some_facts(role="king")])
def test_entitlements_are_for_members(facts):
    with pytest.raises(NotAMember):
        an_authorizer(a_verdict(), facts).entitlements("adam", "acme", deadline=FAR_AWAY)


def test_entitlements_ask_the_policy_about_every_feature_and_every_declared_action():
    policy = Answers(
        lambda situation: (
            a_verdict() if b'"roleplay.start"' in situation else a_verdict("unknown_action", 403)
        )
    )

    mine = an_authorizer(policy, some_facts()).entitlements("adam", "acme", deadline=FAR_AWAY)

    assert set(mine.features) == set(CATALOG.features)
    assert set(mine.quotas) == set(CATALOG.meters)
    assert [action for action, allowed in mine.actions.items() if allowed] == ["roleplay.start"]
    assert not any(":" in action for action in mine.actions)


def workspaces(count: int, *, allowed: int):
    return [
        replace(some_facts(role="owner" if number >= count - allowed else "member"), slug=f"w{number:05}")
        for number in range(count)
    ]


def by_role(situation):
    return (
        a_verdict()
        if b'"owner"' in situation
        else a_verdict("role_insufficient", 403, needs_roles=("owner",))
    )


def pages(authorizer, *, limit, action="workspace.update"):
    after = None
    while True:
        page = authorizer.workspaces_of("adam", action=action, after=after, limit=limit, deadline=FAR_AWAY)
        yield [facts.slug for facts in page.workspaces]
        if page.next is None:
            return
        after = page.next


def test_pages_give_every_allowed_workspace_once():
    mine = workspaces(25, allowed=11)
    authorizer = an_authorizer(Answers(by_role), Knows(workspaces=mine))

    found = list(pages(authorizer, limit=4))

    assert [len(page) for page in found] == [4, 4, 3]
    assert [slug for page in found for slug in page] == [facts.slug for facts in mine[14:]]


def test_without_an_action_every_workspace_is_listed_but_one_whose_role_is_not_declared():
    rows = [*workspaces(3, allowed=0), replace(some_facts(role="king"), slug="x")]
    authorizer = an_authorizer(Answers(by_role), Knows(workspaces=rows))

    assert list(pages(authorizer, limit=2, action=None)) == [["w00000", "w00001"], ["w00002"]]


def test_a_page_looks_at_a_bounded_number_of_workspaces():
    store = Knows(workspaces=workspaces(MAX_ROWS_SCANNED + 50, allowed=1))
    authorizer = an_authorizer(Answers(by_role), store)

    page = authorizer.workspaces_of(
        "adam", action="workspace.update", after=None, limit=100, deadline=FAR_AWAY
    )

    assert (page.workspaces, page.next is not None) == ((), True)
    assert [slug for found in pages(authorizer, limit=100) for slug in found] == [
        f"w{MAX_ROWS_SCANNED + 49:05}"
    ]


def test_a_decision_id_is_new_each_time_and_hard_to_guess():
    authorizer = an_authorizer(a_verdict(), some_facts())

    ids = {authorizer.decide(a_question(), deadline=time.monotonic() + 1).decision_id for _ in range(50)}

    assert len(ids) == 50
    assert {len(bytes.fromhex(one)) for one in ids} == {16}


def test_facts_are_as_old_as_the_database_says():
    decision = an_authorizer(a_verdict(), some_facts()).decide(a_question(), deadline=FAR_AWAY)

    assert (decision.at, decision.cached) == (NOON, False)
