"""The server behind the fake sidecar: scripted answers, in the form of the real ones."""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from sidecar.guard.connections import Reply
from sidecar.guard.errors import Unavailable
from sidecar.guard.fake_ledger import FakeLedger, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.guard.connections import Call

_REVISION = "fake"
_RETRY_AFTER_S = 3_600
_LENGTH_OF_UUID = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question, as the backend asked it."""

    user: str
    workspace: str
    action: str
    mode: str
    amounts: Mapping[str, int]
    idempotency_key: str | None
    resource: str | None
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is answered about one action: a *denial*, or a yes while its *limits* have room.

    *level*: it creates something that is named by its resource.
    """

    limits: Mapping[str, int | None] = field(default_factory=dict)
    level: bool = False
    denial: Mapping[str, Any] | None = None


class FakeServer:
    """*outage* is the code of the simulated outage, and whether the call may have taken effect."""

    def __init__(self, *, role: str, plan: str, strangers: set[str]) -> None:
        self.role = role
        self.plan = plan
        self.strangers = strangers
        self.scripts: dict[str, Script] = {}
        self.asked: list[Asked] = []
        self.ledger = FakeLedger()
        self.outage: tuple[str, bool] | None = None
        self._slugs: dict[str, str] = {}
        self._answers: dict[tuple[str, str], tuple[Asked, dict[str, Any]]] = {}
        self._one_at_a_time = Lock()

    def reply(self, call: Call, /, *, deadline: float) -> Reply:  # noqa: ARG002 - nothing here takes time
        if self.outage is not None:
            code, uncertain = self.outage
            raise Unavailable(code, "an outage was asked for", uncertain=uncertain)
        status, media_type = 200, "application/json"
        try:
            with self._one_at_a_time:
                document = self._document(call.target, json.loads(call.body) if call.body else {})
        except Problem as problem:
            status, media_type = problem.status, "application/problem+json"
            document = {"title": problem.code, "status": status, "code": problem.code}
        return Reply(status, media_type, call.request_id, json.dumps(document).encode())

    def close(self) -> None:
        """There is nothing to close."""

    def _document(self, target: str, body: dict[str, Any]) -> dict[str, Any]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path == "/v1/authorize":
            return self._answer(body)
        if path == "/v1/authorize/batch":
            return {"answers": [self._answer(body["defaults"] | each) for each in body["questions"]]}
        if path == "/v1/usage/release":
            slug = self._slug(body["workspace"])
            if "meter" in body:
                return self.ledger.give_back_made(slug, body["meter"], body["resource"])
            return self.ledger.give_back((slug, body["idempotency_key"]), body.get("amounts"))
        if found := re.fullmatch(r"/v1/reservations/([^/]+)/commit", path):
            return self.ledger.commit(unquote(found[1]), body.get("amounts"))
        if found := re.fullmatch(r"/v1/reservations/([^/]+)/release", path):
            return self.ledger.release(unquote(found[1]))
        if found := re.fullmatch(r"/v1/workspaces/([^/]+)/entitlements", path):
            return self._entitlements(query["user"][0], self._slug(unquote(found[1])))
        user = unquote(path.removeprefix("/v1/users/").removesuffix("/workspaces"))
        return self._workspaces(user, query.get("action"))

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        asked = Asked(
            user=question["user"],
            workspace=self._slug(question["workspace"]),
            action=question["action"],
            mode=question.get("mode", "check"),
            amounts=question.get("amounts", {}),
            idempotency_key=question.get("idempotency_key"),
            resource=question.get("resource"),
            context=question.get("context", {}),
        )
        self.asked.append(asked)
        script = self._script(asked.user, asked.action)
        if script.denial is not None:
            return self._decision(asked, script, script.denial)
        of = (asked.workspace, asked.idempotency_key or "")
        if asked.mode != "check" and self.ledger.stands(of):
            before, answer = self._answers[of]
            if before != asked:
                raise Problem(409, "idempotency_key_reused")
            return {**answer, **self.ledger.changes(of, script.limits), "replayed": True}
        if asked.amounts.keys() - script.limits.keys():
            raise Problem(400, "meter_not_taken")
        amounts = {meter: asked.amounts.get(meter, 1) for meter in script.limits}
        made = asked.resource if script.level else None
        if made and asked.mode != "check" and self.ledger.exists(asked.workspace, amounts, made):
            return {**self._decision(asked, script, _GRANTED), "replayed": True}
        if not self.ledger.fits(asked.workspace, amounts, script.limits):
            return self._decision(asked, script, _NO_ROOM)

        reservation = None
        if asked.mode == "consume":
            self.ledger.take(of, amounts, made=made)
        elif asked.mode == "reserve":
            ttl_s = question.get("ttl_seconds", 60)
            reservation = self.ledger.hold(of, amounts, script.limits, ttl_s=ttl_s, made=made)
        answer = self._decision(asked, script, {**_GRANTED, "reservation": reservation})
        if asked.mode != "check":
            self._answers[of] = (asked, answer)
        return answer

    def _slug(self, workspace: str) -> str:
        """Of a workspace that is named by its slug, or by the id that was told for it."""
        slug = self._slugs.get(workspace, workspace)
        self._slugs[_id_of(slug)] = slug
        return slug

    def _script(self, user: str, action: str) -> Script:
        return _STRANGER if user in self.strangers else self.scripts.get(action, _UNDECLARED)

    def _decision(self, asked: Asked, script: Script, verdict: Mapping[str, Any]) -> dict[str, Any]:
        where = {"id": _id_of(asked.workspace), "slug": asked.workspace}
        known = {"role": self.role, "plan": self.plan, "workspace": where}
        if verdict["reason"] == "not_a_member":
            known = {}
        quota = self.ledger.quota(asked.workspace, script.limits)
        return {
            "reservation": None,
            **verdict,
            **known,
            **({"quota": quota} if quota else {}),
            "decision_id": secrets.token_hex(16),
            "policy_revision": _REVISION,
            "facts": {"at": datetime.now(UTC).isoformat(), "cached": False},
        }

    def _entitlements(self, user: str, workspace: str) -> dict[str, Any]:
        if user in self.strangers:
            raise Problem(403, "not_a_member")
        may = {action: script.denial is None for action, script in self.scripts.items()}
        limits = {meter: limit for script in self.scripts.values() for meter, limit in script.limits.items()}
        return {
            "workspace": {"id": _id_of(workspace), "slug": workspace, "name": workspace.capitalize()},
            "role": self.role,
            "plan": self.plan,
            "features": {
                action.removeprefix("feature:"): allowed
                for action, allowed in may.items()
                if action.startswith("feature:")
            },
            "quotas": self.ledger.quota(workspace, limits),
            "actions": {action: allowed for action, allowed in may.items() if ":" not in action},
            "policy_revision": _REVISION,
        }

    def _workspaces(self, user: str, actions: list[str] | None) -> dict[str, Any]:
        """Those that anything was asked about, if *user* may do it."""
        may = user not in self.strangers and all(
            self._script(user, action).denial is None for action in actions or ()
        )
        rows = [
            {
                "id": _id_of(slug),
                "slug": slug,
                "name": slug.capitalize(),
                "role": self.role,
                "plan": self.plan,
            }
            for slug in self._slugs.values()
        ]
        return {"workspaces": rows if may else [], "next": None}


def _id_of(workspace: str) -> str:
    """Of a workspace that only an id was ever told of: that id."""
    with suppress(ValueError):
        if len(workspace) == _LENGTH_OF_UUID:
            return str(UUID(workspace))
    return str(uuid5(NAMESPACE_URL, workspace))


def _denial(reason: str, message: str, **more: object) -> dict[str, Any]:
    return {"allow": False, "status": 403, "reason": reason, "message": message, **more}


_GRANTED: Mapping[str, Any] = {"allow": True, "status": 200, "reason": "granted", "message": "It is granted."}
_NO_ROOM = _denial("quota_exceeded", "There is no room.", status=429, retry_after=_RETRY_AFTER_S)
_STRANGER = Script(denial=_denial("not_a_member", "The user is not a member of this workspace."))
_UNDECLARED = Script(denial=_denial("unknown_action", "Nobody has told the fake about this action."))
