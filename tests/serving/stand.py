"""A sidecar for many tests of bad peers. One that a test has hurt is replaced: each test tells its own."""

from __future__ import annotations

from contextlib import ExitStack
from time import sleep
from typing import TYPE_CHECKING, Self

from tests.serving.meanwhile import Clients
from tests.serving.processes import children_of, descriptors_of
from tests.serving.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.meanwhile import Others
    from tests.serving.serving import Sidecar

WORST_S = 1.0
HEALTH_P99_S = 0.05
_ATTEMPTS = 3
_ENDS = 3
# What others see of a peer that holds up nobody.
WELL: dict[str, object] = {
    "answers": {"200"}, "health": {"200"}, "lost": [], "waited": [], "health p99": "in time",
}  # fmt: skip


def seen_by(others: Others, *, worst_s: float = WORST_S, p99_s: float = HEALTH_P99_S) -> dict[str, object]:
    """As WELL, with the figures of what was not well.

    On a machine that wakes an idle process late, the sidecar and both ends of its connections are late too.
    """
    seen, health = others.seen, others.health
    p99_s += _ENDS * health.noise_s
    return {
        "answers": set(seen.answers),
        "health": set(health.answers),
        "lost": seen.lost + health.lost,
        "waited": [each for each in (seen.worst_s, health.worst_s) if each > worst_s],
        "health p99": health.p99_s if health.p99_s > p99_s else "in time",
    }


def in_time(scenario: Callable[[], Others]) -> Others:
    """The others of *scenario*, which is repeated where the clock alone was against it.

    A busy machine is late by itself, now and then; a sidecar that is held up is late every time.
    """
    for _ in range(_ATTEMPTS):
        others = scenario()
        seen = seen_by(others)
        late = seen["waited"] or seen["health p99"] != "in time"
        if not late or seen["lost"] or seen["health"] != WELL["health"]:
            break
    return others


def warm_up(sidecar: Sidecar) -> None:
    """Until every thread has the connections that it keeps: from then on descriptors can be compared."""
    with Clients(sidecar.port, kept=8, fresh=4, pause_s=0.002):
        sleep(0.5)


class Stand:
    def __init__(self, folder: Path, **settings: object) -> None:
        self._folder, self._settings = folder, settings
        self._stack = ExitStack()
        self._sidecar: Sidecar | None = None
        self.workers: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def sidecar(self) -> Sidecar:
        """Ready, and nothing is wrong with it."""
        if self._sidecar is None or not self._is_well(self._sidecar):
            self._stack.close()
            self._folder = self._folder.with_name(f"{self._folder.name}x")
            self._folder.mkdir()
            self._sidecar = self._stack.enter_context(serving(self._folder, **self._settings))  # type: ignore[arg-type] # settings alone
            if not self._sidecar.until(self._sidecar.is_ready, within_s=30):
                raise AssertionError(f"not ready:\n{self._sidecar.said}")
            self.workers = children_of(self._sidecar.process.pid)
            warm_up(self._sidecar)
        return self._sidecar

    def _is_well(self, sidecar: Sidecar) -> bool:
        return children_of(sidecar.process.pid) == self.workers and all(
            sidecar.until(lambda: sidecar.request("GET", "/healthz", timeout=1)[0] == 200, within_s=1)
            for _ in range(8)  # of each worker
        )

    def descriptors(self) -> int:
        """Of all workers."""
        return sum(map(descriptors_of, self.workers))
