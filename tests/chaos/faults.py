"""What breaks, each for as long as its context is open."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.serving.processes import children_of, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.chaos.toxiproxy import Link
    from tests.serving.serving import Sidecar


@dataclass(frozen=True, kw_only=True)
class Broken:
    """All there is to break. *links* are by who is at their far end; pids are asked for anew each time."""

    links: Mapping[str, Link]
    postgres: Callable[[], int]
    opa: int
    sidecar: Sidecar


def _network(far: str, kind: str, **attributes: int) -> Callable[[Broken], AbstractContextManager[None]]:
    return lambda broken: broken.links[far].poisoned(kind, **attributes)


def _down(far: str) -> Callable[[Broken], AbstractContextManager[None]]:
    return lambda broken: broken.links[far].down()


@contextmanager
def _postgres_stopped(broken: Broken) -> Iterator[None]:
    with stopped(broken.postgres()):
        yield


@contextmanager
def _opa_stopped(broken: Broken) -> Iterator[None]:
    with stopped(broken.opa):
        yield


@contextmanager
def _a_session_killed(broken: Broken) -> Iterator[None]:
    """One backend by kill -9: PostgreSQL ends all others and recovers."""
    for pid in sorted(children_of(broken.postgres()))[-1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def _a_worker_killed(broken: Broken) -> Iterator[None]:
    for pid in sorted(children_of(broken.sidecar.process.pid))[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def _a_worker_stopped(broken: Broken) -> Iterator[None]:
    with ExitStack() as stack:
        for pid in sorted(children_of(broken.sidecar.process.pid))[:1]:
            stack.enter_context(stopped(pid))
        yield


PAIRS = {"postgres": "sidecar and PostgreSQL", "opa": "sidecar and OPA", "sidecar": "client and sidecar"}
_TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "latency": ("latency", {"latency": 150}),
    "jitter": ("latency", {"latency": 80, "jitter": 80}),
    "cut": ("reset_peer", {"timeout": 50}),
    "half-open": ("timeout", {"timeout": 0}),
    "slow close": ("slow_close", {"delay": 500}),
    "bandwidth": ("bandwidth", {"rate": 20}),
}
FAULTS: dict[str, Callable[[Broken], AbstractContextManager[None]]] = {
    **{
        f"{name} between {pair}": _network(far, kind, **attributes)
        for far, pair in PAIRS.items()
        for name, (kind, attributes) in _TOXICS.items()
    },
    **{f"nothing listens between {pair}": _down(far) for far, pair in PAIRS.items()},
    "SIGSTOP of PostgreSQL": _postgres_stopped,
    "SIGSTOP of OPA": _opa_stopped,
    "SIGSTOP of a worker": _a_worker_stopped,
    "kill -9 of a session of PostgreSQL": _a_session_killed,
    "kill -9 of a worker": _a_worker_killed,
}
