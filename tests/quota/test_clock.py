"""Time is not trusted forward either: no period begins by a clock that has jumped."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from sidecar.cli import main
from sidecar.errors import ClockSkew, UsageContended
from sidecar.store.clock import TOLERANCE_S, Clock
from sidecar.store.migrate import migrate
from tests.postgres_server import a_database
from tests.quota.moved_clock import let_the_clock_be_moved, move, stop_clock
from tests.quota.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.postgres

DAY_S = 86_400
JUMP_S = 40 * DAY_S
NOON = "'2026-06-15 12:00Z'"  # no period ends within hours


class Worker:
    """What a worker has of its own: a monotonic clock, here one that stands still, and a count."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.refused = 0
        self.clock = Clock(count=self._count, now=lambda: self.now, wall=None)

    def _count(self) -> None:
        self.refused += 1


@pytest.fixture(scope="module")
def clock_database(postgres_server, rules) -> Iterator[str]:
    for url in a_database(postgres_server, template="template0"):
        migrate(url, catalog=rules.catalog, revision=rules.revision)
        let_the_clock_be_moved(url)
        yield url


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def place(clock_database, rules, worker) -> Iterator[Place]:
    place = Place(clock_database, rules, connections=4, clock=worker.clock)
    stop_clock(place, at=NOON)
    compare(place)
    yield place
    move(place, 0)
    assert place.miscounts() == []
    place.close()


def compare(place):
    """As every worker does once a second."""
    place.facts.compare_clocks(deadline=monotonic() + 30)


def run(monkeypatch, place, *arguments):
    """The exit code of `sidecar`."""
    monkeypatch.setattr(sys, "argv", ["sidecar", *arguments, "--database-url", place.url])
    try:
        main()
    except SystemExit as left:
        return left.code or 0
    return 0


def forget(place, at):
    """Of a test that ends before the time in which it has used something."""
    place.sql("DELETE FROM authz.workspaces WHERE id = %s", at.id)


def granted(place, at, action="record", many=15, **more):
    """How many of *many* questions that take 1 are granted."""
    return sum(place.ask(action, at, **more).allowed for _ in range(many))


def test_a_clock_that_jumps_and_comes_back_during_one_consume_grants_no_more_than_the_limit(
    place, worker, monkeypatch
):
    acme = place.workspace("small")
    assert granted(place, acme, many=4) == 4
    charge = place.ledger.charge

    def while_it_jumps(*given, **more):
        move(place, JUMP_S)
        try:
            return charge(*given, **more)
        finally:
            move(place, 0)

    monkeypatch.setattr(place.ledger, "charge", while_it_jumps)
    with pytest.raises(UsageContended):
        place.ask("record", acme)
    monkeypatch.undo()

    assert granted(place, acme) == 6
    assert (place.used(acme, "minutes"), worker.refused) == (10, 1)


@pytest.mark.parametrize("mode", ["check", "consume", "reserve"])
@pytest.mark.parametrize("action", ["record", "bill", "ping", "host"])
def test_while_the_clock_is_ahead_no_period_rolls_whatever_is_asked(place, worker, mode, action):
    acme = place.workspace("small")
    granted(place, acme, action, many=3)
    move(place, JUMP_S)

    for _ in range(2):
        with pytest.raises(UsageContended):
            place.ask(action, acme, mode)
    move(place, 0)

    assert granted(place, acme, action) == 7
    assert worker.refused == 2


def test_what_begins_no_period_goes_on(place, worker):
    acme, new = place.workspace("small"), place.workspace("small")
    granted(place, acme, many=3)
    granted(place, acme, "unlock", many=3)
    move(place, JUMP_S)
    assert place.ask("look", acme).allowed
    assert granted(place, acme, "unlock") == 7
    assert place.ask("create", acme, resource="p").allowed
    move(place, 3600)
    compare(place)

    assert granted(place, acme) == 7
    assert granted(place, new) == 10  # the first use, in the month that both clocks are in
    assert worker.refused == 0


@pytest.mark.parametrize("ahead_s", [JUMP_S, -JUMP_S])
def test_the_first_use_of_a_meter_begins_no_period_of_another_time(place, ahead_s):
    acme = place.workspace("small", subscribed=NOON)
    move(place, ahead_s)
    compare(place)
    with pytest.raises(UsageContended):
        place.ask("record", acme)
    move(place, 0)

    assert granted(place, acme) == 10


