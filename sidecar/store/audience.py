"""Whom policies concern, counted by the database in an auditor's snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sidecar.store.auditing import Looked

_Features: TypeAlias = tuple[tuple[str, bool], ...]
_Key: TypeAlias = tuple[str, str, str, _Features]

AUDIENCE = "SELECT plan, status, role, features, workspaces, people FROM authz.audience()"
PEOPLE = """
    SELECT g.at, a.slug, a.user_id
    FROM jsonb_to_recordset(%(groups)s::jsonb)
        AS g (at integer, plan text, status text, role text, features jsonb)
    CROSS JOIN LATERAL authz.audience_of(g.plan, g.status, g.role, g.features, %(at_most)s) AS a
"""
WORKSPACES = """
    SELECT count(DISTINCT a.workspace_id)
    FROM jsonb_to_recordset(%(groups)s::jsonb) AS g (plan text, status text, role text, features jsonb)
    CROSS JOIN LATERAL authz.audience_of(g.plan, g.status, g.role, g.features, NULL) AS a
"""
OVER = "SELECT slug, plan, meter, at_most, used FROM authz.over_limits(%(limits)s::jsonb)"


class Grouped(Protocol):
    """Memberships with the same *plan*, *status*, *role* and overridden *features*."""

    @property
    def plan(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def features(self) -> _Features: ...


class Audience:
    """As audit.diff_live.Population says."""

    def __init__(self, looked: Looked) -> None:
        self._connection = looked.connection
        self._people: dict[tuple[_Key, int], list[tuple[str, str]]] = {}

    def audience(self) -> list[tuple[str, str, str, _Features, int, int]]:
        return [
            (plan, status, role, tuple(sorted(features.items())), workspaces, people)
            for plan, status, role, features, workspaces, people in self._connection.execute(AUDIENCE)
        ]

    def people(self, groups: Collection[Grouped], /, *, at_most: int) -> list[tuple[str, str]]:
        """A group is asked for once, whatever it is asked for again with."""
        keys = {_key(group): group for group in groups}
        fresh = [group for key, group in keys.items() if (key, at_most) not in self._people]
        if fresh and at_most:
            self._people |= {(_key(group), at_most): [] for group in fresh}
            asked = {"groups": _json(fresh), "at_most": at_most}
            for at, workspace, user in self._connection.execute(PEOPLE, asked):
                self._people[_key(fresh[at]), at_most].append((workspace, user))
        return sorted(row for key in keys for row in self._people.get((key, at_most), ()))[:at_most]

    def workspaces(self, groups: Collection[Grouped], /) -> int:
        row = self._connection.execute(WORKSPACES, {"groups": _json(groups)}).fetchone()
        return int(row[0]) if row else 0

    def over(self, limits: Mapping[str, Mapping[str, int]], /) -> list[tuple[str, str, str, int, int]]:
        return self._connection.execute(OVER, {"limits": json.dumps(limits)}).fetchall()


def _key(group: Grouped) -> _Key:
    return group.plan, group.status, group.role, group.features


def _json(groups: Collection[Grouped]) -> str:
    return json.dumps(
        [
            {
                "at": at,
                "plan": each.plan,
                "status": each.status,
                "role": each.role,
                "features": dict(each.features),
            }
            for at, each in enumerate(groups)
        ]
    )
