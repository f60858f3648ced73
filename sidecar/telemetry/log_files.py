"""Decision logs as they lie in files: folders, .jsonl, .gz, standard input, line by line."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sidecar.errors import ConfigError, NotAsked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STDIN = "-"
LONGEST_LINE = 1024 * 1024
_CHUNK = 256 * 1024
_GZIP = b"\x1f\x8b"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(slots=True, kw_only=True)
class LogFile:
    """Iterated once, it gives its lines without their newline.

    One that is longer than LONGEST_LINE is cut there, with one byte more. *torn* is the last line if nothing
    ends it; it is not among the lines. *damage* says why the file could not be read to its end. *is_open*:
    a process is writing it. *day* is that of the folder it is in. They are known afterwards.
    """

    name: str
    path: Path | None = None
    day: str = ""
    torn: bytes | None = None
    damage: str | None = None
    is_open: bool = False

    @property
    def stem(self) -> str:
        """The name without folder and endings: in a log folder, the writer."""
        return Path(self.name).name.removesuffix(".gz").removesuffix(".jsonl")

    def __iter__(self) -> Iterator[bytes]:
        """NotAsked if the file may not be read."""
        self.torn = self.damage = None
        rest, is_cut = b"", False
        for chunk in self._chunks():
            lines = (rest + chunk if rest else chunk).split(b"\n")
            rest = lines.pop()
            if is_cut and lines:
                del lines[0]  # the end of one that was too long
                is_cut = False
            yield from lines if max(map(len, lines), default=0) <= LONGEST_LINE else _cut(lines)
            if len(rest) > LONGEST_LINE:
                if not is_cut:
                    yield rest[: LONGEST_LINE + 1]
                rest, is_cut = b"", True
        if (rest or is_cut) and not self.is_open:
            self.torn = rest

    def _chunks(self) -> Iterator[bytes]:
        stream = None
        try:
            stream = sys.stdin.buffer if self.path is None else _opened(self.path)
            if self.path is not None:
                self.is_open = _is_written(stream)
            start = stream.read(len(_GZIP))
            yield from _unpacked(_Again(start, stream)) if start == _GZIP else _plain(start, stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = "the gzip file ends too early" if isinstance(error, EOFError) else f"gzip: {error}"
        except OSError as error:
            raise NotAsked(f"{self.name} cannot be read: {error.strerror or error}") from error
        finally:
            if stream is not None and self.path is not None:
                stream.close()


def log_files(paths: Iterable[str]) -> list[LogFile]:
    """Each file once, by day and name. ConfigError if it is not there, NotAsked if it may not be read."""
    found: dict[tuple[int, int], LogFile] = {}
    for text in paths:
        if text == STDIN:
            found.setdefault((-1, -1), LogFile(name=STDIN))
            continue
        path = Path(text)
        try:
            for file in sorted(_in_folder(path)) if path.is_dir() else [path]:
                about = file.stat()
                day = file.parent.name if _DAY.fullmatch(file.parent.name) else ""
                found.setdefault((about.st_dev, about.st_ino), LogFile(name=str(file), path=file, day=day))
        except FileNotFoundError as error:
            raise ConfigError(f"{error.filename} is not there") from error
        except OSError as error:
            raise NotAsked(f"{text} cannot be read: {error.strerror or error}") from error
    return sorted(found.values(), key=lambda file: (file.day, file.name))


def _in_folder(folder: Path) -> Iterator[Path]:
    """Without those whose compressed file is there already: they are about to be deleted.

    OSError from the first folder that may not be read: what is in there must not be missed silently.
    """

    def refuse(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in {*names} - {name.removesuffix(".gz") for name in names if name.endswith(".gz")}:
            if name.endswith((".jsonl", ".gz")):
                yield Path(parent) / name


def _opened(path: Path) -> BinaryIO:
    """*path*, or what `sidecar tidy` has made of it since it was found."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return path.with_name(f"{path.name}.gz").open("rb")


def _cut(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line[: LONGEST_LINE + 1]


def _plain(start: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield start
    while chunk := stream.read(_CHUNK):
        yield chunk


def _unpacked(stream: io.RawIOBase) -> Iterator[bytes]:
    with gzip.open(io.BufferedReader(stream, _CHUNK)) as unpacked:
        while chunk := unpacked.read1(_CHUNK):
            yield chunk


class _Again(io.RawIOBase):
    """*start*, which was read already, and what follows it: standard input cannot be wound back."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start = start
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, into: bytearray | memoryview) -> int:  # type: ignore[override] # narrower than Buffer
        chunk = self._start or self._stream.read(len(into))
        self._start = b""
        into[: len(chunk)] = chunk
        return len(chunk)


def _is_written(stream: BinaryIO) -> bool:
    """Whoever writes a log holds a lock of its file."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    fcntl.flock(stream, fcntl.LOCK_UN)
    return False
