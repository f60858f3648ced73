"""What is given back: by key, by name, after a downgrade; and who may spend at all."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from time import sleep

import psycopg
import pytest

from sidecar.errors import (
    BadQuestion,
    RefundExceedsUse,
    UnknownIdempotencyKey,
    UnknownReservation,
    UsageContended,
)
from tests.quota.place import at_once, together, while_others

pytestmark = pytest.mark.postgres


def test_a_refund_is_given_once_never_above_what_was_taken_and_never_elsewhere(place):
    acme, solo = place.workspace("small"), place.workspace("small")
    place.ask("record", acme, amounts={"minutes": 4}, idempotency_key="k")
    place.ask("record", acme, amounts={"minutes": 2})
    place.ask("record", solo)

    with pytest.raises(RefundExceedsUse, match="4 minutes were taken"):
        place.refund(acme, "k", {"minutes": 5})
    with pytest.raises(UnknownIdempotencyKey):
        place.refund(solo, "k")
    assert [place.refund(acme, "k").replayed for _ in range(3)] == [False, True, True]
    assert (place.used(acme, "minutes"), place.used(solo, "minutes")) == (2, 1)


def test_refunds_at_once_are_one(place):
    acme = place.workspace("small")
    place.ask("record", acme, amounts={"minutes": 4}, idempotency_key="k")

    backs = at_once(16, lambda _: place.refund(acme, "k"))

    assert [each.replayed for each in backs].count(False) == 1
    assert place.used(acme, "minutes") == 0


def test_a_refund_and_a_commit_at_once_leave_what_was_committed_or_nothing(place):
    acme = place.workspace("endless")
    left = 0
    for number in range(60):
        held = place.ask("record", acme, "reserve", idempotency_key=f"k{number}").reservation.id
        answers = together(partial(place.commit, held), partial(place.refund, acme, f"k{number}"))

        assert answers[0].state == "committed"
        left += isinstance(answers[1], RefundExceedsUse)
    assert place.used(acme, "minutes") == left


def test_a_refund_makes_room_for_others_and_its_key_is_decided_anew(place):
    acme = place.workspace("small")
    ask = {"amounts": {"minutes": 10}, "idempotency_key": "k"}
    place.ask("record", acme, **ask)
    place.refund(acme, "k")
    other = place.ask("record", acme, amounts={"minutes": 9}, idempotency_key="other")

    denied = place.ask("record", acme, **ask)
    place.refund(acme, "other")
    again = place.ask("record", acme, **ask)

    assert (other.allowed, denied.allowed, denied.verdict.reason) == (True, False, "quota_exceeded")
    assert (again.allowed, again.replayed) == (True, False)
    assert place.used(acme, "minutes") == 10


def test_above_the_limit_after_a_downgrade_nothing_grows_and_everything_can_be_given_back(place):
    acme = place.workspace("large")
    for number in range(12):
        place.ask("create", acme, resource=f"p{number}")
    place.set_plan(acme, "small")
    denied = place.ask("create", acme, resource="one-more")

    assert (denied.verdict.reason, denied.quota["projects"].over_by) == ("quota_exceeded", 9)
    assert denied.quota["projects"].remaining == 0
    assert place.ask("look", acme, "check").allowed
    for number in range(9):
        assert place.give_back(acme, "projects", f"p{number}").now.usage["projects"].used == 11 - number
        assert not place.ask("create", acme, resource="one-more").allowed
    place.give_back(acme, "projects", "p9")
    assert place.ask("create", acme, resource="one-more").allowed
    assert not place.ask("create", acme, resource="another").allowed


def test_seats_are_counted_by_the_database_and_a_downgrade_evicts_nobody(place):
    acme = place.workspace("large", mia="member", **{f"u{n}": "reader" for n in range(11)})
    full = place.ask("join", acme, "check")
    place.set_plan(acme, "small")
    over = place.ask("join", acme, "check")
    place.sql(
        f"DELETE FROM authz.workspace_memberships WHERE workspace_id = '{acme.id}' AND user_id LIKE 'u%'",
    )

    assert (full.allowed, full.quota["seats"].used) == (False, 12)
    assert (over.allowed, over.quota["seats"].over_by) == (False, 7)
    assert place.ask("join", acme, "check").allowed
    for mode in ("consume", "reserve"):
        with pytest.raises(BadQuestion) as caught:
            place.ask("join", acme, mode)
        assert caught.value.code == "meter_not_consumable"
    with pytest.raises(BadQuestion) as caught:
        place.give_back(acme, "seats", "u1")
    assert caught.value.code == "meter_not_consumable"


def test_a_change_of_plan_keeps_what_was_used_and_no_change_back_and_forth_gains_any(place):
    acme = place.workspace("small")
    place.ask("record", acme, amounts={"minutes": 9})
    place.set_plan(acme, "large")
    upgraded = place.ask("record", acme, amounts={"minutes": 491})
    place.set_plan(acme, "small")
    downgraded = place.ask("record", acme)
    place.set_plan(acme, "endless")
    endless = place.ask("record", acme, amounts={"minutes": 500})
    place.set_plan(acme, "large")

    assert upgraded.quota["minutes"].remaining == 500
    assert (downgraded.allowed, downgraded.quota["minutes"].over_by) == (False, 490)
    assert (endless.quota["minutes"].limit, endless.quota["minutes"].used) == (None, 1000)
    assert not place.ask("record", acme).allowed


def test_a_limit_by_hand_holds_until_it_expires_and_unlimited_is_counted(place):
    acme = place.workspace("small")
    set_limit = "SELECT authz.set_overrides(%s, '{}', %s, clock_timestamp() + interval '1 second')"
    place.sql(set_limit, acme.slug, '{"minutes": "unlimited"}')
    place.ask("record", acme, amounts={"minutes": 500})
    place.sql(set_limit, acme.slug, '{"minutes": 501}')
    place.ask("record", acme)
    assert not place.ask("record", acme).allowed
    sleep(1.1)

    after = place.ask("record", acme)

    place.sql("SELECT authz.set_overrides(%s, '{}', '{\"minutes\": 0}', now())", acme.slug)
    place.set_plan(acme, "large")
    assert place.ask("record", acme).quota["minutes"].limit == 1000
    assert (after.quota["minutes"].limit, after.quota["minutes"].used) == (10, 501)
    assert after.verdict.status == 402


def test_nobody_spends_after_they_were_removed(place):
    """From many threads, until each has been told that they are a stranger."""
    acme = place.workspace("endless", mia="member")
    go = threading.Event()

    def spend(_):
        while place.ask("record", acme).allowed:
            go.set()

    def remove(number):
        if number:
            return spend(number)
        go.wait(30)
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("DELETE FROM authz.workspace_memberships WHERE workspace_id = %s", (acme.id,))
            return connection.execute("SELECT clock_timestamp()").fetchone()

    [removed_at, *others] = at_once(9, remove)

    assert others == [None] * 8
    assert place.sql(
        "SELECT max(at) < %s FROM authz.usage_ledger WHERE workspace_id = %s",
        removed_at[0],
        acme.id,
    ) == [(True,)]


def test_a_change_of_plan_comes_through_while_many_spend(place):
    acme = place.workspace("endless")

    def change():
        sleep(0.3)
        place.set_plan(acme, "small")
        return place.ask("record", acme)

    [answer, *_] = while_others(8, change, partial(place.ask, "record", acme))

    assert (answer.allowed, answer.quota["minutes"].limit) == (False, 10)


LOCK = "SELECT authz.usage_locked(id) FROM authz.workspaces WHERE id = %s"


@pytest.mark.parametrize(
    "change",
    [
        [LOCK, "DELETE FROM authz.workspaces WHERE id = %s"],
        [LOCK, "UPDATE authz.workspaces SET plan_tier = 'large' WHERE id = %s"],
        [
            "SELECT authz.set_usage(id, '{minutes}', '{5}') FROM authz.workspaces WHERE id = %s"
        ],  # locks by itself
    ],
    ids=["deleted", "changed", "set"],
)
def test_a_workspace_is_changed_whole_or_deleted_while_many_spend(place, change):
    """Its usage is locked first: nobody waits in a circle, and who spends is answered, or is a stranger."""
    acme = place.workspace("endless")
    place.ask("record", acme)
    reasons = []

    def spend():
        held = place.ask("record", acme, "reserve")
        reasons.append(held.verdict.reason)
        if held.allowed:
            with suppress(UnknownReservation):
                place.commit(held.reservation.id)

    def change_it():
        for _ in range(10):
            with psycopg.connect(place.url) as connection:
                for statement in change:
                    connection.execute(statement, (acme.id,))

    assert while_others(6, change_it, spend) == [None] * 7
    assert set(reasons) <= {"granted", "not_a_member"}


def test_whoever_may_not_make_a_thing_is_not_told_that_it_is_there(place):
    acme = place.workspace("small", mia="member", ron="reader")
    place.ask("create", acme, resource="p")

    answers = [place.ask("create", acme, mode, user="ron", resource="p") for mode in ("consume", "reserve")]

    assert [(each.allowed, each.verdict.reason, each.replayed) for each in answers] == [
        (False, "role_insufficient", False)
    ] * 2


def test_what_exists_needs_no_room_to_exist(place):
    acme = place.workspace("small")
    first = place.ask("create", acme, amounts={"projects": 3}, resource="p")

    again = place.ask("create", acme, amounts={"projects": 3}, resource="p", idempotency_key="new")

    assert (again.allowed, again.replayed, again.decision_id) == (True, True, first.decision_id)
    assert (again.verdict.status, again.upgrade, again.quota["projects"].used) == (200, (), 3)


def test_of_two_levels_only_the_one_that_lacks_the_thing_is_charged(place):
    acme = place.workspace("small")
    place.ask("create", acme, resource="x")

    built = place.ask("build", acme, resource="x")
    again = place.ask("build", acme, resource="x")

    assert (built.replayed, again.replayed) == (False, True)
    assert (place.used(acme, "projects"), place.used(acme, "rooms")) == (1, 1)


def test_a_thing_made_by_many_at_once_is_made_once(place):
    acme = place.workspace("small")

    answers = at_once(
        24, lambda number: place.ask("create", acme, resource="p", idempotency_key=f"k{number}")
    )

    assert {each.decision_id for each in answers if each.allowed} == {answers[0].decision_id}
    assert place.used(acme, "projects") == 1


def test_a_thing_made_and_given_back_by_many_at_once_is_there_or_not(place):
    acme = place.workspace("small")

    def act(number):
        for _ in range(15):
            if number % 2:
                place.give_back(acme, "projects", "p")
            else:
                with suppress(UsageContended):  # made and gone twice while it was decided: nothing was taken
                    assert place.ask("create", acme, resource="p").allowed

    assert at_once(8, act) == [None] * 8
    there = place.sql("SELECT 1 FROM authz.usage_resources WHERE workspace_id = %s", acme.id)
    assert place.used(acme, "projects") == len(there) <= 1


def test_only_a_level_is_given_back_by_name(place):
    acme = place.workspace()

    for meter, code in (
        ("minutes", "invalid_request"),
        ("gold", "invalid_request"),
        ("seats", "meter_not_consumable"),
    ):
        with pytest.raises(BadQuestion) as caught:
            place.give_back(acme, meter, "r")
        assert (caught.value.code, caught.value.faults[0].field) == (code, ("meter",))


def test_lifetime_is_for_ever(place):
    acme = place.workspace("small")
    place.ask("unlock", acme, amounts={"lifetime": 10}, idempotency_key="k")
    denied = place.ask("unlock", acme)

    assert (denied.verdict.status, denied.quota["lifetime"].resets_at) == (402, None)
    assert place.sql(
        "SELECT isfinite(expires_at) FROM authz.usage_keys WHERE workspace_id = %s", acme.id
    ) == [(False,)]
