"""The contract of a Ledger, for PostgreSQL and for the fake alike."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from sidecar.decisions.model import Usage
from sidecar.errors import (
    BadQuestion,
    CommitExceedsReservation,
    FactsUnavailable,
    IdempotencyKeyReused,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    UnknownIdempotencyKey,
    UnknownReservation,
    UnknownWorkspace,
)
from sidecar.quota.model import (
    AlreadyExists,
    Charge,
    Charged,
    Conflict,
    Consume,
    Counter,
    Expired,
    Hold,
    LateCommit,
    NoCapacity,
    Replayed,
)
from sidecar.store.ledger import PostgresLedger
from sidecar.store.postgres import PostgresFacts
from tests.fakes import FactsInMemory
from tests.ledger_in_memory import LedgerInMemory
from tests.postgres_server import rows, run
from tests.values import FAR_AWAY, some_facts, the_catalog

pytestmark = pytest.mark.postgres

CATALOG = the_catalog()
_numbers = itertools.count(1)


class Stage:
    """One ledger, and one workspace `w…` of one member `mia` in it."""

    ledger: Any
    slug: str
    id: UUID

    def facts(self):
        raise NotImplementedError

    def a_charge(self, **more) -> Charge:
        """Five minutes, by default, of a hundred."""
        amounts = more.get("amounts", {"minutes": 5})
        values: dict[str, Any] = {
            "workspace_id": self.id,
            "token": self.facts().token,
            "user": "mia",
            "action": "recording.start",
            "amounts": amounts,
            "limits": dict.fromkeys(amounts, 100),
            "resource": None,
            "key": None,
            "fingerprint": "f",
            "purpose": Consume(),
            "decision_id": uuid4().hex,
            "revision": "r1",
            "role": "member",
            "plan": "team",
            "message": "Yes.",
        }
        return Charge(**{**values, **more})

    def charge(self, **more):
        return self.ledger.charge(self.a_charge(**more), deadline=FAR_AWAY)

    def reserve(self, **more):
        """The id of a new reservation."""
        hold = Hold(id=uuid4().hex, ttl_s=60)
        assert isinstance(self.charge(purpose=hold, **more), Charged)
        return hold.id

    def find_replay(self, **more):
        return self.ledger.find_replay(self.a_charge(**more), deadline=FAR_AWAY)

    def commit(self, reservation, amounts=None):
        return self.ledger.commit(reservation, amounts, deadline=FAR_AWAY)

    def release(self, reservation):
        return self.ledger.release(reservation, deadline=FAR_AWAY)

    def refund(self, key, amounts=None, *, workspace=None):
        return self.ledger.refund(workspace or self.slug, key, amounts, deadline=FAR_AWAY)

    def give_back(self, meter, resource, *, workspace=None):
        return self.ledger.release_resource(workspace or self.slug, meter, resource, deadline=FAR_AWAY)

    def figures(self, meter="minutes"):
        usage = self.facts().usage[meter]
        return usage.used, usage.reserved


class InMemory(Stage):
    def __init__(self):
        self.slug, self.id = "acme", uuid4()
        facts = replace(some_facts(plan="team"), workspace_id=self.id)
        self.store = FactsInMemory({("mia", self.slug): facts})
        self.ledger = LedgerInMemory(self.store, catalog=CATALOG)

    def facts(self):
        return self.store.members["mia", self.slug]

    def expire(self, reservation):
        self.ledger.expire(reservation)

    def change(self):
        self.store.members["mia", self.slug] = replace(self.facts(), token=uuid4())


class InPostgres(Stage):
    def __init__(self, url, store):
        self.url, self.store = url, store
        self.slug = f"w{next(_numbers)}"
        [(self.id,)] = rows(
            url,
            "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'W', 'team') RETURNING id",
            self.slug,
        )
        rows(url, "INSERT INTO authz.workspace_memberships VALUES (%s, 'mia', 'member')", self.id)
        self.ledger = PostgresLedger(store.connections, catalog=CATALOG)

    def facts(self):
        [facts] = self.store.facts([("mia", self.slug)], deadline=FAR_AWAY)
        return facts

    def expire(self, reservation):
        for table, name in (("usage_reservations", "id"), ("usage_holds", "reservation")):
            run(self.url, f"UPDATE authz.{table} SET expires_at = now() WHERE {name} = '{reservation}'")

    def change(self):
        run(self.url, f"SELECT authz.set_overrides('{self.slug}', '{{\"analytics\": true}}')")


class InPostgresAtOnce(InPostgres):
    """What is taken of one counter is first tried in the quick way, whether or not that suits the moment."""

    def a_charge(self, **more):
        charge = super().a_charge(**more)
        if len(charge.amounts) != 1 or not isinstance(charge.purpose, Consume):
            return charge
        [(meter, limit)] = charge.limits.items()
        if charge.resource and CATALOG.meters[meter].kind == "level":
            return charge
        resets_at = self.facts().usage[meter].resets_at
        return replace(charge, counter=Counter(limit=limit, resets_at=resets_at))


@pytest.fixture(scope="module")
def store(database_url):
    store = PostgresFacts(
        database_url, catalog=CATALOG, pool_size=2, statement_timeout_s=30, lock_timeout_s=30
    )
    store.open()
    yield store
    store.close()


@pytest.fixture(params=["postgres", "postgres_at_once", "in_memory"])
def stage(request):
    if request.param == "in_memory":
        return InMemory()
    kind = InPostgresAtOnce if request.param == "postgres_at_once" else InPostgres
    return kind(request.getfixturevalue("database_url"), request.getfixturevalue("store"))


def test_what_is_taken_is_used_and_the_figures_are_those_after_it(stage):
    taken = stage.charge()

    assert isinstance(taken, Charged)
    assert (taken.quota["minutes"].limit, taken.quota["minutes"].used) == (100, 5)
    assert taken.quota["minutes"].resets_at == stage.facts().usage["minutes"].resets_at
    assert taken.reservation is None
    assert stage.figures() == (5, 0)


def test_exactly_the_limit_can_be_taken_and_no_more(stage):
    assert isinstance(stage.charge(amounts={"minutes": 100}), Charged)

    refused = stage.charge(amounts={"minutes": 1})

    assert isinstance(refused, NoCapacity)
    assert refused.facts.usage["minutes"].used == 100
    assert stage.figures() == (100, 0)


def test_more_than_the_limit_cannot_be_taken_as_the_first_thing_either(stage):
    assert isinstance(stage.charge(amounts={"minutes": 101}), NoCapacity)

    assert stage.figures() == (0, 0)


@pytest.mark.parametrize("kind", [InPostgres, InPostgresAtOnce])
def test_a_first_use_that_is_refused_leaves_no_row(database_url, store, kind):
    stage = kind(database_url, store)

    assert isinstance(stage.charge(amounts={"minutes": 101}), NoCapacity)
    assert isinstance(stage.charge(amounts={"minutes": 1, "scenarios": 101}), NoCapacity)
    assert rows(database_url, "SELECT FROM authz.workspace_usage WHERE workspace_id = %s", stage.id) == []


def test_a_limit_of_none_is_none_and_all_the_same_is_counted(stage):
    stage.charge(amounts={"minutes": 10**12}, limits={"minutes": None})

    assert stage.figures() == (10**12, 0)


def test_a_limit_of_zero_is_nothing(stage):
    assert isinstance(stage.charge(amounts={"minutes": 1}, limits={"minutes": 0}), NoCapacity)


def test_of_several_meters_all_are_taken_or_none(stage):
    both = {"minutes": 5, "scenarios": 1}
    limits = {"minutes": 100, "scenarios": 1}
    assert isinstance(stage.charge(amounts=both, limits=limits), Charged)

    assert isinstance(stage.charge(amounts=both, limits=limits), NoCapacity)
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((5, 0), (1, 0))


def test_what_was_decided_by_facts_that_have_changed_since_is_not_taken(stage):
    charge = stage.a_charge()
    stage.change()

    assert stage.ledger.charge(charge, deadline=FAR_AWAY) is Conflict.STALE
    assert stage.figures() == (0, 0)


def test_nothing_is_taken_in_a_workspace_that_is_not_there(stage):
    assert stage.charge(workspace_id=uuid4()) is Conflict.STALE


def test_an_action_that_takes_nothing_can_be_remembered_all_the_same(stage):
    first = stage.charge(amounts={}, key="k")
    again = stage.charge(amounts={}, key="k")

    assert (type(first), first.quota, type(again)) == (Charged, {}, Replayed)


def test_under_one_key_something_is_taken_once_and_the_first_answer_is_given_again(stage):
    first = stage.a_charge(key="k")
    taken = stage.ledger.charge(first, deadline=FAR_AWAY)
    stage.charge()

    again = stage.charge(key="k", revision="r2", message="No.")

    assert isinstance(again, Replayed)
    assert (again.decision_id, again.revision, again.message) == (first.decision_id, "r1", "Yes.")
    assert (again.quota, again.at, again.reservation) == (taken.quota, taken.at, None)
    assert stage.figures() == (10, 0)


def test_a_key_is_of_one_request(stage):
    stage.charge(key="k")

    with pytest.raises(IdempotencyKeyReused):
        stage.charge(key="k", fingerprint="g")
    with pytest.raises(IdempotencyKeyReused):
        stage.charge(key="k", fingerprint="g", amounts={"minutes": 10**6})
    with pytest.raises(IdempotencyKeyReused):
        stage.find_replay(key="k", fingerprint="g")
    assert stage.figures() == (5, 0)


def test_what_is_denied_is_not_remembered(stage):
    assert isinstance(stage.charge(key="k", limits={"minutes": 4}), NoCapacity)

    assert stage.find_replay(key="k") is None
    assert isinstance(stage.charge(key="k"), Charged)


def test_a_repeat_is_told_though_there_is_no_room_any_more(stage):
    stage.charge(key="k")

    assert isinstance(stage.charge(key="k", limits={"minutes": 5}), Replayed)
    assert isinstance(stage.find_replay(key="k"), Replayed)


def test_nothing_is_known_of_what_was_never_taken(stage):
    assert stage.find_replay(key="k", resource="r", amounts={"scenarios": 1}) is None
    assert stage.find_replay() is None


def test_what_is_reserved_is_not_used_and_not_free(stage):
    taken = stage.charge(purpose=Hold(id="r-1-" + stage.slug, ttl_s=90))

    assert (taken.reservation.id, taken.reservation.amounts) == ("r-1-" + stage.slug, {"minutes": 5})
    assert taken.reservation.expires_at == taken.at + timedelta(seconds=90)
    assert (taken.quota["minutes"].used, taken.quota["minutes"].reserved) == (0, 5)
    assert isinstance(stage.charge(amounts={"minutes": 96}), NoCapacity)
    assert isinstance(stage.charge(amounts={"minutes": 95}), Charged)


def test_a_repeat_of_a_reservation_names_the_first_one(stage):
    first = stage.charge(purpose=Hold(id=uuid4().hex, ttl_s=60), key="k")

    again = stage.charge(purpose=Hold(id=uuid4().hex, ttl_s=60), key="k")

    assert again.reservation == first.reservation
    assert stage.figures() == (0, 5)


BOTH = {"minutes": 5, "scenarios": 1}


def keyed(stage, **more):
    """A duplicate of each other: the same key and request."""
    return stage.charge(key="k", **more)


def reserved(stage, **more):
    return keyed(stage, purpose=Hold(id=uuid4().hex, ttl_s=60), **more)


def refunded(stage):
    keyed(stage)
    stage.refund("k")


def refunded_in_words(stage):
    keyed(stage, amounts=BOTH)
    stage.refund("k", BOTH)


def released(stage):
    stage.release(reserved(stage).reservation.id)


def expired(stage):
    stage.expire(reserved(stage).reservation.id)


def committed_and_refunded(stage):
    stage.commit(reserved(stage, amounts=BOTH).reservation.id, {"minutes": 0})
    stage.refund("k")


def committed_late_and_refunded(stage):
    reservation = reserved(stage, resource="s", amounts=BOTH).reservation.id
    stage.expire(reservation)
    stage.charge(amounts=BOTH, resource="s", purpose=LateCommit(id=reservation))
    stage.refund("k")


def given_back_by_name(stage):
    keyed(stage, amounts={"scenarios": 1}, resource="s")
    stage.give_back("scenarios", "s")


def given_back_by_name_beside_a_counter(stage):
    keyed(stage, amounts=BOTH, resource="s")
    stage.give_back("scenarios", "s")
    stage.refund("k", {"minutes": 5})


def committed_and_given_back_by_name(stage):
    stage.commit(reserved(stage, amounts={"scenarios": 2}, resource="s").reservation.id, {"scenarios": 1})
    stage.give_back("scenarios", "s")


@pytest.mark.parametrize(
    "give_back",
    [
        refunded,
        refunded_in_words,
        released,
        expired,
        committed_and_refunded,
        committed_late_and_refunded,
        given_back_by_name,
        given_back_by_name_beside_a_counter,
        committed_and_given_back_by_name,
    ],
)
@pytest.mark.parametrize("other", [{}, {"fingerprint": "g"}], ids=["the same", "another"])
def test_a_key_whose_effect_was_given_back_is_free(stage, give_back, other):
    give_back(stage)
    asked = {"amounts": BOTH, "resource": "s", **other}
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((0, 0), (0, 0))

    assert stage.find_replay(key="k", **asked) is None
    assert isinstance(keyed(stage, limits={"minutes": 4, "scenarios": 1}, **asked), NoCapacity)
    assert isinstance(keyed(stage, **asked), Charged)
    assert isinstance(keyed(stage, **asked), Replayed)
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((5, 0), (1, 0))
    assert stage.refund("k").replayed is False
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((0, 0), (0, 0))


@pytest.mark.parametrize("resource", ["s", None])
def test_a_level_that_is_given_back_frees_its_key_though_a_counter_beside_it_stands(stage, resource):
    keyed(stage, amounts=BOTH, resource=resource)
    if resource:
        stage.give_back("scenarios", "s")
    else:
        stage.refund("k", {"scenarios": 1})

    assert isinstance(keyed(stage, amounts=BOTH, resource=resource), Charged)
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((10, 0), (1, 0))


@pytest.mark.parametrize(
    ("asked", "back"),
    [
        ({}, {"minutes": 4}),
        ({}, {"minutes": 0}),
        ({"amounts": BOTH}, {"minutes": 5}),
        ({"amounts": BOTH, "resource": "s"}, {"minutes": 5}),
        ({"amounts": {"scenarios": 3}, "resource": "s"}, {"scenarios": 2}),
        ({"amounts": {"scenarios": 3}}, {"scenarios": 2}),
        ({"amounts": {}}, {}),
    ],
)
def test_a_partial_refund_keeps_the_key_and_a_repeat_shows_the_figures_of_now(stage, asked, back):
    keyed(stage, **asked)
    stage.charge()
    stage.refund("k", back)

    again = keyed(stage, **asked)

    assert isinstance(again, Replayed)
    assert again.now is not None
    assert again.now.usage == {
        meter: stage.facts().usage[meter] for meter in asked.get("amounts", {"minutes": 5})
    }
    assert stage.find_replay(key="k", **asked).now == again.now
    with pytest.raises(IdempotencyKeyReused):
        keyed(stage, **asked, fingerprint="g")


def test_a_repeat_of_what_was_given_back_by_another_key_is_no_repeat(stage):
    """The thing was made again since, by somebody else: it is there, and this key did not make it."""
    given_back_by_name(stage)
    made = stage.a_charge(key="other", amounts={"scenarios": 1}, resource="s")
    stage.ledger.charge(made, deadline=FAR_AWAY)

    again = keyed(stage, amounts={"scenarios": 1}, resource="s")

    assert isinstance(again, AlreadyExists)
    assert again.decision_id == made.decision_id


def test_a_repeat_of_a_thing_that_existed_on_the_way_stands_as_long_as_that(stage):
    first, second = (
        stage.reserve(amounts={"scenarios": 1}, resource="s", key=key) for key in ("first", "second")
    )
    stage.commit(first)
    stage.commit(second)
    hold = Hold(id=uuid4().hex, ttl_s=60)
    asked = {"amounts": {"scenarios": 1}, "resource": "s", "key": "second", "purpose": hold}

    assert isinstance(stage.charge(**asked), Replayed)
    stage.give_back("scenarios", "s")
    assert isinstance(stage.charge(**asked), Charged)


def test_a_repeat_of_a_reservation_says_how_it_stands(stage):
    first = reserved(stage)
    again = reserved(stage)
    stage.commit(first.reservation.id, {"minutes": 2})
    settled = reserved(stage)

    assert (first.reservation.state, again.reservation.state, again.now) == ("held", "held", None)
    assert settled.reservation == replace(first.reservation, state="committed")
    assert (settled.now.usage["minutes"].used, settled.now.usage["minutes"].reserved) == (2, 0)


def test_a_late_commit_whose_key_was_taken_anew_is_refused(stage):
    first = reserved(stage).reservation.id
    stage.expire(first)
    second = reserved(stage).reservation.id

    with pytest.raises(ReservationExpired):
        stage.commit(first)
    late = {"amounts": {"minutes": 5}, "purpose": LateCommit(id=first)}
    assert stage.charge(**late) is Conflict.SETTLED
    stage.commit(second)
    stage.refund("k")
    with pytest.raises(ReservationExpired):
        stage.commit(first)
    assert stage.figures() == (0, 0)


def test_a_late_commit_takes_its_key_again_if_nobody_has(stage):
    reservation = reserved(stage).reservation.id
    stage.expire(reservation)
    assert stage.find_replay(key="k") is None

    stage.charge(amounts={"minutes": 3}, purpose=LateCommit(id=reservation))

    assert stage.find_replay(key="k").reservation.state == "committed"
    assert stage.figures() == (3, 0)


def test_the_release_of_a_hold_whose_key_was_taken_anew_gives_nothing_of_the_new_one_back(stage):
    first = reserved(stage).reservation.id
    stage.expire(first)
    second = reserved(stage).reservation.id

    assert stage.release(first).state == "expired"
    assert reserved(stage).reservation.id == second
    assert stage.figures() == (0, 5)


def test_a_commit_may_say_zero_of_some_meters(stage):
    reservation = reserved(stage, amounts=BOTH).reservation.id

    settled = stage.commit(reservation, {"scenarios": 0})

    assert (settled.state, settled.committed) == ("committed", {"minutes": 5, "scenarios": 0})
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((5, 0), (0, 0))
    assert stage.commit(reservation, {"scenarios": 0}).replayed is True
    assert isinstance(reserved(stage, amounts=BOTH), Replayed)
    assert stage.refund("k").released == {"minutes": 5}


def test_a_thing_of_which_zero_is_committed_is_not_made(stage):
    reservation = stage.reserve(amounts=BOTH, resource="s")

    stage.commit(reservation, {"scenarios": 0})

    assert isinstance(stage.charge(amounts={"scenarios": 1}, resource="s"), Charged)


@pytest.mark.parametrize("settled", ["held", "released", "committed", "expired"])
def test_a_commit_of_zero_of_all_is_refused_and_says_to_release(stage, settled):
    reservation = stage.reserve(amounts=BOTH)
    act = {"released": stage.release, "committed": stage.commit, "expired": stage.expire}.get(settled)
    if act:
        act(reservation)
    before = stage.figures()

    with pytest.raises(BadQuestion, match="release") as caught:
        stage.commit(reservation, {"minutes": 0, "scenarios": 0})
    assert caught.value.code == "invalid_request"
    assert [fault.field for fault in caught.value.faults] == [
        ("amounts", "minutes"),
        ("amounts", "scenarios"),
    ]
    assert stage.figures() == before


def test_a_late_commit_needs_room_only_for_what_is_not_zero(stage):
    reservation = stage.reserve(amounts=BOTH)
    stage.expire(reservation)
    stage.charge(amounts={"minutes": 100})
    asked = stage.commit(reservation, {"minutes": 0}).amounts

    assert asked == {"minutes": 0, "scenarios": 1}
    assert isinstance(stage.charge(amounts=asked, purpose=LateCommit(id=reservation)), Charged)
    assert (stage.figures("minutes"), stage.figures("scenarios")) == ((100, 0), (1, 0))
    assert stage.commit(reservation, {"minutes": 0}).replayed is True


def test_a_commit_takes_what_was_reserved(stage):
    settled = stage.commit(stage.reserve())

    assert (settled.state, settled.committed, settled.replayed) == ("committed", {"minutes": 5}, False)
    assert (settled.now.plan, settled.now.usage["minutes"].used) == ("team", 5)
    assert stage.figures() == (5, 0)


def test_a_commit_of_less_gives_back_the_rest(stage):
    settled = stage.commit(stage.reserve(), {"minutes": 2})

    assert (settled.committed, settled.reservation.amounts) == ({"minutes": 2}, {"minutes": 5})
    assert stage.figures() == (2, 0)


def test_a_commit_of_more_is_refused_and_the_reservation_stays(stage):
    reservation = stage.reserve()

    with pytest.raises(CommitExceedsReservation) as caught:
        stage.commit(reservation, {"minutes": 6})
    assert [fault.field for fault in caught.value.faults] == [("amounts", "minutes")]
    assert stage.figures() == (0, 5)
    assert stage.commit(reservation).replayed is False


def test_a_commit_names_only_meters_that_are_reserved(stage):
    reservation = stage.reserve()

    with pytest.raises(BadQuestion) as caught:
        stage.commit(reservation, {"scenarios": 1, "a/b": 1})
    assert caught.value.code == "meter_not_taken"
    assert [fault.field for fault in caught.value.faults] == [("amounts", "a/b"), ("amounts", "scenarios")]
    assert stage.figures() == (0, 5)


def test_what_a_commit_does_not_name_is_committed_whole(stage):
    reservation = stage.reserve(amounts={"minutes": 5, "scenarios": 3})

    assert stage.commit(reservation, {"minutes": 1}).committed == {"minutes": 1, "scenarios": 3}


def test_a_release_gives_everything_back(stage):
    settled = stage.release(stage.reserve())

    assert (settled.state, settled.committed, settled.replayed) == ("released", None, False)
    assert stage.figures() == (0, 0)


def test_to_settle_twice_is_to_settle_once_and_otherwise_is_refused(stage):
    committed, released = stage.reserve(), stage.reserve()
    stage.commit(committed, {"minutes": 2})
    stage.release(released)

    assert stage.commit(committed, {"minutes": 2}).replayed is True
    assert stage.release(released).replayed is True
    for settle in (
        lambda: stage.commit(committed),
        lambda: stage.commit(committed, {"minutes": 1}),
        lambda: stage.release(committed),
        lambda: stage.commit(released),
    ):
        with pytest.raises(ReservationSettled):
            settle()
    assert stage.figures() == (2, 0)


@pytest.mark.parametrize("settle", ["commit", "release"])
def test_an_unknown_reservation_is_unknown(stage, settle):
    with pytest.raises(UnknownReservation):
        getattr(stage, settle)("no-such")


def test_a_reservation_that_has_expired_holds_nothing_and_is_asked_about_anew(stage):
    reservation = stage.reserve(resource="r")
    stage.expire(reservation)

    assert stage.figures() == (0, 0)
    assert stage.commit(reservation, {"minutes": 3}) == Expired(
        workspace_id=stage.id, user="mia", action="recording.start", resource="r", amounts={"minutes": 3}
    )
    assert stage.figures() == (0, 0)


def test_a_late_commit_that_fits_is_taken_once(stage):
    reservation = stage.reserve(key="k")
    stage.expire(reservation)
    late = {"amounts": {"minutes": 3}, "purpose": LateCommit(id=reservation)}

    assert isinstance(stage.charge(**late), Charged)
    assert stage.charge(**late) is Conflict.SETTLED
    assert stage.commit(reservation, {"minutes": 3}).replayed is True
    assert stage.figures() == (3, 0)
    assert stage.refund("k").released == {"minutes": 3}
    assert stage.figures() == (0, 0)


def test_a_late_commit_that_does_not_fit_is_refused_and_can_be_asked_again(stage):
    reservation = stage.reserve(amounts={"minutes": 100})
    stage.expire(reservation)
    stage.charge()
    late = {"amounts": {"minutes": 100}, "purpose": LateCommit(id=reservation)}

    assert isinstance(stage.charge(**late), NoCapacity)
    assert stage.figures() == (5, 0)


def test_release_after_expiry_has_no_effect_and_is_no_error(stage):
    reservation = stage.reserve()
    stage.expire(reservation)

    assert stage.release(reservation).replayed is False
    assert stage.release(reservation).replayed is True
    assert stage.figures() == (0, 0)
    assert stage.charge(purpose=LateCommit(id=reservation)) is Conflict.SETTLED


def test_a_refund_gives_back_what_a_key_took_once(stage):
    stage.charge(key="k")
    stage.charge(key="other")

    first, again = stage.refund("k"), stage.refund("k")

    assert (first.released, first.replayed) == ({"minutes": 5}, False)
    assert (again.released, again.replayed) == ({"minutes": 5}, True)
    assert again.now.usage["minutes"].used == 5
    assert stage.figures() == (5, 0)


def test_a_partial_refund_is_the_one_refund_of_its_key(stage):
    stage.charge(key="k")

    assert stage.refund("k", {"minutes": 2}).released == {"minutes": 2}
    assert stage.refund("k", {"minutes": 2}).replayed is True
    assert stage.refund("k").released == {"minutes": 2}
    with pytest.raises(RefundExceedsUse):
        stage.refund("k", {"minutes": 3})
    assert stage.figures() == (3, 0)


@pytest.mark.parametrize("amounts", [{"minutes": 6}, {"minutes": 10**12}, {"scenarios": 1}, {"gold": 1}])
def test_no_more_than_was_taken_is_given_back(stage, amounts):
    stage.charge(key="k")

    with pytest.raises(RefundExceedsUse):
        stage.refund("k", amounts)
    assert stage.figures() == (5, 0)


def test_what_is_only_reserved_is_released_and_not_refunded(stage):
    reservation = stage.reserve(key="k")

    with pytest.raises(RefundExceedsUse):
        stage.refund("k")
    stage.release(reservation)
    with pytest.raises(RefundExceedsUse):
        stage.refund("k")
    assert stage.figures() == (0, 0)


def test_what_was_committed_can_be_refunded_by_the_key_of_its_reservation(stage):
    reservation = stage.reserve(key="k")
    stage.commit(reservation, {"minutes": 4})

    with pytest.raises(RefundExceedsUse):
        stage.refund("k", {"minutes": 5})
    assert stage.refund("k").released == {"minutes": 4}
    assert stage.figures() == (0, 0)


def test_a_key_that_took_nothing_gives_nothing_back(stage):
    stage.charge(key="k", limits={"minutes": 1})

    with pytest.raises(UnknownIdempotencyKey):
        stage.refund("k")


def test_a_thing_that_exists_is_not_made_again_whatever_the_key(stage):
    first = stage.a_charge(amounts={"scenarios": 1}, resource="s-1", key="k")
    stage.ledger.charge(first, deadline=FAR_AWAY)

    again = stage.charge(amounts={"scenarios": 1}, resource="s-1", key="another", limits={"scenarios": 1})
    other = stage.charge(amounts={"scenarios": 1}, resource="s-2")

    assert isinstance(again, AlreadyExists)
    assert (again.decision_id, again.revision) == (first.decision_id, "r1")
    assert again.now.usage["scenarios"].used == 1
    assert isinstance(stage.find_replay(amounts={"scenarios": 1}, resource="s-1"), AlreadyExists)
    assert isinstance(other, Charged)
    assert stage.figures("scenarios") == (2, 0)


def test_a_level_is_given_back_by_name_once_and_can_be_made_again(stage):
    stage.charge(amounts={"scenarios": 3}, resource="s")

    first, again = stage.give_back("scenarios", "s"), stage.give_back("scenarios", "s")

    assert (first.released, first.replayed) == ({"scenarios": 3}, False)
    assert (again.released, again.replayed) == ({"scenarios": 0}, True)
    assert stage.figures("scenarios") == (0, 0)
    assert isinstance(stage.charge(amounts={"scenarios": 3}, resource="s"), Charged)


def test_given_back_by_name_and_by_key_is_given_back_once(stage):
    for name, back in (("a", ["name", "key"]), ("b", ["key", "name"])):
        stage.charge(amounts={"scenarios": 1}, resource=name, key=name)
        ways = {
            "name": lambda name=name: stage.give_back("scenarios", name),
            "key": lambda name=name: stage.refund(name),
        }

        assert [ways[way]().replayed for way in back] == [False, True]
    assert stage.figures("scenarios") == (0, 0)


def test_a_key_gives_back_only_what_it_made_itself(stage):
    stage.charge(amounts={"scenarios": 1}, resource="s", key="first")
    stage.give_back("scenarios", "s")
    stage.charge(amounts={"scenarios": 1}, resource="s", key="second")

    assert stage.refund("first").replayed is True
    assert stage.figures("scenarios") == (1, 0)
    assert stage.refund("second").replayed is False
    assert stage.figures("scenarios") == (0, 0)


def test_a_level_without_a_name_is_given_back_by_its_key(stage):
    stage.charge(amounts={"scenarios": 2}, key="k")

    assert stage.refund("k", {"scenarios": 1}).now.usage["scenarios"].used == 1
    assert stage.figures("scenarios") == (1, 0)


def test_a_part_of_a_thing_can_be_refunded_and_the_rest_given_back_by_name(stage):
    stage.charge(amounts={"scenarios": 5}, resource="s", key="k")
    stage.refund("k", {"scenarios": 2})

    assert stage.give_back("scenarios", "s").released == {"scenarios": 3}
    assert stage.figures("scenarios") == (0, 0)


def test_two_reservations_of_one_thing_make_it_once(stage):
    first, second = (
        stage.reserve(amounts={"scenarios": 1}, resource="s", key=key) for key in ("first", "second")
    )
    stage.commit(first)

    assert stage.commit(second).committed == {"scenarios": 1}
    assert stage.figures("scenarios") == (1, 0)
    assert stage.refund("second").released == {"scenarios": 0}
    assert stage.figures("scenarios") == (1, 0)


def test_of_several_levels_only_the_one_that_is_missing_is_taken(stage):
    """As far as one level can show: a counter beside a level that exists is not taken again."""
    both = {"minutes": 5, "scenarios": 1}
    stage.charge(amounts={"scenarios": 1}, resource="s")

    assert isinstance(stage.charge(amounts=both, resource="s"), AlreadyExists)
    assert stage.figures("minutes") == (0, 0)


def test_with_a_counter_a_resource_is_only_noted(stage):
    stage.charge(resource="r")

    assert isinstance(stage.charge(resource="r"), Charged)
    assert stage.figures() == (10, 0)


def test_what_a_workspace_has_beyond_its_plan_counts(stage):
    facts = stage.facts()
    if isinstance(stage, InMemory):
        stage.store.members["mia", stage.slug] = replace(facts, limit_overrides={"minutes": 3})
    else:
        run(stage.url, f"SELECT authz.set_overrides('{stage.slug}', '{{}}', '{{\"minutes\": 3}}')")

    refused = stage.charge()

    assert isinstance(refused, NoCapacity)
    assert refused.facts.limit_overrides == {"minutes": 3}
    assert stage.charge(amounts={"minutes": 3}).quota["minutes"].limit == 3
    assert stage.commit(stage.reserve(amounts={"scenarios": 1})).now.limit_overrides == {"minutes": 3}


def test_an_unknown_workspace_has_nothing_to_give_back(stage):
    stage.charge(key="k")

    for back in (
        lambda: stage.refund("k", workspace="nowhere"),
        lambda: stage.refund("k", workspace=str(uuid4())),
        lambda: stage.give_back("scenarios", "s", workspace="nowhere"),
    ):
        with pytest.raises(UnknownWorkspace):
            back()


def test_a_workspace_is_named_by_its_id_too(stage):
    stage.charge(key="k")

    assert stage.refund("k", workspace=str(stage.id)).replayed is False


HOSTILE = [
    "'",
    '"',
    "\\",
    "{}",
    "NULL",
    "$1",
    "%s",
    "'; DROP TABLE authz.usage_ledger; --",
    "😀" * 255,
    " ",
    "\n",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_a_name_like_any_other(stage, text):
    stage.charge(key=text, resource=text, amounts={"scenarios": 1}, message=text)

    assert stage.charge(key=text, resource=text, amounts={"scenarios": 1}).message == text
    assert stage.give_back("scenarios", text).released == {"scenarios": 1}
    assert stage.refund(text).replayed is True
    with pytest.raises(UnknownReservation):
        stage.commit(text)
    with pytest.raises(UnknownWorkspace):
        stage.refund(text, workspace=text)


def test_the_figures_of_another_workspace_stay_as_they_are(stage):
    before = Usage(used=0, reserved=0, resets_at=stage.facts().usage["minutes"].resets_at)
    if isinstance(stage, InMemory):
        other = replace(some_facts(), workspace_id=uuid4(), slug="other", usage={"minutes": before})
        stage.store.members["mia", "other"] = other
        elsewhere, other_id = "other", other.workspace_id
    else:
        second = InPostgres(stage.url, stage.store)
        elsewhere, other_id = second.slug, second.id
    stage.charge(key="k")

    with pytest.raises(UnknownIdempotencyKey):
        stage.refund("k", workspace=elsewhere)
    [facts] = stage.store.facts([("mia", elsewhere)], deadline=FAR_AWAY)
    assert facts.usage["minutes"].used == 0
    assert stage.ledger.find_replay(stage.a_charge(workspace_id=other_id, key="k"), deadline=FAR_AWAY) is None


@pytest.mark.parametrize("end", ["\0b", "\0", "\ud800"], ids=ascii)
def test_what_no_database_can_hold_is_refused_and_never_cut_off(database_url, store, end):
    stage = InPostgres(database_url, store)
    named = stage.reserve()
    text = named + end

    for asked in (
        lambda: stage.commit(text),
        lambda: stage.release(text),
        lambda: stage.refund(text),
        lambda: stage.charge(key=text),
        lambda: stage.give_back("scenarios", text),
    ):
        with pytest.raises(BadQuestion):
            asked()
    assert stage.figures() == (0, 5)
    stage.release(named)


def test_whatever_is_not_taken_leaves_no_counter_behind(database_url, store):
    stage = InPostgres(database_url, store)
    stage.charge(amounts={"scenarios": 1}, key="k")
    stale = stage.a_charge()
    stage.change()

    assert isinstance(stage.charge(amounts={"minutes": 101}), NoCapacity)
    assert stage.ledger.charge(stale, deadline=FAR_AWAY) is Conflict.STALE
    with pytest.raises(IdempotencyKeyReused):
        stage.charge(key="k", fingerprint="g")
    assert rows(
        database_url, "SELECT meter FROM authz.workspace_usage WHERE workspace_id = %s", stage.id
    ) == [("scenarios",)]


def test_a_meter_that_the_database_counts_itself_cannot_be_taken(database_url, store):
    stage = InPostgres(database_url, store)

    with pytest.raises(FactsUnavailable, match="counted by the database"):
        stage.charge(amounts={"members": 1})


def test_a_meter_that_no_catalog_has_ever_had_is_an_outage(database_url, store):
    stage = InPostgres(database_url, store)

    with pytest.raises(FactsUnavailable):
        stage.charge(amounts={"gold": 1})
    assert rows(database_url, "SELECT 1 FROM authz.workspace_usage WHERE meter = 'gold'") == []


def test_a_counter_that_would_overflow_is_an_outage_and_stays_as_it_is(database_url, store):
    stage = InPostgres(database_url, store)
    stage.charge(limits={"minutes": None})
    run(
        database_url, f"UPDATE authz.workspace_usage SET used = {2**63 - 5} WHERE workspace_id = '{stage.id}'"
    )

    with pytest.raises(FactsUnavailable, match="out of range"):
        stage.charge(limits={"minutes": None})
    assert stage.figures() == (2**63 - 5, 0)
