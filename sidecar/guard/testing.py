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
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sidecar.guard.client import Client
from sidecar.guard.fake_server import Asked, FakeServer, Script
from sidecar.guard.views import unguarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from os import PathLike

__all__ = ["Asked", "FakeSidecar", "undeclared", "unguarded"]
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


def undeclared(app: object, plans: str | PathLike[str] = "plans.yaml") -> list[str]:
    """The names that the guards of *app* ask for and *plans* does not declare; empty where all is well.

    *app* is an application of Flask, Starlette or FastAPI. Each line names the view, what it asks for, and
    the nearest name that is declared; a meter that its action does not take is a mistake too. What a view
    asks only while it runs, by `reserve` or amounts that are a function, is not seen.

    It reads YAML: ModuleNotFoundError without the extra ``test``. OSError and ValueError for a file that
    cannot be read or is no catalog, TypeError as in `unguarded`.
    """
    try:
        found: list[str] = import_module("sidecar.guard.declared").undeclared(app, plans)
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise ModuleNotFoundError(
            "undeclared(…) reads plans.yaml, which needs PyYAML: pip install 'policy-sidecar[test]'",
            name="yaml",
        ) from error
    return found
