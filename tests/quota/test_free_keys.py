"""A key stands as long as its effect stands: whoever races for one that is free, there is one effect."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from random import Random

import psycopg
import pytest

from sidecar.errors import (
    IdempotencyKeyReused,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    UnknownIdempotencyKey,
)
from tests.quota.place import Place, at_once, together, until
from tests.quota.test_faults import Lost
from tests.store.proxy import Proxy

pytestmark = pytest.mark.postgres

ROUNDS = 25
KEYED = {"idempotency_key": "k"}


def refunded(place, at):
    place.ask("record", at, **KEYED)
    place.refund(at, "k")


def released(place, at):
    place.release(place.ask("record", at, "reserve", **KEYED).reservation.id)


def expired(place, at):
    place.expire(place.ask("record", at, "reserve", **KEYED).reservation.id)


def given_back(place, at):
    place.ask("create", at, resource="p", **KEYED)
    place.give_back(at, "projects", "p")


FREED = [refunded, released, expired, given_back]


def test_what_was_made_and_given_back_under_its_keys_is_limited_like_anything_else(place):
    acme = place.workspace("small")

    def make(number):
        return place.ask("create", acme, resource=f"p{number}", idempotency_key=f"create-p{number}").allowed

    assert [make(number) for number in range(3)] == [True] * 3
    for number in range(3):
        place.give_back(acme, "projects", f"p{number}")

    assert [make(number) for number in range(6)] == [True] * 3 + [False] * 3
    assert place.used(acme, "projects") == 3


@pytest.mark.parametrize("mode", ["consume", "reserve"])
@pytest.mark.parametrize("free", FREED)
def test_of_many_at_once_under_a_key_that_is_free_one_takes_and_the_others_repeat(place, free, mode):
    acme = place.workspace("small")
    free(place, acme)

    answers = at_once(16, lambda _: place.ask("record", acme, mode, amounts={"minutes": 2}, **KEYED))

    assert [each.replayed for each in answers].count(False) == 1
    assert len({each.decision_id for each in answers}) == 1
    usage = place.usage(acme, "minutes")
    assert usage.used + usage.reserved == 2


@pytest.mark.parametrize("free", FREED)
def test_of_several_requests_that_share_no_counter_one_gets_the_free_key(place, free):
    actions = {"record": "minutes", "ping": "daily", "unlock": "lifetime", "bill": "billed"}
    for _ in range(ROUNDS // 5):
        acme = place.workspace("small")
        free(place, acme)

        answers = together(*(partial(place.ask, action, acme, **KEYED) for action in actions))

        assert [type(each) for each in answers].count(IdempotencyKeyReused) == 3
        assert sum(place.used(acme, meter) for meter in actions.values()) == 1


def test_a_late_commit_and_who_takes_its_key_anew_at_once_have_one_effect(place):
    """With the same counter, and with another."""
    acme = place.workspace("endless")
    for number in range(ROUNDS):
        key = f"k{number}"
        held = place.ask("record", acme, "reserve", idempotency_key=key).reservation.id
        place.expire(held)
        before = place.used(acme, "minutes") + place.used(acme, "daily")
        anew = partial(place.ask, ("record", "ping")[number % 2], acme, idempotency_key=key)
        acts = deque([partial(place.commit, held), anew])
        acts.rotate(number // 2 % 2)

        answers = together(*acts)

        refused = [type(each) for each in answers if isinstance(each, Exception)]
        assert refused in ([IdempotencyKeyReused], [ReservationExpired]), answers
        assert place.used(acme, "minutes") + place.used(acme, "daily") == before + 1


@pytest.mark.parametrize("first", ["commit", "commit, with the key alone by then", "anew"])
def test_who_settles_late_and_who_takes_the_key_anew_wait_for_each_other(place, first):
    """Though they share no counter: the row of the key is where they meet."""
    acme = place.workspace("small")
    held = place.ask("record", acme, "reserve", **KEYED).reservation.id
    place.expire(held)
    version = "(SELECT facts_version FROM authz.workspaces WHERE id = %(id)s)"
    values = {"id": acme.id, "held": held}
    lock = "SELECT FROM authz.usage_keys WHERE workspace_id = %(id)s FOR UPDATE"
    commit = f"""SELECT authz.take(%(id)s, {version}, 'mia', 'record', '{{minutes}}', '{{1}}', '{{10}}',
        NULL, NULL, 'f', NULL, %(held)s, 'd1', 'r', '{{}}')"""
    anew = f"""SELECT authz.take(%(id)s, {version}, 'mia', 'ping', '{{daily}}', '{{1}}', '{{10}}',
        NULL, 'k', 'f', NULL, NULL, 'd2', 'r', '{{}}')"""
    sooner, later = (anew, commit) if first == "anew" else (commit, anew)
    answers = []

    def wait():
        with psycopg.connect(place.url) as connection:
            answers.append(connection.execute(later.encode(), values).fetchall()[0][0]["outcome"])

    waiting = threading.Thread(target=wait)
    with psycopg.connect(place.url) as connection:
        if "alone" in first:
            connection.execute(lock.encode(), values)
            waiting.start()
            until(place.somebody_waits_for_a_lock)
        taken = connection.execute(sooner.encode(), values).fetchall()[0][0]["outcome"]
        if "alone" not in first:
            waiting.start()
            until(place.somebody_waits_for_a_lock)
    waiting.join()

    assert (taken, answers) == ("taken", ["settled" if first == "anew" else "key_reused"])
    assert place.used(acme, "minutes") + place.used(acme, "daily") == 1


def test_whatever_is_done_under_one_key_at_once_its_effect_stands_once_or_not(place):
    """Any of them in any order: what is used and held is what the key says, or nothing."""
    acme = place.workspace("endless")
    allowed = (
        IdempotencyKeyReused,
        RefundExceedsUse,
        ReservationExpired,
        ReservationSettled,
        UnknownIdempotencyKey,
    )

    def act(number):
        dice = Random(number)  # noqa: S311 - no secret, and the same each time
        mode = ("consume", "reserve")[number % 2]
        for _ in range(ROUNDS):
            try:
                answer = place.ask("record", acme, mode, **KEYED)
                if answer.reservation and dice.random() < 0.7:
                    dice.choice([place.commit, place.release, place.expire])(answer.reservation.id)
                if dice.random() < 0.7:
                    place.refund(acme, "k")
            except allowed:
                pass

    assert at_once(6, act) == [None] * 6
    usage = place.usage(acme, "minutes")
    assert usage.used + usage.reserved <= 1
    if usage.reserved:
        place.expire(place.ask("record", acme, "reserve", **KEYED).reservation.id)
    elif usage.used:
        place.refund(acme, "k")
    assert place.usage(acme, "minutes").used == 0


@pytest.mark.parametrize("free", FREED)
def test_an_answer_that_got_lost_under_a_freed_key_is_asked_for_again_and_taken_once(
    quota_url, rules, place, free
):
    acme = place.workspace("small")
    free(place, acme)
    place.ask("record", acme)
    with Proxy(quota_url) as proxy:
        far = Place(proxy.url, rules, connections=1)
        far.usage(acme, "minutes")
        far.ask("ping", acme)

        answer = Lost(proxy).answer_to(
            partial(far.ask, "record", acme, amounts={"minutes": 2}, **KEYED),
            done=lambda: place.used(acme, "minutes") == 3,
        )

        far.close()
    assert (answer.allowed, answer.replayed) == (True, True)
    assert place.used(acme, "minutes") == 3
