"""For a backend's tests: a fake sidecar with scripted answers, a record of its questions, and outages.

    sidecar = FakeSidecar(role="owner", plan="pro")
    sidecar.allow("analytics.view", "role:owner")
    sidecar.deny("team_sessions.start", reason="feature_not_in_plan", upgrade=["team"])
    sidecar.allow("recording.start", limits={"minutes": 100})
    init_app(app, client=sidecar, user=…)

It denies actions without a script as unknown. Only the wire is fake: answers are parsed and errors raised by
the same code as in production.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.guard.client import Client
from sidecar.guard.fake_server import Asked, FakeServer, Script
from sidecar.guard.stacking import is_guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Asked", "FakeSidecar", "unguarded"]
_PRICE = {"amount": 100, "currency": "EUR", "per": "month"}


class FakeSidecar(Client):
    """Everybody but the *strangers* is a member of every workspace, with *role* and *plan*."""

    def __init__(self, *, role: str = "member", plan: str = "starter", strangers: Iterable[str] = ()) -> None:
        super().__init__()
        self._connections = self._server = FakeServer(role=role, plan=plan, strangers=set(strangers))

    @property
    def strangers(self) -> set[str]:
        return self._server.strangers

    @property
    def asked(self) -> list[Asked]:
        """Every question in order, those of a batch too."""
        return self._server.asked

    def allow(
        self, *actions: str, limits: Mapping[str, int | None] | None = None, level: bool = False
    ) -> None:
        """Grant *actions*; those that take of meters have *limits* of them (None: unlimited).

        With *level* they create things: a duplicate resource is not taken twice.
        """
        self._server.scripts.update({action: Script(limits=limits or {}, level=level) for action in actions})

    def deny(
        self,
        action: str,
        *,
        reason: str,
        message: str | None = None,
        upgrade: Iterable[str] = (),
        needs_roles: Iterable[str] = (),
        needs_feature: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """The status is 402 with an *upgrade*, else 429 with *retry_after*, else 403."""
        plans, roles = list(upgrade), list(needs_roles)
        denial: dict[str, Any] = {
            "allow": False,
            "status": 402 if plans else 403 if retry_after is None else 429,
            "reason": reason,
            "message": message or f"{action} is denied: {reason}.",
        }
        if plans:
            denial["upgrade"] = [
                {"plan": plan, "title": plan.capitalize(), "price": _PRICE} for plan in plans
            ]
        if roles:
            denial["needs"] = {"roles": roles}
        if needs_feature is not None:
            denial["needs"] = {"feature": needs_feature}
        if retry_after is not None:
            denial["retry_after"] = retry_after
        self._server.scripts[action] = Script(denial=denial)

    @contextmanager
    def outage(self, code: str = "facts_unavailable", *, uncertain: bool = True) -> Iterator[None]:
        """Inside the block every call fails with Unavailable."""
        self._server.outage = (code, uncertain)
        try:
            yield
        finally:
            self._server.outage = None

    def used(self, meter: str, *, workspace: str) -> int:
        return self._server.ledger.used[workspace, meter]

    def reserved(self, meter: str, *, workspace: str) -> int:
        return self._server.ledger.reserved(workspace, meter)


class _Flask(Protocol):
    @property
    def view_functions(self) -> Mapping[str, Callable[..., Any]]: ...


def unguarded(app: _Flask) -> set[str]:
    """The endpoints of a Flask application without a guard, for a test that lists them."""
    return {endpoint for endpoint, view in app.view_functions.items() if not is_guarded(view)}
