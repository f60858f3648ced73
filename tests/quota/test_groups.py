"""Consumes that go to PostgreSQL in groups: each is answered on its own, and no lock holds up another."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from statistics import quantiles
from time import monotonic, sleep

import pytest

from sidecar.errors import BadQuestion, FactsUnavailable, UsageContended
from sidecar.quota.model import Charge, Charged, Consume, Counter, NoCapacity, Replayed
from sidecar.store import queues, takes
from tests.quota.place import Place, at_once, until
from tests.quota.test_many import A_KEY, holding
from tests.store.proxy import Proxy

pytestmark = pytest.mark.postgres

LIMIT = 1000
OTHERS_WAIT_S = 0.25  # of a busy machine; who waits for a lock here waits for 30 s


@pytest.fixture
def begin(place):
    """Makes a workspace that has used one minute: later ones are plain."""

    def begun(**more):
        at = place.workspace("large", **more)
        assert place.ask("record", at).allowed
        return at

    return begun


def a_charge(place, at, **more):
    """A plain one of a minute, by the facts as they are."""
    [facts] = place.facts.facts([("mia", at.slug)], deadline=monotonic() + 20)
    values = {
        "workspace_id": at.id,
        "token": facts.token,
        "user": "mia",
        "action": "record",
        "amounts": {"minutes": 1},
        "limits": {"minutes": LIMIT},
        "resource": None,
        "key": None,
        "fingerprint": "f",
        "purpose": Consume(),
        "decision_id": "d",
        "revision": "r",
        "role": "member",
        "plan": "large",
        "message": "Yes.",
        "counter": Counter(limit=LIMIT, resets_at=facts.usage["minutes"].resets_at),
    }
    return Charge(**{**values, **more})


class Asked:
    """Charges that are asked in one round of the loop: what each was told, and after how many seconds."""

    def __init__(self, place, charges, *, within_s=30.0):
        within = [within_s] * len(charges) if isinstance(within_s, float) else within_s
        self.answers = [None] * len(charges)
        self.after_s = [0.0] * len(charges)
        self._told = threading.Semaphore(0)
        self._began = monotonic()

        def done(number, outcome, error):
            assert self.answers[number] is None
            self.answers[number] = error or outcome
            self.after_s[number] = monotonic() - self._began
            self._told.release()

        def ask():
            for number, charge in enumerate(charges):
                place.ledger.ask(charge, deadline=self._began + within[number], done=partial(done, number))

        place.for_ledger.loop.run(ask)

    def wait(self):
        for _ in self.answers:
            assert self._told.acquire(timeout=60)
        return self.answers


def ask_together(place, charges, **more):
    return Asked(place, charges, **more).wait()


def moments(place, *workspaces):
    ids = [each.id for each in workspaces]
    return place.sql("SELECT DISTINCT at FROM authz.usage_ledger WHERE workspace_id = ANY (%s)", ids)


def test_what_arrives_together_is_one_transaction(place, begin):
    many = [begin() for _ in range(8)]
    charges = [a_charge(place, at, key=f"k{n}") for n in range(8) for at in many]
    before = len(moments(place, *many))

    answers = ask_together(place, charges)

    assert [type(each) for each in answers] == [Charged] * 64
    assert [each.quota["minutes"].used for each in answers[::8]] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert len(moments(place, *many)) == before + 1


def test_what_arrives_while_a_group_is_on_its_way_gathers(place, begin):
    at = begin()
    charge = a_charge(place, at)

    answers = at_once(
        64, lambda _: [place.ledger.charge(charge, deadline=monotonic() + 30) for _ in range(4)]
    )

    assert {type(each) for some in answers for each in some} == {Charged}
    assert place.used(at, "minutes") == 257
    assert len(moments(place, at)) < 200


def test_each_of_a_group_is_answered_on_its_own(place, begin):
    here, there, elsewhere = begin(), begin(), begin()
    fresh = place.workspace("large")
    place.ask("record", elsewhere, idempotency_key="known")
    stale = a_charge(place, there)
    place.set_plan(there, "small")
    nearly = {"limits": {"minutes": 3}, "counter": replace(a_charge(place, here).counter, limit=3)}

    answers = ask_together(
        place,
        [
            a_charge(place, here, amounts={"minutes": 2}, **nearly),
            a_charge(place, here, **nearly),
            stale,
            a_charge(place, fresh),
            a_charge(place, elsewhere, key="k"),
            a_charge(place, elsewhere, key="k", decision_id="other"),
            replace(a_charge(place, elsewhere), counter=None),
        ],
    )

    kinds = [getattr(each, "name", None) or type(each).__name__ for each in answers]
    assert kinds == ["Charged", "NoCapacity", "STALE", "Charged", "Charged", "Replayed", "Charged"]
    assert answers[5].decision_id == "d"
    assert (place.used(here, "minutes"), place.used(there, "minutes")) == (3, 1)
    assert (place.used(fresh, "minutes"), place.used(elsewhere, "minutes")) == (1, 4)


def test_what_one_cannot_be_given_is_given_to_the_others(place, begin):
    """PostgreSQL refuses all of a statement in which one figure overflows."""
    full, free = place.workspace("endless"), begin()
    place.ask("record", full)
    last = 2**63 - 3
    place.sql("UPDATE authz.workspace_usage SET used = %s WHERE workspace_id = %s", last, full.id)
    endless = {"limits": {"minutes": None}, "counter": replace(a_charge(place, full).counter, limit=None)}

    answers = ask_together(
        place,
        [
            a_charge(place, free),
            a_charge(place, full, amounts={"minutes": 5}, **endless),
            a_charge(place, free, key="k"),
        ],
    )

    assert [type(each) for each in answers] == [Charged, FactsUnavailable, Charged]
    assert "out of range" in str(answers[1])
    assert place.used(free, "minutes") == 3
    place.sql("DELETE FROM authz.workspaces WHERE id = %s", full.id)


@pytest.mark.parametrize("field", ["key", "user", "resource", "decision_id"])
@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=ascii)
def test_text_that_cannot_be_stored_is_refused_before_it_is_in_a_group(place, begin, field, text):
    with pytest.raises(BadQuestion):
        place.ledger.charge(a_charge(place, begin(), **{field: text}), deadline=monotonic() + 20)


LOCKS = {
    "counter": ("SELECT FROM authz.workspace_usage WHERE workspace_id = %s FOR UPDATE", "minutes"),
    "workspace": ("SELECT FROM authz.workspaces WHERE id = %s FOR UPDATE", "minutes"),
    "key": (A_KEY, "minutes"),
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
@pytest.mark.parametrize("mode", ["consume", "reserve"])
def test_a_locked_workspace_holds_up_nobody_else(place, begin, lock, mode):
    """Sixteen who want it wait, whatever they want of it, and eight others do not notice."""
    locked, free = begin(), [begin() for _ in range(4)]
    over = threading.Event()
    taken, waited = [], []

    def act(number):
        if number < 16:
            keys = iter(("k", f"k-{number}"))  # the first is the key that is locked
            while not over.is_set():
                key = next(keys, None)
                taken.append(
                    place.ask("record", locked, mode if number % 2 else "consume", idempotency_key=key)
                )
            return
        for turn in range(60):
            began = monotonic()
            way = mode if turn % 4 == 0 else "consume"
            at = free[(number + turn) % len(free)]
            assert place.ask("record", at, way, idempotency_key=f"{number}-{turn}").allowed
            waited.append(monotonic() - began)

    with holding(place, lock[0], locked.id):
        asking = threading.Thread(target=lambda: at_once(24, act))
        asking.start()
        until(lambda: len(waited) == 8 * 60)
        before = len(taken)
        over.set()
    asking.join()

    assert quantiles(waited, n=100)[98] < OTHERS_WAIT_S
    if lock is not LOCKS["key"]:
        assert before == 0
    assert [each.allowed for each in taken] == [True] * len(taken)


def test_several_locked_workspaces_hold_up_nobody_else(place, begin):
    """More than there are connections."""
    locked, free = [begin() for _ in range(6)], begin()
    ids = [at.id for at in locked]
    lock = "SELECT FROM authz.workspace_usage WHERE workspace_id = ANY (%s) FOR UPDATE"

    with holding(place, lock, ids):
        waiting = Asked(place, [a_charge(place, at) for at in locked for _ in range(3)])
        sleep(0.2)
        waited = [Asked(place, [a_charge(place, free)]) for _ in range(100)]
        assert {type(each.wait()[0]) for each in waited} == {Charged}
        assert waiting.answers == [None] * 18
    assert {type(each) for each in waiting.wait()} == {Charged}
    assert quantiles([each.after_s[0] for each in waited], n=100)[98] < OTHERS_WAIT_S
    assert [place.used(at, "minutes") for at in locked] == [4] * 6


def test_who_waits_too_long_behind_others_gives_up_as_they_do_and_nothing_was_taken(place, begin, rules):
    at = begin()
    hasty = Place(place.url, rules, connections=2, lock_timeout_s=0.2)
    charge = a_charge(place, at)

    with holding(place, LOCKS["counter"][0], at.id):
        asked = Asked(hasty, [charge, *[replace(charge, counter=None, key=f"k{n}") for n in range(100)]])
        answers = asked.wait()
    hasty.close()

    assert {type(each) for each in answers} == {UsageContended}
    assert max(asked.after_s) < 2  # one after the other it would be five
    assert place.used(at, "minutes") == 1


def test_what_is_too_much_is_refused_at_once(place, begin, monkeypatch):
    locked, free = begin(), begin()
    monkeypatch.setattr(takes, "MOST_IN_LINE", 5)
    monkeypatch.setattr(queues, "MOST_IN_QUEUES", 5)
    charge, other = a_charge(place, locked), a_charge(place, free)

    assert [type(each) for each in ask_together(place, [other] * 7)] == [Charged] * 5 + [UsageContended] * 2
    with holding(place, LOCKS["counter"][0], locked.id):
        first = Asked(place, [charge] * 2)  # as a group, which does not wait itself
        until(place.somebody_waits_for_a_lock)
        others = Asked(place, [charge] * 20)
        until(lambda: sum(each is not None for each in others.answers) >= 14)
        assert ask_together(place, [other])[0].quota["minutes"].used == 7
    told = [*first.wait(), *others.wait()]

    assert {type(each) for each in told} == {Charged, UsageContended}
    assert place.used(locked, "minutes") == 1 + sum(isinstance(each, Charged) for each in told) <= 9


@pytest.fixture
def proxy(place):
    with Proxy(place.url) as proxy:
        yield proxy


@pytest.fixture
def far(proxy, rules):
    """The same place, behind a network that can fail."""
    far = Place(proxy.url, rules, connections=3)
    yield far
    far.close()


def test_each_of_a_group_keeps_its_deadline(place, begin, proxy, far):
    at = begin()
    charge = a_charge(place, at)
    assert isinstance(ask_together(far, [charge])[0], Charged)
    proxy.silent = True

    asked = Asked(far, [charge, charge, charge], within_s=[0.2, 0.6, 1.0])

    assert [type(each) for each in asked.wait()] == [FactsUnavailable] * 3
    for after_s, within_s in zip(asked.after_s, (0.2, 0.6, 1.0), strict=True):
        assert within_s <= after_s < within_s + 0.3


def test_a_group_that_is_silent_does_not_keep_those_after_it_waiting(place, begin, proxy, far):
    here, there = begin(), begin()
    ask_together(far, [a_charge(place, here)])
    proxy.lag_s = 1.0
    slow = Asked(far, [a_charge(place, here)] * 2)
    sleep(0.01)
    proxy.lag_s = 0.0

    assert isinstance(ask_together(far, [a_charge(place, there)])[0], Charged)
    assert slow.answers == [None, None]
    assert [type(each) for each in slow.wait()] == [Charged, Charged]


def test_of_a_group_whose_answer_got_lost_what_has_a_key_is_asked_again(place, begin, proxy, far):
    many = [begin() for _ in range(3)]
    ask_together(far, [a_charge(place, many[0])] * 2)  # so that connections and statements are there
    charges = [
        a_charge(place, at, key=key, decision_id=f"{key}") for at in many for key in ("a", None, "b", None)
    ]
    proxy.lag_s = 0.5

    asked = Asked(far, charges)
    until(lambda: place.used(many[2], "minutes") == 5)
    proxy.cut()
    proxy.lag_s = 0.0
    answers = asked.wait()

    assert [type(each) for each in answers] == [Replayed, FactsUnavailable] * 6
    assert [each.decision_id for each in answers[::2]] == ["a", "b"] * 3
    assert [place.used(at, "minutes") for at in many] == [7, 5, 5]


def test_a_denial_of_many_at_once_is_each_ones_own(place, begin):
    """At the limit all of a group go on alone, and hear of the facts as they are."""
    at = begin()
    charge = a_charge(place, at)
    limited = replace(charge, limits={"minutes": 11}, counter=replace(charge.counter, limit=11))

    answers = ask_together(place, [limited] * 64)

    assert [type(each) for each in answers] == [Charged] * 10 + [NoCapacity] * 54
    assert {each.facts.usage["minutes"].used for each in answers[10:]} == {11}


def test_groups_of_many_workers_and_everything_else_at_once_agree(place, rules):
    """Each worker has connections and a loop of its own; what they were told is what there is."""
    many = [place.workspace("large") for _ in range(3)]
    workers = [Place(place.url, rules, connections=3) for _ in range(3)]

    def act(number):
        worker = workers[number % 3]
        used = dict.fromkeys(range(3), 0)
        for turn in range(30):
            which, amount = (number + turn) % 3, 1 + (number * turn) % 7
            at, key = many[which], f"{number}-{turn}" if turn % 2 else None
            way = (number + turn) % 5
            more = {"amounts": {"minutes": amount}, "idempotency_key": key}
            if way < 3:
                used[which] += amount * worker.ask("record", at, **more).allowed
            elif way == 3:
                answer = worker.ask("record", at, "reserve", **more)
                if answer.allowed:
                    used[which] += worker.commit(answer.reservation.id).committed["minutes"]
            else:
                answer = worker.ask("record", at, **{**more, "idempotency_key": f"refund-{number}-{turn}"})
                if answer.allowed:
                    worker.refund(at, f"refund-{number}-{turn}")
        return used

    told = at_once(24, act)

    assert [each for each in told if isinstance(each, Exception)] == []
    for which, at in enumerate(many):
        assert sum(each[which] for each in told) == place.used(at, "minutes") <= 1000
        assert place.usage(at, "minutes").reserved == 0
    for worker in workers:
        worker.close()


def test_nobody_waits_in_a_circle_when_groups_change_places(place, begin, rules):
    many = [begin() for _ in range(6)]
    workers = [Place(place.url, rules, connections=3) for _ in range(2)]
    charges = [a_charge(place, at) for at in many]

    def act(number):
        order = charges if number % 2 else charges[::-1]
        return [each for _ in range(25) for each in ask_together(workers[number % 2], order)]

    told = at_once(4, act)
    for worker in workers:
        worker.close()

    assert {type(each) for some in told for each in some} == {Charged}
    assert [place.used(at, "minutes") for at in many] == [101] * 6


def test_whoever_waits_when_it_is_closed_is_told(place, begin, rules):
    at = begin()
    charge = a_charge(place, at)
    closing = Place(place.url, rules, connections=2)

    with holding(place, LOCKS["counter"][0], at.id):
        asked = Asked(closing, [charge, replace(charge, key="k"), replace(charge, counter=None)])
        until(place.somebody_waits_for_a_lock)
        closing.close()
        assert [type(each) for each in asked.wait()] == [FactsUnavailable] * 3
        with pytest.raises(FactsUnavailable):
            closing.ledger.charge(charge, deadline=monotonic() + 1)
    assert max(asked.after_s) < 5


def test_a_database_without_groups_takes_one_by_one(place, begin):
    """One that is still to be migrated."""
    at = begin()
    place.sql("ALTER FUNCTION authz.consume_many RENAME TO consume_many_not")
    try:
        answers = ask_together(place, [a_charge(place, at)] * 3)
    finally:
        place.sql("ALTER FUNCTION authz.consume_many_not RENAME TO consume_many")

    assert [each.quota["minutes"].used for each in answers] == [2, 3, 4]


def test_of_one_workspace_only_one_waits_for_a_lock(place, begin):
    """So the other connections of queues are there for other workspaces."""
    at = begin()
    charge = a_charge(place, at)
    waiting = """SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()"""

    with holding(place, LOCKS["counter"][0], at.id):
        asked = Asked(place, [charge, charge, *[replace(charge, counter=None)] * 6])
        until(place.somebody_waits_for_a_lock)
        most = 0
        for _ in range(20):
            most = max(most, place.sql(waiting)[0][0])
            sleep(0.01)
    assert most == 1
    assert {type(each) for each in asked.wait()} == {Charged}
