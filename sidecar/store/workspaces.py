"""Administration in PostgreSQL: each change of a workspace is one call of a SQL function."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.errors import (
    BadQuestion,
    EventReused,
    ExternalIdTaken,
    FactsMisread,
    FactsUnavailable,
    FieldFault,
    UnknownPlan,
    UnknownWorkspace,
)
from sidecar.store.administered import found_in, known_in, state_in
from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.connections import Connections, Query, Refused, array
from sidecar.store.names import Keyed, Name, Names, params_in
from sidecar.store.session import not_storable
from sidecar.store.similar import nearest_slug, slug_asked_for, spellings_near
from sidecar.workspaces.administration import OverridesChange, PlanChange, StatusChange
from sidecar.workspaces.subscriptions import SubscriptionChange

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.names import Param, Spoken
    from sidecar.workspaces.administration import (
        Change,
        FoundWorkspace,
        KnownWorkspace,
        Search,
        WorkspaceState,
    )

Answer = TypeVar("Answer")

SET_PLAN = Query(
    name=b"set_plan",
    changes=True,
    sql=b"SELECT authz.set_plan($1, $2, $3, $4) FROM authz.acting_as($5, 'caller', $6), authz.change_as($7)",
)
SET_OVERRIDES = Query(
    name=b"set_overrides",
    changes=True,
    sql=b"SELECT authz.set_overrides($1, $2, $3, $4, $5, $6) FROM authz.acting_as($7, 'caller', $8),"
    b" authz.change_as($9)",
)
SET_STATUS = Query(
    name=b"set_status",
    changes=True,
    sql=b"SELECT authz.set_status($1, $2, $3, $4, $5) FROM authz.acting_as($6, 'caller', $7),"
    b" authz.change_as($8)",
)
PUT_SUBSCRIPTION = Query(
    name=b"put_subscription",
    changes=True,
    sql=b"SELECT authz.put_subscription($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    b" FROM authz.acting_as($12, 'caller', $13), authz.change_as($14)",
)
KNOWN = Query(
    name=b"workspace_known", sql=b"SELECT authz.workspace_known($1, $2, $3) WHERE authz.read_as($4)"
)
PATCH = Query(
    name=b"patch_workspace",
    changes=True,
    sql=b"SELECT authz.patch_workspace($1, $2) FROM authz.acting_as($3, 'caller', $4), authz.change_as($5)",
)
FIND = Query(
    name=b"find_workspaces",
    sql=b"SELECT authz.find_workspaces($1, $2, $3, $4, $5) WHERE authz.read_as($6)",
)
WAS_PURGED = Query(name=b"was_purged", sql=b"SELECT authz.was_purged($1)")
SLUGS_LIKE = Query(name=b"slugs_like", sql=b"SELECT authz.slugs_like($1, $2)")


class WorkspaceStore:
    """An AdministrationStore. Open it after the fork. The outbox names the *actor* of each change.

    *patience_s* is as of Connections.
    """

    def __init__(
        self,
        url: str,
        /,
        *,
        pool_size: int = 2,
        lock_timeout_s: float = 1.0,
        options: ConnectionOptions = DEFAULT_OPTIONS,
        patience_s: float = 0.0,
        names: Names | None = None,
    ) -> None:
        self._names = names or Names()
        self.connections = Connections(
            url,
            size=pool_size,
            statement_timeout_s=5.0,
            lock_timeout_s=lock_timeout_s,
            patience_s=patience_s,
            cancels=patience_s > 0,
            options=options,
        )

    def open(self, loop: AbstractEventLoop | None = None) -> None:
        self.connections.open(loop)

    def close(self) -> None:
        self.connections.close()

    def apply(
        self, workspace: str, change: Change, /, *, actor: str, decision: str | None = None, deadline: float
    ) -> WorkspaceState:
        query, changed = _call_of(workspace, change)
        return self._answer(query, (*changed, actor, decision), state_in, of=workspace, deadline=deadline)

    def was_purged(self, workspace: str, /, *, deadline: float) -> bool:
        try:
            return self.connections.answer(WAS_PURGED, [workspace.encode()], deadline=deadline) == b"t"
        except Refused as refused:
            raise _meaning(refused) from refused

    def known(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> KnownWorkspace:
        params = (workspace, after, str(limit))
        return self._answer(KNOWN, params, known_in, of=workspace, deadline=deadline)

    def name_externally(
        self, workspace: str, external_id: str | None, /, *, actor: str, decision: str | None, deadline: float
    ) -> KnownWorkspace:
        params = (workspace, external_id, actor, decision)
        return self._answer(PATCH, params, known_in, of=workspace, deadline=deadline)

    def find(self, search: Search, /, *, limit: int, deadline: float) -> list[FoundWorkspace]:
        plan = None if search.plan is None else Name("plan", search.plan)
        params = (plan, search.status, search.q, search.after, str(limit))

        def each(rows: Any, spoken: Spoken) -> list[FoundWorkspace]:  # noqa: ANN401 - JSON
            return [found_in(row, spoken) for row in rows]

        return self._answer(FIND, params, each, of="", deadline=deadline)

    def _answer(
        self,
        query: Query,
        params: Sequence[Param],
        read: Callable[[Any, Spoken], Answer],
        *,
        of: str,
        deadline: float,
    ) -> Answer:
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
                raise self._unknown(of, error.detail, deadline=deadline) from refused
            raise error from refused
        if answer is None:
            raise self._unknown(of, f'workspace "{of}" does not exist', deadline=deadline)
        try:
            return read(json.loads(answer.decode()), spoken)
        except (KeyError, TypeError, ValueError) as error:
            raise FactsMisread(f"a workspace outside its contract: {error!r}") from error

    def _unknown(self, workspace: str, detail: str, *, deadline: float) -> UnknownWorkspace:
        return UnknownWorkspace(detail, faults=self._faults_of(workspace, deadline=deadline))

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
            return SET_PLAN, (
                workspace,
                Name("plan", change.plan),
                _moment(change.as_of),
                _flag(change.overrule),
            )
        case StatusChange():
            return SET_STATUS, (
                workspace,
                change.status,
                change.reason,
                _moment(change.as_of),
                _flag(change.overrule),
            )
        case SubscriptionChange():
            return PUT_SUBSCRIPTION, (
                workspace,
                change.subscription,
                Name("plan", change.plan),
                change.status,
                None if change.seats is None else str(change.seats),
                _moment(change.trial_ends_at),
                _moment(change.billing_anchor),
                _moment(change.as_of),
                change.name,
                change.source,
                change.fingerprint,
            )
        case OverridesChange():
            return SET_OVERRIDES, (
                workspace,
                Keyed("feature", change.features),
                Keyed("meter", change.limits),
                _moment(change.expires_at),
                change.reason,
                _flag(change.until_plan_change),
            )


def _meaning(refused: Refused) -> Exception:
    match refused.sqlstate:
        case "AZ001":
            return UnknownWorkspace(str(refused))
        case "AZ002":
            return UnknownPlan(str(refused))
        case "AZ004":
            return BadQuestion(
                str(refused),
                code="as_of_in_the_future",
                faults=(FieldFault(field=("as_of",), detail="is more than five minutes ahead"),),
            )
        case "AZ005":
            return EventReused(str(refused))
        case "AZ006":
            return ExternalIdTaken(str(refused))
        case "22023":
            return BadQuestion(str(refused))
        case _ if refused.is_of_a_value:
            return not_storable()
        case _:
            return refused.outage()


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _flag(is_on: bool) -> str:  # noqa: FBT001 - a value as SQL reads it
    return "true" if is_on else "false"
