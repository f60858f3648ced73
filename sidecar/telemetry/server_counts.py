"""What the master counts: reloads, and workers that ended. It is published beside what workers count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class ServerCounts:
    """In the process that made it; in one that is forked from it the counts begin at 0."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        reloads = Counter(
            "sidecar_reloads_total", "Reloads, by what became of them.", ("result",), registry=registry
        )
        self._taken, self._refused = reloads.labels("taken"), reloads.labels("refused")
        self._exits = Counter("sidecar_worker_exits_total", "Workers that ended, whyever.", registry=registry)

    def count_reload(self, *, taken: bool) -> None:
        (self._taken if taken else self._refused).inc()

    def count_exit(self) -> None:
        self._exits.inc()
