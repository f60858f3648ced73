"""Resolves host names, each at most once a second: a server that is away is connected to again and again."""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.store.session import Late, Lost

if TYPE_CHECKING:
    from sidecar.store.addresses import Host

EVERY_S = 1.0


class _Name:
    __slots__ = ("began", "ended", "found", "lock")

    def __init__(self) -> None:
        self.lock = Lock()  # of one name alone: another's name server may be silent
        self.began = self.ended = 0.0
        self.found: list[str] | Lost | Late = []


class Resolver:
    """From any thread. It holds one entry for each name that it was asked for."""

    def __init__(self) -> None:
        self._names: defaultdict[str, _Name] = defaultdict(_Name)

    def addresses(self, host: Host) -> list[str]:
        """As `host.addresses`, whose answer or failure counts for EVERY_S."""
        if not host.is_name:
            return host.addresses()
        asked = monotonic()
        name = self._names[host.name]
        with name.lock:
            # Also what another thread has found while this one waited for it.
            if not name.ended or max(name.began + EVERY_S, name.ended) < asked:
                name.began = monotonic()
                try:
                    name.found = host.addresses()
                except (Lost, Late) as failure:
                    name.found = failure
                name.ended = monotonic()
            found = name.found
        if isinstance(found, Exception):
            raise type(found)(str(found))
        return list(found)


RESOLVER = Resolver()  # of this process
