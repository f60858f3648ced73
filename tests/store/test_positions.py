"""What proves how old a replica's facts are, without servers: the clock is a number here."""

from __future__ import annotations

from math import inf

import pytest
from msgspec import Raw

from sidecar.errors import FactsMisread
from sidecar.store.positions import (
    KEPT_S,
    UNASKED,
    Positions,
    Replayed,
    Unproven,
    Written,
    replayed_in,
    written_in,
)

BOUND_S = 0.1


def some_positions(*asked):
    """Of (when it was asked for, position)."""
    positions = Positions(most_lag_s=BOUND_S)
    for at, position in asked:
        note(positions, at, position)
    return positions


def note(positions, at, position, *, epoch="1@7", system="s"):
    written = Written(position=position, system=system, epoch=epoch, clock=1_000 + at)
    positions.note(written, asked_at=at, now=at)


def replayed(position, *, now=0.0, epoch="1@7", system="s", apart_s=0.0):
    return Replayed(
        position=position, system=system, epoch=epoch, clock=1_000 + now + apart_s, facts=Raw(b"[]")
    )


@pytest.mark.parametrize(
    ("position", "age_s"), [(300, 0.02), (299, 0.07), (200, 0.07), (100, 0.12), (99, inf), (10_000, 0.02)]
)
def test_facts_lack_nothing_from_before_the_newest_position_that_they_have_passed(position, age_s):
    positions = some_positions((0.0, 100), (0.05, 200), (0.10, 300))

    assert positions.age_of(replayed(position, now=0.12), now=0.12) == pytest.approx(age_s)


def test_on_an_idle_primary_a_replica_gets_no_older():
    positions = some_positions((0.0, 100), (0.05, 100), (5.0, 100), (5.05, 200))

    assert positions.age_of(replayed(100, now=5.06), now=5.06) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (replayed(None), "writes"),
        (replayed(200, system="other"), "stranger"),
        (replayed(200, epoch="1@8"), "epoch"),
        (replayed(200, epoch=None), "epoch"),
        (replayed(200, apart_s=1.5), "clock"),
        (replayed(200, apart_s=-1.5), "clock"),
        (replayed(99), "behind"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_each_reason_not_to_use_facts_has_a_word(found, code):
    positions = some_positions((0.0, 100))
    with pytest.raises(Unproven) as raised:
        positions.require_fresh(found, now=0.0)

    assert raised.value.code == code


def test_facts_that_are_older_than_the_bound_do_not_count():
    positions = some_positions((0.0, 100), (0.05, 200), (0.15, 300))
    asked = replayed(200, now=0.149)

    assert positions.require_fresh(asked, now=0.149) == pytest.approx(0.099)
    with pytest.raises(Unproven, match=r"\(by 101 ms\)"):
        positions.require_fresh(asked, now=0.151)


def test_nothing_is_proven_while_the_primary_says_nothing_and_that_is_not_the_replicas_fault():
    positions = Positions(most_lag_s=BOUND_S)
    for now, known in ((0.0, False), (1.0, True)):
        if known:
            note(positions, 1.0 - BOUND_S - 0.01, 100)
        assert not positions.are_fresh(now)
        with pytest.raises(Unproven) as raised:
            positions.require_fresh(replayed(500, now=now), now=now)
        assert raised.value.code == UNASKED


def test_another_primary_begins_anew():
    positions = some_positions((0.0, 900))
    note(positions, 0.05, 100, epoch="2@9")

    with pytest.raises(Unproven, match="another primary"):
        positions.require_fresh(replayed(900, now=0.05), now=0.05)
    assert positions.age_of(replayed(100, now=0.05, epoch="2@9"), now=0.05) == 0.0
    assert positions.age_of(replayed(99, now=0.05, epoch="2@9"), now=0.05) == inf


def test_a_primary_that_has_not_begun_its_epoch_proves_nothing():
    positions = Positions(most_lag_s=BOUND_S)
    note(positions, 0.0, 100, epoch=None)

    with pytest.raises(Unproven, match="not begun an epoch"):
        positions.require_fresh(replayed(100, epoch=None), now=0.0)


def test_what_is_kept_is_bounded():
    positions = some_positions(*((at / 20, at) for at in range(int(20 * 10 * KEPT_S))))

    assert len(positions._positions) == len(positions._asked_at) <= 20 * 2 * KEPT_S + 1  # noqa: SLF001 - its memory


@pytest.mark.parametrize("answer", [None, b"", b"{}", b"[1]", b'["1", "s", null, 1.0]', b"\xff"])
def test_what_is_no_position_is_misread(answer):
    for read in (written_in, replayed_in):
        with pytest.raises(FactsMisread):
            read(answer)
