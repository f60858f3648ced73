"""Every way to tamper with a decision log is found, and told where it happened and what it means."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.audit.chain import Chain
from sidecar.audit.findings import Anchor
from sidecar.audit.verification import heads_in, heads_text
from tests.audit.logs import BEGAN, DAYS, line_of, sealed_days, verified, write
from tests.effort import tries

ONE, TWO = "host-a-1", "host-b-2"


@pytest.fixture
def logs(tmp_path):
    for writer in (ONE, TWO):
        write(tmp_path, writer, sealed_days(writer))
    return tmp_path


@pytest.fixture
def heads(logs):
    """As a third party keeps them."""
    return heads_in(heads_text(verified(logs)[0].heads()))


def file_of(logs, writer=ONE, day=DAYS[1]):
    return logs / day / f"{writer}.jsonl"


def edit(path, change):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines) or lines))


def told(logs, **settings):
    return [
        (found.writer, found.what, found.file and Path(found.file).parent.name, found.line)
        for found in verified(logs, **settings)[0].findings()
    ]


def resealed(writer, files, change):
    """All lines of *files*, changed, with new seals."""
    chain = Chain(writer)
    return {
        day: [chain.seal(change(line).rpartition(b',"writer":')[0]) for line in lines]
        for day, lines in files.items()
    }


def test_an_untouched_log_is_whole_and_complete(logs, heads):
    whole, complete = verified(logs, anchors=heads)

    assert (whole.findings(), complete.gaps_of_writers(begins_later=False)) == ([], [])
    assert whole.writers == [ONE, TWO]


def swap(lines):
    lines[1], lines[2] = lines[2], lines[1]


def move_back(lines):
    lines.append(lines.pop(1))


TAMPERINGS = {
    "a value is changed": (
        lambda lines: [*lines[:2], lines[2].replace(b"sam", b"eve"), *lines[3:]],
        "edited",
        3,
    ),
    "a denial becomes a grant": (
        lambda lines: [*lines[:2], lines[2].replace(b'"allow":false', b'"allow":true'), *lines[3:]],
        "edited",
        3,
    ),
    "a number is changed": (
        lambda lines: [*lines[:2], lines[2].replace(b'"n":8', b'"n":9'), *lines[3:]],
        "edited",
        3,
    ),
    "a seal is changed": (
        lambda lines: [*lines[:2], lines[2][:-10] + b"AAAAAAA" + lines[2][-3:], *lines[3:]],
        "edited",
        3,
    ),
    "a field is added behind the seal": (
        lambda lines: [*lines[:2], lines[2][:-2] + b',"x":1}\n', *lines[3:]],
        "edited",
        3,
    ),
    "a line is removed": (lambda lines: [*lines[:2], *lines[3:]], "removed_or_moved", 3),
    "several lines are removed": (lambda lines: [lines[0], *lines[3:]], "removed_or_moved", 2),
    "two lines are swapped": (swap, "removed_or_moved", 2),
    "a line is moved to the end": (move_back, "removed_or_moved", 2),
    "a line is there twice": (lambda lines: [*lines[:2], lines[1], *lines[2:]], "removed_or_moved", 3),
    "a line is not JSON any more": (
        lambda lines: [*lines[:2], lines[2][:40] + b"\n", *lines[3:]],
        "not_a_line",
        3,
    ),
    "an empty line is added": (lambda lines: [*lines[:2], b"\n", *lines[2:]], "not_a_line", 3),
    "a line without a seal is added": (
        lambda lines: [*lines[:2], b'{"user":"eve","allow":true}\n', *lines[2:]],
        "not_a_line",
        3,
    ),
    "a line without a seal is added in front": (
        lambda lines: [b'{"user":"eve","allow":true}\n', *lines],
        "not_a_line",
        1,
    ),
    "a line of a later version is added": (
        lambda lines: [*lines[:2], lines[2].replace(b'"v":1', b'"v":2'), *lines[2:]],
        "not_a_line",
        3,
    ),
    "lines end in CRLF": (lambda lines: [line[:-1] + b"\r\n" for line in lines], "edited", 1),
    "a byte order mark stands in front": (
        lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
        "not_a_line",
        1,
    ),
    "a NUL stands in a line": (
        lambda lines: [*lines[:2], lines[2].replace(b"sam", b"s\0m"), *lines[3:]],
        "not_a_line",
        3,
    ),
    "a line is endless": (lambda lines: [*lines[:2], b"[" * 2_000_000 + b"\n", *lines[3:]], "not_a_line", 3),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_found_where_it_happened(logs, what):
    change, means, line = TAMPERINGS[what]
    edit(file_of(logs), change)

    assert told(logs) == [(ONE, means, DAYS[1], line)]


def test_a_line_of_another_writer_is_found(logs):
    foreign = file_of(logs, TWO).read_bytes().splitlines(keepends=True)[1]
    edit(file_of(logs), lambda lines: [*lines[:2], foreign, *lines[2:]])

    assert (ONE, "removed_or_moved", DAYS[1], 3) in told(logs)


def test_a_line_that_was_sealed_anew_alone_does_not_fit_the_next_one(logs):
    def change(lines):
        chain = Chain(ONE)
        chain.n = 7
        chain.head = b"\0" * 32
        lines[2] = chain.seal(lines[2].rpartition(b',"writer":')[0].replace(b"sam", b"eve"))

    edit(file_of(logs), change)

    assert told(logs) == [(ONE, "edited", DAYS[1], 3)]


def test_a_whole_day_that_is_gone_is_named_as_a_file(logs):
    file_of(logs).unlink()

    assert told(logs) == [(ONE, "file_missing", DAYS[2], 1)]


def test_the_first_day_that_is_gone_is_named_as_a_file(logs):
    file_of(logs, day=DAYS[0]).unlink()

    assert told(logs) == [(ONE, "file_missing", DAYS[1], 1)]


def test_a_log_may_begin_at_a_later_day_if_that_is_said(logs):
    shutil.rmtree(logs / DAYS[0])

    assert told(logs, begins_later=True) == []


def test_a_later_begin_must_fit_what_it_says_was_before(logs):
    shutil.rmtree(logs / DAYS[0])
    edit(
        file_of(logs),
        lambda lines: [lines[0].replace(b'"previous":"', b'"previous":"A')[:-1] + b"\n", *lines[1:]],
    )

    assert [found[:2] for found in told(logs, begins_later=True)] == [(ONE, "removed_or_moved")]


def test_a_log_may_not_begin_within_a_day(logs):
    shutil.rmtree(logs / DAYS[0])
    edit(file_of(logs), lambda lines: lines[2:])

    assert told(logs, begins_later=True) == [(ONE, "removed_or_moved", DAYS[1], 1)]


def test_files_of_two_days_that_were_exchanged_are_found(logs):
    first, second = file_of(logs), file_of(logs, day=DAYS[2])
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)

    assert told(logs)


# What only heads show that are kept elsewhere.


def test_a_cut_end_is_found_by_a_head_alone(logs, heads):
    edit(file_of(logs, day=DAYS[2]), lambda lines: lines[:-2])

    assert told(logs) == []
    assert told(logs, anchors=heads) == [(ONE, "cut_off", None, None)]
    assert verified(logs, anchors=heads)[0].findings()[0].detail.startswith("cut off: 2 lines")


def test_a_missing_last_day_is_found_by_a_head(logs, heads):
    file_of(logs, day=DAYS[2]).unlink()

    assert told(logs, anchors=heads) == [(ONE, "cut_off", None, None)]


def test_a_writer_without_any_file_is_found_by_its_head(logs, heads):
    for day in DAYS:
        file_of(logs, day=day).unlink()

    assert told(logs) == []
    assert told(logs, anchors=heads) == [(ONE, "file_missing", None, None)]


def test_a_log_that_was_rewritten_with_new_seals_is_found_by_a_head(logs, heads):
    write(logs, ONE, resealed(ONE, sealed_days(ONE), lambda line: line.replace(b"sam", b"eve")))

    assert told(logs) == []
    assert told(logs, anchors=heads) == [(ONE, "rewritten", None, None)]


def test_lines_that_were_added_behind_the_known_end_are_found(logs):
    files = sealed_days(ONE, ends=False)
    end = sum(map(len, files.values()))
    write(logs, ONE, files)
    head = verified(logs)[0].heads()[ONE][1]
    write(logs, ONE, sealed_days(ONE, ends=True))

    assert told(logs, anchors={ONE: [Anchor(number=end, head=head, ended=True)]}) == [
        (ONE, "rewritten", None, None)
    ]


def test_a_torn_line_is_whole_unless_its_head_is_known(logs, heads):
    path = file_of(logs, day=DAYS[2])
    path.write_bytes(path.read_bytes()[:-20])

    assert told(logs) == []
    assert [gap.detail for gap in verified(logs)[1].gaps_of_writers(begins_later=False)] == [
        "its last line, after line 15, is torn"
    ]
    assert told(logs, anchors=heads) == [(ONE, "torn", DAYS[2], 6)]


def test_files_that_were_removed_for_their_age_are_not_missing(logs):
    for day in DAYS:
        file_of(logs, day=day).unlink()
    removed = Anchor(number=5, head=b"\0" * 32, at=BEGAN, removed=True)

    assert told(logs, anchors={ONE: [removed]}) == []


def test_with_a_begin_given_the_anchors_since_then_must_have_their_lines(logs):
    whole = verified(logs)[0]
    anchor = Anchor(number=3, head=b"\0" * 32, at=BEGAN + timedelta(hours=1))
    shutil.rmtree(logs / DAYS[0])
    whole = verified(logs, anchors={ONE: [anchor]}, begins_later=True)[0]

    assert [found.what for found in whole.findings(since=BEGAN)] == ["file_missing"]


# What a collector does to standard output is no tampering.


@pytest.mark.parametrize("seed", range(5))
def test_a_collector_may_merge_and_reorder(tmp_path, seed):
    lines = [line for writer in (ONE, TWO) for day in sealed_days(writer).values() for line in day]
    Random(seed).shuffle(lines)  # noqa: S311 - it only has to be repeatable
    (tmp_path / "collected.jsonl").write_bytes(b"".join(lines))

    assert told(tmp_path) == []


@pytest.mark.parametrize("seed", range(5))
def test_what_is_missing_or_edited_is_found_whatever_the_order(tmp_path, seed):
    lines = [line for writer in (ONE, TWO) for day in sealed_days(writer).values() for line in day]
    del lines[4]
    lines[18] = lines[18].replace(b"sam", b"eve")
    Random(seed).shuffle(lines)  # noqa: S311 - it only has to be repeatable
    (tmp_path / "collected.jsonl").write_bytes(b"".join(lines))

    assert [found[:2] for found in told(tmp_path)] == [(ONE, "removed_or_moved"), (TWO, "edited")]


def test_lines_of_older_releases_are_counted_and_no_finding(tmp_path):
    (tmp_path / "old.jsonl").write_bytes(b'{"at":"2026-11-26T08:00:00Z","user":"sam","allow":true}\n' * 3)
    whole, _ = verified(tmp_path)

    assert (whole.unsealed_lines, whole.findings()) == (3, [])


# Any edit at all.

EDITS = st.lists(
    st.tuples(
        st.sampled_from(
            ["flip", "drop", "insert", "remove", "double", "swap", "move", "cut", "unlink", "reseal"]
        ),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=tries(80, usual=20), deadline=None)
@given(edits=EDITS)
def test_any_edit_of_a_log_whose_heads_are_known_is_found(edits):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for writer in (ONE, TWO):
            write(folder, writer, sealed_days(writer, days=DAYS[:2], each=3))
        heads = verified(folder)[0].heads()
        known = heads_in(heads_text(heads))
        before = contents(folder)
        for kind, one, other in edits:
            tamper(folder, kind, one, other)
        found = verified(folder, anchors=known)[0].findings() if contents(folder) else ["nothing is left"]

        assert bool(found) == (contents(folder) != before)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.jsonl"))}


def tamper(folder, kind, one, other):
    paths = sorted(folder.rglob("*.jsonl"))
    if not paths:
        return
    path = paths[one % len(paths)]
    text = path.read_bytes()
    lines = text.splitlines(keepends=True)
    if kind == "unlink" or not text:
        path.unlink()
        return
    at, place = other % len(text), other % len(lines)
    if kind == "move":
        target = paths[(one + 1) % len(paths)]
        target.write_bytes(target.read_bytes() + lines[place])
        text = path.read_bytes() if target == path else b"".join(lines[:place] + lines[place + 1 :])
    elif kind in BYTES:
        text = BYTES[kind](text, at, one)
    else:
        text = b"".join(LINES[kind](lines, place, one, path.stem))
    path.write_bytes(text)


BYTES = {
    "flip": lambda text, at, bit: text[:at] + bytes([text[at] ^ (1 << bit % 8)]) + text[at + 1 :],
    "drop": lambda text, at, _: text[:at] + text[at + 1 :],
    "insert": lambda text, at, byte: text[:at] + bytes([byte % 256]) + text[at:],
    "cut": lambda text, at, _: text[:at],
}
LINES = {
    "remove": lambda lines, at, _, __: lines[:at] + lines[at + 1 :],
    "double": lambda lines, at, _, __: [*lines[:at], lines[at], *lines[at:]],
    "swap": lambda lines, at, other, _: swapped(lines, at, other % len(lines)),
    "reseal": lambda lines, _, __, writer: sealed_anew(lines, Chain(writer)),
}


def swapped(lines, one, other):
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def sealed_anew(lines, chain):
    return [chain.seal(line.rpartition(b',"writer":')[0] or line_of("x")) for line in lines]
