"""The workspace of one request, as the decisions about it see it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.guard.answers import DecidedWorkspace, Decision, Entitlements, Workspace
    from sidecar.guard.client import Client


class CurrentWorkspace:
    """The workspace of this request, as the `decisions` see it, by action: `id`, `slug`, `role` and `plan`.

    `name` and `entitlements` are in no decision: the first read of one of them makes a call, which blocks. In
    a coroutine call `load` in a thread before.
    """

    def __init__(self, *, client: Client, user: str, asked: str, decisions: Mapping[str, Decision]) -> None:
        self._client = client
        self.user = user
        self.asked = asked
        self.decisions = decisions

    @property
    def role(self) -> str:
        return next(decision.role for decision in self.decisions.values() if decision.role is not None)

    @property
    def plan(self) -> str:
        return next(decision.plan for decision in self.decisions.values() if decision.plan is not None)

    @cached_property
    def entitlements(self) -> Entitlements:
        return self._client.entitlements(user=self.user, workspace=self.asked)

    def load(self) -> None:
        """Fetch now what is not in a decision: `name` and `entitlements`."""
        _ = self.entitlements

    @property
    def id(self) -> str:
        return self._decided.id

    @property
    def slug(self) -> str:
        return self._decided.slug

    @property
    def name(self) -> str:
        return self.entitlements.workspace.name

    def __repr__(self) -> str:
        return f"<workspace {self.asked} of {self.role} {self.user}, plan {self.plan}>"

    @property
    def _decided(self) -> DecidedWorkspace | Workspace:
        told = (decision.workspace for decision in self.decisions.values())
        # An older sidecar tells no decision's workspace.
        return next((each for each in told if each is not None), None) or self.entitlements.workspace
