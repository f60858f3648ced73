"""When each member and caller was last seen in decision logs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecar.text.encoding import decoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.telemetry.log_files import LogFile

_MASKED = "mac:"
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)


@dataclass(slots=True)
class LastUsed:
    """Moments as the lines have them, RFC 3339 in UTC. *members* are by user and workspace, both as logged.

    *unread* are the lines that could not be read, *masked* those that do not name their user.
    """

    members: dict[tuple[str, str], str] = field(default_factory=dict)
    callers: dict[str, str] = field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    lines: int = 0
    unread: int = 0
    masked: int = 0

    def of(self, user: str, *workspaces: str) -> str | None:
        """In a workspace that is called by any of *workspaces*, its UUID or its slugs."""
        return max(filter(None, (self.members.get((user, each)) for each in workspaces)), default=None)


def last_used(files: Iterable[LogFile]) -> LastUsed:
    """NotAsked if a file may not be read."""
    found = LastUsed()
    for file in files:
        for raw in file:
            try:
                line = decoded(raw)
            except ValueError:
                line = None
            if isinstance(line, dict) and _AT.fullmatch(str(line.get("at"))):
                found.lines += 1
                _note(line, found)
            else:
                found.unread += 1
        found.unread += file.torn is not None or file.damage is not None
    return found


def _note(line: Mapping[str, object], found: LastUsed) -> None:
    at = str(line["at"])
    found.since = min(found.since or at, at)
    found.until = max(found.until or at, at)
    caller, user, workspace = line.get("caller"), line.get("user"), line.get("workspace")
    if isinstance(caller, str):
        found.callers[caller] = max(found.callers.get(caller, ""), at)
    # A line of version 0 has no kind.
    if not isinstance(user, str) or line.get("kind", "decision") != "decision":
        return
    found.masked += user.startswith(_MASKED) or str(workspace).startswith(_MASKED)
    for called in (line.get("workspace_id"), workspace):
        if isinstance(called, str):
            found.members[user, called] = max(found.members.get((user, called), ""), at)
