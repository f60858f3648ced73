"""Facts from PostgreSQL: one call of one function for each question, or for a thousand of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.decisions.model import Facts, Roster, Usage
from sidecar.errors import DatabaseNotMigrated, FactsMisread, FactsUnavailable, SidecarError
from sidecar.store.clock import CLOCK, Clock
from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.connections import Connections, Query, Refused, array
from sidecar.store.facts_token import FactsToken
from sidecar.store.names import Names, Spoken, in_our_names
from sidecar.store.outage import READ_ONLY
from sidecar.store.reads import Reads
from sidecar.store.rows import PlainRow, each_plain_row_in, plain_rows_in, rows_in, to_come_in
from sidecar.store.session import not_storable
from sidecar.text.encoding import decoded

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import ToCome
    from sidecar.decisions.ports import PlainFacts, PlainFound
    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.groups import Found, Members, Meters

    FoundPlainly = Callable[[list[PlainFound] | None, Exception | None], None]
    PlainlyDone = Callable[[tuple[Sequence[PlainFacts | None], datetime] | None, Exception | None], None]

TO_COME = Query(name=b"to_come", sql=b"SELECT authz.to_come($1, $2) WHERE authz.read_as($3)")
FACTS = Query(name=b"facts_for", sql=b"SELECT authz.facts_for($1, $2, $3) WHERE authz.read_as($4)")
PLAIN_FACTS = Query(name=b"plain_facts", sql=b"SELECT authz.plain_facts($1, $2) WHERE authz.read_as($3)")
WORKSPACES_OF = Query(
    name=b"workspaces_of",
    sql=b"SELECT authz.workspaces_of(($1::text[])[1], ($1::text[])[2], $2) WHERE authz.read_as($3)",
)
MEMBERS_OF = Query(
    name=b"members_of",
    sql=b"SELECT authz.members_of(($1::text[])[1], ($1::text[])[2], $2) WHERE authz.read_as($3)",
)
CATALOG_REVISION = Query(name=b"catalog_revision", sql=b"SELECT authz.catalog_revision()")
TAKES_WRITES = Query(name=b"takes_writes", sql=b"SELECT current_setting('transaction_read_only')")
CATALOG_IN_USE = Query(name=b"catalog_in_use", sql=b"SELECT authz.catalog_in_use() WHERE authz.read_as($1)")

_STATUSES = frozenset({"active", "suspended"})
_UNDEFINED = frozenset({"3F000", "42883"})  # the schema, a function
_MIGRATE = "run sidecar migrate"


class PostgresFacts:
    """A FactStore. Open it after the fork; each method ends by its deadline on the monotonic clock.

    FactsUnavailable on a timeout, FactsMisread when the answer is not what the schema promises,
    DatabaseNotMigrated when the database lacks a function.
    """

    def __init__(  # noqa: PLR0913 - what a worker joins
        self,
        url: str,
        /,
        *,
        catalog: Catalog,
        pool_size: int,
        statement_timeout_s: float = 1.0,
        lock_timeout_s: float = 0.1,
        options: ConnectionOptions = DEFAULT_OPTIONS,
        observe: Callable[[float, float], None] | None = None,
        names: Names | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._meters = tuple(catalog.meters)
        self._names = names or Names()
        self._clock = clock or Clock()
        self.connections = Connections(
            url,
            size=pool_size,
            statement_timeout_s=statement_timeout_s,
            lock_timeout_s=lock_timeout_s,
            options=options,
            observe=observe,
        )
        self._reads = Reads(self.connections, FactsReading(self._clock), names=self._names)
        self._plain_reads = Reads(self.connections, PlainReading(self._clock), names=self._names)

    def open(self, loop: AbstractEventLoop | None = None) -> AbstractEventLoop:
        """*loop* does all the work; without one there is one on a thread of its own. It is returned."""
        opened = self.connections.open(loop)
        self._reads.open(opened)
        self._plain_reads.open(opened)
        return opened

    def close(self) -> None:
        """From any thread; whoever waits is told."""
        self.connections.loop.run(self._reads.end)
        self.connections.loop.run(self._plain_reads.end)
        self.connections.close()

    def ask(self, members: Members, meters: Meters | None, /, *, deadline: float, done: Found) -> None:
        """As `facts`, on the loop: *done* is called once, later, with the facts or the error.

        UsageContended for a period that has begun by a clock that is not trusted.
        """
        self._reads.ask(members, self.meters_of(members, meters), deadline=deadline, done=done)

    def meters_of(self, members: Members, meters: Meters | None) -> Meters:
        """*meters*, or all of the catalog for each of *members*."""
        return [self._meters] * len(members) if meters is None else meters

    def facts(
        self, members: Members, meters: Meters | None = None, /, *, deadline: float
    ) -> list[Facts | None]:
        def ask(done: Found) -> None:
            self.ask(members, meters, deadline=deadline, done=done)

        return self.connections.loop.answer(ask, deadline=deadline)

    def plain_facts(self, members: Members, /, *, deadline: float) -> list[PlainFound]:
        """As `facts`, no more than questions need that take nothing, with the time that it is true of."""

        def ask(done: FoundPlainly) -> None:
            self.ask_plain_facts(members, deadline=deadline, done=done)

        return self.connections.loop.answer(ask, deadline=deadline)

    def ask_plain_facts(self, members: Members, /, *, deadline: float, done: FoundPlainly) -> None:
        """As `plain_facts`, on the loop: *done* is called once, later, with the facts or the error."""
        self._plain_reads.ask(members, [()] * len(members), deadline=deadline, done=done)

    def ask_plainly(
        self,
        users: Sequence[str],
        workspaces: Sequence[str],
        /,
        *,
        deadline: float,
        since: float,
        done: PlainlyDone,
    ) -> None:
        """On the loop: what questions need that take nothing, of all in one query. *since*: the first waits.

        *done* is called once, later, with a row for each and the time that they are true of, or the error;
        that is FactsMisread if anything is outside the contract. Whoever asks sees to how many queries there
        are at a time; see `Reads`.
        """

        def came(answer: bytes | None, error: Exception | None, spoken: Spoken) -> None:
            if error is not None:
                done(None, error)
                return
            try:
                rows, at = plain_rows_in(answer or b"", questions=len(users), spoken=spoken)
            except FactsMisread as misread:
                done(None, misread)
            else:
                self._clock.notice(at)
                done((rows, at), None)

        self._names.ask(
            PLAIN_FACTS,
            lambda _: (array(users), array(workspaces)),
            self.connections,
            deadline=deadline,
            since=since,
            done=came,
        )

    @property
    def silent(self) -> bool:
        """While True, one question at a time tries the server, and the others fail at once."""
        return self.connections.silent

    def meaning(self, error: Exception) -> Exception:
        """What to tell one of those who have asked so. A new one each time, for it is raised for each."""
        return meaning_of(error)

    def ask_to_come(
        self,
        meters: Mapping[UUID, Sequence[str]],
        /,
        *,
        deadline: float,
        done: Callable[[dict[UUID, Mapping[str, ToCome]] | None, Exception | None], None],
    ) -> None:
        """As `to_come`, on the loop: *done* is called once, later, with what it answers or the error."""

        def came(answer: bytes | None, error: Exception | None, spoken: Spoken) -> None:
            found: dict[UUID, Mapping[str, ToCome]] | None = None
            if error is None:
                try:
                    stored = to_come_in(answer or b"", workspaces=meters)
                    found = {id_: spoken.keys_to_ours("meter", of) for id_, of in stored.items()}
                except FactsMisread as misread:
                    error = misread
            done(found, None if error is None else meaning_of(error))

        def params(spoken: Spoken) -> list[bytes | None]:
            wanted = [[spoken.to_stored("meter", meter) for meter in each] for each in meters.values()]
            return [
                array([str(workspace) for workspace in meters]),
                array([",".join(each) for each in wanted]),
            ]

        self._names.ask(TO_COME, params, self.connections, deadline=deadline, done=came)

    def to_come(
        self, meters: Mapping[UUID, Sequence[str]], /, *, deadline: float
    ) -> dict[UUID, Mapping[str, ToCome]]:
        return self.connections.loop.answer(
            lambda done: self.ask_to_come(meters, deadline=deadline, done=done), deadline=deadline
        )

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        answer, spoken = self._named(WORKSPACES_OF, (array([user, after]), b"%d" % limit), deadline)
        return [facts_in(in_our_names(row, spoken), meters=self._meters) for row in _rows_in(answer)]

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:
        found, spoken = self._named(MEMBERS_OF, (array([workspace, after]), b"%d" % limit), deadline)
        match answer := _json_in(found):
            case {"facts": None, "members": []}:
                return Roster(facts=None, members=())
            case {"facts": dict(row), "members": [*members]} if members and all(map(_is_member, members)):
                facts = facts_in(in_our_names(row, spoken), meters=self._meters)
                return Roster(
                    facts=facts,
                    members=tuple((user, spoken.to_ours("role", role)) for user, role in members),
                )
            case _:
                raise FactsMisread(f"members outside their contract: {answer}")

    def revision(self, *, deadline: float) -> str | None:
        """The revision that the plan tables were published with; None if no catalog was."""
        revision = self._answer(CATALOG_REVISION, (), deadline)
        return None if revision is None else revision.decode()

    def require_writable(self, *, deadline: float) -> None:
        """FactsUnavailable where the server takes no writes, as PostgreSQL itself would refuse one."""
        if self._answer(TAKES_WRITES, (), deadline) != b"off":
            raise Refused(READ_ONLY, "it is read-only, a standby or set so").outage()

    def compare_clocks(self, *, deadline: float) -> None:
        """Let our clock know what the database's says."""
        self._clock.compare(self._answer(CLOCK, (), deadline))

    def missing(self, catalog: Catalog, *, deadline: float) -> tuple[str, ...]:
        """What keeps a sidecar from deciding by *catalog*, each with what to do; empty if nothing does.

        DatabaseNotMigrated if the database is too old to be asked.
        """
        found, spoken = self._named(CATALOG_IN_USE, (), deadline)
        match _json_in(found):
            case {"meters": dict(meters), "plans": [*held], "default_plan": default}:
                ours = [spoken.to_ours("plan", plan) for plan in held]
                chosen = None if default is None else spoken.to_ours("plan", default)
                return (
                    *_missing_meters(catalog, spoken.keys_to_ours("meter", meters)),
                    *_missing_plans(catalog, ours, chosen),
                )
            case answer:
                raise FactsMisread(f"the catalog in use is outside its contract: {answer}")

    def _named(self, query: Query, params: Sequence[bytes], deadline: float) -> tuple[bytes | None, Spoken]:
        try:
            return self._names.answer(query, lambda _: params, self.connections, deadline=deadline)
        except (FactsUnavailable, Refused) as error:
            raise meaning_of(error) from error

    def _answer(self, query: Query, params: Sequence[bytes], deadline: float) -> bytes | None:
        try:
            return self.connections.answer(query, params, deadline=deadline)
        except (FactsUnavailable, Refused) as error:
            raise meaning_of(error) from error


