"""Stand-ins that are small and real: they pass the contract tests of what they stand in for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.errors import DependencyError
    from sidecar.model import Facts


class FactsInMemory:
    """A FactStore over *members*: (user, slug) → facts. While *outage* is set, that is all it answers."""

    def __init__(self, members: Mapping[tuple[str, str], Facts]) -> None:
        self.members = dict(members)
        self.outage: DependencyError | None = None

    def facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[Facts | None]:
        self._answers()
        slugs = {str(facts.workspace_id): facts.slug for facts in self.members.values()}
        return [
            self.members.get((user, slugs.get(workspace.lower(), workspace))) for user, workspace in members
        ]

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        self._answers()
        found = [facts for (member, _), facts in self.members.items() if member == user]
        found.sort(key=lambda facts: facts.slug)
        return [facts for facts in found if after is None or facts.slug > after][:limit]

    def _answers(self) -> None:
        if self.outage is not None:
            raise self.outage


class NoLedger:
    """Of an authorizer that is only asked to check: whatever is asked of it is a mistake of the test."""

    def _unasked(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("the ledger was asked")

    take = repeated = commit = release = refund = release_resource = _unasked
