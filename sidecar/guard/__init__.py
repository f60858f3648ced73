"""What a backend imports: a client of the sidecar, and guards for its routes.

The client needs the standard library alone. Flask is imported with the first of its guards that is named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sidecar.guard.answers import (
    DecidedWorkspace,
    Decision,
    Entitlements,
    Price,
    Quota,
    Reservation,
    Settled,
    Upgrade,
    Workspace,
)
from sidecar.guard.client import Client
from sidecar.guard.errors import (
    BadRequest,
    Conflict,
    Denied,
    GuardError,
    Misconfigured,
    Refused,
    Repeated,
    Unauthenticated,
    Unavailable,
)
from sidecar.guard.hold import Hold

if TYPE_CHECKING:
    from sidecar.guard.flask_guard import (
        Guard,
        init_app,
        require,
        require_feature,
        require_role,
        require_workspace,
        reserve,
    )

__all__ = [
    "BadRequest",
    "Client",
    "Conflict",
    "DecidedWorkspace",
    "Decision",
    "Denied",
    "Entitlements",
    "Guard",
    "GuardError",
    "Hold",
    "Misconfigured",
    "Price",
    "Quota",
    "Refused",
    "Repeated",
    "Reservation",
    "Settled",
    "Unauthenticated",
    "Unavailable",
    "Upgrade",
    "Workspace",
    "init_app",
    "require",
    "require_feature",
    "require_role",
    "require_workspace",
    "reserve",
]
_OF_FLASK = {
    "Guard",
    "init_app",
    "require",
    "require_feature",
    "require_role",
    "require_workspace",
    "reserve",
}


def __getattr__(name: str) -> object:
    if name in _OF_FLASK:
        return getattr(import_module("sidecar.guard.flask_guard"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
