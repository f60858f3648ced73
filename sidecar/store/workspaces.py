"""What an administrator changes of a workspace: its plan, what it has beyond it, whether it is suspended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from sidecar.errors import BadQuestion, FactsMisread, FactsUnavailable, UnknownPlan, UnknownWorkspace
from sidecar.store.connections import Connections, Query, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SET_PLAN = Query(
    name=b"set_plan", sql=b"SELECT authz.set_plan($1, $2, $3) FROM authz.acting_as($4, 'caller')"
)
SET_OVERRIDES = Query(
    name=b"set_overrides",
    sql=b"SELECT authz.set_overrides($1, $2, $3, $4, $5) FROM authz.acting_as($6, 'caller')",
)
SET_STATUS = Query(
    name=b"set_status", sql=b"SELECT authz.set_status($1, $2, $3) FROM authz.acting_as($4, 'caller')"
)

UNLIMITED: Literal["unlimited"] = "unlimited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """*value* is whether the feature is on, or the limit; None of a limit is unlimited."""

    kind: Literal["feature", "limit"]
    name: str
    value: bool | int | None
    expires_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceState:
    """A workspace after a change; *applied* is false when it had a newer plan than the one asked for."""

    workspace_id: UUID
    slug: str
    plan: str
    as_of: datetime
    status: Literal["active", "suspended"]
    reason: str | None
    overrides: tuple[Override, ...]
    applied: bool

    @property
    def features(self) -> dict[str, bool]:
        return {each.name: bool(each.value) for each in self.overrides if each.kind == "feature"}

    @property
    def limits(self) -> dict[str, int | None]:
        return {each.name: each.value for each in self.overrides if each.kind == "limit"}


class WorkspaceStore:
    """Open it after the fork. A workspace is named by UUID or slug; a change sent twice is one change.

    *actor* is the caller whom the outbox names.

    UnknownWorkspace, UnknownPlan, BadQuestion for what makes no sense, FactsUnavailable.
    """

    def __init__(
        self, url: str, /, *, pool_size: int = 2, lock_timeout_s: float = 1.0, pooler: bool = False
    ) -> None:
        self.connections = Connections(
            url, size=pool_size, statement_timeout_s=5.0, lock_timeout_s=lock_timeout_s, pooler=pooler
        )

    def open(self) -> None:
        self.connections.open()

    def close(self) -> None:
        self.connections.close()

    def set_plan(
        self, workspace: str, plan: str, /, *, as_of: datetime | None = None, actor: str, deadline: float
    ) -> WorkspaceState:
        """An *as_of* older than that of the plan it has changes nothing; None is now."""
        return self._state_after(SET_PLAN, (workspace, plan, _moment(as_of), actor), deadline)

    def set_overrides(
        self,
        workspace: str,
        /,
        *,
        features: Mapping[str, bool | None],
        limits: Mapping[str, int | Literal["unlimited"] | None],
        expires_at: datetime | None = None,
        reason: str | None = None,
        actor: str,
        deadline: float,
    ) -> WorkspaceState:
        """Merges: what is not named stays, None removes; *expires_at* is of what is named here."""
        params = (
            workspace,
            json.dumps(dict(features)),
            json.dumps(dict(limits)),
            _moment(expires_at),
            reason,
            actor,
        )
        return self._state_after(SET_OVERRIDES, params, deadline)

    def set_status(
        self,
        workspace: str,
        status: Literal["active", "suspended"],
        /,
        *,
        reason: str | None = None,
        actor: str,
        deadline: float,
    ) -> WorkspaceState:
        return self._state_after(SET_STATUS, (workspace, status, reason, actor), deadline)

    def _state_after(self, query: Query, params: Sequence[str | None], deadline: float) -> WorkspaceState:
        texts = [None if text is None else text.encode(errors="surrogatepass") for text in params]
        if any(text and b"\0" in text for text in texts):
            raise BadQuestion("text with a NUL cannot be stored")  # libpq would cut it there
        try:
            answer = self.connections.answer(query, texts, deadline=deadline)
        except Refused as refused:
            raise _meaning(refused) from refused
        try:
            return _state_of(json.loads((answer or b"").decode()))
        except (KeyError, TypeError, ValueError) as error:
            raise FactsMisread(f"a workspace outside its contract: {error!r}") from error


def _meaning(refused: Refused) -> Exception:
    match refused.sqlstate:
        case "AZ001":
            return UnknownWorkspace(str(refused))
        case "AZ002":
            return UnknownPlan(str(refused))
        case "22023" | "22021":
            return BadQuestion(str(refused))
        case _:
            return FactsUnavailable(f"PostgreSQL refused ({refused.sqlstate}): {refused}")


def _state_of(document: dict[str, Any]) -> WorkspaceState:
    return WorkspaceState(
        workspace_id=UUID(document["workspace_id"]),
        slug=document["slug"],
        plan=document["plan"],
        as_of=datetime.fromisoformat(document["as_of"]),
        status=document["status"],
        reason=document["reason"],
        overrides=tuple(
            Override(
                kind=each["kind"],
                name=each["name"],
                value=each["enabled"] if each["kind"] == "feature" else each["at_most"],
                expires_at=datetime.fromisoformat(each["expires_at"]) if each["expires_at"] else None,
                reason=each["reason"],
            )
            for each in document["overrides"]
        ),
        applied=document["applied"],
    )


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
