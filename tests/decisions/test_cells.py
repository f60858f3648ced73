"""The cells are all that can come about, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from time import monotonic
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.catalog.catalog import Action, Catalog, Feature, Meter, Plan, Price, Role
from sidecar.decisions.cells import STATUSES, cell_counts, cells
from sidecar.decisions.model import Usage
from sidecar.decisions.room import Rooms
from sidecar.decisions.situation import situation_bytes, situation_of
from tests.values import a_question, some_facts, the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.decisions.model import Facts, Room

NOTHING = "not declared"
MANY = 10**12  # the most that a caller may ask for


def a_catalog(kind: Literal["level", "members"] = "level") -> Catalog:
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
            "seats": Meter(name="seats", title="", kind=kind),
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


def bytes_about(action: str, facts: Facts | None, room: Room | None, *, catalog: Catalog) -> bytes:
    situation = situation_of(
        a_question(action), facts, catalog=catalog, room=room, context_fields=frozenset()
    )
    return situation_bytes(situation)


def rooms_of(
    takes: Iterable[str], plan: str, *, catalog: Catalog, counts: range, overrides: Iterable[int | None]
) -> set[Room | None]:
    """What sidecar.decisions.room makes of every use, hold, amount and override in these ranges."""
    if not takes:
        return {None}
    limits: list[dict[str, int | None]] = [{}, *({"": limit} for limit in overrides)]
    found: set[Room | None] = set()
    rooms = Rooms(catalog)
    states = product(counts, counts, counts[1:], limits)
    for by in product([each for each in states if each[0] + each[1] < len(counts)], repeat=len(list(takes))):
        by_meter = dict(zip(takes, by, strict=True))
        facts = replace(
            some_facts(plan=plan),
            usage={
                meter: Usage(
                    used=used, reserved=0 if catalog.meters[meter].kind == "members" else held, resets_at=None
                )
                for meter, (used, held, _, _) in by_meter.items()
            },
            limit_overrides={meter: own[""] for meter, (_, _, _, own) in by_meter.items() if own},
        )
        found.add(rooms.room_for({meter: amount for meter, (_, _, amount, _) in by_meter.items()}, facts))
    return found


def brought_about(catalog: Catalog, *, counts: range, overrides: Iterable[int | None]) -> set[bytes]:
    """Every situation that any member or stranger comes to, with these counts and limits of their own."""
    found = {bytes_about(action, None, None, catalog=catalog) for action in [*catalog.actions, NOTHING]}
    features = [{}, *({name: on} for name in catalog.features for on in (True, False))]
    for action, plan in product([*catalog.actions, NOTHING], [*catalog.plans, NOTHING]):
        takes = catalog.actions[action].takes if action in catalog.actions else {}
        ways = rooms_of(takes, plan, catalog=catalog, counts=counts, overrides=overrides)
        for role, status, own, room in product([*catalog.roles, NOTHING], STATUSES, features, ways):
            facts = some_facts(role=role, plan=plan, status=status, feature_overrides=own)
            found.add(bytes_about(action, facts, room, catalog=catalog))
    return found


@pytest.mark.parametrize("catalog", [a_catalog(), a_catalog("members")], ids=["level", "members"])
def test_the_cells_are_all_that_can_come_about_and_nothing_else(catalog):
    found = {situation_bytes(cell) for cell in cells(catalog)}
    possible = brought_about(catalog, counts=range(4), overrides=[0, 1, None])

    assert found == possible


@pytest.mark.parametrize("catalog", [a_catalog(), the_catalog()], ids=["small", "shipped"])
def test_each_cell_is_there_once(catalog):
    found = [situation_bytes(cell) for cell in cells(catalog)]

    assert len(found) == len(set(found))


def test_the_order_is_the_catalogs():
    assert list(cells(the_catalog())) == list(cells(the_catalog()))


def test_the_cells_with_room_come_first():
    no_room = [cell.room is not None and cell.plan not in cell.room.fits_in for cell in cells(a_catalog())]

    assert no_room == sorted(no_room)
    assert any(no_room)


def test_the_shipped_catalog_has_a_few_thousand():
    assert 1_000 < sum(1 for _ in cells(the_catalog())) < 5_000


@pytest.mark.parametrize("catalog", [a_catalog(), the_catalog()], ids=["small", "shipped"])
def test_they_are_counted_without_being_made(catalog):
    assert sum(cell_counts(catalog, enough=10**6).values()) == sum(1 for _ in cells(catalog))


def test_a_catalog_of_very_many_is_counted_and_begun_at_once():
    many = {f"m{number}": Meter(name=f"m{number}", title="", kind="level") for number in range(20)}
    plans = [
        Plan(
            name=f"p{number}",
            title="",
            price=Price(amount=number, currency="EUR"),
            features=frozenset(),
            limits={name: 1 + (number * (place + 3)) % 31 for place, name in enumerate(many)},
        )
        for number in range(30)
    ]
    catalog = replace(
        a_catalog(),
        meters=many,
        plans={plan.name: plan for plan in plans},
        actions={"call": replace(a_catalog().actions["look"], takes=dict.fromkeys(many, 1))},
    )
    began = monotonic()

    assert 100_000 <= sum(cell_counts(catalog, enough=100_000).values()) < 101_000
    assert len({situation_bytes(cell) for cell in islice(cells(catalog), 20_000)}) == 20_000
    assert monotonic() - began < 10  # one after the other would take for ever


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
    room = Rooms(SHIPPED).room_for(dict.fromkeys(takes, amount), facts) if takes else None

    assert bytes_about(action, facts, room, catalog=SHIPPED) in SHIPPED_CELLS
