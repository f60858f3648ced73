"""Histograms, mostly of seconds, to which many figures are added at once."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import Histogram

from sidecar.telemetry.waiting import taken_from

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_OF_REQUESTS = (0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_MOST_WAITING = 2_048


class Durations(Histogram):
    # Observing one by one writes to a file twice each time; prometheus_client has no public way to add many.
    # tests/telemetry/test_metrics.py compares this with `observe`.
    def observe_all(self, seconds: list[float]) -> None:
        buckets = Tally(map(partial(bisect_left, self._upper_bounds), seconds))
        for bucket, times in buckets.items():
            self._buckets[bucket].inc(times)
        self._sum.inc(sum(seconds))


class RequestDurations:
    """How long requests took, by endpoint and status. `observe` is called on one thread, the loop's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Durations(
            "sidecar_request_duration_seconds",
            "Requests by endpoint and status, from the first byte that came to the last that was sent.",
            ("endpoint", "status"),
            registry=registry,
            buckets=_OF_REQUESTS,
        )
        self._took: dict[tuple[str, int], list[float]] = {}

    def observe(self, endpoint: str, status: int, seconds: float) -> bool:
        """Whether so many wait by now that somebody should publish."""
        try:
            took = self._took[endpoint, status]
        except KeyError:
            took = self._took[endpoint, status] = []
        took.append(seconds)
        return len(took) >= _MOST_WAITING

    def publish(self) -> None:
        for (endpoint, status), took in list(self._took.items()):
            if took:
                self._histogram.labels(endpoint, str(int(status))).observe_all(taken_from(took))
