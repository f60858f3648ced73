from __future__ import annotations

import pytest

from sidecar.decisions.model import Exceeded
from sidecar.decisions.room import amounts_of, exceeded_meters, quotas_of
from sidecar.errors import BadQuestion
from tests.values import a_question, some_facts, the_catalog

CATALOG = the_catalog()


def exceeded(amounts, **facts):
    return exceeded_meters(amounts, some_facts(**facts), catalog=CATALOG)


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
    assert exceeded({"minutes": 3}, plan="starter", usage={"minutes": 97}) == {}
    assert exceeded({"minutes": 4}, plan="starter", usage={"minutes": 97}) == {
        "minutes": Exceeded(fits_in=("pro", "team"), after_reset=True)
    }


def test_plans_that_fit_stand_cheapest_first_and_never_include_one_that_is_too_small():
    lack = exceeded({"minutes": 501}, plan="starter")["minutes"]

    assert lack == Exceeded(fits_in=("team",), after_reset=False)


def test_no_plan_fits_better_than_an_overridden_limit():
    lack = exceeded({"minutes": 60}, plan="starter", limit_overrides={"minutes": 50})["minutes"]

    assert lack == Exceeded(fits_in=(), after_reset=False)


def test_unlimited_always_fits():
    assert exceeded({"scenarios": 10**12}, plan="pro", usage={"scenarios": 10**12}) == {}


def test_a_plan_that_is_not_declared_has_room_for_nothing():
    assert exceeded({"minutes": 1}, plan="legacy") == {
        "minutes": Exceeded(fits_in=("starter", "pro", "team"), after_reset=False)
    }
    assert quotas_of(["minutes"], some_facts(plan="legacy"), catalog=CATALOG)["minutes"].limit == 0
