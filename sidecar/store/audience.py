"""Whom policies concern, counted by the database in an auditor's snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sidecar.store.auditing import Looked

TOGETHER = """
    SELECT plan, status, role, features, roles, workspaces, people, first
    FROM authz.audience_together(%(at_most)s)
"""
PEOPLE = "SELECT slug, role, user_id FROM authz.audience_of(%(slugs)s, %(at_most)s)"
NOT_ON = "SELECT slug, plan FROM authz.workspaces_not_on(%(plans)s)"
OVER = "SELECT slug, plan, meter, at_most, used FROM authz.over_limits(%(limits)s::jsonb)"


class Audience:
    """As audit.diff_live.Population says."""

    def __init__(self, looked: Looked) -> None:
        self._connection = looked.connection

    def audience(self, *, at_most: int) -> Iterator[tuple[Any, ...]]:
        for plan, status, role, features, roles, *counts, first in self._connection.execute(
            TOGETHER, {"at_most": at_most}
        ):
            yield plan, status, role, tuple(sorted(features.items())), tuple(roles), *counts, tuple(first)

    def people(self, workspaces: Collection[str], /, *, at_most: int) -> list[tuple[str, str, str]]:
        asked = {"slugs": list(workspaces), "at_most": at_most}
        return self._connection.execute(PEOPLE, asked).fetchall()

    def not_on(self, plans: Collection[str], /) -> list[tuple[str, str]]:
        return self._connection.execute(NOT_ON, {"plans": list(plans)}).fetchall()

    def over(self, limits: Mapping[str, Mapping[str, int]], /) -> list[tuple[str, str, str, int, int]]:
        return self._connection.execute(OVER, {"limits": json.dumps(limits)}).fetchall()
