"""wrk as a function: one run against one address, with its figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run: answers a second, latency in milliseconds, and how many were not an answer."""

    per_second: float
    p50_ms: float
    p99_ms: float
    not_2xx: int
    broken: int


def wrk(url: str, *, connections: int, seconds: int, body: str, workspaces: int, token: str = "") -> Figures:
    """*body* has three %d: workspace, number of the user in it, workspace; then maybe %s, for a new key."""
    environ = {"BENCH_WORKSPACES": str(workspaces), "BENCH_BODY": body}
    if token:
        environ["BENCH_TOKEN"] = token
    return run_wrk("questions.lua", url, environ, connections=connections, seconds=seconds)


def run_wrk(script: str, url: str, environ: dict[str, str], *, connections: int, seconds: int) -> Figures:
    program = shutil.which("wrk")
    if program is None:
        sys.exit("benchmarks need wrk: apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "2s", "-s"]
    printed = subprocess.run(
        [*command, str(HERE / script), url],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    figures = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    return Figures(
        per_second=figures["requests"] / figures["seconds"],
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
        not_2xx=figures["not_2xx"],
        broken=figures["broken"],
    )