def test_a_period_that_has_begun_by_both_clocks_does_not_roll_either_while_they_are_apart(place, worker):
    acme = place.workspace("small")
    granted(place, acme, "ping", many=3)
    move(place, DAY_S)
    worker.now += DAY_S + TOLERANCE_S + 1

    with pytest.raises(UsageContended):
        place.ask("ping", acme)
    worker.now -= 2

    assert place.ask("ping", acme).quota["daily"].used == 1
    forget(place, acme)


def test_it_is_said_once_until_the_clocks_agree_again(place, caplog):
    caplog.set_level(logging.INFO, logger="sidecar")
    acme = place.workspace("small")
    granted(place, acme, many=1)
    for _ in range(2):
        move(place, JUMP_S)
        for _ in range(2):
            compare(place)
            with pytest.raises(UsageContended):
                place.ask("record", acme)
        move(place, 0)
        assert place.ask("record", acme).allowed

    said = [record.getMessage() for record in caplog.records if record.name == "sidecar"]
    assert [line.split(",")[0].split(":")[0] for line in said] == [
        "the database's clock is not trusted",
        "the database's clock is trusted again",
    ] * 2
    assert f"it is {JUMP_S} seconds ahead of ours" in said[0]
    assert "sidecar clock accept" in said[0]


def test_an_operator_accepts_the_clock_and_the_worker_follows(place, worker, monkeypatch, capsys):
    acme = place.workspace("small")
    granted(place, acme, many=3)
    move(place, JUMP_S)
    compare(place)
    with pytest.raises(UsageContended):
        place.ask("record", acme)

    code = run(monkeypatch, place, "clock", "accept")
    compare(place)

    assert code == 0
    assert "2026-07-25T12:00:00+00:00 is accepted" in capsys.readouterr().out
    assert granted(place, acme) == 10
    worker.now += 60
    move(place, JUMP_S + 60)
    compare(place)
    assert worker.clock.is_apart is False
    forget(place, acme)


def test_a_reservation_does_not_end_by_a_clock_that_has_jumped(place):
    acme = place.workspace("small")
    granted(place, acme, many=1)
    held = place.ask("record", acme, "reserve", amounts={"minutes": 6}, ttl_s=60).reservation
    move(place, 3600)

    for mode in ("consume", "reserve"):
        with pytest.raises(UsageContended):
            place.ask("record", acme, mode, amounts={"minutes": 5})
    move(place, 0)

    assert place.commit(held.id).committed == {"minutes": 6}
    assert granted(place, acme) == 3


def test_clocks_may_drift_and_the_worker_follows_slowly(worker):
    def says(at, accepted=0):
        worker.clock.compare(b'{"at": %f, "accepted": %d}' % (at, accepted))
        return worker.clock.is_apart

    at = 1_800_000_000.0
    assert not says(at)
    for _ in range(60 * 24 * 40):  # a fast clock, for forty days
        worker.now += 60
        at += 60 * 1.0004
        assert not says(at)
    assert not says(at + TOLERANCE_S - 1)
    for _ in range(60 * 24):  # what has jumped too far is not forgiven with time
        worker.now += 60
        at += 60
        assert says(at + TOLERANCE_S + 60)
    assert not says(at)


def test_whoever_has_compared_nothing_yet_trusts_the_clock(place, clock_database, rules):
    new = Place(clock_database, rules, connections=2, clock=Clock(wall=None))
    try:
        assert granted(new, new.workspace("small"), many=2) == 2
    finally:
        new.close()


@pytest.mark.parametrize("off_s", [3700, -3700])
def test_while_the_clocks_are_an_hour_apart_nothing_is_taken_and_no_period_rolls(
    place, clock_database, rules, off_s, caplog
):
    """Of a worker that has just started: it has no advance to compare."""
    acme = place.workspace("small")
    granted(place, acme, many=3)
    [(at,)] = place.sql("SELECT extract(epoch FROM authz.test_time())::float8")
    wall = [at + off_s]
    new = Place(clock_database, rules, connections=2, clock=Clock(wall=lambda: wall[0]))
    try:
        for mode in ("consume", "reserve"):
            with pytest.raises(ClockSkew):
                new.ask("record", acme, mode)
        assert new.ask("record", acme, "check").allowed
        assert place.used(acme, "minutes") == 3
        wall[0] = at + off_s * 0.9
        assert granted(new, acme, many=2) == 2
    finally:
        new.close()

    said = [record.getMessage() for record in caplog.records if "clock_skew" in record.getMessage()]
    assert len(said) == 1


