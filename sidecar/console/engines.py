"""The engine that explains by a revision: embedded for any, OPA for the one that it serves."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from sidecar.console.reading import CannotRead
from sidecar.engines.installed import engine_of
from sidecar.reports.explanation import RULES

if TYPE_CHECKING:
    from sidecar.rego.compile import Compiled
    from sidecar.reports.explanation import Engine

_MOST_KEPT = 4


class Engines:
    """*name* and *opa_url* are as in Settings; *revision* is that of this worker."""

    def __init__(self, name: str, *, opa_url: str, revision: str) -> None:
        self._name = name
        self._opa_url = opa_url
        self._revision = revision
        self._lock = Lock()
        self._kept: dict[str, Engine] = {}

    def of(self, compiled: Compiled) -> Engine:
        """CannotRead where OPA serves another revision."""
        if self._name == "opa" and compiled.revision != self._revision:
            raise CannotRead(
                f"OPA does not serve revision {compiled.revision[:12]}: ask sidecar audit instead."
            )
        with self._lock:
            if compiled.revision not in self._kept:
                while len(self._kept) >= _MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
                made = engine_of(self._name, compiled, opa_url=self._opa_url, rules=RULES)
                self._kept[compiled.revision] = made
            return self._kept[compiled.revision]
