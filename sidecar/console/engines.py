"""What explains by a revision: its files and its engine, embedded for any, OPA for those that it has."""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.console.reading import CannotRead
from sidecar.engines.installed import engine_of
from sidecar.errors import EngineMisbehaved
from sidecar.rego.beside import own_name
from sidecar.reports.explanation import RULES
from sidecar.reports.ruling import by_database
from sidecar.store.published import published

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sidecar.decisions.model import Verdict
    from sidecar.engines.embedded import EmbeddedEngine
    from sidecar.engines.opa import OpaEngine
    from sidecar.rego.compile import Compiled
    from sidecar.reports.explanation import Engine
    from sidecar.reports.ruling import Ruling
    from sidecar.store.auditing import Looked

_MOST_KEPT = 4
_MOST_VERDICTS = 20_000
_ASKED_WITHIN_S = 1.0


class _Remembering:
    """*engine*, whose verdicts are kept: situations are few, and a page asks some dozens.

    *by_name*: an OPA, asked by the names of its revision where it has them: the plain ones are of its newest.
    """

    def __init__(self, engine: OpaEngine | EmbeddedEngine, *, by_name: bool) -> None:
        self._engine = engine
        self._by_name = by_name
        self._known: dict[bytes, Verdict] = {}
        self.name = engine.name
        self.revision = engine.revision

    def is_served(self) -> bool:
        """EngineUnavailable where it cannot be asked."""
        return self._engine.served_revision(deadline=monotonic() + _ASKED_WITHIN_S) == self.revision

    def verdicts(self, situations: Iterable[bytes], /, *, deadline: float) -> Iterator[tuple[bytes, Verdict]]:
        asked = list(situations)
        unknown = [each for each in asked if each not in self._known]
        found = dict(self._engine.verdicts(unknown, deadline=deadline)) if unknown else {}
        if len(self._known) + len(found) > _MOST_VERDICTS:
            self._known = {}
        known = {**self._known, **found}
        self._known = known  # at once: other threads read it
        for each in asked:
            if each not in known:  # it was forgotten meanwhile
                yield from self._engine.verdicts([each], deadline=deadline)
            else:
                yield each, known[each]

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        if self._by_name:
            try:
                return self._engine.document(own_name(rule, self.revision), given, deadline=deadline)
            except EngineMisbehaved:
                """An OPA without names of revisions: verdicts say whether it is of ours."""
        return self._engine.document(rule, given, deadline=deadline)


class Engines:
    """*name* and *opa_url* are as in Settings; *revision* is that of this worker."""

    def __init__(self, name: str, *, opa_url: str, revision: str) -> None:
        self._name = name
        self._opa_url = opa_url
        self._revision = revision
        self._lock = Lock()
        self._kept: dict[str, _Remembering] = {}
        self._rulings: dict[int, Ruling] = {}

    def ruling(self, looked: Looked, *, at: datetime | None) -> Ruling:
        """As `by_database`; what was published lately is parsed once."""
        publication = published(looked.connection, at)
        kept = self._rulings.get(publication.id) if publication else None
        if kept is not None:
            return kept
        made = by_database(looked, at=at)
        if made.publication:
            with self._lock:
                while len(self._rulings) >= _MOST_KEPT:
                    del self._rulings[next(iter(self._rulings))]
                self._rulings[made.publication.id] = made
        return made

    def of(self, compiled: Compiled) -> Engine:
        """CannotRead where OPA does not have this revision: it has ours, and mostly the one before."""
        with self._lock:
            kept = self._kept.get(compiled.revision)
            if kept is None:
                while len(self._kept) >= _MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
                made = engine_of(self._name, compiled, opa_url=self._opa_url, rules=RULES)
                kept = _Remembering(made, by_name=self._name == "opa")
                self._kept[compiled.revision] = kept
        if self._name == "opa" and compiled.revision != self._revision and not kept.is_served():
            raise CannotRead(
                f"OPA does not have revision {compiled.revision[:12]} any more: ask sidecar audit explain or"
                " sidecar audit diff instead."
            )
        return kept
