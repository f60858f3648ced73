"""How soon servers are ready, and how much memory their workers keep."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.arena import SERVE
from benchmarks.bars import Bar
from benchmarks.processes import running, worker_mib
from benchmarks.rows import Contender
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena

MEMORY = {
    "opa": Bar(figure="mib", at_most=80),
    "embedded": Bar(figure="mib", at_most=150),
}
READY = {
    "`sidecar dev`": Bar(figure="ready_s", at_most=4),
    "`serve` with `opa`": Bar(figure="ready_s", at_most=2),
    "`serve` embedded": Bar(figure="ready_s", at_most=6),
}
STARTS = 3
_USED_S = 2


def memory(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    """Of the largest worker, after whatever it has been asked in this run, gRPC included."""
    for engine, bar in MEMORY.items():
        for asks in ("authorize", "nginx", "grpc"):
            used = arena.entrant(Contender(name=engine, server=engine, asks=asks), connections=16)
            if used is not None:  # as always: these need no tree of before
                used.load(_USED_S)
        yield f"memory of a worker, {engine}", worker_mib(getattr(arena, engine).pid), bar


def ready(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    """Medians, after a first start that is not counted."""
    starts = {
        "`sidecar dev`": lambda: _dev(arena),
        "`serve` with `opa`": lambda: _serve(arena, "opa"),
        "`serve` embedded": lambda: _serve(arena, "embedded"),
    }
    for name, start in starts.items():
        start()
        yield f"ready, warm: {name}", statistics.median(start() for _ in range(STARTS)), READY[name]


def _dev(arena: Arena) -> float:
    port = free_port()
    command = [sys.executable, "-m", "sidecar", "dev"]
    command += ["--port", str(port), "--data-dir", str(arena.folder / "dev")]
    with running(command, port=port) as server:
        return server.ready_s


def _serve(arena: Arena, engine: str) -> float:
    port = free_port()
    with running(SERVE, arena.settings(engine, port=port), port=port) as server:
        return server.ready_s
