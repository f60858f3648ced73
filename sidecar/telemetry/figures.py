"""What a worker is at the moment, and what its process uses: looked at once a second, on its loop."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM, _FDS = Path("/proc/self/statm"), Path("/proc/self/fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """*pools* has for each pool its open connections, those in use, and how many it may open.

    *clock_skew_s* is the database's clock less ours; None while nobody has compared them. *replicas* has for
    each whether it is used, and the seconds by which it is behind at most; None, or more than a minute: not
    known.
    """

    in_flight: int
    connections: int
    pools: Mapping[str, tuple[int, int, int]]
    log_bytes: int
    log_age_s: float
    clock_skew_s: float | None
    verdicts: int
    replicas: Mapping[str, tuple[bool, float | None]]


class Figures:
    """Gauges are summed over the workers that live, or the worst of them is told."""

    def __init__(self, registry: CollectorRegistry, *, revision: str, engine: str) -> None:
        self._cpu_s = 0.0

        def gauge(
            name: str,
            says: str,
            labels: tuple[str, ...] = (),
            *,
            mode: Literal["livesum", "livemax", "livemin"] = "livesum",
        ) -> Gauge:
            return Gauge(f"sidecar_{name}", says, labels, registry=registry, multiprocess_mode=mode)

        build = gauge("build_info", "1, with what serves.", ("version", "revision", "engine"), mode="livemax")
        self._build = build.labels(version("policy-sidecar"), revision, engine)
        self._workers = gauge("workers", "Workers that serve.")
        self._in_flight = gauge("requests_in_flight", "Requests that are being answered.")
        self._connections = gauge("connections", "Connections of clients.")
        self._pool = gauge("pool_connections", "Connections to PostgreSQL, by state.", ("pool", "state"))
        self._limit = gauge("pool_limit", "Connections to PostgreSQL that may be opened.", ("pool",))
        self._verdicts = gauge("policy_memo_verdicts", "Verdicts in the cache of one worker.", mode="livemin")
        self._log_bytes = gauge("log_queue_bytes", "Bytes of the decision log that wait to be written.")
        self._log_age = gauge(
            "log_queue_age_seconds", "For how long the decision log has had lines to write.", mode="livemax"
        )
        self._skew = gauge(
            "clock_skew_seconds",
            "How far the database's clock is from the worker's, ahead or behind.",
            mode="livemax",
        )
        self._replica_used = gauge(
            "replica_used", "1 where facts are read from the replica.", ("replica",), mode="livemin"
        )
        self._replica_lag = gauge(
            "replica_lag_seconds",
            "By how much the replica is behind the primary, at most; +Inf where nobody knows.",
            ("replica",),
            mode="livemax",
        )
        self._cpu = Counter(
            "sidecar_process_cpu_seconds_total", "CPU time of all workers.", registry=registry
        )
        self._memory = gauge("process_resident_memory_bytes", "Resident memory, shared pages in each worker.")
        self._fds = gauge("process_open_fds", "Open files of the worker that has most.", mode="livemax")
        self._max_fds = gauge("process_max_fds", "Files that a worker may open.", mode="livemin")
        self._start = gauge(
            "process_start_time_seconds", "When the oldest worker began, in Unix time.", mode="livemin"
        )
        self._began = time.time()

    def show(self, moment: Moment) -> None:
        self._build.set(1)
        self._workers.set(1)
        self._in_flight.set(moment.in_flight)
        self._connections.set(moment.connections)
        for pool, (there, in_use, limit) in moment.pools.items():
            self._pool.labels(pool, "in_use").set(in_use)
            self._pool.labels(pool, "idle").set(there - in_use)
            self._limit.labels(pool).set(limit)
        self._verdicts.set(moment.verdicts)
        self._log_bytes.set(moment.log_bytes)
        self._log_age.set(moment.log_age_s)
        for replica, (is_used, lag_s) in moment.replicas.items():
            self._replica_used.labels(replica).set(is_used)
            self._replica_lag.labels(replica).set(inf if lag_s is None else lag_s)
        if moment.clock_skew_s is not None:
            self._skew.set(abs(moment.clock_skew_s))
        self._show_process()

    def _show_process(self) -> None:
        cpu_s = time.process_time()
        self._cpu.inc(cpu_s - self._cpu_s)
        self._cpu_s = cpu_s
        self._start.set(self._began)
        self._max_fds.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        with suppress(OSError):  # a system without /proc
            self._memory.set(int(_STATM.read_text().split()[1]) * _PAGE)
            self._fds.set(len(os.listdir(_FDS)))  # noqa: PTH208 - a thousand Path objects for a count
