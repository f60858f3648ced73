"""The cells are what can come about, and over all of them the shipped policies keep their word."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.cells import STATUSES, cells
from sidecar.catalog.catalog import Action, Catalog, Feature, Meter, Plan, Price, Role
from sidecar.catalog.load import compiled_at
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.model import Usage
from sidecar.quota import exceeded_meters
from sidecar.reasons import REASONS
from sidecar.settings import shipped
from sidecar.situation import situation_bytes, situation_of
from tests.values import FAR_AWAY, a_question, some_facts, the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.model import Exceeded, Facts, Situation, Verdict

NOTHING = "not declared"
MANY = 10**12  # the most that a caller may ask for


def a_catalog() -> Catalog:
    """Two meters in one action, and every kind of limit: none at all, small, equal, unlimited."""
    plans: dict[str, tuple[frozenset[str], dict[str, int | None]]] = {
        "none": (frozenset(), {"calls": 0, "seats": None}),
        "some": (frozenset(), {"calls": 1, "seats": 1}),
        "more": (frozenset({"sso"}), {"calls": 2, "seats": 0}),
        "same": (frozenset({"sso"}), {"calls": 2, "seats": 1}),
        "all": (frozenset({"sso"}), {"calls": None, "seats": 2}),
    }
    actions = [
        Action(name="look", title="", roles=("guest",), feature=None, takes={}, while_suspended=False),
        Action(
            name="call",
            title="",
            roles=("guest",),
            feature="sso",
            takes={"calls": 1, "seats": 1},
            while_suspended=False,
        ),
    ]
    return Catalog(
        currency="EUR",
        roles={"guest": Role(name="guest", title="", includes=frozenset())},
        features={"sso": Feature(name="sso", title="")},
        meters={
            "calls": Meter(name="calls", title="", kind="counter", per="day"),
            "seats": Meter(name="seats", title="", kind="level"),
        },
        plans={
            name: Plan(
                name=name,
                title="",
                price=Price(amount=price, currency="EUR"),
                features=features,
                limits=limits,
            )
            for price, (name, (features, limits)) in enumerate(plans.items())
        },
        default_plan="none",
        actions={action.name: action for action in actions},
        declared_actions=("look", "call"),
        routes=(),
        invariants=(),
    )


def bytes_about(
    action: str, facts: Facts | None, exceeded: Mapping[str, Exceeded], *, catalog: Catalog
) -> bytes:
    situation = situation_of(
        a_question(action), facts, catalog=catalog, exceeded=exceeded, context_fields=frozenset()
    )
    return situation_bytes(situation)


def ways_to_exceed(
    takes: Iterable[str], plan: str, *, catalog: Catalog, counts: range, overrides: Iterable[int | None]
) -> list[dict[str, Exceeded]]:
    """What sidecar.quota makes of every use, every amount and every override in these ranges."""
    limits: list[dict[str, int | None]] = [{}, *({"": limit} for limit in overrides)]
    found = []
    for states in product(product(counts, counts[1:], limits), repeat=len(list(takes))):
        by_meter = dict(zip(takes, states, strict=True))
        facts = replace(
            some_facts(plan=plan),
            usage={m: Usage(used=used, reserved=0, resets_at=None) for m, (used, _, _) in by_meter.items()},
            limit_overrides={m: own[""] for m, (_, _, own) in by_meter.items() if own},
        )
        amounts = {meter: amount for meter, (_, amount, _) in by_meter.items()}
        exceeded = exceeded_meters(amounts, facts, catalog=catalog)
        if exceeded not in found:
            found.append(exceeded)
    return found


def brought_about(catalog: Catalog, *, counts: range, overrides: Iterable[int | None]) -> set[bytes]:
    """Every situation that any member or stranger comes to, with these counts and limits of his own."""
    found = {bytes_about(action, None, {}, catalog=catalog) for action in [*catalog.actions, NOTHING]}
    features = [{}, *({name: on} for name in catalog.features for on in (True, False))]
    for action, plan in product([*catalog.actions, NOTHING], [*catalog.plans, NOTHING]):
        takes = catalog.actions[action].takes if action in catalog.actions else {}
        ways = ways_to_exceed(takes, plan, catalog=catalog, counts=counts, overrides=overrides)
        for role, status, own, exceeded in product([*catalog.roles, NOTHING], STATUSES, features, ways):
            facts = some_facts(role=role, plan=plan, status=status, feature_overrides=own)
            found.add(bytes_about(action, facts, exceeded, catalog=catalog))
    return found


def test_the_cells_are_all_that_can_come_about_and_nothing_else():
    catalog = a_catalog()

    found = {situation_bytes(cell) for cell in cells(catalog)}
    possible = brought_about(catalog, counts=range(4), overrides=[0, 1, None])

    assert found == possible


@pytest.mark.parametrize("catalog", [a_catalog(), the_catalog()], ids=["small", "shipped"])
def test_each_cell_is_there_once(catalog):
    found = [situation_bytes(cell) for cell in cells(catalog)]

    assert len(found) == len(set(found))


def test_the_order_is_the_catalogs():
    assert list(cells(the_catalog())) == list(cells(the_catalog()))


def test_the_simplest_cells_come_first():
    exceeded_counts = [len(cell.exceeded) for cell in cells(a_catalog())]

    assert exceeded_counts == sorted(exceeded_counts)
    assert max(exceeded_counts) == 2


def test_the_shipped_catalog_has_a_few_thousand():
    assert 1_000 < sum(1 for _ in cells(the_catalog())) < 5_000


SHIPPED = the_catalog()
SHIPPED_CELLS = frozenset(situation_bytes(cell) for cell in cells(SHIPPED))
COUNTS = st.one_of(st.sampled_from([0, 1, 9, 10, 11, 99, 100, 101, 500, 1000, MANY]), st.integers(0, MANY))
LIMITS = st.one_of(st.none(), COUNTS)


@given(
    action=st.sampled_from([*SHIPPED.actions, NOTHING]),
    role=st.sampled_from([*SHIPPED.roles, NOTHING]),
    plan=st.sampled_from([*SHIPPED.plans, NOTHING]),
    status=st.sampled_from(STATUSES),
    features=st.dictionaries(st.sampled_from(sorted(SHIPPED.features)), st.booleans()),
    limits=st.dictionaries(st.sampled_from(sorted(SHIPPED.meters)), LIMITS),
    usage=st.dictionaries(st.sampled_from(sorted(SHIPPED.meters)), COUNTS),
    reserved=st.dictionaries(st.sampled_from(sorted(SHIPPED.meters)), COUNTS),
    amount=st.integers(1, MANY),
)
def test_whatever_the_facts_and_amounts_the_situation_is_a_cell(
    *, action, role, plan, status, features, limits, usage, reserved, amount
):
    facts = some_facts(
        role=role,
        plan=plan,
        status=status,
        feature_overrides=features,
        limit_overrides=limits,
        usage=usage,
        reserved=reserved,
    )
    takes = SHIPPED.actions[action].takes if action in SHIPPED.actions else {}
    exceeded = exceeded_meters(dict.fromkeys(takes, amount), facts, catalog=SHIPPED)

    assert bytes_about(action, facts, exceeded, catalog=SHIPPED) in SHIPPED_CELLS


# What follows asks the shipped policies about every cell.


@pytest.fixture(scope="module")
def verdicts() -> dict[bytes, tuple[Situation, Verdict]]:
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    engine = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    return {
        situation_bytes(cell): (cell, engine.verdict(situation_bytes(cell), deadline=FAR_AWAY))
        for cell in cells(SHIPPED)
    }


def holds(reason: str, situation: Situation) -> bool:
    """Whether DESIGN 4's table has *reason* hold of *situation*, whatever stands before it."""
    action = SHIPPED.actions.get(situation.action or "")
    plan = SHIPPED.plans.get(situation.plan or "")
    match reason:
        case "not_a_member":
            return situation.role is None
        case "unknown_action":
            return action is None
        case "workspace_suspended":
            return situation.status == "suspended" and not (action and action.while_suspended)
        case "role_insufficient":
            return action is not None and situation.role not in action.roles
        case "feature_not_in_plan":
            if action is None or action.feature is None:
                return False
            included = plan is not None and action.feature in plan.features
            return not situation.feature_overrides.get(action.feature, included)
        case "quota_exceeded":
            # Where no plan is declared there are no limits: a meter that nobody overrides is in `exceeded`.
            return bool(situation.exceeded) or bool(action and action.takes and plan is None)
        case _:
            return reason == "granted"


