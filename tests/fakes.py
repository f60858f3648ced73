"""Stand-ins that are small and real: they pass the contract tests of what they stand in for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.decisions.model import Roster
from sidecar.store.replicated import PlainOf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sidecar.decisions.model import Facts, ToCome
    from sidecar.decisions.ports import PlainFound
    from sidecar.errors import DependencyError


class FactsInMemory:
    """A FactStore over *members*: (user, slug) → facts. While *outage* is set, that is all it answers."""

    def __init__(self, members: Mapping[tuple[str, str], Facts]) -> None:
        self.members = dict(members)
        self.outage: DependencyError | None = None
        self.coming: dict[UUID, Mapping[str, ToCome]] = {}

    def facts(
        self,
        members: Sequence[tuple[str, str]],
        meters: Sequence[tuple[str, ...]] | None = None,
        /,
        *,
        deadline: float,
    ) -> list[Facts | None]:
        self._answers()
        found = [self.members.get((user, self._slug(workspace))) for user, workspace in members]
        if meters is None:
            return found
        return [facts and _of_meters(facts, asked) for facts, asked in zip(found, meters, strict=True)]

    def plain_facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[PlainFound]:
        found = self.facts(members, [()] * len(members), deadline=deadline)
        return [None if facts is None else (PlainOf(facts), facts.at) for facts in found]

    def to_come(
        self, meters: Mapping[UUID, Sequence[str]], /, *, deadline: float
    ) -> dict[UUID, Mapping[str, ToCome]]:
        """What `coming` says; there is no clock."""
        self._answers()
        return {workspace: self.coming[workspace] for workspace in meters if workspace in self.coming}

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        self._answers()
        found = [facts for (member, _), facts in self.members.items() if member == user]
        found.sort(key=lambda facts: facts.slug)
        return [facts for facts in found if after is None or facts.slug > after][:limit]

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:
        self._answers()
        wanted = self._slug(workspace)
        of_it = {user: facts for (user, slug), facts in self.members.items() if slug == wanted}
        page = [(user, of_it[user]) for user in sorted(of_it) if user > (after or "")][:limit]
        return Roster(
            facts=page[0][1] if page else None, members=tuple((user, facts.role) for user, facts in page)
        )

    def _slug(self, workspace: str) -> str:
        slugs = {str(facts.workspace_id): facts.slug for facts in self.members.values()}
        return slugs.get(workspace.lower(), workspace)

    def _answers(self) -> None:
        if self.outage is not None:
            raise self.outage


class NoPeople:
    """A store that nobody is expected to ask, but for whether a stranger was deleted: nobody was."""

    def standing(self, user: str, /, *, deadline: float) -> str:
        return "homeless"


def _of_meters(facts: Facts, meters: tuple[str, ...]) -> Facts:
    """As PostgreSQL tells them: nothing of a meter that was not asked for."""
    return replace(
        facts,
        usage={meter: usage for meter, usage in facts.usage.items() if meter in meters},
        limit_overrides={meter: limit for meter, limit in facts.limit_overrides.items() if meter in meters},
        seats={meter: limit for meter, limit in facts.seats.items() if meter in meters},
    )
