"""Whether all parts are as the files say, as `GET /statusz` says it."""

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


def status_of(service: Service) -> Mapping[str, Any]:
    return service.status()
