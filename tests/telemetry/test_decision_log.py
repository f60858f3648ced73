from __future__ import annotations

import json
import os
from contextlib import suppress
from time import monotonic

import pytest

from sidecar.telemetry.decision_log import DecisionLog
from sidecar.text.encoding import encoded


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):
            os.close(end)


def test_a_line_is_written_for_each_question_in_order(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()

    for number in range(100):
        log.note(encoded({"number": number, "text": "a\nb"}))
    log.stop()

    lines = os.read(reading, 1 << 16).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"number": number, "text": "a\nb"} for number in range(100)
    ]


def test_what_is_noted_before_the_end_is_not_lost(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()

    log.note(encoded({"last": True}))
    log.stop()

    assert json.loads(os.read(reading, 100)) == {"last": True}


def test_a_closed_output_costs_no_answer_and_is_counted(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    os.close(reading)
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()

    for number in range(10):
        log.note(encoded({"number": number}))
    log.stop()

    assert sum(dropped) == 10


def test_an_output_that_is_stuck_holds_nobody_up(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    began = monotonic()

    for number in range(30_000):
        log.note(encoded({"number": number, "text": "x" * 100}))

    took = monotonic() - began
    os.close(reading)  # lets the writer go
    log.stop()
    assert took < 2
    assert sum(dropped) > 0


def test_lines_are_written_whole_so_that_workers_do_not_mix(pipe, monkeypatch):
    _, writing = pipe
    written: list[bytes] = []
    log = DecisionLog(output=writing)
    monkeypatch.setattr(
        log, "_write", lambda block: written.append(bytes(block))
    )  # what would go out at once

    for number in range(200):
        log._waiting.append(encoded({"number": number, "text": "x" * 90}))  # noqa: SLF001 - without the thread
    log._write_waiting()  # noqa: SLF001 - ditto

    assert all(block.endswith(b"\n") and len(block) <= 4096 for block in written)
    assert len(written) > 1