class FactsReading:
    """What authz.facts_for is asked and answers."""

    query = FACTS

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def params(self, members: Members, meters: Meters, spoken: Spoken) -> Sequence[bytes]:
        if not spoken.same:
            meters = [tuple(spoken.to_stored("meter", meter) for meter in needed) for needed in meters]
        return (
            array([user for user, _ in members]),
            array([workspace for _, workspace in members]),
            array([",".join(needed) for needed in meters]),
        )

    def rows(self, answer: bytes | None, meters: Meters, spoken: Spoken) -> list[Facts | SidecarError | None]:
        return self._clock.guard(rows_in(answer or b"", meters=meters, spoken=spoken))

    def meaning(self, error: Exception) -> Exception:
        return meaning_of(error)


class PlainReading:
    """What authz.plain_facts is asked and answers."""

    query = PLAIN_FACTS

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def params(self, members: Members, _: Meters, __: Spoken) -> Sequence[bytes]:
        return array([user for user, _ in members]), array([workspace for _, workspace in members])

    def rows(
        self, answer: bytes | None, meters: Meters, spoken: Spoken
    ) -> list[tuple[PlainFacts, datetime] | SidecarError | None]:
        rows, at = each_plain_row_in(answer or b"", questions=len(meters), spoken=spoken)
        self._clock.notice(at)
        return [(row, at) if isinstance(row, PlainRow) else row for row in rows]

    def meaning(self, error: Exception) -> Exception:
        return meaning_of(error)


