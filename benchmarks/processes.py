"""The benchmark's servers as processes: start, readiness, stop; CPU time and memory from the kernel."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
READY_WITHIN_S = 60
STOP_WITHIN_S = 30
_POLL_S = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    pid: int
    port: int
    ready_s: float  # from the start of the process to the first 2xx


@contextmanager
def running(
    command: list[str],
    environ: dict[str, str] | None = None,
    *,
    port: int,
    ready: str = "/readyz",
    tree: Path = ROOT,
    stdin: bytes = b"",
) -> Iterator[Running]:
    """Runs while the context is open. `sidecar` and `benchmarks` are imported from *tree*."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    clean["PYTHONPATH"] = str(tree)
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**clean, **(environ or {})},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            with suppress(BrokenPipeError), process.stdin as to_it:  # type: ignore[union-attr] # it is a pipe
                to_it.write(stdin)
            if why := _why_not_ready(process, port, ready, until=began + READY_WITHIN_S):
                said.seek(0)
                sys.exit(f"{said.read().decode(errors='replace')}{' '.join(command)} {why}")
            yield Running(pid=process.pid, port=port, ready_s=time.perf_counter() - began)
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _why_not_ready(process: subprocess.Popen[bytes], port: int, path: str, *, until: float) -> str:
    while not _answers(port, path):
        if process.poll() is not None:
            return f"ended with {process.returncode}"
        if time.perf_counter() > until:
            return f"is not ready after {READY_WITHIN_S} s"
        time.sleep(_POLL_S)
    return ""


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 300  # noqa: PLR2004 - any 2xx
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def cpu_s(roots: Iterable[int]) -> float:
    """User and system time of each process in *roots* and of all its descendants, dead ones included."""
    ticks = 0
    for pid in {each for root in roots for each in (root, *descendants(root))}:
        with suppress(OSError):  # it has just ended, and its parent has its times
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, and those of children that were waited for
    return ticks / _TICKS


def descendants(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def worker_mib(pid: int) -> float:
    """Of the largest descendant of *pid*: what is its own, plus its share of what is shared."""
    return max((_pss_kib(each) for each in descendants(pid)), default=0) / 1024


def _pss_kib(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
