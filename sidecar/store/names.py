"""Names of the catalog as this process knows them, and as the database stores them since a later revision.

A published revision may rename what rows refer to. A process goes on with its own revision: its names are
translated here, on their way to the database and back (docs/decisions/0044). Each query says which generation
of names it uses; the database refuses another, and then the names are read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from sidecar.errors import DatabaseNotMigrated, FactsMisread, FactsUnavailable
from sidecar.store.connections import Connections, Query, array
from sidecar.store.session import Refused
from sidecar.text.encoding import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Kind: TypeAlias = Literal["role", "feature", "meter", "plan", "action"]
Value = TypeVar("Value")

NAMES = Query(name=b"names_for", sql=b"SELECT authz.names_for($1)")
RENAMED = "AZ011"  # the SQLSTATE of another generation
DEAD = "#"  # in a stored name that no catalog can declare
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """The names of one generation: *stored* has, by kind, those that are stored by another name than ours."""

    generation: bytes | None = None
    stored: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _ours: Mapping[str, Mapping[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        ours = {kind: {there: own for own, there in names.items()} for kind, names in self.stored.items()}
        object.__setattr__(self, "_ours", ours)

    @property
    def same(self) -> bool:
        """Whether every name is stored as we know it."""
        return not self.stored

    def to_stored(self, kind: Kind, name: str) -> str:
        return self.stored[kind].get(name, name) if kind in self.stored else name

    def to_ours(self, kind: Kind, name: str) -> str:
        """A name that is another's by now, though we have one that is spelt like it, becomes a dead one."""
        if kind not in self.stored:
            return name
        own = self._ours[kind].get(name)
        if own is not None:
            return own
        return DEAD + name if name in self.stored[kind] else name

    def keys_to_stored(self, kind: Kind, values: Mapping[str, Value]) -> dict[str, Value]:
        return {self.to_stored(kind, name): value for name, value in values.items()}

    def keys_to_ours(self, kind: Kind, values: Mapping[str, Value]) -> dict[str, Value]:
        """Without what is dead."""
        named = ((self.to_ours(kind, name), value) for name, value in values.items())
        return {name: value for name, value in named if DEAD not in name}


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter that is a name of ours."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class ManyNames:
    """A parameter that is a text[] of names of ours."""

    kind: Kind
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Keyed:
    """A parameter that is a JSON object of names of ours; None is NULL."""

    kind: Kind
    values: Mapping[str, object] | None


Param: TypeAlias = str | bytes | Name | ManyNames | Keyed | None
ParamsOf: TypeAlias = "Callable[[Spoken], Sequence[bytes | None]]"
Told: TypeAlias = "Callable[[bytes | None, Exception | None, Spoken], None]"


def params_in(params: Sequence[Param], spoken: Spoken) -> list[bytes | None]:
    """*params* as libpq takes them, with the names that are stored."""
    return [_param(each, spoken) for each in params]


def _param(param: Param, spoken: Spoken) -> bytes | None:
    match param:
        case Name():
            return spoken.to_stored(param.kind, param.name).encode()
        case ManyNames():
            return array([spoken.to_stored(param.kind, name) for name in param.names])
        case Keyed(values=None):
            return None
        case Keyed():
            return encoded(spoken.keys_to_stored(param.kind, param.values or {}))
        case str():
            return param.encode()
        case _:
            return param


# What the fields of the objects hold that functions of the ledger and authz.member_facts answer.
_A_NAME: Mapping[str, Kind] = {"role": "role", "plan": "plan", "action": "action"}
_BY_NAME: Mapping[str, Kind] = {
    "features": "feature",
    **dict.fromkeys(
        (
            "amounts",
            "committed",
            "frees_at",
            "given_back",
            "limits",
            "periods",
            "quota",
            "released",
            "seats",
            "taken",
            "usage",
        ),
        "meter",
    ),
}
_INNER = frozenset({"answer", "facts", "now", "reservation", "usage_now"})


