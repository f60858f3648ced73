"""What is held: until it is committed, released or over, in the period it was made in, and settled once."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from functools import partial
from time import sleep

import pytest

from sidecar.errors import CommitExceedsReservation, ReservationExpired, ReservationSettled
from tests.quota.place import at_once, together

pytestmark = pytest.mark.postgres

ROUNDS = 150


def hold(place, at, action="record", **more):
    answer = place.ask(action, at, "reserve", **more)
    assert answer.allowed, answer
    return answer.reservation.id


def test_a_reservation_that_nobody_settles_ends_by_itself_and_its_late_commit_is_refused(place):
    acme = place.workspace("small")
    held = hold(place, acme, amounts={"minutes": 10}, ttl_s=1)
    meanwhile = place.ask("record", acme)
    sleep(1.05)

    after = place.ask("record", acme, amounts={"minutes": 10})

    assert (meanwhile.allowed, meanwhile.quota["minutes"].reserved) == (False, 10)
    assert (after.allowed, after.quota["minutes"].reserved) == (True, 0)
    with pytest.raises(ReservationExpired, match="10 are used and 10 were asked for"):
        place.commit(held)
    assert place.used(acme, "minutes") == 10


def test_a_late_commit_that_still_fits_is_taken_and_can_be_repeated(place):
    acme = place.workspace("small")
    held = hold(place, acme, amounts={"minutes": 10})
    place.expire(held)

    first, again = place.commit(held, {"minutes": 4}), place.commit(held, {"minutes": 4})

    assert (first.committed, first.replayed, again.replayed) == ({"minutes": 4}, False, True)
    assert place.used(acme, "minutes") == 4
    with pytest.raises(ReservationSettled):
        place.commit(held)


def test_what_is_released_after_it_has_expired_says_so_and_is_not_committed_late(place):
    acme = place.workspace("small")
    held = hold(place, acme, amounts={"minutes": 10})
    place.expire(held)

    first, again = place.release(held), place.release(held)

    assert [(each.state, each.replayed) for each in (first, again)] == [("expired", False), ("expired", True)]
    with pytest.raises(ReservationSettled, match="released already"):
        place.commit(held)
    assert (place.used(acme, "minutes"), place.usage(acme, "minutes").reserved) == (0, 0)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM authz.workspace_memberships WHERE workspace_id = '{id}'",
        "UPDATE authz.workspace_memberships SET role = 'reader' WHERE workspace_id = '{id}'",
        "SELECT authz.set_status('{slug}', 'suspended')",
    ],
)
def test_in_time_a_commit_settles_a_right_already_given_and_late_it_is_a_new_question(place, change):
    acme = place.workspace("small")
    in_time, late = hold(place, acme), hold(place, acme)
    place.sql(change.format(id=acme.id, slug=acme.slug))
    place.expire(late)

    assert place.commit(in_time).committed == {"minutes": 1}
    with pytest.raises(ReservationExpired):
        place.commit(late)
    assert place.used(acme, "minutes") == 1


def test_a_late_commit_that_was_refused_can_be_asked_again_when_there_is_room(place):
    acme = place.workspace("small")
    held = hold(place, acme, amounts={"minutes": 10})
    place.expire(held)
    place.ask("record", acme, idempotency_key="other")
    with pytest.raises(ReservationExpired):
        place.commit(held)
    place.refund(acme, "other")

    assert place.commit(held).committed == {"minutes": 10}


def test_many_late_commits_at_once_are_one(place):
    acme = place.workspace("large")
    held = hold(place, acme, amounts={"minutes": 10})
    place.expire(held)

    settled = at_once(16, lambda _: place.commit(held))

    assert [each.committed for each in settled] == [{"minutes": 10}] * 16
    assert [each.replayed for each in settled].count(False) == 1
    assert place.used(acme, "minutes") == 10


def test_commit_and_release_and_expiry_at_once_have_one_effect(place):
    acme = place.workspace("endless")
    committed = 0
    for number in range(ROUNDS):
        held = hold(place, acme, amounts={"minutes": 1 + number % 3})
        acts = deque(partial(act, held) for act in (place.commit, place.release, place.expire))
        acts.rotate(number)

        answers = together(*acts)

        states = [each.state for each in answers if hasattr(each, "state")]
        refused = [each for each in answers if isinstance(each, Exception)]
        assert len(states) == 1
        assert [type(each) for each in refused] == [ReservationSettled]
        if states == ["committed"]:
            committed += 1 + number % 3
    assert place.used(acme, "minutes") == committed
    assert place.usage(acme, "minutes").reserved == 0


def test_a_reservation_is_charged_to_the_period_it_was_made_in(place):
    acme = place.workspace("small", subscribed="clock_timestamp() + interval '1 second'")
    held = hold(place, acme, "bill", amounts={"billed": 10})
    partly = place.ask("bill", acme, "reserve")
    sleep(1.1)

    new = place.ask("bill", acme, amounts={"billed": 10})
    settled = place.commit(held, {"billed": 6})

    assert (partly.allowed, new.allowed, new.quota["billed"].reserved) == (False, True, 0)
    assert settled.now.usage["billed"].used == 10
    assert place.sql(
        """SELECT l.amount, l.kind, l.period_start = w.subscribed_at FROM authz.usage_ledger AS l
        JOIN authz.workspaces AS w ON w.id = l.workspace_id WHERE w.id = %s ORDER BY l.id""",
        acme.id,
    ) == [(10, "consume", True), (6, "commit", False)]


def test_what_was_committed_in_an_old_period_is_refunded_there(place):
    acme = place.workspace("small", subscribed="clock_timestamp() + interval '1 second'")
    place.ask("bill", acme, amounts={"billed": 10}, idempotency_key="k")
    sleep(1.1)
    place.ask("bill", acme, amounts={"billed": 9})

    back = place.refund(acme, "k")

    assert (back.released, back.now.usage["billed"].used) == ({"billed": 10}, 9)
    assert place.ask("bill", acme).quota["billed"].used == 10
    assert not place.ask("bill", acme).allowed


def test_many_reservations_at_once_hold_no_more_than_there_is(place):
    acme = place.workspace("small")

    answers = at_once(32, lambda _: place.ask("record", acme, "reserve", amounts={"minutes": 3}))

    assert [each.allowed for each in answers].count(True) == 3
    assert (place.usage(acme, "minutes").reserved, place.used(acme, "minutes")) == (9, 0)


def test_a_key_of_a_reservation_holds_once(place):
    acme = place.workspace("small")

    answers = at_once(16, lambda _: place.ask("record", acme, "reserve", idempotency_key="k"))

    assert len({each.reservation.id for each in answers}) == 1
    assert place.usage(acme, "minutes").reserved == 1


def test_a_reservation_says_when_it_ends_and_its_id_cannot_be_guessed(place):
    acme = place.workspace("small")
    answers = [place.ask("record", acme, "reserve", ttl_s=3_600) for _ in range(5)]

    assert {each.reservation.expires_at - each.at for each in answers} == {timedelta(hours=1)}
    assert {len(bytes.fromhex(each.reservation.id)) for each in answers} == {16}


def test_a_late_commit_of_nothing_of_one_meter_needs_no_room_for_it(place):
    acme = place.workspace("large")
    held, other = (hold(place, acme, "tour", amounts={"lifetime": 2, "minutes": 5}) for _ in range(2))
    place.ask("record", acme, amounts={"minutes": 20})
    place.set_plan(acme, "small")
    place.expire(held)
    place.expire(other)

    settled = place.commit(held, {"minutes": 0})

    assert (settled.committed, settled.replayed) == ({"lifetime": 2, "minutes": 0}, False)
    assert (place.used(acme, "lifetime"), place.used(acme, "minutes")) == (2, 20)
    with pytest.raises(ReservationExpired, match="20 are used and 1 was asked for"):
        place.commit(other, {"minutes": 1})


def test_a_commit_of_more_than_is_held_is_refused_though_there_is_room(place):
    acme = place.workspace("large")
    held = hold(place, acme, amounts={"minutes": 5})

    with pytest.raises(CommitExceedsReservation, match="only 5 minutes are reserved"):
        place.commit(held, {"minutes": 6})
    assert place.usage(acme, "minutes").reserved == 5


def test_of_several_meters_each_is_held_and_settled(place):
    acme = place.workspace("small")
    held = hold(place, acme, "host", amounts={"minutes": 4, "daily": 2})

    settled = place.commit(held, {"minutes": 1})

    assert settled.committed == {"minutes": 1, "daily": 2}
    assert (place.used(acme, "minutes"), place.used(acme, "daily")) == (1, 2)
    assert place.usage(acme, "minutes").reserved == 0


def test_an_action_that_takes_nothing_can_be_reserved_and_settled(place):
    acme = place.workspace()
    held = hold(place, acme, "look")

    assert (place.commit(held).committed, place.commit(held).replayed) == ({}, True)
    for _ in range(20):
        held = hold(place, acme, "look")
        answers = together(partial(place.commit, held), partial(place.release, held))
        assert [type(each) for each in answers].count(ReservationSettled) == 1