def test_the_reason_is_the_first_that_holds(verdicts):
    wrong = [
        (situation, verdict.reason)
        for situation, verdict in verdicts.values()
        if verdict.reason != next(reason for reason in REASONS if holds(reason, situation))
    ]

    assert wrong == []


def test_every_reason_but_that_of_custom_rules_is_reached(verdicts):
    assert {verdict.reason for _, verdict in verdicts.values()} == set(REASONS) - {"denied_by_policy"}


def test_402_comes_exactly_with_an_upgrade(verdicts):
    wrong = [each for each in verdicts.values() if (each[1].status == 402) != bool(each[1].upgrade)]

    assert wrong == []


def test_an_upgrade_is_the_plans_that_would_help_cheapest_first(verdicts):
    def helping(situation: Situation, verdict: Verdict) -> tuple[str, ...]:
        if verdict.reason == "feature_not_in_plan" and not situation.feature_overrides:
            return tuple(
                name for name, plan in SHIPPED.plans.items() if verdict.needs_feature in plan.features
            )
        if verdict.reason == "quota_exceeded" and situation.exceeded:
            lacks = situation.exceeded.values()
            return tuple(name for name in SHIPPED.plans if all(name in lack.fits_in for lack in lacks))
        return ()

    assert [each for each in verdicts.values() if each[1].upgrade != helping(*each)] == []


