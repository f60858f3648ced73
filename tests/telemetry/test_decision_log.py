from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from time import monotonic, sleep

import pytest

from sidecar.audit.chain import SEAL, first_head, head_in, next_head
from sidecar.errors import LogUnavailable
from sidecar.telemetry.decision_log import DecisionLog
from sidecar.telemetry.log_folder import LogFolder
from sidecar.telemetry.output import Output


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):
            os.close(end)


@pytest.fixture
def loop():
    """One that runs."""
    running = asyncio.new_event_loop()
    thread = Thread(target=running.run_forever, daemon=True)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join(timeout=5)
    running.close()


@pytest.fixture
def a_log(loop):
    """Makes a log on a descriptor, or in a folder; it has to be started."""

    class Log(DecisionLog):
        def start(self, on=loop):
            super().start(on)

    def made(to, **more):
        def sink_of(writer):
            return LogFolder(to, writer=writer) if isinstance(to, Path) else Output(to)

        return Log(sink_of, **more)

    return made


def line(**says):
    return json.dumps(says).encode()[:-1]


def noted(lines):
    """Those that are not of the log itself."""
    return [document for document in map(json.loads, lines) if "kind" not in document]


def of_kind(kind, lines):
    return [document for document in map(json.loads, lines) if document.get("kind") == kind]


def assert_whole(lines):
    """Each has the next number, and the seal that fits."""
    head = first_head(json.loads(lines[0])["writer"])
    for number, text in enumerate(lines, 1):
        content, _, seal = text.encode().rpartition(SEAL)
        head = next_head(head, content)
        assert head_in(seal.decode()[1:-2]) == head
        assert json.loads(text)["n"] == number


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


def test_a_line_is_written_for_each_question_in_order_between_begin_and_end(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing, begins_with={"revision": "dev"})
    log.start()

    for number in range(100):
        log.note(line(number=number, text="a\nb"))
    log.stop()

    lines = read(reading).decode().splitlines()
    assert [each["number"] for each in noted(lines)] == list(range(100))
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert (first["kind"], first["v"], first["revision"], first["n"]) == ("begin", 1, "dev", 1)
    assert (last["kind"], last["n"]) == ("end", 102)
    assert first["writer"].endswith(f"-{os.getpid()}")
    assert_whole(lines)


def test_a_line_is_written_within_a_tenth_of_a_second_however_long_nothing_was_noted(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing)
    log.start()
    assert b'"begin"' in read(reading)
    took = []

    for pause_s in (0, 0.3, 0, 0.1, 0.03):
        sleep(pause_s)
        began = monotonic()
        log.note(line(number=1))
        assert b'"number"' in read(reading)
        took.append(monotonic() - began)
    log.stop()

    assert sorted(took)[2] < 0.1


def test_a_closed_output_costs_no_answer_and_is_counted(pipe, a_log):
    _, writing = pipe
    dropped: list[int] = []
    os.close(pipe[0])
    log = a_log(writing, on_drop=dropped.append)
    log.start()

    for number in range(10):
        log.note(line(number=number))
    began = monotonic()
    log.stop()

    assert sum(dropped) == 10
    assert monotonic() - began < 1


def test_an_output_that_closes_later_costs_no_answer_and_is_counted(pipe, a_log):
    reading, writing = pipe
    dropped: list[int] = []
    log = a_log(writing, on_drop=dropped.append)
    log.start()
    log.note(line(first=True))
    while b'"first"' not in read(reading):
        pass
    os.close(reading)

    for _ in range(1_000):
        log.note(line(text="x" * 100))
    log.stop()

    assert sum(dropped) == 1_000


def test_a_descriptor_that_is_not_open_costs_no_answer_and_is_counted(pipe, a_log):
    _, writing = pipe
    dropped: list[int] = []
    os.close(writing)
    log = a_log(writing, on_drop=dropped.append)
    log.start()

    log.note(line(number=1))
    log.stop()

    assert sum(dropped) == 1


