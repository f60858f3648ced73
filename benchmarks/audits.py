"""What audits cost: each command of `sidecar audit` as an auditor runs it, beside its goal.

CPU seconds are those of the command with its start and the OPA that it starts. PostgreSQL's are apart.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from benchmarks import audit_world
from benchmarks.bars import Bar
from benchmarks.load import wrk
from benchmarks.processes import ROOT, cpu_s, running
from sidecar.rego.bundle import bundle
from sidecar.settings import shipped
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena

CLI = [sys.executable, "-m", "sidecar"]
TRIES = 3
LOG_S = 12  # of questions, as fast as they go
_FINE = (0, 1)  # 1: it found something
_ENGINES = ("opa", "embedded")


class Used:
    """CPU time: *cpu_s* of the command and its children, *database_s* of PostgreSQL, *both_s* in sum."""

    def __init__(self, arena: Arena, *arguments: object, **more: str) -> None:
        """*more* are variables of the environment."""
        command = [*CLI, *map(str, arguments)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        database, children = cpu_s([arena.postgres.process_id]), _children_s()
        done = subprocess.run(
            command,
            env={**environ, "PYTHONPATH": str(ROOT), **more},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in _FINE:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        self.out = done.stdout
        self.cpu_s = _children_s() - children
        self.database_s = cpu_s([arena.postgres.process_id]) - database
        self.both_s = self.cpu_s + self.database_s


def costs(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    yield from _of_policies(arena)
    yield from _of_logs(arena)
    yield from _of_people(arena)


def _of_policies(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    run = partial(Used, arena)
    for engine, at_most in zip(_ENGINES, (1.5, 3), strict=True):
        used = run("check", **({} if engine == "opa" else _without_opa(arena.folder)))
        yield f"audit: `check`, {engine}", used.cpu_s, _cpu(at_most)
    for engine, at_most in zip(_ENGINES, (1, 2), strict=True):
        yield f"audit: `matrix`, {engine}", run("audit", "matrix", "--engine", engine).cpu_s, _cpu(at_most)
    for engine, at_most in zip(_ENGINES, (2.5, 6), strict=True):
        yield f"audit: `prove`, {engine}", run("audit", "prove", "--engine", engine).cpu_s, _cpu(at_most)
    plans = shipped("plans.yaml").read_text()
    file = arena.folder / "large.yaml"
    audit_world.large(plans, file)
    used = run("audit", "prove", "--plans", file, "--engine", "opa")
    cells = re.search(r": ([\d,]+) situations", used.out)
    yield f"audit: `prove` of {cells[1] if cells else '?'} cells, opa", used.cpu_s, _cpu(25)
    new = arena.folder / "new.yaml"
    new.write_text(audit_world.changed(plans))
    yield "audit: `diff`", run("audit", "diff", shipped("plans.yaml"), new).cpu_s, _cpu(4)


def _of_logs(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    """Of what the sidecar itself writes while it is asked as fast as it goes, and of a part of that."""
    log = arena.folder / "log"
    lines = _written(arena, log)
    start = min(Used(arena, "audit", "verify-log", "--help").cpu_s for _ in range(TRIES))
    archive = arena.folder / "archive"
    archive.mkdir()
    (archive / f"{arena.compiled.revision}.tar.gz").write_bytes(bundle(arena.compiled))
    for name, arguments, at_least in (
        ("verify-log", (), 100_000),
        ("decisions", ("--status", 402), 100_000),
        ("replay", ("--archive", archive, "--engine", "embedded"), 80_000),
    ):
        used = Used(arena, "audit", name, log, *arguments)
        a_second = lines / (used.cpu_s - start)
        yield (
            f"audit: `{name}` of {lines:,} lines, without the start",
            a_second,
            Bar(figure="lines", at_least=at_least),
        )


def _of_people(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    small, large = (published(arena, name) for name in ("small", "large"))
    Used(arena, "load", *_of(small), shipped("worlds") / "demo.yaml")
    audit_world.fill(large)
    with psycopg.connect(large) as connection:
        then = connection.execute("SELECT clock_timestamp()").fetchall()[0][0].isoformat()
    among = f"of {audit_world.MEMBERSHIPS:,} members"
    used = Used(arena, "audit", "diff", shipped("plans.yaml"), arena.folder / "new.yaml", *_of(large))
    yield f"audit: live `diff`, {among}", used.cpu_s, _cpu(4)
    yield f"audit: live `diff`, {among}", used.database_s, Bar(figure="database_s", at_most=3)
    can = "audit", "who-can", "billing.manage"
    for when, at in (("now", ()), ("then", ("--at", then))):
        more = _least_s(arena, *can, *_of(large), "--workspace", "w77", *at)
        more -= _least_s(arena, *can, *_of(small), "--workspace", "acme", *at)
        yield f"audit: `who-can` in a workspace {when}, {among}, more than of six", more, _both(0.3)
        used = Used(arena, *can, *_of(large), "--everywhere", *at)
        yield f"audit: `who-can --everywhere` {when}, {among}", used.both_s, _both(6)


def published(arena: Arena, name: str) -> str:
    """A superuser's URL of a new database to which the shipped policies are published."""
    with psycopg.connect(arena.postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = psycopg.conninfo.make_conninfo(arena.postgres.url, dbname=name)
    Used(arena, "migrate", *_of(url), "--plans", shipped("plans.yaml"))
    return url


def _of(url: str) -> tuple[str, str]:
    return "--database-url", url


def _least_s(arena: Arena, *arguments: object) -> float:
    return min(Used(arena, *arguments).both_s for _ in range(TRIES))


def _written(arena: Arena, log: Path) -> int:
    """How many lines a sidecar has written to the folder *log*."""
    port = free_port()
    environ = arena.settings("embedded", port=port) | {"SIDECAR_LOG_DIR": str(log)}
    with running([*CLI, "serve"], environ, port=port):
        wrk(port, arena.requests("authorize"), connections=16, seconds=LOG_S)
    return sum(path.read_bytes().count(b"\n") for path in log.glob("*/*.jsonl"))


def _cpu(at_most: float) -> Bar:
    return Bar(figure="cpu_s", at_most=at_most)


def _both(at_most: float) -> Bar:
    return Bar(figure="both_s", at_most=at_most)


def _children_s() -> float:
    """CPU time of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _without_opa(folder: Path) -> dict[str, str]:
    """Variables by which no OPA is found; *folder* has none."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    there = [each for each in folders if not (Path(each) / "opa").exists()]
    return {"PATH": os.pathsep.join(there), "HOME": str(folder)}
