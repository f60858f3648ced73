"""Resolves host names, each at most once a second: a server that is away is connected to again and again.

While no name server answers, a name leads to where it led last: whoever answers there is judged anyway.
"""

from __future__ import annotations

from collections import defaultdict
from math import inf
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.store.session import Late, Lost

if TYPE_CHECKING:
    from sidecar.store.addresses import Host

EVERY_S = 1.0
_PATIENCE_S = 0.5  # with a name server, where it is known to where the name led before


class _Name:
    """*looked* is set once a look has ended, with what was *found*. *known*: what the last answer said."""

    __slots__ = ("began", "found", "known", "lock", "looked")

    def __init__(self) -> None:
        self.lock = Lock()  # of one name alone: another's name server may be silent
        self.began = -inf
        self.looked = Event()
        self.looked.set()
        self.found: list[str] | Lost | Late = []
        self.known: list[str] = []

    def look(self, host: Host) -> None:
        try:
            self.found = self.known = host.addresses()
        except Late as failure:
            self.found = failure
        except Lost as failure:
            self.found, self.known = failure, []
        finally:
            self.looked.set()


class Resolver:
    """From any thread. It holds one entry for each name that it was asked for."""

    def __init__(self) -> None:
        self._names: defaultdict[str, _Name] = defaultdict(_Name)

    def addresses(self, host: Host) -> list[str]:
        """As `host.addresses`, whose answer or failure counts for EVERY_S, but for what was known before.

        It blocks as long as the resolver only if nothing is known.
        """
        if not host.is_name:
            return host.addresses()
        asked = monotonic()
        name = self._names[host.name]
        with name.lock:
            # A look that ends while this one waits for the lock counts for this one too.
            if name.looked.is_set() and name.began + EVERY_S < asked:
                self._begin(name, host)
            looked, known, ending = name.looked, name.known, name.began + _PATIENCE_S
        has_looked = looked.wait(max(0.0, ending - monotonic()) if known else None)
        found = name.found
        if known and (not has_looked or isinstance(found, Late)):
            return list(known)
        if isinstance(found, Exception):
            raise type(found)(str(found))
        return list(found)

    def _begin(self, name: _Name, host: Host) -> None:
        name.began, name.looked = monotonic(), Event()
        try:
            # A daemon thread: a stop must not wait for a resolver.
            Thread(target=name.look, args=(host,), name="resolver", daemon=True).start()
        except RuntimeError as error:
            name.found = Late(f"no thread to resolve {host.name} on: {error}")
            name.looked.set()


RESOLVER = Resolver()  # of this process
