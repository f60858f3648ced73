"""An offer is an answer: `upgrade` is the plans in which this very question, now, would be granted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from sidecar.catalog.build import built
from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.cells import cells
from sidecar.decisions.model import Override, ToCome, Usage
from sidecar.decisions.situation import situation_bytes
from sidecar.decisions.steps import run
from sidecar.decisions.timings import Timings
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.memo import MemoisedEngine
from sidecar.rego.compile import compiled
from sidecar.rego.load import modules_at
from sidecar.settings import shipped
from tests.catalogs import a_catalog_at_random, rules_at_random
from tests.fakes import FactsInMemory
from tests.values import FAR_AWAY, NEXT_MONTH, NOON, WORKSPACE_ID, a_question, some_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision, Facts, Question

MODULES = modules_at(shipped("policies"))
CATALOGS = 30
QUESTIONS = 20


class Core:
    """The core on one catalog, its policies and some rules of the company's own."""

    def __init__(self, catalog: Catalog, custom: str = "package custom\n") -> None:
        self.catalog = catalog
        result = compiled(catalog, {**MODULES, "custom/rules.rego": custom})
        engine = EmbeddedEngine(result.modules, result.data, revision=result.revision)
        self._facts = FactsInMemory({})
        self._authorizer = Authorizer(
            catalog=catalog,
            context_fields=frozenset(),
            policy=MemoisedEngine(engine, cells=map(situation_bytes, cells(catalog))),
            facts=self._facts,
        )

    def ask(self, question: Question, world: World) -> Decision:
        """As a caller does: the facts are read, and what is to come where it matters."""
        self._facts.members = {(question.user, question.workspace): world.facts(0)}
        self._facts.coming = {WORKSPACE_ID: world.to_come()}
        return run(self._authorizer.deciding(question, deadline=FAR_AWAY))

    def decide(self, question: Question, facts: Facts) -> Decision:
        amounts = {**self.catalog.actions[question.action].takes, **(question.amounts or {})}
        return self._authorizer.decide_from(question, amounts, facts, deadline=FAR_AWAY, timings=Timings())


def facts_at_random(catalog: Catalog, random: Random) -> Facts:
    meters = catalog.meters.values()
    return replace(
        some_facts(
            role=random.choice(["member", "owner", "owner", "owner"]),
            plan=random.choice([*catalog.plans] * 3 + ["bygone"]),
            status=random.choice(["active"] * 9 + ["suspended"]),
            feature_overrides={
                feature: random.random() < 0.5 for feature in catalog.features if random.random() < 0.2
            },
            limit_overrides={
                meter.name: random.choice([0, 1, 2, 4, None]) for meter in meters if random.random() < 0.2
            },
        ),
        usage={
            meter.name: Usage(
                used=random.randint(0, 4),
                reserved=random.choice([0, 0, 1, 2]) if meter.kind != "members" else 0,
                resets_at=NEXT_MONTH if meter.per == "month" else None,
            )
            for meter in meters
        },
    )


def offers_by_asking(core: Core, question: Question, facts: Facts, reason: str) -> list[str]:
    """The plans that are to be offered: each is asked, one after the other."""
    here = core.catalog.plans.get(facts.plan)
    return [
        plan.name
        for plan in core.catalog.plans.values()
        if plan.sold
        and plan is not here
        and (reason == "feature_not_in_plan" or here is None or plan.price.amount > here.price.amount)
        and core.decide(question, replace(facts, plan=plan.name)).allowed
    ]


def test_an_upgrade_is_exactly_the_plans_in_which_the_same_question_is_granted():
    random = Random(20_261)  # noqa: S311 - the same ones every time
    seen: Counter[tuple[str, int]] = Counter()
    for _ in range(CATALOGS):
        catalog = a_catalog_at_random(random)
        custom = rules_at_random(catalog, random)
        core = Core(catalog, custom)
        for _ in range(QUESTIONS):
            question = a_question(random.choice(catalog.declared_actions))
            facts = facts_at_random(catalog, random)
            decision = core.decide(question, facts)
            verdict = decision.verdict
            seen[verdict.reason, verdict.status] += 1
            offers = [upgrade.plan for upgrade in decision.upgrade]
            if verdict.reason in {"feature_not_in_plan", "quota_exceeded"}:
                assert offers == offers_by_asking(core, question, facts, verdict.reason), (custom, facts)
            else:
                assert offers == []
            assert verdict.status == status_of(decision), (custom, facts)
            assert (decision.retry_after_s is not None) == verdict.waiting_helps

    assert {status for reason, status in seen if reason == "quota_exceeded"} == {402, 403, 429}
    assert {status for reason, status in seen if reason == "feature_not_in_plan"} == {402, 403}
    assert min(seen.values()) > 5