def test_whoever_follows_an_upgrade_is_granted_what_he_was_denied_for_quota(verdicts):
    moved = [
        verdicts[situation_bytes(replace(situation, plan=plan, exceeded={}))][1].reason
        for situation, verdict in verdicts.values()
        for plan in verdict.upgrade
        if verdict.reason == "quota_exceeded"
    ]

    assert set(moved) == {"granted"}


def test_waiting_is_advised_exactly_where_it_helps_and_no_upgrade_does(verdicts):
    wrong = [
        (situation, verdict)
        for situation, verdict in verdicts.values()
        if (verdict.status == 429)
        != (
            verdict.reason == "quota_exceeded"
            and not verdict.upgrade
            and bool(situation.exceeded)
            and all(lack.after_reset for lack in situation.exceeded.values())
        )
    ]

    assert wrong == []
    assert any(verdict.status == 429 for _, verdict in verdicts.values())


def test_a_stranger_is_told_nothing(verdicts):
    told = [
        (verdict.charges, verdict.upgrade, verdict.needs_roles, verdict.needs_feature, verdict.detail)
        for _, verdict in verdicts.values()
        if verdict.reason == "not_a_member"
    ]

    assert [each for each in told if each != ({}, (), (), None, None)] == []
    assert len(told) > len(SHIPPED.actions)


def test_needs_name_the_roles_and_the_feature_that_the_action_asks_for(verdicts):
    wrong = []
    for situation, verdict in verdicts.values():
        action = SHIPPED.actions.get(situation.action or "")
        roles = action.roles if action and verdict.reason == "role_insufficient" else ()
        feature = action.feature if action and verdict.reason == "feature_not_in_plan" else None
        if (verdict.needs_roles, verdict.needs_feature) != (roles, feature):
            wrong.append((situation, verdict))

    assert wrong == []


def test_a_grant_charges_what_the_action_takes_at_the_limits_of_the_plan(verdicts):
    wrong = []
    for situation, verdict in verdicts.values():
        limits = SHIPPED.plans[situation.plan].limits if verdict.allow and situation.plan else {}
        takes = SHIPPED.actions[situation.action].takes if verdict.allow and situation.action else {}
        if dict(verdict.charges) != {meter: limits[meter] for meter in takes}:
            wrong.append((situation, verdict))

    assert wrong == []


def contains(one: Plan, other: Plan) -> bool:
    limits = [(one.limits[meter], other.limits[meter]) for meter in other.limits]
    return one.features >= other.features and all(
        mine is None or (theirs is not None and mine >= theirs) for mine, theirs in limits
    )


PLAN_PAIRS = [
    (more.name, less.name)
    for more, less in product(SHIPPED.plans.values(), repeat=2)
    if more != less and contains(more, less)
]
ROLE_PAIRS = [(more.name, less) for more in SHIPPED.roles.values() for less in sorted(more.includes)]


def test_the_shipped_plans_contain_one_another():
    assert PLAN_PAIRS == [("pro", "starter"), ("team", "starter"), ("team", "pro")]
    assert ROLE_PAIRS == [("admin", "member"), ("owner", "admin"), ("owner", "member")]


@pytest.mark.parametrize(("more", "less"), PLAN_PAIRS)
def test_a_plan_that_contains_another_never_allows_less(verdicts, more, less):
    granted = [
        situation for situation, verdict in verdicts.values() if verdict.allow and situation.plan == less
    ]

    # What was granted had room, and the limits of the greater plan are no less: nothing is exceeded there.
    lost = [cell for cell in granted if not verdicts[situation_bytes(replace(cell, plan=more))][1].allow]

    assert lost == []
    assert len(granted) > len(SHIPPED.roles)


@pytest.mark.parametrize(("more", "less"), ROLE_PAIRS)
def test_a_role_that_includes_another_never_allows_less(verdicts, more, less):
    granted = [
        situation for situation, verdict in verdicts.values() if verdict.allow and situation.role == less
    ]

    lost = [cell for cell in granted if not verdicts[situation_bytes(replace(cell, role=more))][1].allow]

    assert lost == []
    assert len(granted) > len(SHIPPED.plans)
