from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest

from sidecar.guard import Conflict, Unavailable
from sidecar.guard.testing import FakeSidecar
from tests.guard.values import WHERE


@pytest.fixture
def sidecar():
    sidecar = FakeSidecar()
    sidecar.allow("recording.start", limits={"minutes": 100})
    return sidecar


@contextmanager
def holding(sidecar, minutes=30):
    with sidecar.reserve("recording.start", minutes=minutes, **WHERE) as hold:
        yield hold


def left(sidecar):
    """What is used, and what is held."""
    return sidecar.used("minutes", workspace="acme"), sidecar.reserved("minutes", workspace="acme")


def test_what_was_used_is_taken_and_the_rest_given_back(sidecar):
    with holding(sidecar) as hold:
        assert left(sidecar) == (0, 30)
        hold.commit(minutes=12)

    assert left(sidecar) == (12, 0)


def test_a_commit_of_nothing_in_particular_takes_all(sidecar):
    with holding(sidecar) as hold:
        hold.commit()

    assert left(sidecar) == (30, 0)


def test_a_commit_may_be_a_mapping(sidecar):
    with holding(sidecar) as hold:
        hold.commit({"minutes": 7})

    assert left(sidecar) == (7, 0)


def test_a_commit_of_zero_is_a_release(sidecar):
    with holding(sidecar) as hold:
        hold.commit(minutes=0)

    assert left(sidecar) == (0, 0)


def test_leaving_without_a_commit_releases(sidecar):
    with holding(sidecar):
        pass

    assert left(sidecar) == (0, 0)


def test_an_exception_releases_and_goes_on(sidecar):
    with pytest.raises(ZeroDivisionError), holding(sidecar):
        _ = 1 / 0

    assert left(sidecar) == (0, 0)


def test_a_release_in_the_block_is_one_release(sidecar):
    with holding(sidecar) as hold:
        hold.release()
        hold.release()

    assert left(sidecar) == (0, 0)


def test_an_exception_after_the_commit_gives_nothing_back(sidecar):
    def work():
        with holding(sidecar) as hold:
            hold.commit(minutes=12)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()

    assert left(sidecar) == (12, 0)


def test_more_than_is_held_cannot_be_committed_and_the_hold_stays(sidecar):
    with holding(sidecar) as hold:
        with pytest.raises(Conflict, match="commit_exceeds_reservation"):
            hold.commit(minutes=31)
        hold.commit(minutes=30)

    assert left(sidecar) == (30, 0)


def test_a_commit_that_got_no_answer_is_not_undone(sidecar):
    """It may have gone through: giving back what was used would be worse than waiting for the end."""
    with pytest.raises(Unavailable), holding(sidecar) as hold, sidecar.outage():
        hold.commit(minutes=12)

    assert left(sidecar) == (0, 30)
    hold.commit(minutes=12)  # said again, later
    assert left(sidecar) == (12, 0)


def test_a_release_that_finds_no_sidecar_hides_nothing(sidecar, caplog):
    caplog.set_level(logging.WARNING, "sidecar.guard")
    hold = sidecar.reserve("recording.start", minutes=30, **WHERE)
    with pytest.raises(ZeroDivisionError), sidecar.outage(), hold:
        _ = 1 / 0

    assert "was left to its time to live" in caplog.text
    assert left(sidecar) == (0, 30)


def test_a_hold_that_has_ended_is_not_committed(sidecar):
    hold = sidecar.reserve("recording.start", ttl_s=0, **WHERE)

    with pytest.raises(Conflict, match="reservation_expired"):
        hold.commit()


def test_a_hold_can_be_settled_by_its_id_alone(sidecar):
    hold = sidecar.reserve("recording.start", minutes=30, **WHERE)

    sidecar.commit(hold.reservation.id, minutes=5)

    assert left(sidecar) == (5, 0)
    with pytest.raises(Conflict, match="reservation_settled"):
        sidecar.release(hold.reservation.id)