def answered(answer: bytes | None, error: Exception | None) -> bytes | None:
    """*answer*; of what the connections have told instead, what it means is raised."""
    if error is not None:
        raise meaning_of(error)
    return answer


def meaning_of(error: Exception) -> Exception:
    """Of what the connections say. A new one each time, since it is raised on the thread of whoever asked."""
    if isinstance(error, Refused):
        if error.sqlstate in _UNDEFINED:
            return DatabaseNotMigrated(f"the database is of a version before: {_MIGRATE}")
        if error.is_of_a_value:
            return not_storable()
        return error.outage()
    if not isinstance(error, FactsUnavailable):
        return error
    if error.cause == "database_not_migrated":
        return DatabaseNotMigrated(f"the database was never migrated: {_MIGRATE}")
    return FactsUnavailable(error.detail, cause=error.cause)


def _rows_in(answer: bytes | None) -> list[Any]:
    rows = _json_in(answer)
    if not isinstance(rows, list):
        raise FactsMisread(f"a list of facts was expected, not {type(rows).__name__}")
    return rows


def _json_in(answer: bytes | None) -> object:
    try:
        return decoded(answer or b"")
    except ValueError as error:
        raise FactsMisread(f"what came is not JSON: {error}") from error


def _missing_meters(catalog: Catalog, there: dict[str, Any]) -> Iterator[str]:
    for name, meter in catalog.meters.items():
        if name not in there:
            yield f'meter "{name}" is not in the database: {_MIGRATE}'
        elif there[name] != [meter.kind, meter.per, meter.anchor]:
            yield f'meter "{name}" is counted otherwise in the database: {_MIGRATE}'


