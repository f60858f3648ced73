"""The cells are all that can come about, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.catalog.catalog import Action, Catalog, Feature, Meter, Plan, Price, Role
from sidecar.decisions.cells import STATUSES, cells
from sidecar.decisions.model import Usage
from sidecar.decisions.room import exceeded_meters
from sidecar.decisions.situation import situation_bytes, situation_of
from tests.values import a_question, some_facts, the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.decisions.model import Exceeded, Facts

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
    """What sidecar.decisions.room makes of every use, every amount and every override in these ranges."""
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
    """Every situation that any member or stranger comes to, with these counts and limits of their own."""
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
