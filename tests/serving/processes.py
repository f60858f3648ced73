"""What the kernel says of processes: children, descriptors, memory; and how one is stopped or limited."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PPID_FIELD = 1  # behind the name, which is in brackets and may hold anything


def children_of(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[_PPID_FIELD]) == pid and fields[0] != "Z":
                found.add(int(stat.parent.name))
    return found


def descendants_of(pid: int) -> set[int]:
    found = children_of(pid)
    return found.union(*map(descendants_of, found))


def until_gone(pids: set[int], *, within_s: float) -> bool:
    """Whether none of them runs any more, in time."""
    ending = monotonic() + within_s
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if monotonic() > ending:
            return False
        sleep(0.02)
    return True


def descriptors_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_kib(pid: int) -> int:
    """Of *pid* alone: what it shares with others is counted too, and does not grow."""
    [line] = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in each]
    return int(line.split()[1])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """*pid* and all that it has started do nothing: connections stay open and nobody answers."""
    family = [pid]
    for each in family:
        family += children_of(each)
    try:
        for each in family:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        yield
    finally:
        for each in reversed(family):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


@contextmanager
def at_most(descriptors: int, pid: int) -> Iterator[None]:
    """*pid* can open nothing whose number would be *descriptors* or more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