def test_a_stuck_reader_finds_afterwards_how_many_lines_were_dropped(pipe, a_log):
    reading, writing = pipe
    dropped: list[int] = []
    log = a_log(writing, on_drop=dropped.append)
    log.start()
    began = monotonic()

    for number in range(50_000):
        log.note(line(number=number, text="x" * 100))

    took = monotonic() - began
    began = monotonic()
    log.stop()
    stopped_within = monotonic() - began
    lines = Reader(reading).lines(writing)
    assert took < 5
    assert stopped_within < 2.3
    assert [each["number"] for each in noted(lines)] == list(range(len(noted(lines))))
    told = sum(each["count"] for each in of_kind("dropped", lines))
    assert len(noted(lines)) + told == 50_000
    assert sum(dropped) == told
    assert json.loads(lines[-1])["kind"] == "end"
    assert_whole(lines)


def test_of_too_many_lines_the_oldest_are_dropped_and_a_line_says_so(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing)
    for number in range(20_500):  # before it starts: nothing takes from it
        log.note(line(number=number))
    log.start()
    reader = Reader(reading)
    sleep(0.5)
    log.stop()

    lines = reader.lines(writing)
    assert [each["number"] for each in noted(lines)] == list(range(500, 20_500))
    [told] = of_kind("dropped", lines)
    assert told["count"] == 500
    assert told["since"] <= told["at"]
    assert_whole(lines)


def test_what_waits_is_bounded_in_bytes_too(pipe, a_log):
    _, writing = pipe
    dropped: list[int] = []
    log = a_log(writing, on_drop=dropped.append)  # not started: nothing takes from it

    for _ in range(400):
        log.note(line(text="x" * 100_000))

    assert 330 < 400 - sum(dropped) < 340  # times 100,000 is 32 MiB
    log.stop()
    assert sum(dropped) == 400


def test_the_bound_is_of_what_waits_and_not_of_what_was_written(tmp_path, a_log):
    dropped: list[int] = []
    log = a_log(tmp_path, on_drop=dropped.append)
    log.start()

    for _ in range(50):
        log.note(line(text="x" * 1_000_000))
        sleep(0.02)
    log.stop()

    [file] = tmp_path.glob("*/*.jsonl")
    assert len(noted(file.read_text().splitlines())) + sum(dropped) == 50
    assert sum(dropped) == 0


def test_with_a_slow_reader_every_line_is_written_whole_or_counted(pipe, a_log):
    reading, writing = pipe
    dropped: list[int] = []
    log = a_log(writing, on_drop=dropped.append)
    log.start()
    reader = Reader(reading, every_s=0.01)  # 400 KB a second

    for number in range(20_000):
        log.note(line(number=number, text="x" * (number % 300)))
    began = monotonic()
    log.stop()

    assert monotonic() - began < 2.3
    lines = reader.lines(writing)
    assert len(noted(lines)) + sum(dropped) == 20_000
    assert len(noted(lines)) > 64 * 1024 / 500  # more than the pipe alone holds
    assert_whole(lines)


def test_after_a_reader_was_stuck_lines_go_on(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing)
    log.start()
    for number in range(3_000):
        log.note(line(number=number, text="x" * 100))
    sleep(0.2)  # the pipe is full, and the writer waits

    reader = Reader(reading)
    log.note(line(number="after"))
    log.stop()

    lines = reader.lines(writing)
    assert [each["number"] for each in noted(lines)] == [*range(3_000), "after"]
    assert_whole(lines)


def test_after_its_end_a_line_is_counted(pipe, a_log):
    _, writing = pipe
    dropped: list[int] = []
    log = a_log(writing, on_drop=dropped.append)
    log.start()
    log.stop()
    log.stop()

    log.note(line(number=1))

    assert sum(dropped) == 1


