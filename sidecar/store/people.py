"""People in PostgreSQL: each change is one call of one function, under the lock of the workspace."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import UUID

from sidecar.errors import FactsMisread, FactsUnavailable, WorkspaceContended
from sidecar.store.connections import Query, Refused, array
from sidecar.store.facts_token import token_in
from sidecar.store.session import not_storable
from sidecar.workspaces.membership import Invitation, Member, Offer, WorkspaceSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.decisions.model import Facts
    from sidecar.store.connections import Connections
    from sidecar.workspaces.membership import Seats

Meaning = TypeVar("Meaning")

PROVISION = Query(name=b"see_user", sql=b"SELECT authz.see_user($1, $2, $3) FROM authz.acting_as($1, 'user')")
CREATE = Query(
    name=b"create_workspace",
    sql=b"SELECT authz.create_workspace($1, $2, $3) FROM authz.acting_as($2, 'user')",
)
RENAME = Query(
    name=b"rename_workspace",
    sql=b"SELECT authz.rename_workspace($1, $2, $3) FROM authz.acting_as($4, 'user')",
)
DELETE = Query(
    name=b"delete_workspace",
    sql=b"SELECT authz.delete_workspace($1, $2) FROM authz.acting_as($3, 'user')",
    repeatable=False,
)
PEOPLE_OF = Query(name=b"people_of", sql=b"SELECT authz.people_of($1, $2, $3)")
MEMBER_OF = Query(name=b"member_of", sql=b"SELECT authz.member_of($1, $2)")
CHANGE_ROLE = Query(
    name=b"change_role", sql=b"SELECT authz.change_role($1, $2, $3, $4) FROM authz.acting_as($5, 'user')"
)
REMOVE = Query(
    name=b"remove_member",
    sql=b"SELECT authz.remove_member($1, $2, $3) FROM authz.acting_as($4, 'user')",
    repeatable=False,
)
TRANSFER = Query(
    name=b"transfer_ownership",
    sql=b"SELECT authz.transfer_ownership($1, $2, $3, $4) FROM authz.acting_as($5, 'user')",
    repeatable=False,
)
INVITE = Query(
    name=b"invite",
    sql=b"SELECT authz.invite($1, $2, $3, $4, $5, $6, $7, $8, $9) FROM authz.acting_as($4, 'user')",
)
IS_INVITED = Query(name=b"is_invited", sql=b"SELECT authz.is_invited($1, $2)")
INVITATIONS_OF = Query(name=b"invitations_of", sql=b"SELECT authz.invitations_of($1, $2, $3)")
REVOKE = Query(
    name=b"revoke_invitation",
    sql=b"SELECT authz.revoke_invitation($1, $2, $3) FROM authz.acting_as($4, 'user')",
    repeatable=False,
)
OFFER = Query(name=b"invitation_by_token", sql=b"SELECT authz.invitation_by_token($1)")
ACCEPT = Query(
    name=b"accept_invitation",
    sql=b"SELECT authz.accept_invitation($1, $2, $3, $4, $5, $6, $7) FROM authz.acting_as($4, 'user')",
    repeatable=False,
)

_READS = frozenset({PEOPLE_OF, MEMBER_OF, IS_INVITED, INVITATIONS_OF, OFFER})
_CHANGED_SINCE = "AZ010"
# lock_not_available, deadlock_detected, query_canceled (our own statement_timeout), serialization_failure
_CONTENDED = frozenset({_CHANGED_SINCE, "55P03", "40P01", "57014", "40001"})


class PostgresPeople:
    """A PeopleStore that reads on the connections of facts, and changes on others, which may take longer."""

    def __init__(self, *, reads: Connections, changes: Connections) -> None:
        self._reads = reads
        self._changes = changes

    def provision(self, user: str, email: str | None, /, *, verified: bool, deadline: float) -> None:
        self._answer(PROVISION, (user, email, "true" if verified else "false"), deadline)

    def create(self, id_: UUID, user: str, name: str, /, *, deadline: float) -> WorkspaceSummary:
        return self._read(CREATE, (str(id_), user, name), deadline, _summary_in)

    def rename(self, seen: Facts, name: str, /, *, actor: str, deadline: float) -> None:
        self._answer(RENAME, (*_by(seen), name, actor), deadline)

    def delete(self, seen: Facts, /, *, actor: str, deadline: float) -> None:
        self._answer(DELETE, (*_by(seen), actor), deadline)

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

    def change_role(self, seen: Facts, user: str, role: str, /, *, actor: str, deadline: float) -> Member:
        return self._read(CHANGE_ROLE, (*_by(seen), user, role, actor), deadline, _member_in)

    def remove(self, seen: Facts, user: str, /, *, actor: str, deadline: float) -> None:
        self._answer(REMOVE, (*_by(seen), user, actor), deadline)

    def transfer(
        self, seen: Facts, user: str, former_role: str, /, *, actor: str, deadline: float
    ) -> tuple[Member, Member]:
        params = (*_by(seen), user, former_role, actor)
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
        actor: str,
        deadline: float,
    ) -> Invitation | None:
        params = (*_by(seen), str(id_), actor, email, role, token_hash, *_arrays(seats))
        return self._read(INVITE, params, deadline, lambda row: None if row is None else _invitation_in(row))

    def is_invited(self, workspace_id: UUID, email: str, /, *, deadline: float) -> bool:
        return self._answer(IS_INVITED, (str(workspace_id), email), deadline) == b"t"

    def invitations(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Invitation]:
        params = (str(workspace_id), after, str(limit))
        return self._read(INVITATIONS_OF, params, deadline, lambda rows: _each(_invitation_in, rows))

    def revoke(self, seen: Facts, invitation: UUID, /, *, actor: str, deadline: float) -> bool:
        return self._answer(REVOKE, (*_by(seen), str(invitation), actor), deadline) == b"t"

    def offer(self, token_hash: str, /, *, deadline: float) -> Offer | None:
        return self._read(OFFER, (token_hash,), deadline, lambda row: None if row is None else _offer_in(row))

    def accept(
        self, seen: Facts, token_hash: str, user: str, email: str, /, *, seats: Seats, deadline: float
    ) -> Literal["joined", "full", "invalid"]:
        params = (*_by(seen), token_hash, user, email, *_arrays(seats))
        match self._answer(ACCEPT, params, deadline):
            case b"joined":
                return "joined"
            case b"full":
                return "full"
            case b"invalid":
                return "invalid"
            case other:
                raise FactsMisread(f"an invitation was accepted outside of its contract: {other!r}")

    def _read(
        self,
        query: Query,
        params: Sequence[str | bytes | None],
        deadline: float,
        meaning: Callable[[Any], Meaning],
    ) -> Meaning:
        found = self._answer(query, params, deadline)
        try:
            return meaning(None if found is None else json.loads(found))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FactsMisread(f"people outside of their contract: {error!r}") from error

    def _answer(self, query: Query, params: Sequence[str | bytes | None], deadline: float) -> bytes | None:
        connections = self._reads if query in _READS else self._changes
        sent = [param.encode() if isinstance(param, str) else param for param in params]
        try:
            return connections.answer(query, sent, deadline=deadline)
        except Refused as refused:
            if refused.sqlstate in _CONTENDED:
                raise WorkspaceContended(f"{refused} ({refused.sqlstate})") from refused
            if refused.is_of_a_value:
                raise not_storable() from refused
            raise FactsUnavailable(f"PostgreSQL refused ({refused.sqlstate}): {refused}") from refused


def _by(seen: Facts) -> tuple[str, str]:
    return str(seen.workspace_id), str(token_in(seen.token).version)


def _arrays(seats: Seats) -> tuple[bytes, bytes]:
    meters = sorted(seats.limits)
    limits = [seats.limits[meter] for meter in meters]
    return array(meters), array([None if limit is None else str(limit) for limit in limits])


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
