"""People in PostgreSQL: each change is one call of one function, under the lock of the workspace."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import UUID

from sidecar.errors import FactsMisread, UnknownUser, WorkspaceContended
from sidecar.store.connections import Query, Refused, array
from sidecar.store.facts_token import token_in
from sidecar.store.names import ManyNames, Name, Names, params_in
from sidecar.store.session import not_storable
from sidecar.workspaces.membership import Invitation, Member, Offer, WorkspaceSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.decisions.model import Facts
    from sidecar.store.connections import Connections
    from sidecar.store.names import Kind, Param, Spoken
    from sidecar.workspaces.membership import Provenance, Seats

Meaning = TypeVar("Meaning")

PROVISION = Query(
    name=b"see_user",
    changes=True,
    sql=b"SELECT authz.see_user($1, $2, $3) FROM authz.acting_as($1, 'user', $4, $5), authz.change_as($6)",
)
CREATE = Query(
    name=b"create_workspace",
    changes=True,
    sql=b"SELECT authz.create_workspace($1, $2, $3)"
    b" FROM authz.acting_as($2, 'user', $4, $5), authz.change_as($6)",
)
CREATE_DECIDED = Query(
    name=b"found_workspace",
    changes=True,
    sql=b"SELECT authz.found_workspace($1, $2, $3, $4, $5, $6)"
    b" FROM authz.acting_as($2, 'user', $7, $8), authz.change_as($9)",
)
STANDING_OF = Query(name=b"standing_of", sql=b"SELECT authz.standing_of($1) WHERE authz.read_as($2)")
OLDEST_OWNED = Query(name=b"oldest_owned", sql=b"SELECT authz.oldest_owned($1) WHERE authz.read_as($2)")
RENAME = Query(
    name=b"rename_workspace",
    changes=True,
    sql=b"SELECT authz.rename_workspace($1, $2, $3)"
    b" FROM authz.acting_as($4, 'user', $5, $6), authz.change_as($7)",
)
DELETE = Query(
    name=b"delete_workspace",
    changes=True,
    sql=b"SELECT authz.delete_workspace($1, $2)"
    b" FROM authz.acting_as($3, 'user', $4, $5), authz.change_as($6)",
    repeatable=False,
)
PEOPLE_OF = Query(name=b"people_of", sql=b"SELECT authz.people_of($1, $2, $3) WHERE authz.read_as($4)")
MEMBER_OF = Query(name=b"member_of", sql=b"SELECT authz.member_of($1, $2) WHERE authz.read_as($3)")
CHANGE_ROLE = Query(
    name=b"change_role",
    changes=True,
    sql=b"SELECT authz.change_role($1, $2, $3, $4)"
    b" FROM authz.acting_as($5, 'user', $6, $7), authz.change_as($8)",
)
REMOVE = Query(
    name=b"remove_member",
    changes=True,
    sql=b"SELECT authz.remove_member($1, $2, $3)"
    b" FROM authz.acting_as($4, 'user', $5, $6), authz.change_as($7)",
    repeatable=False,
)
TRANSFER = Query(
    name=b"transfer_ownership",
    changes=True,
    sql=b"SELECT authz.transfer_ownership($1, $2, $3, $4)"
    b" FROM authz.acting_as($5, 'user', $6, $7), authz.change_as($8)",
    repeatable=False,
)
INVITE = Query(
    name=b"invite",
    changes=True,
    sql=b"SELECT authz.invite($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    b" FROM authz.acting_as($4, 'user', $10, $11), authz.change_as($12)",
)
IS_INVITED = Query(name=b"is_invited", sql=b"SELECT authz.is_invited($1, $2) WHERE authz.read_as($3)")
INVITATIONS_OF = Query(
    name=b"invitations_of", sql=b"SELECT authz.invitations_of($1, $2, $3) WHERE authz.read_as($4)"
)
HAS_MEMBER = Query(name=b"has_member", sql=b"SELECT authz.has_member($1, $2) WHERE authz.read_as($3)")
REVOKE = Query(
    name=b"revoke_invitation",
    changes=True,
    sql=b"SELECT authz.revoke_invitation($1, $2, $3)"
    b" FROM authz.acting_as($4, 'user', $5, $6), authz.change_as($7)",
    repeatable=False,
)
OFFER = Query(
    name=b"invitation_by_token",
    sql=b"SELECT authz.invitation_by_token($1) WHERE authz.read_as($2)",
)
ACCEPT = Query(
    name=b"accept_invitation",
    changes=True,
    sql=b"SELECT authz.accept_invitation($1, $2, $3, $4, $5, $6, $7)"
    b" FROM authz.acting_as($4, 'user', $8, $9), authz.change_as($10)",
    repeatable=False,
)

_READS = frozenset(
    {PEOPLE_OF, MEMBER_OF, HAS_MEMBER, IS_INVITED, INVITATIONS_OF, OFFER, STANDING_OF, OLDEST_OWNED}
)
_CHANGED_SINCE = "AZ010"
_WAS_DELETED = "AZ020"
# lock_not_available, deadlock_detected, query_canceled (our own statement_timeout), serialization_failure
_CONTENDED = frozenset({_CHANGED_SINCE, "55P03", "40P01", "57014", "40001"})


class PostgresPeople:
    """A PeopleStore that reads on the connections of facts, and changes on others, which may take longer."""

    def __init__(self, *, reads: Connections, changes: Connections, names: Names | None = None) -> None:
        self._names = names or Names()
        self._reads = reads
        self._changes = changes

    def provision(
        self, user: str, email: str | None, /, *, verified: bool, by: Provenance, deadline: float
    ) -> bool:
        params = (user, email, "true" if verified else "false", *_of(by))
        return self._answer(PROVISION, params, deadline) == b"created"

    def create(
        self, id_: UUID, user: str, name: str, /, *, by: Provenance, deadline: float
    ) -> WorkspaceSummary:
        return self._read(CREATE, (str(id_), user, name, *_of(by)), deadline, _summary_in)

    def standing(self, user: str, /, *, deadline: float) -> Literal["nobody", "homeless", "member"]:
        match self._answer(STANDING_OF, (user,), deadline):
            case b"nobody":
                return "nobody"
            case b"homeless":
                return "homeless"
            case b"member":
                return "member"
            case other:
                raise FactsMisread(f"the standing of a user outside of its contract: {other!r}")

    def oldest_owned(self, user: str, /, *, deadline: float) -> UUID | None:
        found = self._answer(OLDEST_OWNED, (user,), deadline)
        try:
            return None if found is None else UUID(found.decode())
        except ValueError as error:
            raise FactsMisread(f"the id of a workspace outside of its contract: {found!r}") from error

    def create_decided(
        self,
        id_: UUID,
        user: str,
        name: str,
        /,
        *,
        seen: Facts | None,
        owned_at_most: int | None,
        by: Provenance,
        deadline: float,
    ) -> WorkspaceSummary | None:
        decided_by = (None, None) if seen is None else _by(seen)
        most = None if owned_at_most is None else str(owned_at_most)
        return self._read(
            CREATE_DECIDED,
            (str(id_), user, name, *decided_by, most, *_of(by)),
            deadline,
            lambda row: None if row is None else _summary_in(row),
        )

    def rename(self, seen: Facts, name: str, /, *, by: Provenance, deadline: float) -> None:
        self._answer(RENAME, (*_by(seen), name, by.user, *_of(by)), deadline)

    def delete(self, seen: Facts, /, *, by: Provenance, deadline: float) -> None:
        self._answer(DELETE, (*_by(seen), by.user, *_of(by)), deadline)

    def members(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Member]:
        params = (str(workspace_id), after, str(limit))
        return self._read(PEOPLE_OF, params, deadline, lambda rows: _each(_member_in, rows))

    def member(self, workspace_id: UUID, user: str, /, *, deadline: float) -> Member | None:
        return self._read(
            MEMBER_OF,
            (str(workspace_id), user),
            deadline,
            lambda row: None if row is None else _member_in(row),
        )

    def change_role(self, seen: Facts, user: str, role: str, /, *, by: Provenance, deadline: float) -> Member:
        return self._read(
            CHANGE_ROLE, (*_by(seen), user, Name("role", role), by.user, *_of(by)), deadline, _member_in
        )

    def remove(self, seen: Facts, user: str, /, *, by: Provenance, deadline: float) -> None:
        self._answer(REMOVE, (*_by(seen), user, by.user, *_of(by)), deadline)

    def transfer(
        self,
        seen: Facts,
        user: str,
        former_role: str,
        /,
        *,
        by: Provenance,
        deadline: float,
    ) -> tuple[Member, Member]:
        params = (*_by(seen), user, Name("role", former_role), by.user, *_of(by))
        return self._read(TRANSFER, params, deadline, lambda rows: (_member_in(rows[0]), _member_in(rows[1])))

    def invite(
        self,
        seen: Facts,
        id_: UUID,
        email: str,
        role: str,
        /,
        *,
        token_hash: str,
        seats: Seats,
        by: Provenance,
        deadline: float,
    ) -> Invitation | None:
        params = (
            *_by(seen),
            str(id_),
            by.user,
            email,
            Name("role", role),
            token_hash,
            *_arrays(seats),
            *_of(by),
        )
        return self._read(INVITE, params, deadline, lambda row: None if row is None else _invitation_in(row))

    def has_member(self, workspace_id: UUID, email: str, /, *, deadline: float) -> bool:
        return self._answer(HAS_MEMBER, (str(workspace_id), email), deadline) == b"t"

    def is_invited(self, workspace_id: UUID, email: str, /, *, deadline: float) -> bool:
        return self._answer(IS_INVITED, (str(workspace_id), email), deadline) == b"t"

    def invitations(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Invitation]:
        params = (str(workspace_id), after, str(limit))
        return self._read(INVITATIONS_OF, params, deadline, lambda rows: _each(_invitation_in, rows))

    def revoke(self, seen: Facts, invitation: UUID, /, *, by: Provenance, deadline: float) -> bool:
        return self._answer(REVOKE, (*_by(seen), str(invitation), by.user, *_of(by)), deadline) == b"t"

    def offer(self, token_hash: str, /, *, deadline: float) -> Offer | None:
        return self._read(OFFER, (token_hash,), deadline, lambda row: None if row is None else _offer_in(row))

    def accept(
        self,
        seen: Facts,
        token_hash: str,
        user: str,
        email: str,
        /,
        *,
        seats: Seats,
        by: Provenance,
        deadline: float,
    ) -> Literal["joined", "full", "invalid", "member"]:
        params = (*_by(seen), token_hash, user, email, *_arrays(seats), *_of(by))
        match self._answer(ACCEPT, params, deadline):
            case b"joined":
                return "joined"
            case b"full":
                return "full"
            case b"invalid":
                return "invalid"
            case b"member":
                return "member"
            case other:
                raise FactsMisread(f"an invitation was accepted outside of its contract: {other!r}")

    def _read(
        self,
        query: Query,
        params: Sequence[Param],
        deadline: float,
        meaning: Callable[[Any], Meaning],
    ) -> Meaning:
        found, spoken = self._named(query, params, deadline)
        try:
            return meaning(None if found is None else _in_our_names(json.loads(found), spoken))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FactsMisread(f"people outside of their contract: {error!r}") from error

    def _answer(self, query: Query, params: Sequence[Param], deadline: float) -> bytes | None:
        found, _ = self._named(query, params, deadline)
        return found

    def _named(self, query: Query, params: Sequence[Param], deadline: float) -> tuple[bytes | None, Spoken]:
        connections = self._reads if query in _READS else self._changes
        try:
            return self._names.answer(query, partial(params_in, params), connections, deadline=deadline)
        except Refused as refused:
            if refused.sqlstate == _WAS_DELETED:
                raise UnknownUser("the user was deleted") from refused
            if refused.sqlstate in _CONTENDED:
                raise WorkspaceContended(f"{refused} ({refused.sqlstate})") from refused
            if refused.is_of_a_value:
                raise not_storable() from refused
            raise refused.outage() from refused


def _of(by: Provenance) -> tuple[str | None, str | None]:
    return by.decision, by.via


def _by(seen: Facts) -> tuple[str, str]:
    return str(seen.workspace_id), str(token_in(seen.token).version)


def _in_our_names(found: Any, spoken: Spoken) -> Any:  # noqa: ANN401 - JSON
    """Rows with a role or a plan, alone or in a list."""
    if isinstance(found, list):
        return [_in_our_names(each, spoken) for each in found]
    if not isinstance(found, dict):
        return found
    kinds: tuple[tuple[str, Kind], ...] = (("role", "role"), ("plan_tier", "plan"))
    return found | {field: spoken.to_ours(kind, found[field]) for field, kind in kinds if field in found}


def _arrays(seats: Seats) -> tuple[ManyNames, bytes]:
    meters = sorted(seats.limits)
    limits = [seats.limits[meter] for meter in meters]
    return ManyNames("meter", meters), array([None if limit is None else str(limit) for limit in limits])


def _each(row: Callable[[Any], Meaning], rows: object) -> list[Meaning]:
    if not isinstance(rows, list):
        raise TypeError(f"a list was expected, not {type(rows).__name__}")
    return [row(each) for each in rows]


def _member_in(row: dict[str, Any]) -> Member:
    return Member(
        user=row["user"],
        role=row["role"],
        email=row["email"],
        joined_at=datetime.fromisoformat(row["joined_at"]),
    )


def _summary_in(row: dict[str, Any]) -> WorkspaceSummary:
    return WorkspaceSummary(
        id=UUID(row["id"]), slug=row["slug"], name=row["name"], plan=row["plan_tier"], role=row["role"]
    )


def _invitation_in(row: dict[str, Any]) -> Invitation:
    return Invitation(
        id=UUID(row["id"]),
        email=row["email"],
        role=row["role"],
        invited_by=row["invited_by"],
        created_at=datetime.fromisoformat(row["created_at"]),
        expires_at=datetime.fromisoformat(row["expires_at"]),
    )


def _offer_in(row: dict[str, Any]) -> Offer:
    return Offer(
        invitation=_invitation_in(row), workspace_id=UUID(row["workspace_id"]), members=row["members"]
    )
