"""The newest decisions of a log folder, over all of its writers."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sidecar.audit.selection import Selected, row_of, selected
from sidecar.telemetry.logged import found_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sidecar.audit.selection import Wanted

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOST_READ = 8 * 1024 * 1024  # for one page: a tenth of a second
_MOST_FILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """*rows* are lines, the newest first. *is_whole*: there are no older ones that would fit."""

    rows: list[dict[str, Any]]
    is_whole: bool


def newest(folder: Path, wanted: Wanted, *, after: str, before: str, limit: int) -> Found:
    """Up to *limit* decisions, later than *after* and earlier than *before*, where those are given.

    Both are as lines have `at`. What is older than some megabytes of lines is not looked for.
    """
    left, rows = _MOST_READ, list[dict[str, Any]]()
    for number, (day, files) in enumerate(_days(folder)):
        if (before and day > before[:10]) or not files:
            continue
        if after and day < after[:10]:
            return Found(rows=rows, is_whole=True)
        share = max(left // max(len(files), 1), 1)
        blocks = []
        for file in files[:_MOST_FILES]:
            lines, size = _last_lines(file, share)
            blocks.append(lines)
            left -= size
        found = [row_of(text) for text, _ in selected(blocks, wanted, decode=found_line, counted=Selected())]
        rows += sorted(
            (row for row in found if row["at"] > after and (not before or row["at"] < before)),
            key=itemgetter("at"),
            reverse=True,
        )
        if len(rows) > limit or left <= 0:
            return Found(rows=rows[:limit], is_whole=False)
        if number and after:
            break
    return Found(rows=rows, is_whole=True)


def _days(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """The newest first; files that `sidecar tidy` has compressed are for `sidecar audit decisions`."""
    with suppress(OSError):
        for day in sorted((each for each in folder.iterdir() if _DAY.fullmatch(each.name)), reverse=True):
            yield day.name, sorted(day.glob("*.jsonl"))


def _last_lines(file: Path, most: int) -> tuple[list[bytes], int]:
    """The whole lines of the last *most* bytes, and how many bytes those were."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            begin = max(0, size - most)
            stream.seek(begin)
            text = stream.read(size - begin)
    except OSError:
        return [], 0
    lines = text.split(b"\n")
    lines.pop()  # empty, or being written
    return (lines[1:] if begin else lines), size - begin
