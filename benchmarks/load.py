"""Loads: each asks one address for some seconds, as fast as answers come, and says what came back."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run: answers, latency in milliseconds, and how many were not an answer."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    not_2xx: int
    broken: int

    @property
    def per_second(self) -> float:
        """Of those that were an answer: a server that refuses in time is not fast."""
        return (self.answers - self.not_2xx) / self.seconds

    @classmethod
    def of(cls, taken_s: list[float], *, seconds: float, not_2xx: int = 0, broken: int = 0) -> Figures:
        """Of the latencies of all answers, in seconds."""
        ordered = sorted(taken_s) or [float("inf")]
        return cls(
            answers=len(taken_s),
            seconds=seconds,
            p50_ms=ordered[len(ordered) // 2] * 1000,
            p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
            not_2xx=not_2xx,
            broken=broken,
        )


def wrk(port: int, requests: Path, *, connections: int, seconds: int) -> Figures:
    """*requests* is a file that `questions.write` has written."""
    program = shutil.which("wrk")
    if program is None:
        sys.exit("benchmarks need wrk: apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "2s", "-s", str(SCRIPT)]
    environ = {"BENCH_REQUESTS": str(requests), "BENCH_RUN": secrets.token_hex(4)}
    printed = subprocess.run(
        [*command, f"http://127.0.0.1:{port}"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    ).stdout
    found = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    return Figures(answers=found.pop("requests"), **found)
