from __future__ import annotations

import pytest

from sidecar.decisions.model import Quota, Room
from sidecar.decisions.situation import input_document, situation_bytes, situation_of
from tests.values import a_question, some_facts, the_catalog


def situation(action="platform.use", facts=None, *, fields=frozenset(), room=None, **question):
    return situation_of(
        a_question(action, **question),
        facts,
        catalog=the_catalog(),
        room=room,
        context_fields=fields,
    )


def test_a_stranger_s_situation_tells_nothing_but_the_action():
    assert input_document(situation(facts=None)) == {
        "action": "platform.use",
        "role": None,
        "plan": None,
        "status": None,
        "overrides": {"features": {}},
        "room": None,
    }


def test_what_the_catalog_does_not_declare_is_null_to_the_policy():
    document = input_document(situation("no.such", some_facts(role="king", plan="legacy")))

    assert (document["action"], document["role"], document["plan"]) == (None, None, None)


def test_only_the_override_of_the_feature_that_the_action_needs_gets_in():
    overrides = {"video_avatar": True, "analytics": False}

    document = input_document(situation("analytics.view", some_facts(feature_overrides=overrides)))

    assert document["overrides"] == {"features": {"analytics": False}}


def test_the_room_of_all_meters_is_one_record():
    room = Room(fits_in=("pro", "team"), waiting_helps=True)

    document = input_document(situation("recording.start", some_facts(), room=room))

    assert document["room"] == {"fits_in": ["pro", "team"], "waiting_helps": True}


def test_undeclared_context_is_dropped():
    seen = situation(
        facts=some_facts(), context={"country": "FR", "ip": "::1"}, fields=frozenset({"country"})
    )

    assert input_document(seen)["context"] == {"country": "FR"}


def test_equal_situations_are_equal_bytes_whatever_the_order():
    one = situation(facts=some_facts(), context={"a": 1, "b": "ü"}, fields=frozenset("ab"))
    other = situation(facts=some_facts(), context={"b": "ü", "a": 1}, fields=frozenset("ab"))

    assert situation_bytes(one) == situation_bytes(other)
    assert "ü".encode() in situation_bytes(one)


@pytest.mark.parametrize(
    ("limit", "used", "reserved", "remaining", "over_by"),
    [(100, 97, 0, 3, 0), (100, 97, 3, 0, 0), (5, 12, 0, 0, 7), (0, 0, 0, 0, 0), (None, 10**12, 0, None, 0)],
)
def test_what_remains_is_never_negative_and_over_by_says_the_rest(limit, used, reserved, remaining, over_by):
    quota = Quota(limit=limit, used=used, reserved=reserved, resets_at=None)

    assert (quota.remaining, quota.over_by) == (remaining, over_by)


def test_values_are_frozen_for_the_type_checker():
    """It refuses this line, and an ignore that it does not need."""
    facts = some_facts()
    facts.role = "owner"  # type: ignore[misc]
    assert hash(facts.usage["minutes"]) == hash(some_facts().usage["minutes"])
    assert not hasattr(facts, "__dict__")
