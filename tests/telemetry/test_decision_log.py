from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from time import monotonic, sleep

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


def read(reading):
    """What is there, within 5 s."""
    ready, _, _ = select.select([reading], [], [], 5)
    assert ready
    return os.read(reading, 1 << 16)


class Reader:
    """Reads a pipe to its end on a thread; with *every_s*, slowly: up to 4 KiB at a time."""

    def __init__(self, reading, *, every_s=0.0):
        self._read: list[bytes] = []
        self._reading = reading
        self._every_s = every_s
        self._thread = Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self):
        while block := os.read(self._reading, 4096 if self._every_s else 1 << 20):
            self._read.append(block)
            sleep(self._every_s)

    def lines(self, writing):
        os.close(writing)
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        return b"".join(self._read).decode().splitlines()


def test_a_line_is_written_for_each_question_in_order(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()

    for number in range(100):
        log.note(encoded({"number": number, "text": "a\nb"}))
        log.note(b'{"rendered":%d}' % number)
    log.stop()

    lines = read(reading).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        line for number in range(100) for line in ({"number": number, "text": "a\nb"}, {"rendered": number})
    ]


def test_what_is_noted_before_the_end_is_not_lost(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()

    log.note(encoded({"last": True}))
    log.stop()

    assert json.loads(read(reading)) == {"last": True}


def test_a_line_is_written_within_a_tenth_of_a_second_however_long_nothing_was_noted(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()
    took = []

    for pause_s in (0, 0.3, 0, 0.1, 0.03):
        sleep(pause_s)
        began = monotonic()
        log.note(b"{}")
        assert read(reading) == b"{}\n"
        took.append(monotonic() - began)
    log.stop()

    assert sorted(took)[2] < 0.1


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


def test_an_output_that_closes_later_costs_no_answer_and_is_counted(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    log.note(b"first")
    assert read(reading) == b"first\n"
    os.close(reading)

    for _ in range(1_000):
        log.note(b"x" * 100)
    log.stop()

    assert sum(dropped) == 1_000


def test_a_descriptor_that_is_not_open_costs_no_answer_and_is_counted(pipe):
    _, writing = pipe
    dropped: list[int] = []
    os.close(writing)
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()

    log.note(b"{}")
    log.stop()

    assert sum(dropped) == 1


def test_an_output_that_is_stuck_holds_nobody_up(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    began = monotonic()

    for number in range(50_000):
        log.note(encoded({"number": number, "text": "x" * 100}))

    took = monotonic() - began
    began = monotonic()
    log.stop()
    stopped_within = monotonic() - began
    written = Reader(reading).lines(writing)
    assert took < 2
    assert stopped_within < 2.2
    assert sum(dropped) > 0
    assert len(written) + sum(dropped) == 50_000
    assert [json.loads(line)["number"] for line in written] == list(range(len(written)))


def test_what_waits_is_bounded_in_bytes_too(pipe):
    _, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)  # not started: nothing takes from it
    line = b"x" * 100_000

    for _ in range(200):
        log.note(line)

    assert 80 < 200 - sum(dropped) < 90  # times 100,000 is 8 MiB
    log.stop()
    assert sum(dropped) == 200


def test_the_bound_is_of_what_waits_and_not_of_what_was_written(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    reader = Reader(reading)

    for _ in range(12):
        log.note(b"x" * 1_000_000)
        sleep(0.05)
    log.stop()

    assert len(reader.lines(writing)) + sum(dropped) == 12
    assert sum(dropped) == 0


def test_with_a_slow_reader_every_line_is_written_whole_or_counted(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    reader = Reader(reading, every_s=0.01)  # 400 KB a second

    for number in range(20_000):
        log.note(b'{"number":%d,"text":"%s"}' % (number, b"x" * (number % 300)))
    began = monotonic()
    log.stop()

    assert monotonic() - began < 2.2
    numbers = [json.loads(line)["number"] for line in reader.lines(writing)]
    assert numbers == sorted(numbers)
    assert len(numbers) + sum(dropped) == 20_000
    assert len(numbers) > 64 * 1024 / 330  # more than the pipe alone holds


def test_after_a_reader_was_stuck_lines_go_on(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()
    for _ in range(3_000):
        log.note(b"x" * 100)
    sleep(0.2)  # the pipe is full, and the writer waits

    reader = Reader(reading)
    log.note(b"after")
    log.stop()

    lines = reader.lines(writing)
    assert len(lines) == 3_001
    assert lines[-1] == "after"


def test_after_its_end_a_line_is_counted(pipe):
    _, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    log.stop()
    log.stop()

    log.note(b"{}")

    assert sum(dropped) == 1


def test_eight_threads_note_at_once_and_no_line_is_lost(pipe):
    reading, writing = pipe
    dropped: list[int] = []
    log = DecisionLog(output=writing, on_drop=dropped.append)
    log.start()
    reader = Reader(reading)

    def note(who):
        for number in range(2_000):
            log.note(b"%d %d" % (who, number))

    threads = [Thread(target=note, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.stop()

    lines = [tuple(map(int, line.split())) for line in reader.lines(writing)]
    assert sum(dropped) == 0
    for who in range(8):
        assert [number for by, number in lines if by == who] == list(range(2_000))


WORKER = """
import sys, time
from sidecar.telemetry.decision_log import DecisionLog

who = sys.argv[1].encode()
log = DecisionLog(on_drop=lambda lines: sys.exit("dropped"))
log.start()
for number in range(3_000):
    log.note(who * (1 + number * 37 % 4_095))
    if number % 100 == 0:
        time.sleep(0.01)
log.stop()
"""


def test_lines_of_two_processes_on_one_pipe_do_not_mix(pipe):
    reading, writing = pipe
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, who], stdout=writing, stderr=subprocess.PIPE)
        for who in "ab"
    ]
    reader = Reader(reading)
    said = [worker.communicate(timeout=30)[1] for worker in workers]

    lines = reader.lines(writing)
    assert said == [b"", b""]
    assert all(set(line) in ({"a"}, {"b"}) for line in lines)
    for who in "ab":
        assert [len(line) for line in lines if line[0] == who] == [
            1 + number * 37 % 4_095 for number in range(3_000)
        ]


def test_the_flags_that_other_processes_share_stay_as_they_are(pipe):
    reading, writing = pipe
    log = DecisionLog(output=writing)
    log.start()
    log.note(b"{}")
    assert read(reading) == b"{}\n"

    flags = fcntl.fcntl(writing, fcntl.F_GETFL)

    log.stop()
    assert not flags & os.O_NONBLOCK
    os.fstat(writing)  # it is still open, too


def test_the_end_of_the_log_closes_what_it_has_opened(pipe):
    before = len(list(Path("/proc/self/fd").iterdir()))
    log = DecisionLog(output=pipe[1])
    log.start()
    log.stop()

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_while_nothing_is_noted_the_writer_sleeps(pipe):
    _, writing = pipe
    log = DecisionLog(output=writing)
    log.start()
    [writer] = [thread for thread in enumerate_threads() if thread.name == "decision-log"]
    sleep(0.1)

    before = switches_of(writer)
    sleep(0.5)
    after = switches_of(writer)

    log.stop()
    assert after == before


def switches_of(thread):
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return [line for line in status.splitlines() if "ctxt_switches" in line]
