"""How many CPUs this process may use: a container's share counts, not the machine that it runs on."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOUNTS, _MEMBERSHIPS = "proc/self/mountinfo", "proc/self/cgroup"


def usable_processors(*, at_most: int, root: Path = Path("/")) -> int:
    """The least of *at_most*, the CPUs that we may be scheduled on, and the quotas of our cgroups.

    At least 1. A quota is rounded up. *root* is where `proc` and `sys` are; what cannot be read is no limit.
    """
    return max(1, min(at_most, _affinity(), *_quotas(root)))


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[int]:
    """Of our cgroups and those above them, as far as they are mounted here."""
    for folder in _folders(root):
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield -(-int(quota) // int(period))  # ValueError for "max"
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota_us = int((folder / "cpu.cfs_quota_us").read_text())
            if quota_us > 0:  # -1: none
                yield -(-quota_us // int((folder / "cpu.cfs_period_us").read_text()))


def _folders(root: Path) -> Iterator[Path]:
    try:
        mounts = (root / _MOUNTS).read_text().splitlines()
        lines = (root / _MEMBERSHIPS).read_text().splitlines()
    except OSError:
        return
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # of version 2: ""
    for line in mounts:
        ours, _, theirs = line.partition(" - ")
        kind, _, options = theirs.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in paths or (controller and controller not in options.split(",")):
            continue
        path = paths[controller]
        mounted, at = ours.split(" ")[3:5]
        # A container may see the host's path of its cgroup, and only its own part of the tree.
        below = Path(path).relative_to(mounted) if Path(path).is_relative_to(mounted) else Path()
        for each in (below, *below.parents):
            yield root / at.lstrip("/") / each
