from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.decisions.model import Room
from sidecar.decisions.room import Rooms, amounts_of, meters_without_room, quotas_of
from sidecar.errors import BadQuestion
from tests.values import a_question, some_facts, the_catalog

CATALOG = the_catalog()


def room(amounts, *, catalog=CATALOG, **facts):
    return Rooms(catalog).room_for(amounts, some_facts(**facts))


def test_amounts_default_to_what_the_action_takes():
    assert amounts_of(a_question("recording.start"), catalog=CATALOG) == {"minutes": 1}
    assert amounts_of(a_question("recording.start", amounts={"minutes": 5}), catalog=CATALOG) == {
        "minutes": 5
    }
    assert amounts_of(a_question("platform.use"), catalog=CATALOG) == {}


def test_an_amount_of_another_meter_is_a_bad_question_at_its_own_field():
    with pytest.raises(BadQuestion) as caught:
        amounts_of(a_question("recording.start", amounts={"minutes": 5, "a/b~": 1}), catalog=CATALOG)

    assert caught.value.code == "meter_not_taken"
    assert [fault.field for fault in caught.value.faults] == [("amounts", "a/b~")]


def test_an_undeclared_action_takes_nothing_and_is_no_bad_question():
    assert amounts_of(a_question("no.such", amounts={"minutes": 5}), catalog=CATALOG) == {}


def test_exactly_the_limit_fits_and_one_more_does_not():
    assert room({"minutes": 3}, plan="starter", usage={"minutes": 97}) == Room(
        fits_in=("pro", "starter", "team"), waiting_helps=False
    )
    assert room({"minutes": 4}, plan="starter", usage={"minutes": 97}) == Room(
        fits_in=("pro", "team"), waiting_helps=True
    )


def test_plans_that_fit_stand_by_name_and_one_that_is_too_small_is_not_among_them():
    assert room({"minutes": 101}, plan="team").fits_in == ("pro", "team")
    assert room({"minutes": 501}, plan="starter") == Room(fits_in=("team",), waiting_helps=False)


def test_a_plan_fits_only_if_every_amount_does():
    assert room({"minutes": 400, "members": 2}, plan="starter").fits_in == ("team",)
    assert room({"minutes": 400, "members": 11}, plan="starter").fits_in == ()


def test_a_limit_of_the_workspaces_own_is_the_same_in_every_plan():
    assert room({"minutes": 60}, plan="starter", limit_overrides={"minutes": 50}) == Room(
        fits_in=(), waiting_helps=False
    )
    assert room({"minutes": 5000}, plan="starter", limit_overrides={"minutes": None}).fits_in == (
        "pro",
        "starter",
        "team",
    )


def test_unlimited_always_fits():
    assert room({"scenarios": 10**12}, plan="pro", usage={"scenarios": 10**12}).fits_in == ("pro", "team")


def test_without_amounts_it_fits_everywhere():
    assert room({}, plan="starter") == Room(fits_in=("pro", "starter", "team"), waiting_helps=False)


def test_in_a_plan_that_is_not_declared_nothing_waits():
    assert room({"minutes": 1}, plan="legacy") == Room(
        fits_in=("pro", "starter", "team"), waiting_helps=False
    )
    assert room({"minutes": 1}, plan="legacy", limit_overrides={"minutes": 0}) == Room(
        fits_in=(), waiting_helps=False
    )
    assert quotas_of(["minutes"], some_facts(plan="legacy"), catalog=CATALOG)["minutes"].limit == 0


WAITS = [
    ("what a period has used comes back", {"minutes": 1}, {"minutes": 100}, {}, True),
    ("what is held comes back", {"minutes": 1}, {}, {"minutes": 100}, True),
    ("more than the limit never fits", {"minutes": 101}, {}, {}, False),
    ("what a level has used does not come back", {"scenarios": 1}, {"scenarios": 10}, {}, False),
    ("what is held of a level does", {"scenarios": 1}, {"scenarios": 9}, {"scenarios": 1}, True),
    ("members do not go by themselves", {"members": 1}, {"members": 1}, {}, False),
    ("nor do open invitations", {"members": 1}, {}, {"members": 1}, False),
    (
        "waiting must help with every meter",
        {"minutes": 1, "scenarios": 1},
        {"minutes": 100, "scenarios": 10},
        {},
        False,
    ),
    (
        "and it does, where one has room and the other will",
        {"minutes": 1, "scenarios": 1},
        {"minutes": 100, "scenarios": 9},
        {},
        True,
    ),
    ("where it fits now nobody waits", {"minutes": 1}, {"minutes": 99}, {}, False),
]


@pytest.mark.parametrize(
    ("amounts", "usage", "reserved", "helps"), [each[1:] for each in WAITS], ids=[each[0] for each in WAITS]
)
def test_waiting_helps_where_what_comes_back_makes_room(amounts, usage, reserved, helps):
    assert room(amounts, plan="starter", usage=usage, reserved=reserved).waiting_helps is helps


def test_what_is_counted_for_ever_never_comes_back():
    meters = {**CATALOG.meters, "minutes": replace(CATALOG.meters["minutes"], per="ever")}
    catalog = replace(CATALOG, meters=meters)

    used = room({"minutes": 1}, catalog=catalog, plan="starter", usage={"minutes": 100})
    held = room({"minutes": 1}, catalog=catalog, plan="starter", reserved={"minutes": 100})

    assert (used.waiting_helps, held.waiting_helps) == (False, True)


def test_a_limit_of_the_workspaces_own_is_waited_for():
    given = {"plan": "starter", "usage": {"minutes": 60}}

    assert room({"minutes": 50}, **given, limit_overrides={"minutes": 50}).waiting_helps is True
    assert room({"minutes": 51}, **given, limit_overrides={"minutes": 50}).waiting_helps is False


def test_the_meters_without_room_are_those_of_the_present_plan():
    facts = some_facts(plan="starter", usage={"minutes": 97}, reserved={"scenarios": 10})
    amounts = {"scenarios": 1, "minutes": 4, "members": 1}
    quotas = quotas_of(amounts, facts, catalog=CATALOG)

    assert meters_without_room(amounts, quotas) == ["minutes", "scenarios"]
    assert meters_without_room({"minutes": 3}, quotas) == []