def status_of(decision: Decision) -> int:
    if decision.allowed:
        return 200
    if decision.upgrade:
        return 402
    return 429 if decision.verdict.waiting_helps else 403


RESET_S, ALL_OVER_S = 50, 100


@dataclass(frozen=True)
class World:
    """One workspace as time goes by: *held* and *limits* (overrides) say in how many seconds each ends."""

    catalog: Catalog
    now: Facts
    held: Mapping[str, list[tuple[int, int]]]
    limits: Mapping[str, Override]

    def facts(self, at_s: int) -> Facts:
        """What they are *at_s* seconds later if nothing else happens."""
        limits = {
            meter: override.limit
            for meter, override in self.limits.items()
            if override.ends_in_s is None or override.ends_in_s > at_s
        }
        return replace(
            self.now,
            limit_overrides=limits,
            usage={meter: self._usage(meter, at_s) for meter in self.catalog.meters},
            at=NOON + timedelta(seconds=at_s),
        )

    def _usage(self, meter: str, at_s: int) -> Usage:
        is_over = self._resets(meter) and at_s >= RESET_S
        open_ = [] if is_over else [(end_s, amount) for end_s, amount in self.held[meter] if end_s > at_s]
        return Usage(
            used=0 if is_over else self.now.usage[meter].used,
            reserved=sum(amount for _, amount in open_),
            resets_at=NOON + timedelta(seconds=RESET_S) if self._resets(meter) else None,
            frees_at=NOON + timedelta(seconds=min(open_)[0]) if open_ else None,
        )

    def to_come(self) -> dict[str, ToCome]:
        return {
            meter: ToCome(
                used=self.now.usage[meter].used,
                resets_in_s=RESET_S if self._resets(meter) else None,
                held=tuple(sorted(self.held[meter])),
                override=self.limits.get(meter),
            )
            for meter in self.catalog.meters
        }

    def _resets(self, meter: str) -> bool:
        return self.catalog.meters[meter].per == "month"

    def moments(self) -> list[int]:
        """Each second at which something ends, and the one before it."""
        ends = {1, RESET_S, ALL_OVER_S}
        ends |= {end_s for held in self.held.values() for end_s, _ in held}
        ends |= {override.ends_in_s for override in self.limits.values() if override.ends_in_s}
        return sorted({each for end_s in ends for each in (end_s - 1, end_s) if each > 0})


def a_world_at_random(catalog: Catalog, random: Random) -> World:
    now = facts_at_random(catalog, random)
    return World(
        catalog=catalog,
        now=now,
        held={
            name: [
                (random.randint(1, ALL_OVER_S - 1), random.randint(1, 3))
                for _ in range(random.choice([0, 1, 3]) if meter.kind != "members" else 0)
            ]
            for name, meter in catalog.meters.items()
        },
        limits={
            meter: Override(limit=limit, ends_in_s=random.choice([None, random.randint(1, ALL_OVER_S - 1)]))
            for meter, limit in now.limit_overrides.items()
        },
    )


def wait_by_asking(core: Core, question: Question, world: World) -> int | None:
    """How long a denial for want of room is to be waited for: the question is asked again and again."""
    now = world.facts(0)
    unlimited: dict[str, int | None] = dict.fromkeys(core.catalog.meters)
    all_back = replace(world.facts(ALL_OVER_S), limit_overrides=now.limit_overrides)
    if now.plan not in core.catalog.plans:
        return None  # nothing waits there
    if not core.decide(question, replace(now, limit_overrides=unlimited)).allowed:
        return None  # something else denies it besides
    if not core.decide(question, all_back).allowed:
        return None  # it is no matter of resets and reservations
    return next((at_s for at_s in world.moments() if core.decide(question, world.facts(at_s)).allowed), None)