def in_our_names(found: Any, spoken: Spoken) -> Any:  # noqa: ANN401 - JSON
    """An object of the ledger or of authz.member_facts, without what is dead; all else is as it was."""
    if not isinstance(found, dict):
        return found
    ours = dict(found)
    for field_, value in found.items():
        if field_ in _INNER:
            ours[field_] = in_our_names(value, spoken)
        elif (kind := _A_NAME.get(field_)) and isinstance(value, str):
            ours[field_] = spoken.to_ours(kind, value)
        elif (kind := _BY_NAME.get(field_)) and isinstance(value, dict):
            ours[field_] = spoken.keys_to_ours(kind, value)
        elif field_ == "meters" and isinstance(value, list):
            ours[field_] = [spoken.to_ours("meter", meter) for meter in value]
    return ours


class Names:
    """Of one process, for its *revision*; without one, names are as they are, and no generation is said.

    Every query that goes through here has one parameter more than it is given: the generation.
    """

    def __init__(self, revision: str | None = None) -> None:
        self._revision = revision
        self._was_known = False
        # No generation is -1: the first query makes us read them.
        self.spoken = Spoken(generation=None if revision is None else b"-1")

    def ask(
        self,
        query: Query,
        params_of: ParamsOf,
        connections: Connections,
        *,
        deadline: float,
        done: Told,
        since: float | None = None,
        tries: int = _TRIES,
    ) -> None:
        """On the loop of *connections*: *done* also gets the names that the answer is in."""
        spoken = self.spoken

        def came(value: bytes | None, error: Exception | None) -> None:
            if not (isinstance(error, Refused) and error.sqlstate == RENAMED):
                done(value, error, spoken)
            elif tries > 1:
                again = partial(
                    self.ask, query, params_of, connections, deadline=deadline, done=done, tries=tries - 1
                )
                connections.ask(NAMES, self._asked(), deadline=deadline, done=partial(read, again))
            else:
                done(None, _too_often(), spoken)

        def read(again: Callable[[], None], value: bytes | None, error: Exception | None) -> None:
            try:
                if error is not None:
                    raise error
                self._read(value)
            except (FactsUnavailable, FactsMisread, DatabaseNotMigrated, Refused) as failure:
                done(None, failure, spoken)
            else:
                again()

        params = [*params_of(spoken), spoken.generation]
        connections.ask(query, params, deadline=deadline, done=came, since=since)

    def answer(
        self, query: Query, params_of: ParamsOf, connections: Connections, *, deadline: float
    ) -> tuple[bytes | None, Spoken]:
        """As `Connections.answer`, with the names that the answer is in."""
        for _ in range(_TRIES):
            spoken = self.spoken
            try:
                params = [*params_of(spoken), spoken.generation]
                return connections.answer(query, params, deadline=deadline), spoken
            except Refused as refused:
                if refused.sqlstate != RENAMED:
                    raise
            self._read(connections.answer(NAMES, self._asked(), deadline=deadline))
        raise _too_often()

    def _asked(self) -> list[bytes | None]:
        return [None if self._revision is None else self._revision.encode()]

    def _read(self, value: bytes | None) -> None:
        """DatabaseNotMigrated for a revision that is so old that its names are forgotten."""
        spoken, is_known = spoken_in(value or b"")
        if not is_known and self._was_known:
            raise DatabaseNotMigrated(
                f"revision {self._revision} is older than the two before the published one: its names are"
                " forgotten; start this sidecar again with the published catalog"
            )
        self._was_known = self._was_known or is_known
        self.spoken = spoken


def spoken_in(value: bytes) -> tuple[Spoken, bool]:
    """What authz.names_for answers, and whether it remembers the names of the revision. FactsMisread."""
    found: Any = None
    try:
        found = decoded(value)
        generation, names = found["generation"], found["names"]
        stored = {kind: dict(renamed) for kind, renamed in (names or {}).items() if renamed}
        return Spoken(generation=b"%d" % generation, stored=stored), names is not None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FactsMisread(f"names outside their contract: {error!r} in {found}") from error


def _too_often() -> FactsUnavailable:
    return FactsUnavailable("the catalog was published again and again while one question was asked")