def test_eight_threads_note_at_once_and_no_line_is_lost(pipe, a_log):
    reading, writing = pipe
    dropped: list[int] = []
    log = a_log(writing, on_drop=dropped.append)
    log.start()
    reader = Reader(reading)

    def note(who):
        for number in range(2_000):
            log.note(line(by=who, number=number))

    threads = [Thread(target=note, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.stop()

    lines = reader.lines(writing)
    assert sum(dropped) == 0
    for who in range(8):
        assert [each["number"] for each in noted(lines) if each["by"] == who] == list(range(2_000))
    assert_whole(lines)


WORKER = """
import asyncio, json, sys, threading, time
from sidecar.telemetry.decision_log import DecisionLog
from sidecar.telemetry.output import Output

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
log = DecisionLog(lambda _: Output(1), on_drop=lambda lines: sys.exit("dropped"))
log.start(loop)
for number in range(2_000):
    log.note(b'{"text":"%b"' % (sys.argv[1].encode() * (1 + number * 37 % 6_000)))
    if number % 100 == 0:
        time.sleep(0.01)
log.stop()
loop.call_soon_threadsafe(loop.stop)
"""


def test_lines_of_two_processes_on_one_pipe_do_not_mix_however_long_their_values_are(pipe):
    reading, writing = pipe
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, who], stdout=writing, stderr=subprocess.PIPE)
        for who in "ab"
    ]
    reader = Reader(reading)
    said = [worker.communicate(timeout=30)[1] for worker in workers]

    lines = reader.lines(writing)
    assert said == [b"", b""]
    assert max(map(len, lines)) < 4_096
    writers = {json.loads(each)["writer"] for each in lines}
    assert len(writers) == 2
    for writer in writers:
        own = [each for each in lines if json.loads(each)["writer"] == writer]
        assert_whole(own)
        sizes = [
            text["bytes"] - 2 if isinstance(text, dict) else len(text)
            for text in (each["text"] for each in noted(own))
        ]
        assert sizes == [1 + number * 37 % 6_000 for number in range(2_000)]


def test_the_flags_that_other_processes_share_stay_as_they_are(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing)
    log.start()
    assert b'"begin"' in read(reading)

    flags = fcntl.fcntl(writing, fcntl.F_GETFL)

    log.stop()
    assert not flags & os.O_NONBLOCK
    os.fstat(writing)  # it is still open, too


def test_the_end_of_the_log_closes_what_it_has_opened(pipe, tmp_path, a_log):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for to in (pipe[1], tmp_path):
        log = a_log(to)
        log.start()
        log.stop()

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_while_nothing_is_noted_the_writer_sleeps(pipe, a_log):
    _, writing = pipe
    log = a_log(writing)
    log.start()
    [writer] = [thread for thread in enumerate_threads() if thread.name == "decision-log"]
    sleep(0.2)

    before = switches_of(writer)
    sleep(0.5)
    after = switches_of(writer)

    log.stop()
    assert after == before


def switches_of(thread):
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return [line for line in status.splitlines() if "ctxt_switches" in line]


def test_lines_that_are_left_out_are_told_each_second(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing)
    log.start()
    for _ in range(1_000):
        log.skip()
    assert b'"begin"' in read(reading)

    [told] = of_kind("skipped", read(reading).decode().splitlines())
    log.skip()
    log.stop()

    [left] = of_kind("skipped", read(reading).decode().splitlines())
    assert (told["count"], left["count"]) == (1_000, 1)
    assert told["what"] == "check-grants"


def test_in_a_folder_each_writer_has_a_file_a_day_that_only_its_group_reads(tmp_path, a_log):
    log = a_log(tmp_path / "log")
    log.start()
    log.note(line(number=1, text="x" * 100_000))
    log.stop()

    [file] = (tmp_path / "log").glob("*/*")
    lines = file.read_text().splitlines()
    assert file.name == f"{log.writer}.jsonl"
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.parent.name == json.loads(lines[0])["at"][:10]
    assert len(noted(lines)[0]["text"]) == 100_000
    assert_whole(lines)


def test_a_new_day_begins_a_file_with_the_seal_of_the_one_before(tmp_path, a_log, monkeypatch):
    days = iter(["2026-11-27"] * 2 + ["2026-11-28"] * 9)
    day = [next(days)]
    monkeypatch.setattr("sidecar.telemetry.decision_log.today", lambda: day[0])
    log = a_log(tmp_path)
    log.start()
    log.note(line(number=1))
    while not list(tmp_path.glob("2026-11-27/*")) or (log.written or (0, b""))[0] < 2:
        sleep(0.01)
    day[0] = "2026-11-28"
    log.note(line(number=2))
    log.stop()

    before, after = (path.read_text().splitlines() for path in sorted(tmp_path.glob("*/*")))
    first = json.loads(after[0])
    assert (first["kind"], first["previous"]) == ("day", json.loads(before[-1])["h"])
    assert_whole([*before, *after])