def test_whoever_is_told_to_wait_is_granted_at_that_second_and_at_none_before():
    random = Random(20_262)  # noqa: S311 - as above
    seen: Counter[str] = Counter()
    for _ in range(CATALOGS):
        catalog = a_catalog_at_random(random)
        custom = rules_at_random(catalog, random)
        core = Core(catalog, custom)
        takers = [name for name in catalog.declared_actions if catalog.actions[name].takes]
        for _ in range(2 * QUESTIONS if takers else 0):
            question = a_question(random.choice(takers))
            world = a_world_at_random(catalog, random)
            denied = core.ask(question, world)
            if denied.allowed or "input.room" in custom:
                continue  # a rule that looks at the room may deny later what it does not deny now
            wait_s = wait_by_asking(core, question, world)
            quota_denies = denied.verdict.reason == "quota_exceeded"
            assert denied.retry_after_s == (wait_s if quota_denies else None), (custom, world)
            assert denied.verdict.waiting_helps == (denied.retry_after_s is not None)
            assert denied.verdict.status == status_of(denied)
            seen["waits" if denied.retry_after_s else "waits not"] += quota_denies
            seen["before the reset"] += (denied.retry_after_s or RESET_S) < RESET_S
            seen["beside an offer"] += bool(denied.retry_after_s and denied.upgrade)

    assert set(seen) == {"waits", "waits not", "before the reset", "beside an offer"}
    assert min(seen.values()) > 2, seen


def three_plans(**minutes: int) -> Catalog:
    """The page's own example: a plan with the minutes and not the feature, and one with both."""
    plan = {"features": [], "limits": {"minutes": 100}}
    return built(
        {
            "currency": "EUR",
            "default_plan": "basic",
            "roles": {"member": {}},
            "features": {"export": {}, "sso": {}},
            "meters": {"minutes": {"kind": "counter", "per": "month"}},
            "plans": {
                "basic": {**plan, "price": 0, "features": ["export"], "limits": {"minutes": 10}},
                "volume": {**plan, "price": 50},
                "full": {**plan, "price": 90, "features": ["export", "sso"]},
            }
            | {
                name: {**plan, "price": 70, "features": ["export"], "limits": {"minutes": limit}}
                for name, limit in minutes.items()
            },
            "actions": {"report.export": {"role": "member", "feature": "export", "takes": {"minutes": 1}}},
        }
    )


def offered(catalog: Catalog, *, plan: str, used: int, custom: str = "package custom\n") -> Decision:
    facts = replace(
        some_facts(plan=plan), usage={"minutes": Usage(used=used, reserved=0, resets_at=NEXT_MONTH)}
    )
    return Core(catalog, custom).decide(a_question("report.export"), facts)


def plans_in(decision: Decision) -> list[str]:
    return [upgrade.plan for upgrade in decision.upgrade]


def test_a_plan_in_which_the_question_is_denied_for_another_reason_is_not_offered():
    decision = offered(three_plans(), plan="basic", used=10)

    assert (decision.verdict.reason, decision.verdict.status) == ("quota_exceeded", 402)
    assert plans_in(decision) == ["full"]
    assert decision.retry_after_s is not None  # the reset would help as well

    without = offered(three_plans(), plan="volume", used=10)
    assert (without.verdict.reason, plans_in(without)) == ("feature_not_in_plan", ["full"])
    assert without.message == "The Volume plan does not include Export; Full does."
    assert offered(three_plans(), plan="volume", used=100).verdict.status == 403


def test_for_a_feature_a_cheaper_plan_is_offered_and_for_room_none_is():
    assert plans_in(offered(three_plans(), plan="volume", used=0)) == ["basic", "full"]
    assert plans_in(offered(three_plans(more=500), plan="full", used=100)) == []


def test_who_has_a_plan_that_is_not_declared_is_offered_all_and_waits_for_nothing():
    decision = offered(three_plans(), plan="bygone", used=0)

    assert (decision.verdict.reason, plans_in(decision)) == ("feature_not_in_plan", ["basic", "full"])
    assert decision.verdict.waiting_helps is False


@pytest.mark.parametrize(
    ("rule", "offers"),
    [
        ('input.plan == "full"', []),
        ('input.plan == "basic"', ["full"]),
        ("input.room.waiting_helps == true", ["full"]),
        ("input.room.waiting_helps == false", []),
    ],
)
def test_a_rule_of_the_companys_own_is_asked_about_each_plan(rule, offers):
    custom = f'package custom\n\ndenials contains "own" if {rule}\n'

    assert plans_in(offered(three_plans(), plan="basic", used=10, custom=custom)) == offers


def test_a_plan_that_is_not_sold_is_held_and_never_offered():
    catalog = three_plans()
    full = replace(catalog.plans["full"], sold=False)
    unsold = replace(catalog, plans={**catalog.plans, "full": full})

    assert plans_in(offered(unsold, plan="basic", used=10)) == []
    assert offered(unsold, plan="full", used=10).allowed
