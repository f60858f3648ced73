"""Over all cells of the shipped catalog the shipped policies keep their word."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.reasons import REASONS
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.audit.reference import holds, upgrade_for, verdict_about, waiting_helps
from tests.values import FAR_AWAY, the_catalog

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Plan
    from sidecar.decisions.model import Situation, Verdict

SHIPPED = the_catalog()


@pytest.fixture(scope="module")
def verdicts() -> dict[bytes, tuple[Situation, Verdict]]:
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    engine = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    return {
        situation_bytes(cell): (cell, engine.verdict(situation_bytes(cell), deadline=FAR_AWAY))
        for cell in cells(SHIPPED)
    }


def test_the_reason_is_the_first_that_holds(verdicts):
    wrong = [
        (situation, verdict.reason)
        for situation, verdict in verdicts.values()
        if verdict.reason != next(reason for reason in REASONS if holds(reason, situation, catalog=SHIPPED))
    ]

    assert wrong == []


def test_every_reason_but_that_of_custom_rules_is_reached(verdicts):
    assert {verdict.reason for _, verdict in verdicts.values()} == set(REASONS) - {"denied_by_policy"}


def test_402_comes_exactly_with_an_upgrade(verdicts):
    wrong = [each for each in verdicts.values() if (each[1].status == 402) != bool(each[1].upgrade)]

    assert wrong == []


def test_an_upgrade_is_the_plans_that_would_help_cheapest_first(verdicts):
    wrong = [
        (situation, verdict)
        for situation, verdict in verdicts.values()
        if verdict.upgrade != upgrade_for(verdict.reason, situation, catalog=SHIPPED)
    ]

    assert wrong == []


def in_plan(situation: Situation, plan: str) -> Situation:
    """The same question, now, in another plan: what fits there has nothing to wait for."""
    room = situation.room
    return replace(
        situation,
        plan=plan,
        room=room and replace(room, waiting_helps=room.waiting_helps and plan not in room.fits_in),
    )


def test_whoever_follows_an_upgrade_is_granted_what_they_were_denied(verdicts):
    moved = [
        verdicts[situation_bytes(in_plan(situation, plan))][1].reason
        for situation, verdict in verdicts.values()
        for plan in verdict.upgrade
    ]

    assert set(moved) == {"granted"}
    assert len(moved) > 100


def test_waiting_is_advised_exactly_where_it_helps_and_no_upgrade_does(verdicts):
    wrong = [
        (situation, verdict)
        for situation, verdict in verdicts.values()
        if verdict.waiting_helps != waiting_helps(situation, catalog=SHIPPED)
        or (verdict.status == 429) != (verdict.waiting_helps and not verdict.upgrade)
    ]

    assert wrong == []
    assert any(verdict.waiting_helps and verdict.upgrade for _, verdict in verdicts.values())
    assert any(verdict.status == 429 for _, verdict in verdicts.values())


def test_a_stranger_is_told_nothing(verdicts):
    told = [
        (verdict.charges, verdict.upgrade, verdict.needs_roles, verdict.needs_feature, verdict.detail)
        for _, verdict in verdicts.values()
        if verdict.reason == "not_a_member"
    ]

    assert [each for each in told if each != ({}, (), (), None, None)] == []
    assert len(told) > len(SHIPPED.actions)


def test_nothing_else_of_a_verdict_is_another_than_the_table_says(verdicts):
    revision = next(iter(verdicts.values()))[1].revision

    wrong = [
        (situation, verdict)
        for situation, verdict in verdicts.values()
        if verdict != verdict_about(situation, catalog=SHIPPED, revision=revision)
    ]

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