def test_who_waits_is_told_when_the_line_is_on_the_disk(tmp_path, a_log):
    log = a_log(tmp_path, sync="wait")
    log.start()

    began = monotonic()
    log.note(line(number=1))
    log.await_written(began, deadline=monotonic() + 5)

    [file] = tmp_path.glob("*/*")
    assert [each["number"] for each in noted(file.read_text().splitlines())] == [1]
    log.stop()


def test_who_waits_is_told_at_once_when_the_line_cannot_be_written(a_log):
    with Path("/dev/full").open("wb") as full:
        log = a_log(full.fileno(), sync="wait")
        log.start()

        began = monotonic()
        log.note(line(number=1))
        with pytest.raises(LogUnavailable):
            log.await_written(began, deadline=monotonic() + 5)

        assert monotonic() - began < 1
        log.stop()


def test_who_waits_for_a_line_that_was_dropped_is_told_so(pipe, a_log):
    reading, writing = pipe
    log = a_log(writing, sync="wait")
    began = monotonic()
    for number in range(20_001):
        log.note(line(number=number))
    log.start()
    Reader(reading)

    with pytest.raises(LogUnavailable):
        log.await_written(began, deadline=monotonic() + 5)
    log.note(line(number="after"))
    log.await_written(monotonic(), deadline=monotonic() + 5)
    log.stop()
    os.close(writing)


def test_a_stuck_output_keeps_nobody_waiting_beyond_their_deadline(pipe, a_log):
    log = a_log(pipe[1], sync="wait")
    log.start()
    for number in range(2_000):
        log.note(line(number=number, text="x" * 100))

    began = monotonic()
    with pytest.raises(LogUnavailable):
        log.await_written(began, deadline=began + 0.3)

    assert monotonic() - began < 1
    log.stop()


class Full:
    """A sink that takes a few bytes at a time, and sometimes none."""

    longest: int | None = None

    def __init__(self):
        self.ends_at = float("inf")
        self.text = b""
        self.full = Event()

    def write(self, block, day):
        if self.full.is_set():
            return 0
        self.text += block[:700]
        return min(700, len(block))

    write_last = write

    def sync(self):
        pass

    def take_back(self, size):
        self.text = self.text[: len(self.text) - size]
        return True

    def close(self):
        pass


@pytest.fixture
def full():
    return Full()


def test_a_write_that_failed_goes_on_at_its_next_byte(loop, full):
    log = DecisionLog(lambda _: full)
    log.start(loop)
    for number in range(50):
        log.note(line(number=number))
    full.full.set()
    sleep(0.1)
    full.full.clear()
    sleep(0.3)
    log.stop()

    lines = full.text.decode().splitlines()
    assert [each["number"] for each in noted(lines)] == list(range(50))
    assert_whole(lines)


def test_what_could_not_be_written_at_the_end_is_dropped_as_if_it_had_not_been_sealed(loop, full):
    log = DecisionLog(lambda _: full)
    log.start(loop)
    log.note(line(number=0))
    while log.written is None or log.written[0] < 2:
        sleep(0.01)
    take = full.write
    left = [700]

    def write_some(block, day):  # the disk is full in the middle of a line, and then has room again
        written = take(block[: left[0]], day)
        left[0] -= written
        return written

    full.write = write_some
    for number in range(1, 50):
        log.note(line(number=number))
    sleep(0.1)
    log.stop()

    lines = full.text.decode().splitlines()
    [told] = of_kind("dropped", lines)
    assert 1 < len(noted(lines)) < 49
    assert len(noted(lines)) + told["count"] == 50
    assert_whole(lines)


def test_of_a_log_that_starts_stuck_the_begin_is_not_lost(pipe, a_log):
    reading, writing = pipe
    os.write(writing, b"\n" * 65_536)  # it is full
    log = a_log(writing)
    log.start()
    log.note(line(number=1))
    log.stop()

    lines = [each for each in Reader(reading).lines(writing) if each]
    assert [json.loads(each).get("kind") for each in lines] == ["begin", "dropped", "end"]
    assert_whole(lines)