def _missing_plans(catalog: Catalog, held: list[Any], default: object) -> Iterator[str]:
    for name in held:
        if name not in catalog.plans:
            yield (
                f'plan "{name}" is held by workspaces and is not in the catalog: put it back, or move them to'
                " another plan first (sidecar migrate names them)"
            )
    if default is not None and default not in catalog.plans and default not in held:
        yield f'plan "{default}" is what new workspaces get and is not in the catalog: {_MIGRATE}'


def facts_in(row: Any, *, meters: Sequence[str]) -> Facts:  # noqa: ANN401 - JSON, and gone with this function
    """FactsMisread unless *row* is what authz.member_facts promises, with every one of *meters*."""
    try:
        usage = row["usage"]
        token = FactsToken(
            version=row["version"],
            periods=row.get("periods", {}),  # missing in a database before its migration
            until=row.get("until"),
        )
        facts = Facts(
            workspace_id=UUID(row["workspace_id"]),
            slug=row["slug"],
            name=row["name"],
            role=row["role"],
            plan=row["plan"],
            status=row["status"],
            feature_overrides=row["features"],
            limit_overrides=row["limits"]
            | {meter: usage[meter][4][0] for meter in meters if usage[meter][4:]},
            usage={meter: usage_in(*usage[meter][:3]) for meter in meters},
            at=datetime.fromisoformat(row["at"]),
            token=token,
            version=token.version,
            seats=row.get("seats") or {},  # ditto
        )
        texts: tuple[object, ...] = (
            facts.slug,
            facts.name,
            facts.role,
            facts.plan,
            *token.periods.values(),
            token.until or "",
        )
        if (
            facts.status not in _STATUSES
            or type(token.version) is not int
            or not all(type(text) is str for text in texts)
            or not all(type(value) is bool for value in facts.feature_overrides.values())
            or not all(value is None or _is_count(value) for value in facts.limit_overrides.values())
            or not all(map(_is_count, facts.seats.values()))
        ):
            raise FactsMisread(f"facts outside their contract: {row}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FactsMisread(f"facts outside their contract: {error!r} in {row}") from error
    return facts


def _is_member(row: object) -> bool:
    return isinstance(row, list) and [type(each) for each in row] == [str, str]


def usage_in(used: int, reserved: int, resets_at: str | None) -> Usage:
    """ValueError or TypeError unless these are the three figures of a meter."""
    if not (_is_count(used) and _is_count(reserved)):
        raise ValueError(f"{used!r} used, {reserved!r} reserved")
    return Usage(
        used=used, reserved=reserved, resets_at=datetime.fromisoformat(resets_at) if resets_at else None
    )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
