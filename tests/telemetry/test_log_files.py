"""Decision logs in files, however they lie there."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import sys

import pytest

from sidecar.errors import ConfigError, NotAsked
from sidecar.telemetry import log_files
from sidecar.telemetry.log_files import LONGEST_LINE, LogFile
from sidecar.telemetry.logged import asked_line, found_line, sealed_line


def read(*paths):
    return {file.name: list(file) for file in log_files.log_files(map(str, paths))}


def of(path, content):
    path.write_bytes(content)
    file = LogFile(name=str(path), path=path)
    return file, list(file)


def test_a_folder_is_read_by_day_and_name_each_file_once(tmp_path):
    for day in ("2026-11-28", "2026-11-27"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "b.jsonl").write_bytes(b"b\n")
    (tmp_path / "2026-11-27/a.jsonl.gz").write_bytes(gzip.compress(b"a\n"))
    (tmp_path / "2026-11-27/notes.txt").write_text("no log")

    found = log_files.log_files([str(tmp_path), str(tmp_path / "2026-11-28/b.jsonl")])

    assert [(file.day, file.stem, list(file)) for file in found] == [
        ("2026-11-27", "a", [b"a"]),
        ("2026-11-27", "b", [b"b"]),
        ("2026-11-28", "b", [b"b"]),
    ]


def test_a_file_that_is_compressed_meanwhile_is_read_once(tmp_path):
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(b"a\n")
    [before] = log_files.log_files([str(tmp_path)])
    packed.write_bytes(gzip.compress(b"a\n"))
    [both] = log_files.log_files([str(tmp_path)])
    plain.unlink()

    assert [list(before), list(both), both.path] == [[b"a"], [b"a"], packed]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_lines_are_whole_however_they_lie_in_chunks(tmp_path, monkeypatch, size):
    monkeypatch.setattr(log_files, "_CHUNK", size)
    lines = [b"x" * length for length in (0, 1, 6, 7, 8, 130)]

    for content in (b"".join(line + b"\n" for line in lines), b"\n".join(lines)):
        for packed in (content, gzip.compress(content)):
            file, found = of(tmp_path / "log.jsonl", packed)
            assert found + ([file.torn] if file.torn is not None else []) == lines


def test_a_line_without_an_end_is_torn(tmp_path):
    file, found = of(tmp_path / "log.jsonl", b"one\ntwo")

    assert (found, file.torn) == ([b"one"], b"two")


def test_a_line_without_any_end_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(log_files, "LONGEST_LINE", 100)
    monkeypatch.setattr(log_files, "_CHUNK", 64)

    _, found = of(tmp_path / "log.jsonl", b"a\n" + b"x" * 1_000 + b"\nb\n" + b"y" * 101 + b"\nc\n")

    assert found == [b"a", b"x" * 101, b"b", b"y" * 101, b"c"]
    file, found = of(tmp_path / "log.jsonl", b"a\n" + b"x" * 1_000)
    assert (found[0], file.torn is not None) == (b"a", True)
    assert LONGEST_LINE > 64 * 1024


def test_a_file_that_is_being_written_has_no_torn_line(tmp_path):
    path = tmp_path / "log.jsonl"
    with path.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_SH)
        file, found = of(path, b"one\ntw")

        assert (found, file.torn, file.is_open) == ([b"one"], None, True)
    file, _ = of(path, b"one\ntw")
    assert (file.torn, file.is_open) == (b"tw", False)


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_read_packed_or_not(monkeypatch, packed):
    content = b"one\ntwo\n" * 1_000
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(content) if packed else content))
    monkeypatch.setattr(sys, "stdin", stdin)

    assert read("-")["-"] == [b"one", b"two"] * 1_000


@pytest.mark.parametrize("cut", [10, -1, -5])
def test_a_damaged_gzip_is_told_after_what_could_be_read(tmp_path, cut):
    file, _ = of(tmp_path / "log.jsonl.gz", gzip.compress(os.urandom(1_000) + b"\n")[:cut])

    assert file.damage


def test_what_is_not_there_or_may_not_be_read_is_told(tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        read(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises((ConfigError, NotAsked)):
        read(tmp_path / "loop")


def test_fields_of_another_kind_count_as_absent():
    """AuthZEN's lines have entities where a decision has names."""
    line = b'{"v":1,"kind":"listing","at":"2026-11-28T00:00:00Z","action":{"name":"read"},"found":3}'

    for decode in (asked_line, found_line):
        assert (decode(line).kind, decode(line).action) == ("listing", None)
    assert sealed_line(line).kind == "listing"
    for reads in (asked_line, found_line, sealed_line):
        with pytest.raises(ValueError, match="object"):
            reads(b"[]")
