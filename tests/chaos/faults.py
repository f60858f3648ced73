"""What breaks between the processes and in them."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from tests.chaos.parts import Connected, Fault
from tests.serving.processes import children_of, descendants_of, stopped, until_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ORPHANS_END_WITHIN_S = 6.0  # the grace of the sidecar's here, and a little


def _network(far: str, kind: str, **attributes: int) -> Callable[[Connected], AbstractContextManager[None]]:
    return lambda world: world.links[far].poisoned(kind, **attributes)


def _down(far: str) -> Callable[[Connected], AbstractContextManager[None]]:
    return lambda world: world.links[far].down()


@contextmanager
def _postgres_stopped(world: Connected) -> Iterator[None]:
    with stopped(world.postgres.it.process_id):
        yield


@contextmanager
def _opa_stopped(world: Connected) -> Iterator[None]:
    with stopped(world.opa.it[1]):
        yield


@contextmanager
def _a_session_killed(world: Connected) -> Iterator[None]:
    """One backend by kill -9: PostgreSQL ends all others and recovers."""
    for pid in sorted(children_of(world.postgres.it.process_id))[-1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def _postgres_killed(world: Connected) -> Iterator[None]:
    """The postmaster by kill -9: its sessions end by themselves. Whoever starts it again comes late."""
    os.kill(world.postgres.it.process_id, signal.SIGKILL)
    yield
    world.postgres.again()
    world.by_tcp.lead_to(world.postgres.it.url)


@contextmanager
def _opa_killed(world: Connected) -> Iterator[None]:
    world.opa.end()
    yield
    world.opa.again()


@contextmanager
def _a_worker_killed(world: Connected) -> Iterator[None]:
    for pid in sorted(children_of(world.sidecar.it.process.pid))[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def _all_workers_killed(world: Connected) -> Iterator[None]:
    for pid in children_of(world.sidecar.it.process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def _the_master_killed(world: Connected) -> Iterator[None]:
    """It is started again at once: by then its workers must have left the port."""
    master = world.sidecar.it.process
    workers = descendants_of(master.pid)
    master.kill()
    master.wait()
    world.sidecar.again()
    yield
    assert until_gone(workers, within_s=ORPHANS_END_WITHIN_S), "workers outlive their master"


@contextmanager
def _a_worker_stopped(world: Connected) -> Iterator[None]:
    with ExitStack() as stack:
        for pid in sorted(children_of(world.sidecar.it.process.pid))[:1]:
            stack.enter_context(stopped(pid))
        yield


@contextmanager
def _the_master_stopped(world: Connected) -> Iterator[None]:
    """It alone: nobody looks after the workers."""
    master = world.sidecar.it.process
    master.send_signal(signal.SIGSTOP)
    yield
    master.send_signal(signal.SIGCONT)


PAIRS = {"postgres": "sidecar and PostgreSQL", "opa": "sidecar and OPA", "sidecar": "client and sidecar"}
_TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "latency": ("latency", {"latency": 150}),
    "jitter": ("latency", {"latency": 80, "jitter": 80}),
    "cut": ("reset_peer", {"timeout": 50}),
    "half-open": ("timeout", {"timeout": 0}),
    "slow close": ("slow_close", {"delay": 500}),
    "bandwidth": ("bandwidth", {"rate": 20}),
}
_NO_FACTS, _NO_ENGINE = frozenset({"facts_unavailable"}), frozenset({"policy_engine_unavailable"})
FAULTS: dict[str, Fault[Connected]] = {
    **{
        f"{name} between {pair}": Fault(breaks=_network(far, kind, **attributes))
        for far, pair in PAIRS.items()
        for name, (kind, attributes) in _TOXICS.items()
    },
    **{f"nothing listens between {pair}": Fault(breaks=_down(far)) for far, pair in PAIRS.items()},
    "SIGSTOP of PostgreSQL": Fault(breaks=_postgres_stopped, sql=False, told=_NO_FACTS),
    "SIGSTOP of OPA": Fault(breaks=_opa_stopped, told=_NO_ENGINE),
    "SIGSTOP of a worker": Fault(breaks=_a_worker_stopped),
    "SIGSTOP of the master": Fault(breaks=_the_master_stopped),
    "kill -9 of a session of PostgreSQL": Fault(breaks=_a_session_killed, told=_NO_FACTS),
    "kill -9 of PostgreSQL": Fault(breaks=_postgres_killed, told=_NO_FACTS),
    "kill -9 of OPA": Fault(breaks=_opa_killed, told=_NO_ENGINE),
    "kill -9 of a worker": Fault(breaks=_a_worker_killed),
    "kill -9 of all workers": Fault(breaks=_all_workers_killed),
    "kill -9 of the master": Fault(breaks=_the_master_killed),
}
USUAL = ("kill -9 of PostgreSQL", "kill -9 of OPA", "kill -9 of the master")  # the others are `long`
