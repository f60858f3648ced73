"""Which decisions of a log are wanted, and what their workspace bought afterwards."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sidecar.audit.moments import is_between, moment_in
from sidecar.audit.replay import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime, timedelta

Overridden = Literal["feature", "limit", "any"]
# The fields of a line that a table has, in its order.
COLUMNS = (
    "at",
    "decision_id",
    "user",
    "workspace",
    "workspace_id",
    "action",
    "mode",
    "amounts",
    "allow",
    "status",
    "reason",
    "detail",
    "upgrade",
    "policy_revision",
    "situation",
    "limits",
    "caller",
    "endpoint",
)
BOUGHT = "bought"
_NO_FEATURES = b'"features":{}'


class Found(Protocol):
    """A line; *situation* and *limits* are JSON text, empty where there is none."""

    v: int
    kind: str
    at: str
    decision_id: str | None
    allow: bool | None
    reason: str | None
    detail: str | None
    status: int | None
    user: str | None
    end_user: str | None
    workspace: str | None
    workspace_id: str | None
    action: str | None
    upgrade: list[str]

    @property
    def situation(self) -> Any: ...  # noqa: ANN401 - bytes-like
    @property
    def limits(self) -> Any: ...  # noqa: ANN401 - bytes-like


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """None wants all. *user* and *workspace* are each a name and how it stands where it is masked."""

    user: frozenset[str] | None = None
    workspace: frozenset[str] | None = None
    action: str | None = None
    reason: str | None = None
    status: int | None = None
    override: Overridden | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, line: Found) -> bool:
        return (
            (self.status is None or line.status == self.status)
            and (self.user is None or line.user in self.user or line.end_user in self.user)
            and (
                self.workspace is None
                or line.workspace in self.workspace
                or line.workspace_id in self.workspace
            )
            and (self.action is None or line.action == self.action)
            and (self.reason is None or line.reason == self.reason)
            and (self.override is None or _is_overridden(line, self.override))
            and ((self.since is None and self.until is None) or is_between(line.at, self.since, self.until))
        )


@dataclass(slots=True)
class Selected:
    """*unread* is the number of lines that are none. *actions* and *workspaces* are those that were seen."""

    lines: int = 0
    decisions: int = 0
    unread: int = 0
    actions: set[str] = field(default_factory=set)
    workspaces: set[str] = field(default_factory=set)


def selected(
    files: Iterable[Iterable[bytes]],
    wanted: Wanted,
    *,
    decode: Callable[[bytes], Found],
    counted: Selected,
) -> Iterator[tuple[bytes, Found]]:
    """The decisions that are *wanted*, in the order of the files. *decode* raises ValueError for no line."""
    names_actions, names_workspaces = wanted.action is not None, wanted.workspace is not None
    fits = wanted.fits
    for file in files:
        for text in file:
            counted.lines += 1
            try:
                line = decode(text)
            except (ValueError, RecursionError):
                counted.unread += 1
                continue
            if line.v not in VERSIONS or not text.endswith(b"}"):
                counted.unread += 1
                continue
            if line.kind != "decision" and (line.kind or line.allow is None):
                continue
            counted.decisions += 1
            if names_actions and line.action is not None:
                counted.actions.add(line.action)
            if names_workspaces:
                counted.workspaces |= {line.workspace or "", line.workspace_id or ""}
            if fits(line):
                yield text, line
        if getattr(file, "torn", None) is not None or getattr(file, "damage", None):
            counted.lines += 1
            counted.unread += 1


class Purchases:
    """When a workspace changed to a plan, from rows with `workspace_id`, `at`, and `data` with `to`."""

    def __init__(self, rows: Iterable[dict[str, Any]], *, within: timedelta) -> None:
        self._within = within
        self._of: dict[str, list[tuple[datetime, str]]] = {}
        for row in rows:
            self._of.setdefault(row["workspace_id"], []).append((row["at"], row["data"].get("to", "")))
        for changes in self._of.values():
            changes.sort()

    def after(self, line: Found) -> datetime | None:
        """When a plan was bought that the line offered; any plan, if it does not tell which."""
        at = moment_in(line.at)
        changes = self._of.get(line.workspace_id or "")
        if at is None or not changes:
            return None
        for moment, plan in changes[bisect_left(changes, (at, "")) :]:
            if moment > at + self._within:
                return None
            if not line.upgrade or plan in line.upgrade:
                return moment
        return None


def row_of(text: bytes) -> dict[str, Any]:
    """A line as a document. ValueError if it is not UTF-8."""
    document: dict[str, Any] = json.loads(text)
    return document


def with_bought(text: bytes, bought: str | None) -> bytes:
    """The line as it is, and one field more."""
    return b'%b,"bought":%b}' % (text[:-1], json.dumps(bought).encode())


def _is_overridden(line: Found, override: Overridden) -> bool:
    of_feature = override != "limit" and _has_features(bytes(line.situation))
    return of_feature or (override != "feature" and _has_limits(bytes(line.limits)))


def _has_features(situation: bytes) -> bool:
    if not situation or _NO_FEATURES in situation:
        return False
    match json.loads(situation):
        case {"overrides": {"features": {**features}}}:
            return bool(features)
        case _:
            return False


def _has_limits(limits: bytes) -> bool:
    if len(limits) <= len(b"{}"):
        return False
    match json.loads(limits):
        case {**of}:
            return any(isinstance(each, dict) and each.get("of") == "override" for each in of.values())
        case _:
            return False
