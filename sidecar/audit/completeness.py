"""Whether a decision log is complete: what it says itself, and what the database knows that it must tell."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sidecar.audit.findings import Finding
from sidecar.audit.known import Known
from sidecar.audit.moments import moment_in, shown_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

Source = Literal["writer", "usage_ledger", "outbox", "history", "unaccounted", "policy_history"]
OF_THE_DATABASE: tuple[Source, ...] = ("usage_ledger", "outbox", "history", "unaccounted", "policy_history")
_ACTING = frozenset({"decision", "change", "settle"})
_OWN = frozenset({"begin", "end", "dropped", "skipped", "history"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """*id* is that of a row of the database."""

    source: Source
    detail: str
    writer: str | None = None
    decision_id: str | None = None
    id: int | None = None

    @property
    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("source", "writer", "decision_id", "id", "detail")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the outbox, of what a user changed."""

    id: int
    at: datetime
    actor: str
    decision_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A digest of the history, hexadecimal: as it was made, and of the rows as they are now."""

    id: int
    at: datetime
    rows: int
    sha256: str
    rows_now: int
    sha256_now: str
    pruned: bool


class Told(Protocol):
    """What a line tells."""

    kind: str
    at: str
    writer: str
    n: int
    decision_id: str | None
    allow: bool | None
    mode: str
    user: str | None
    end_user: str | None
    policy_revision: str | None


@dataclass(slots=True)
class _Writer:
    last: int = 0
    last_at: str = ""
    begins: bool = False
    ended: bool = False
    is_open: bool = False
    torn: bool = False
    skipped: int = 0
    dropped: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Marked:
    sha256: str
    at: datetime | None
    writer: str
    file: str
    line: int


class Completeness:
    """Give it each line of version 1 by `add`, and then ask for what is missing.

    *looks_up*: ids of decisions that took or changed something are kept, 8 bytes each, to be looked up later.
    *masked* says how a user stands in a log where users are masked.
    """

    def __init__(self, *, looks_up: bool = False, masked: Callable[[str], str] | None = None) -> None:
        self._looks_up = looks_up
        self._masked = masked
        self._writers: dict[str, _Writer] = {}
        self._ids = Known()
        self._ids_of_users = Known()
        self._marks: dict[int, _Marked] = {}
        self.revisions: set[str] = set()
        self._first_at = self._last_at = ""

    def add(self, file: str, number: int, line: bytes, told: Told) -> None:
        kind = told.kind
        writer = self._writers.get(told.writer)
        if writer is None:
            writer = self._writers[told.writer] = _Writer()
        at = told.at
        if told.n > writer.last:
            writer.last, writer.last_at = told.n, at
        at = at[:-1] if at.endswith("Z") else _without_zone(at)  # so that 57 stands before 57.1
        if at > self._last_at:  # noqa: PLR1730 - for each line: a call would double the time
            self._last_at = at
        if at and (at < self._first_at or not self._first_at):
            self._first_at = at
        revision = told.policy_revision
        if revision is not None and revision not in self.revisions and told.allow is not None:
            self.revisions.add(revision)  # that of a decision by our policies, not of another domain's
        if kind in _OWN:
            self._own(writer, file, number, line, told)
        elif self._looks_up and told.decision_id is not None and kind in _ACTING:
            self._act(told, told.decision_id)

    def torn(self, writer: str) -> None:
        self._writers.setdefault(writer, _Writer()).torn = True

    def open(self, writer: str) -> None:
        """A process is still writing it."""
        self._writers.setdefault(writer, _Writer()).is_open = True

    @property
    def between(self) -> tuple[datetime | None, datetime | None]:
        """The times of the first and the last line."""
        return moment_in(f"{self._first_at}Z"), moment_in(f"{self._last_at}Z")

    @property
    def still_written(self) -> list[str]:
        return sorted(name for name, writer in self._writers.items() if writer.is_open and not writer.ended)

    def gaps_of_writers(self, *, begins_later: bool, until: datetime | None = None) -> list[Gap]:
        """*begins_later*: a log may begin in the middle. Whoever wrote after *until* needs no end."""
        gaps = []
        for name, writer in sorted(self._writers.items()):
            told = list(writer.dropped)
            if not writer.begins and not begins_later:
                told.insert(0, "no line says when it began")
            if writer.skipped:
                told.append(f"left out {writer.skipped:,} granted checks, as it was set to")
            if writer.torn:
                told.append(f"its last line, after line {writer.last:,}, is torn")
            elif not writer.ended and not writer.is_open and not _is_after(writer.last_at, until):
                told.append(
                    f"ends at {writer.last:,} without an end line: it was killed; up to 20 ms may be missing"
                )
            gaps += [Gap(source="writer", writer=name, detail=detail) for detail in told]
        return gaps

    def gaps_of_effects(self, effects: Iterable[tuple[str, datetime]]) -> list[Gap]:
        """*effects* are decisions, each with when it took something."""
        missing = {decision: at for decision, at in effects if decision not in self._ids}
        return [
            Gap(
                source="usage_ledger",
                decision_id=decision,
                detail=f"what it took or gave back at {shown_moment(at)} has no line",
            )
            for decision, at in sorted(missing.items(), key=lambda each: (each[1], each[0]))
        ]

    def gaps_of_changes(self, changes: Iterable[Change]) -> list[Gap]:
        gaps = []
        for change in changes:
            if change.decision_id is None:
                why = "names no decision"
            elif change.decision_id not in self._ids:
                why = "has no line of its decision"
            elif not any(
                f"{change.decision_id} {name}" in self._ids_of_users for name in self._as_told(change)
            ):
                why = "names a decision about another user"
            else:
                continue
            detail = f"a change by {change.actor} at {shown_moment(change.at)} {why}"
            gaps.append(Gap(source="outbox", id=change.id, decision_id=change.decision_id, detail=detail))
        return gaps

    def gaps_of_marks(self, marks: Iterable[Mark]) -> list[Gap]:
        return [
            Gap(source="history", id=mark.id, detail=f"digest {mark.id} of the history has no line")
            for mark in marks
            if mark.id not in self._marks
        ]

    def gaps_of_unaccounted(self, rows: Iterable[Mapping[str, Any]]) -> list[Gap]:
        return [Gap(source="unaccounted", detail=_unaccounted(row)) for row in rows]

    def gaps_of_revisions(self, published: frozenset[str]) -> list[Gap]:
        return [
            Gap(source="policy_history", detail=f"revision {revision} was never published to this database")
            for revision in sorted(self.revisions - published)
        ]

    def broken_marks(self, marks: Iterable[Mark], *, since: datetime, until: datetime) -> list[Finding]:
        """Where the log's digests of the history fit neither the database's nor the rows as they are now.

        *marks* are all of that time, and of a while before: a line comes after its mark.
        """
        known = {mark.id: mark for mark in marks}
        found = []
        for number, told in sorted(self._marks.items()):
            if told.at is None or not since <= told.at <= until:
                continue
            why = _why_broken(told.sha256, known.get(number))
            if why is not None:
                finding = Finding(
                    writer=told.writer,
                    file=told.file,
                    line=told.line,
                    what="rewritten",
                    detail=f"digest {number} of the history: {why}",
                )
                found.append(finding)
        return found

    def _as_told(self, change: Change) -> list[str]:
        return [change.actor] if self._masked is None else [change.actor, self._masked(change.actor)]

    def _act(self, told: Told, decision: str) -> None:
        """A decision that may have taken or changed something; a check of a backend's cannot have."""
        if told.kind == "decision" and (not told.allow or (told.mode == "check" and told.end_user is None)):
            return
        self._ids.add(decision)
        if told.kind != "settle":
            for user in {told.user, told.end_user} - {None}:
                self._ids_of_users.add(f"{decision} {user}")

    def _own(self, writer: _Writer, file: str, number: int, line: bytes, told: Told) -> None:
        """A line of the log about itself."""
        try:
            says = json.loads(line)
        except ValueError:  # a decoder less strict has read it
            return
        match says:
            case {"kind": "begin"}:
                writer.begins = writer.begins or told.n == 1
            case {"kind": "end"}:
                writer.ended = True
            case {"kind": "dropped", "count": int(count), "since": str(since)}:
                writer.dropped.append(
                    f"dropped {count:,} line{'s' if count != 1 else ''} between {_clock(since)} and"
                    f" {_clock(told.at)}, as it says itself"
                )
            case {"kind": "skipped", "count": int(count)}:
                writer.skipped += count
            case {"kind": "history", "mark": int(mark), "sha256": str(sha256)}:
                self._marks[mark] = _Marked(
                    sha256=sha256, at=moment_in(told.at), writer=told.writer, file=file, line=number
                )
            case _:
                pass


def _why_broken(told: str, known: Mark | None) -> str | None:
    if known is None:
        return "the database does not have it any more"
    if known.sha256 != told:
        return "the database has another one of this number"
    if known.sha256_now != told and not known.pruned:
        return f"the history is not what it was made of: {known.rows:,} rows then, {known.rows_now:,} now"
    return None


def _is_after(at: str, until: datetime | None) -> bool:
    moment = moment_in(at)
    return until is not None and moment is not None and moment >= until


def _without_zone(at: str) -> str:
    """As UTC; empty for no time."""
    moment = moment_in(at)
    return shown_moment(moment)[:-1] if moment else ""


def _clock(at: str) -> str:
    """``07:31:57Z`` of a time."""
    return f"{at[11:19]}Z"


def _unaccounted(row: Mapping[str, Any]) -> str:
    where = row["workspace"] or row["workspace_id"]
    what = " ".join(str(part) for part in (row["what"], row["name"]) if part is not None)
    recorded, stored = (
        "nothing" if value is None else json.dumps(value, ensure_ascii=False)
        for value in (row["recorded"], row["stored"])
    )
    return f"{what} of {where}: the history tells {recorded}, the table has {stored}"
