"""The workspace of one request, as the decisions about it see it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.guard.answers import Decision, Entitlements
    from sidecar.guard.client import Client

_LENGTH_OF_UUID = 36


class CurrentWorkspace:
    """The workspace of this request, as the decisions see it: `role`, `plan` and the `decisions` by action.

    `id`, `slug` and `name` are not in a decision: the first read of one of them fetches the entitlements.
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
        """Fetch now what is not in a decision."""
        _ = self.entitlements

    @property
    def id(self) -> str:
        return _uuid_in(self.asked) or self.entitlements.workspace.id

    @property
    def slug(self) -> str:
        return self.entitlements.workspace.slug

    @property
    def name(self) -> str:
        return self.entitlements.workspace.name

    def __repr__(self) -> str:
        return f"<workspace {self.asked} of {self.role} {self.user}, plan {self.plan}>"


def _uuid_in(text: str) -> str | None:
    try:
        return str(UUID(text)) if len(text) == _LENGTH_OF_UUID else None
    except ValueError:
        return None
