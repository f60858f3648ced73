"""What the API answers, as JSON Schemas by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.api.ofrep.wire import ERROR_CODES
from sidecar.api.problems import DENIALS, PROBLEMS
from sidecar.decisions.reasons import REASONS
from sidecar.text.shapes import FREE_OBJECT
from sidecar.workspaces.subscriptions import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEXT = {"type": "string"}
_LIST_OF_NAMES = {"type": "array", "items": _TEXT}
_NAMES = {**_LIST_OF_NAMES, "minItems": 1}
_URI = {"type": "string", "format": "uri"}
_UUID = {"type": "string", "format": "uuid"}
_MOMENT = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}


def _object(properties: dict[str, Any], *, optional: Iterable[str] = ()) -> dict[str, Any]:
    absent = set(optional)
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in absent],
        "additionalProperties": False,
    }


def _map(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _override(value: dict[str, Any]) -> dict[str, Any]:
    return _object(
        {
            "value": value,
            "expires_at": _or_null(_MOMENT),
            "until_plan_change": {"type": "boolean"},
            "reason": _or_null(_TEXT),
        }
    )


_FOUND_WORKSPACE = {
    "id": _UUID,
    "slug": _TEXT,
    "name": _TEXT,
    "external_id": _or_null(_TEXT),
    "plan": _TEXT,
    "status": {"type": "string", "enum": ["active", "suspended"]},
}
_CHANGED = {
    "plan": _TEXT,
    "status": {"type": "string", "enum": ["active", "suspended"]},
    "overrides": ref("Overrides"),
    "as_of": _MOMENT,
    "applied": {"type": "boolean"},
}


def _page(name: str, row: str) -> dict[str, Any]:
    return _object({name: {"type": "array", "items": ref(row)}, "next": _TEXT}, optional=("next",))


def _found(named: dict[str, Any]) -> dict[str, Any]:
    page = _object({"next_token": _TEXT, "count": _COUNT})
    return _object({"page": page, "results": {"type": "array", "items": _object(named)}}, optional=("page",))


def _entitlements(feature: dict[str, Any]) -> dict[str, Any]:
    return _object(
        {
            "workspace": _object({"id": _UUID, "slug": _TEXT, "name": _TEXT}),
            "role": _TEXT,
            "plan": _TEXT,
            "features": _map(feature),
            "quotas": _map(ref("Quota")),
            "actions": _map({"type": "boolean"}),
            "policy_revision": _TEXT,
        }
    )


_ACCESS_DECISION = _object({"decision": {"type": "boolean"}, "context": FREE_OBJECT}, optional=("context",))
_PLACE = {"id": _UUID, "name": _TEXT, "slug": _TEXT, "plan_tier": _TEXT, "role": _TEXT}
_INVITATION = {
    "id": _UUID,
    "email": _TEXT,
    "role": _TEXT,
    "invited_by": _TEXT,
    "created_at": _MOMENT,
    "expires_at": _MOMENT,
}
_PRICE = _object({"amount": _COUNT, "currency": _TEXT, "per": _TEXT})
_PART = _object(
    {"ready": {"type": "boolean"}, "revision": _or_null(_TEXT), "code": _TEXT, "why": _TEXT},
    optional=("revision", "code", "why"),
)
_STATE = {
    "revision": _or_null(_TEXT),
    "since": _MOMENT,
    "cause": _or_null(_TEXT),
    "do": _or_null(_TEXT),
}
# What would change a denial, in so far as anything would.
_HELP: dict[str, Any] = {
    "needs": {
        "anyOf": [_object({"roles": _NAMES}), _object({"feature": _TEXT})],
    },
    "upgrade": {
        "type": "array",
        "minItems": 1,
        "items": _object(
            {
                "plan": _TEXT,
                "title": _TEXT,
                "price": _PRICE,
            }
        ),
    },
    "quota": _map(ref("Quota")),
    "retry_after": {"type": "integer", "minimum": 1},
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": list({**PROBLEMS, **DENIALS})},
            "detail": _TEXT,
            "errors": {
                "type": "array",
                "items": _object(
                    {"pointer": _TEXT, "detail": _TEXT, "suggestion": _TEXT}, optional=("suggestion",)
                ),
            },
            **_HELP,
        },
        optional=("detail", "errors", *_HELP),
    ),
    "Quota": _object(
        {
            "limit": _or_null(_COUNT),
            "used": _COUNT,
            "reserved": _COUNT,
            "remaining": _or_null(_COUNT),
            "resets_at": _or_null(_MOMENT),
            "over_by": _COUNT,
            "grows_at": _MOMENT,
        },
        optional=("over_by", "grows_at"),
    ),
    "Decision": _object(
        {
            "allow": {"type": "boolean"},
            "status": {"type": "integer", "enum": [200, 402, 403, 429]},
            "reason": {"type": "string", "enum": list(REASONS)},
            "message": _TEXT,
            "role": _TEXT,
            "plan": _TEXT,
            "workspace": _object({"id": _UUID, "slug": _TEXT}),
            **_HELP,
            "reservation": _or_null(ref("Reservation")),
            "decision_id": _TEXT,
            "policy_revision": _TEXT,
            "facts": _object(
                {"at": _MOMENT, "cached": {"type": "boolean"}, "lag_ms": _COUNT}, optional=("lag_ms",)
            ),
            "replayed": {"const": True},
        },
        optional=("role", "plan", "workspace", *_HELP, "replayed"),
    ),
    "Reservation": _object(
        {
            "id": _TEXT,
            "expires_at": _MOMENT,
            "amounts": _map(_COUNT),
            "state": {"type": "string", "enum": ["held", "committed", "released", "expired"]},
        }
    ),
    "Settled": _object(
        {
            "reservation": _object(
                {
                    "id": _TEXT,
                    "expires_at": _MOMENT,
                    "amounts": _map(_COUNT),
                    "state": {"type": "string", "enum": ["committed", "released", "expired"]},
                    "committed": _or_null(_map(_COUNT)),
                }
            ),
            "quota": _map(ref("Quota")),
            "replayed": {"const": True},
        },
        optional=("replayed",),
    ),
    "GivenBack": _object(
        {"released": _map(_COUNT), "quota": _map(ref("Quota")), "replayed": {"const": True}},
        optional=("replayed",),
    ),
    "Answers": _object({"answers": {"type": "array", "items": {"anyOf": [ref("Decision"), ref("Problem")]}}}),
    "Entitlements": _entitlements({"type": "boolean"}),
    "OwnEntitlements": _entitlements(
        _object({"enabled": {"type": "boolean"}, "title": _TEXT, "unlocked_by": _LIST_OF_NAMES})
    ),
    "Plans": _object(
        {
            "currency": _TEXT,
            "plans": {
                "type": "array",
                "items": _object(
                    {
                        "plan": _TEXT,
                        "title": _TEXT,
                        "price": _PRICE,
                        "features": _map({"type": "boolean"}),
                        "limits": _map(_or_null(_COUNT)),
                    }
                ),
            },
            "features": _map(_object({"title": _TEXT})),
            "meters": _map(
                _object(
                    {
                        "title": _TEXT,
                        "kind": {"type": "string", "enum": ["counter", "level"]},
                        "per": _or_null({"type": "string", "enum": ["month", "day", "ever"]}),
                    }
                )
            ),
        }
    ),
    "Workspaces": _object(
        {
            "workspaces": {
                "type": "array",
                "items": _object(
                    {
                        "id": _UUID,
                        "slug": _TEXT,
                        "name": _TEXT,
                        "role": _TEXT,
                        "plan": _TEXT,
                    }
                ),
            },
            "next": _or_null(_TEXT),
        }
    ),
    "Changed": _object(_CHANGED),
    "KnownWorkspace": _object(
        _FOUND_WORKSPACE
        | {
            "subscriptions": {"type": "array", "items": ref("Subscription")},
            "overrides": ref("Overrides"),
            "owner": _or_null(_TEXT),
            "members": {"type": "array", "items": ref("Member")},
            "created": _MOMENT,
            "next": _TEXT,
        },
        optional=("next",),
    ),
    "FoundWorkspace": _object(_FOUND_WORKSPACE),
    "FoundWorkspaces": _object(
        {
            "workspaces": {"type": "array", "items": ref("FoundWorkspace")},
            "next": _or_null(_TEXT),
        }
    ),
    "Subscribed": _object(
        _CHANGED | {"subscription": ref("Subscription"), "replayed": {"const": True}},
        optional=("replayed",),
    ),
    "Billed": {"anyOf": [ref("Subscribed"), _object({"ignored": {"const": True}, "why": _TEXT})]},
    "Subscription": _object(
        {
            "subscription": _TEXT,
            "plan": _TEXT,
            "status": {"type": "string", "enum": list(STATUSES)},
            "seats": _or_null(_COUNT),
            "trial_ends_at": _or_null(_MOMENT),
            "past_due_since": _or_null(_MOMENT),
            "billing_anchor": _or_null(_MOMENT),
            "as_of": _MOMENT,
            "event": _TEXT,
            "source": _TEXT,
        }
    ),
    "Overrides": _object(
        {
            "features": _map(_override({"type": "boolean"})),
            "limits": _map(_override({"anyOf": [_COUNT, {"const": "unlimited"}]})),
        }
    ),
    "OwnWorkspaces": _page("workspaces", "Place"),
    "Place": _object(_PLACE),
    "Details": _object(
        _PLACE
        | {
            "status": {"type": "string", "enum": ["active", "suspended"]},
            "features": _map({"type": "boolean"}),
            "quotas": _map(ref("Quota")),
        }
    ),
    "Members": _page("members", "Member"),
    "Member": _object({"user": _TEXT, "role": _TEXT, "email": _or_null(_TEXT), "joined_at": _MOMENT}),
    "Transferred": _object({"owner": ref("Member"), "former_owner": ref("Member")}),
    "Invitations": _page("invitations", "Invitation"),
    "Invitation": _object(_INVITATION),
    "Invited": _object(_INVITATION | {"token": _TEXT}),
    "AccessDecision": _ACCESS_DECISION,
    "AccessDecisions": {
        "anyOf": [
            _ACCESS_DECISION,
            _object({"evaluations": {"type": "array", "items": _ACCESS_DECISION, "minItems": 1}}),
        ]
    },
    "FoundEntities": _found({"type": _TEXT, "id": _TEXT}),
    "FoundActions": _found({"name": _TEXT}),
    "Flag": _object(
        {
            "key": _TEXT,
            "value": {"anyOf": [{"type": "boolean"}, _TEXT, {"type": "integer"}]},
            "reason": {"type": "string", "enum": ["TARGETING_MATCH", "DISABLED"]},
            "variant": _TEXT,
            "metadata": _map({"anyOf": [{"type": "boolean"}, _TEXT]}),
        },
        optional=("value",),
    ),
    "Flags": _object(
        {"flags": {"type": "array", "items": ref("Flag")}, "metadata": _object({"policy_revision": _TEXT})}
    ),
    "FlagFailure": _object(
        {"key": _TEXT, "errorCode": {"type": "string", "enum": list(ERROR_CODES)}, "errorDetails": _TEXT},
        optional=("key", "errorCode"),
    ),
    "AuthzenConfiguration": _object(
        {
            "policy_decision_point": _URI,
            "access_evaluation_endpoint": _URI,
            "access_evaluations_endpoint": _URI,
            "search_subject_endpoint": _URI,
            "search_resource_endpoint": _URI,
            "search_action_endpoint": _URI,
        },
        optional=("search_subject_endpoint", "search_resource_endpoint", "search_action_endpoint"),
    ),
    "Alive": _object({"alive": {"const": True}}),
    "Readiness": _object(
        {
            "ready": {"type": "boolean"},
            "worker": _PART,
            "database": _PART,
        },
        optional=("database",),
    ),
    "Status": _object(
        {
            "converged": {"type": "boolean"},
            "wanted": _TEXT,
            "worker": _object(_STATE),
            "engine": _object({"kind": {"type": "string", "enum": ["opa", "embedded"]}} | _STATE),
            "database": _object(_STATE),
            "authzen": _object(_STATE),
        }
    ),
}
