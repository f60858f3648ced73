"""Rights that are taken and given back in every way there is, and every way to ask for them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.identity.provider import a_token
from tests.serving.meanwhile import request
from tests.serving.quick import Quick

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import psycopg

MUCH = 10**9
MOST_TIMES = 20
_numbers = count(1)


class Place:
    """*forms* are how it is asked about; *epoch* rises with each change, and *taken* is None during one."""

    def __init__(self, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = name
        self.user, self.boss = f"{name}-mia", f"{name}-boss"
        self.token, self.boss_token = a_token(sub=self.user), a_token(sub=self.boss)
        self.taken: bool | None = None
        self.epoch = 0
        self.changed_at = 0.0
        self.asked: set[int] = set()  # the connections that have, in this epoch
        self.heard = 0
        self.enough = asyncio.Event()

    def begin(self, *, taken: bool) -> None:
        self.epoch += 1
        self.taken = taken
        self.changed_at = monotonic()
        self.asked.clear()
        self.heard = 0
        self.enough.clear()


# How a place is asked about, and what says that it is granted.


def _question(at: Place, **more: object) -> dict[str, object]:
    return {"user": at.user, "workspace": at.name, "action": at.kind.action, **more}


def _post(path: str, document: object) -> bytes:
    return request("POST", path, json.dumps(document).encode())


def _check(at: Place) -> bytes:
    return _post("/v1/authorize", _question(at))


def _in_context(at: Place) -> bytes:
    """The policy engine itself is asked each time."""
    return _post("/v1/authorize", _question(at, context={"ip": f"10.0.0.{next(_numbers) % 250}"}))


def _consume(at: Place) -> bytes:
    return _post("/v1/authorize", _question(at, mode="consume"))


def _keyed(at: Place) -> bytes:
    return _post("/v1/authorize", _question(at, mode="consume", idempotency_key=f"k{next(_numbers)}"))


def _batch(at: Place) -> bytes:
    others = [{"user": f"nobody{n}", "workspace": at.name, "action": at.kind.action} for n in range(3)]
    return _post("/v1/authorize/batch", {"questions": [*others, _question(at)]})


def _about(at: Place, user: str) -> dict[str, object]:
    return {
        "subject": {"type": "user", "id": user},
        "action": {"name": at.kind.action},
        "resource": {"type": "workspace", "id": at.name},
    }


def _evaluation(at: Place) -> bytes:
    return _post("/access/v1/evaluation", _about(at, at.user))


def _evaluations(at: Place) -> bytes:
    items = [{"subject": {"type": "user", "id": user}} for user in ("nobody", at.user)]
    return _post("/access/v1/evaluations", {**_about(at, at.user), "evaluations": items})


def _nginx(at: Place) -> bytes:
    lines = (f"X-Original-URI: /workspaces/{at.name}/analytics", "X-Original-Method: GET")
    return request("GET", "/gw/nginx", b"", *lines, f"Authorization: Bearer {at.token}")


def _envoy(at: Place) -> bytes:
    path = f"/gw/ext-authz/workspaces/{at.name}/analytics"
    return request("GET", path, b"", f"Authorization: Bearer {at.token}")


@dataclass(frozen=True, kw_only=True)
class Form:
    request: Callable[[Place], bytes]
    granted: Callable[[bytes], bool] | None = None  # None: the status alone says it, as to a gateway
    weight: int = 1
    action: str = ""  # the only one it is about


FORMS = {
    "check": Form(request=_check, granted=lambda body: json.loads(body)["allow"], weight=6),
    "context": Form(request=_in_context, granted=lambda body: json.loads(body)["allow"]),
    "consume": Form(
        request=_consume, granted=lambda body: json.loads(body)["allow"], weight=2, action="recording.start"
    ),
    "keyed": Form(request=_keyed, granted=lambda body: json.loads(body)["allow"]),
    "batch": Form(request=_batch, granted=lambda body: json.loads(body)["answers"][-1]["allow"]),
    "evaluation": Form(request=_evaluation, granted=lambda body: json.loads(body)["decision"]),
    "evaluations": Form(
        request=_evaluations, granted=lambda body: json.loads(body)["evaluations"][-1]["decision"]
    ),
    "nginx": Form(request=_nginx, action="analytics.view"),
    "envoy": Form(request=_envoy, action="analytics.view"),
}
DENIED_BY_STATUS = {401, 402, 403, 429}
# No answer, which may be: the workspace has changed twice while one question was decided.
NO_ANSWER = {503}


# How a right is taken and given back: by SQL, or over HTTP. Each returns when that was answered.


class Changes:
    def __init__(self, port: int, trusted: str, connection: psycopg.AsyncConnection[Any]) -> None:
        self._port, self._trusted = port, trusted
        self._sql = connection

    async def sql(self, query: str, *params: object) -> None:
        await self._sql.execute(query.encode(), params)

    async def _http(self, at: int | str, method: str, path: str, document: object, *lines: str) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        client = Quick(at)
        for _ in range(MOST_TIMES):
            status, said = await client.ask(request(method, path, body, *lines))
            if status != 503:  # it is not known whether it has been done: once more does no harm
                break
        client.close()
        # Of a removal that was done already: the member is not known any more.
        assert status in {200, 204} or (method, status) == ("DELETE", 404), (path, status, said)

    async def put(self, at: Place, what: str, **document: object) -> None:
        await self._http(self._trusted, "PUT", f"/v1/workspaces/{at.name}/{what}", document)

    async def by_boss(self, method: str, at: Place, document: object = None) -> None:
        path = f"/workspaces/{at.name}/members/{at.user}"
        await self._http(self._port, method, path, document, f"Authorization: Bearer {at.boss_token}")


@dataclass(frozen=True, kw_only=True)
class Kind:
    action: str
    take: Callable[[Changes, Place], Awaitable[None]]
    give: Callable[[Changes, Place], Awaitable[None]]
    plan: str = "team"
    role: str = "member"


def joins(changes: Changes, at: Place) -> Awaitable[None]:
    return changes.sql(
        "INSERT INTO authz.workspace_memberships SELECT id, %s, %s FROM authz.workspaces WHERE slug = %s",
        at.user,
        at.kind.role,
        at.name,
    )


def _is_removed(changes: Changes, at: Place) -> Awaitable[None]:
    return changes.sql(
        "SELECT authz.remove_member(id, facts_version, %s) FROM authz.workspaces WHERE slug = %s",
        at.user,
        at.name,
    )


KINDS: Mapping[str, Kind] = {
    "removed by SQL": Kind(action="recording.start", take=_is_removed, give=joins),
    "removed by SQL, gateway": Kind(action="analytics.view", take=_is_removed, give=joins),
    "removed by the owner": Kind(
        action="recording.start", take=lambda changes, at: changes.by_boss("DELETE", at), give=joins
    ),
    "demoted by the owner": Kind(
        action="team_analytics.view",
        role="admin",
        take=lambda changes, at: changes.by_boss("PATCH", at, {"role": "member"}),
        give=lambda changes, at: changes.by_boss("PATCH", at, {"role": "admin"}),
    ),
    "suspended": Kind(
        action="recording.start",
        take=lambda changes, at: changes.put(at, "status", status="suspended"),
        give=lambda changes, at: changes.put(at, "status", status="active"),
    ),
    "suspended by SQL": Kind(
        action="analytics.view",
        take=lambda changes, at: changes.sql("SELECT authz.set_status(%s, 'suspended', 'unpaid')", at.name),
        give=lambda changes, at: changes.sql("SELECT authz.set_status(%s, 'active', NULL)", at.name),
    ),
    "on a cheaper plan": Kind(
        action="analytics.view",
        take=lambda changes, at: changes.put(at, "plan", plan="starter"),
        give=lambda changes, at: changes.put(at, "plan", plan="pro"),
    ),
    "without the override of a feature": Kind(
        action="analytics.view",
        plan="starter",
        take=lambda changes, at: changes.put(at, "overrides", features={"analytics": None}),
        give=lambda changes, at: changes.put(at, "overrides", features={"analytics": True}),
    ),
    "with a feature switched off": Kind(
        action="analytics.view",
        take=lambda changes, at: changes.put(at, "overrides", features={"analytics": False}),
        give=lambda changes, at: changes.put(at, "overrides", features={"analytics": True}),
    ),
    "with a lower limit": Kind(
        action="recording.start",
        take=lambda changes, at: changes.put(at, "overrides", limits={"minutes": 0}),
        give=lambda changes, at: changes.put(at, "overrides", limits={"minutes": MUCH}),
    ),
}
