"""Whether all parts are as the files say, in the shape of `GET /statusz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.service import Service

PARTS = {
    "worker": "This worker",
    "engine": "Policy engine",
    "database": "Database",
    "authzen": "AuthZEN's policy",
}
_OF_READINESS = {
    "worker": "worker",
    "policy_engine": "engine",
    "database": "database",
    "authzen_policy": "authzen",
}
_DO = {
    "starting": "wait: it learns what the policies say",
    "database_unreachable": "see that PostgreSQL runs, and that SIDECAR_DATABASE_URL names it",
    "database_not_migrated": "run sidecar migrate",
    "policy_revision_mismatch": "run sidecar migrate with these files, and reload with SIGHUP",
}


def status_of(service: Service) -> Mapping[str, Any]:
    """As `/statusz`; where the service does not say, what its readiness knows."""
    says = getattr(service, "status", None)
    if says is not None:
        found: Mapping[str, Any] = says()
        return found
    return _by_readiness(service)


def _by_readiness(service: Service) -> dict[str, Any]:
    readiness = service.readiness()
    parts = {
        _OF_READINESS.get(name, name): {
            "revision": part.get("revision"),
            "since": None,
            "cause": part.get("code"),
            "do": _DO.get(str(part.get("code")), part.get("why")) if part.get("code") else None,
        }
        for name, part in readiness.parts.items()
    }
    return {
        "converged": readiness.ready,
        "wanted": service.authorizer.policy.revision,
        **parts,
    }
