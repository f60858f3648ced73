"""Administration in PostgreSQL: each change of a workspace is one call of a SQL function."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.errors import (
    BadQuestion,
    FactsMisread,
    FactsUnavailable,
    FieldFault,
    UnknownPlan,
    UnknownWorkspace,
)
from sidecar.store.connections import Connections, Query, Refused, array
from sidecar.store.moments import moment_of
from sidecar.store.names import DEAD, Keyed, Name, Names, params_in
from sidecar.store.session import not_storable
from sidecar.store.similar import nearest_slug, slug_asked_for, spellings_near
from sidecar.workspaces.administration import (
    Override,
    OverridesChange,
    PlanChange,
    StatusChange,
    WorkspaceState,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from datetime import datetime

    from sidecar.store.names import Param, Spoken
    from sidecar.workspaces.administration import Change

SET_PLAN = Query(
    name=b"set_plan",
    sql=b"SELECT authz.set_plan($1, $2, $3) FROM authz.acting_as($4, 'caller', $5), authz.change_as($6)",
)
SET_OVERRIDES = Query(
    name=b"set_overrides",
    sql=b"SELECT authz.set_overrides($1, $2, $3, $4, $5) FROM authz.acting_as($6, 'caller', $7),"
    b" authz.change_as($8)",
)
SET_STATUS = Query(
    name=b"set_status",
    sql=b"SELECT authz.set_status($1, $2, $3) FROM authz.acting_as($4, 'caller', $5), authz.change_as($6)",
)
SLUGS_LIKE = Query(name=b"slugs_like", sql=b"SELECT authz.slugs_like($1, $2)")


class WorkspaceStore:
    """An AdministrationStore. Open it after the fork. The outbox names the *actor* of each change."""

    def __init__(
        self,
        url: str,
        /,
        *,
        pool_size: int = 2,
        lock_timeout_s: float = 1.0,
        pooler: bool = False,
        names: Names | None = None,
    ) -> None:
        self._names = names or Names()
        self.connections = Connections(
            url, size=pool_size, statement_timeout_s=5.0, lock_timeout_s=lock_timeout_s, pooler=pooler
        )

    def open(self, loop: AbstractEventLoop | None = None) -> None:
        self.connections.open(loop)

    def close(self) -> None:
        self.connections.close()

    def apply(
        self, workspace: str, change: Change, /, *, actor: str, decision: str | None = None, deadline: float
    ) -> WorkspaceState:
        query, changed = _call_of(workspace, change)
        params = (*changed, actor, decision)

        def params_of(spoken: Spoken) -> list[bytes | None]:
            texts = params_in(
                [each.encode(errors="surrogatepass") if isinstance(each, str) else each for each in params],
                spoken,
            )
            if any(text and b"\0" in text for text in texts):
                raise not_storable()  # libpq would cut the text off there
            return texts

        try:
            answer, spoken = self._names.answer(query, params_of, self.connections, deadline=deadline)
        except Refused as refused:
            error = _meaning(refused)
            if isinstance(error, UnknownWorkspace):
                error = UnknownWorkspace(error.detail, faults=self._faults_of(workspace, deadline=deadline))
            raise error from refused
        try:
            return _state_of(json.loads((answer or b"").decode()), spoken)
        except (KeyError, TypeError, ValueError) as error:
            raise FactsMisread(f"a workspace outside its contract: {error!r}") from error

    def _faults_of(self, workspace: str, *, deadline: float) -> tuple[FieldFault, ...]:
        """Of a workspace that is not there. Which one may be meant is told to an administrator alone."""
        asked, meant = slug_asked_for(workspace), None
        if asked is not None:
            params = [asked.encode(), array(spellings_near(asked))]
            with suppress(Refused, FactsUnavailable, ValueError):  # then without a suggestion
                answer = self.connections.answer(SLUGS_LIKE, params, deadline=deadline)
                meant = nearest_slug(asked, json.loads(answer or b"[]"))
        return (FieldFault(field=("workspace",), detail="does not exist", suggestion=meant),)


def _call_of(workspace: str, change: Change) -> tuple[Query, tuple[Param, ...]]:
    match change:
        case PlanChange():
            return SET_PLAN, (workspace, Name("plan", change.plan), _moment(change.as_of))
        case StatusChange():
            return SET_STATUS, (workspace, change.status, change.reason)
        case OverridesChange():
            return SET_OVERRIDES, (
                workspace,
                Keyed("feature", change.features),
                Keyed("meter", change.limits),
                _moment(change.expires_at),
                change.reason,
            )


def _meaning(refused: Refused) -> Exception:
    match refused.sqlstate:
        case "AZ001":
            return UnknownWorkspace(str(refused))
        case "AZ002":
            return UnknownPlan(str(refused))
        case "22023":
            return BadQuestion(str(refused))
        case _ if refused.is_of_a_value:
            return not_storable()
        case _:
            return FactsUnavailable(f"PostgreSQL refused ({refused.sqlstate}): {refused}")


def _state_of(document: dict[str, Any], spoken: Spoken) -> WorkspaceState:
    named = [
        (spoken.to_ours("feature" if each["kind"] == "feature" else "meter", each["name"]), each)
        for each in document["overrides"]
    ]
    return WorkspaceState(
        workspace_id=UUID(document["workspace_id"]),
        slug=document["slug"],
        plan=spoken.to_ours("plan", document["plan"]),
        as_of=moment_of(document["as_of"]),
        status=document["status"],
        reason=document["reason"],
        overrides=tuple(
            Override(
                kind=each["kind"],
                name=name,
                value=each["enabled"] if each["kind"] == "feature" else each["at_most"],
                expires_at=moment_of(each["expires_at"]) if each["expires_at"] else None,
                reason=each["reason"],
            )
            for name, each in named
            if DEAD not in name
        ),
        applied=document["applied"],
    )


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
