"""The benchmark: a missed bar is never shown as met, and what it asks is well formed."""

from __future__ import annotations

import pytest

from benchmarks.bars import Bar, Mark
from benchmarks.load import Figures
from benchmarks.measure import Measured, Round
from benchmarks.questions import KEY, kinds
from benchmarks.rows import ROWS
from benchmarks.table import Results

WORKSPACES = 10
AT_LEAST = Bar(of="OPA", at_least=1.4, goal=1.6)
AT_MOST = Bar(figure="ready_s", at_most=4)


@pytest.mark.parametrize(
    ("bar", "value", "mark"),
    [
        (AT_LEAST, 1.39, Mark.MISSED),
        (AT_LEAST, 1.4, Mark.MET),
        (AT_LEAST, 1.6, Mark.GOAL),
        (AT_LEAST, None, Mark.UNKNOWN),
        (AT_MOST, 4.1, Mark.MISSED),
        (AT_MOST, 4.0, Mark.MET),
    ],
)
def test_a_bar_is_met_from_its_bound_on(bar, value, mark):
    assert bar.mark(value) is mark


def measured(*, per_second=100.0, p99_ms=10.0, not_2xx=0):
    figures = Figures(
        answers=int(per_second) + not_2xx, seconds=1, p50_ms=1, p99_ms=p99_ms, not_2xx=not_2xx, broken=0
    )
    return Measured([Round(figures=figures, cpu_us=1, database_cpu_us=1, load_cpu=0)])


def results_of(connections, **by_name):
    [row] = [row for row in ROWS if row.key == "authorize" and row.connections == connections]
    return Results(rows=[(row, by_name)])


def test_each_missed_bar_is_marked_in_its_line_and_listed():
    found = results_of(16, ours=measured(per_second=150, p99_ms=4), OPA=measured(), constant=measured())

    [_, _, ours, *_] = found.lines()

    assert "met (1.50x OPA); **MISSED** (p99 0.40x OPA); met (1.50x constant)" in ours
    assert found.missed() == [
        "- `/v1/authorize`, check, 16 connections, ours: p99 0.40x OPA, wanted p99 ≤ 0.35x OPA"
    ]


def test_answers_that_are_not_2xx_do_not_count_as_speed():
    found = results_of(64, ours=measured(per_second=100, not_2xx=900), OPA=measured(), constant=measured())

    assert any("ours: 1.00x OPA, wanted ≥ 2.20x OPA" in line for line in found.missed())


def test_a_bar_without_its_reference_is_listed_too():
    [row] = [row for row in ROWS if row.key == "grpc"]

    missed = Results(rows=[(row, {"ours": measured()})]).missed()

    assert [line.partition(": ")[2] for line in missed] == [
        "not compared with `before`, wanted ≥ 1.50x before",
        "not compared with `before`, wanted CPU ≤ 1.00x before",
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.key}-{row.what}-{row.connections}")
def test_each_bar_compares_with_a_contender_of_its_row(row):
    names = {contender.name for contender in row.contenders}

    assert {bar.of for contender in row.contenders for bar in contender.bars} - {""} <= names
    assert not row.compared or row.compared in names


def test_each_request_is_whole_and_has_no_zero_byte():
    for kind, requests in kinds(WORKSPACES).items():
        request = next(iter(requests()))
        head, _, body = request.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])

        assert int(fields.get(b"Content-Length", 0)) == len(body), kind
        assert b"\0" not in request, kind
        assert (KEY.encode() in request) is kind.startswith("consume"), kind
