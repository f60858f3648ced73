"""What explains by a revision: its files and its engine, embedded for any, OPA for the one that it serves."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from sidecar.console.reading import CannotRead
from sidecar.engines.installed import engine_of
from sidecar.reports.explanation import RULES
from sidecar.reports.ruling import by_database
from sidecar.store.published import published

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sidecar.decisions.model import Verdict
    from sidecar.rego.compile import Compiled
    from sidecar.reports.explanation import Engine
    from sidecar.reports.ruling import Ruling
    from sidecar.store.auditing import Looked

_MOST_KEPT = 4
_MOST_VERDICTS = 20_000


class _Remembering:
    """*engine*, whose verdicts are kept: situations are few, and a page asks some dozens."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[bytes, Verdict] = {}
        self.name = engine.name
        self.revision = engine.revision

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
        return self._engine.document(rule, given, deadline=deadline)


class Engines:
    """*name* and *opa_url* are as in Settings; *revision* is that of this worker."""

    def __init__(self, name: str, *, opa_url: str, revision: str) -> None:
        self._name = name
        self._opa_url = opa_url
        self._revision = revision
        self._lock = Lock()
        self._kept: dict[str, Engine] = {}
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
                self._kept[compiled.revision] = _Remembering(made)
            return self._kept[compiled.revision]
