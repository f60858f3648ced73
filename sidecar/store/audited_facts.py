"""Facts on an auditor's connection: what the sidecar would decide by, in the snapshot of one report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sidecar.decisions.model import Facts, Roster
from sidecar.errors import FactsMisread, SidecarError
from sidecar.store.names import Spoken, in_our_names, spoken_in
from sidecar.store.postgres import facts_in
from sidecar.store.rows import rows_in, to_come_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import psycopg

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import ToCome

FACTS_FOR = "SELECT authz.facts_for(%s::text[], %s::text[], %s::text[])::text"
MEMBERS_OF = "SELECT authz.members_of(%s, %s, %s)"
TO_COME = "SELECT authz.to_come(%s::uuid[], %s::text[])::text"
NAMES_FOR = "SELECT authz.names_for(%s)::text"


class AuditedFacts:
    """A FactStore for questions about workspaces; *revision* is that whose names *catalog* has.

    *connection* is within one transaction of `sidecar.store.auditing.looking`, whose errors it raises.
    """

    def __init__(self, connection: psycopg.Connection, *, catalog: Catalog, revision: str) -> None:
        self._connection = connection
        self._meters = tuple(catalog.meters)
        self.spoken = spoken_for(connection, revision)

    def facts(
        self,
        members: Sequence[tuple[str, str]],
        meters: Sequence[tuple[str, ...]] | None = None,
        /,
        *,
        deadline: float,  # noqa: ARG002 - the statement has a time limit of its own
    ) -> list[Facts | None]:
        needed = [self._meters] * len(members) if meters is None else meters
        stored = [",".join(self.spoken.to_stored("meter", meter) for meter in each) for each in needed]
        users, workspaces = [user for user, _ in members], [workspace for _, workspace in members]
        answer = _one(self._connection.execute(FACTS_FOR, (users, workspaces, stored)))
        found: list[Facts | None] = []
        for row in rows_in(str(answer).encode(), meters=needed, spoken=self.spoken):
            if isinstance(row, SidecarError):
                raise row
            found.append(row)
        return found

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:  # noqa: ARG002 - as above
        answer = _one(self._connection.execute(MEMBERS_OF, (workspace, after, limit)))
        match answer:
            case {"facts": facts, "members": [*members]}:
                found = facts_in(in_our_names(facts, self.spoken), meters=self._meters) if facts else None
                named = tuple((user, self.spoken.to_ours("role", role)) for user, role in members)
                return Roster(facts=found, members=named)
            case _:
                raise FactsMisread(f"members outside their contract: {answer}")

    def to_come(
        self,
        meters: Mapping[UUID, Sequence[str]],
        /,
        *,
        deadline: float,  # noqa: ARG002 - as above
    ) -> dict[UUID, Mapping[str, ToCome]]:
        wanted = [
            ",".join(self.spoken.to_stored("meter", meter) for meter in each) for each in meters.values()
        ]
        answer = _one(self._connection.execute(TO_COME, (list(meters), wanted)))
        stored = to_come_in(str(answer).encode(), workspaces=meters)
        return {workspace: self.spoken.keys_to_ours("meter", of) for workspace, of in stored.items()}

    def workspaces_of(self, user: str, /, **page: object) -> NoReturn:  # noqa: ARG002 - there is none
        """A report goes by workspace: authz_audit may not list by user."""
        raise FactsMisread(
            f"an auditor asked for the workspaces of {user}, not for the people of a workspace"
        )


def spoken_for(connection: psycopg.Connection, revision: str) -> Spoken:
    """The names of *revision* as they are stored; as they are, where the database does not remember it."""
    spoken, _ = spoken_in(str(_one(connection.execute(NAMES_FOR, (revision,)))).encode())
    return spoken


def _one(cursor: psycopg.Cursor) -> object:
    row = cursor.fetchone()
    return row[0] if row else None