def test_a_clock_that_an_operator_accepts_is_not_skewed_either(place, clock_database, rules, monkeypatch):
    acme = place.workspace("small")
    [(at,)] = place.sql("SELECT extract(epoch FROM authz.test_time())::float8")
    new = Place(clock_database, rules, connections=2, clock=Clock(now=lambda: 1000.0, wall=lambda: at))
    try:
        compare(new)
        move(place, JUMP_S)
        compare(new)
        assert run(monkeypatch, place, "clock", "accept") == 0
        compare(new)
        assert granted(new, acme, many=2) == 2
    finally:
        new.close()
    forget(place, acme)


def test_a_take_carries_the_workers_time_so_that_no_jump_is_too_short(
    place, clock_database, rules, monkeypatch
):
    """The clock is right when the facts are read, and wrong when the period would begin."""
    acme = place.workspace("small")
    [(at,)] = place.sql("SELECT extract(epoch FROM authz.test_time())::float8")
    new = Place(clock_database, rules, connections=2, clock=Clock(wall=lambda: at))
    charge = new.ledger.charge

    def while_it_jumps(*given, **more):
        move(place, 2 * 3600)
        try:
            return charge(*given, **more)
        finally:
            move(place, 0)

    monkeypatch.setattr(new.ledger, "charge", while_it_jumps)
    try:
        with pytest.raises(ClockSkew):
            new.ask("record", acme)
    finally:
        new.close()

    assert place.used(acme, "minutes") == 0


def fourteen_of_ten(place, at, monkeypatch, *, key="k"):
    """As before there was a guard, or where an operator accepts a wrong clock: a jump in the middle."""
    assert granted(place, at, many=4) == 4
    move(place, JUMP_S)
    assert run(monkeypatch, place, "clock", "accept") == 0
    compare(place)
    assert place.ask("record", at).allowed
    move(place, 0)
    assert run(monkeypatch, place, "clock", "accept") == 0
    compare(place)
    assert place.ask("record", at, idempotency_key=key).allowed
    assert granted(place, at) == 8


def test_a_recount_finds_what_was_granted_in_a_period_that_had_not_begun(place, monkeypatch, capsys):
    acme = place.workspace("small")
    fourteen_of_ten(place, acme, monkeypatch)
    held = place.sql("SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = %s", acme.id)
    capsys.readouterr()

    assert run(monkeypatch, place, "recount") == 1
    said = capsys.readouterr().out
    assert run(monkeypatch, place, "recount", "--fix") == 1
    assert run(monkeypatch, place, "recount") == 0

    assert said == f'{acme.slug}: "minutes" counts 10, its ledger adds up to 14\n'
    assert place.usage(acme, "minutes").used == 14
    assert held == place.sql("SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = %s", acme.id)
    assert place.refund(acme, "k").now.usage["minutes"].used == 13
    assert not place.ask("record", acme).allowed


def test_a_recount_compares_periods_that_are_over_too(place, worker, monkeypatch, capsys):
    acme = place.workspace("small")
    fourteen_of_ten(place, acme, monkeypatch)
    move(place, JUMP_S)
    worker.now += JUMP_S
    compare(place)
    capsys.readouterr()

    assert run(monkeypatch, place, "recount") == 1
    said = capsys.readouterr().out.splitlines()
    assert run(monkeypatch, place, "recount", "--fix") == 1
    assert run(monkeypatch, place, "recount") == 0

    june = "in the period from 2026-06-01T00:00:00+00:00"
    assert said == [
        f'{acme.slug}: "minutes" counts 10, its ledger adds up to 1',
        f'{acme.slug}: "minutes" has 4 in its ledger {june}, and 13 were used then',
    ]
    assert granted(place, acme) == 9
    forget(place, acme)
