"""Decisions of a log put to a policy again: each to its own revision, where the verdict must be the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.audit.known import Known
from sidecar.audit.moments import is_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    Document = Mapping[str, Any]

VERSIONS = (0, 1)
_MOST_CACHED = 200_000  # of what lines say together: with context there is no end of them
_OF_VERSION_1 = ("charges", "upgrade", "needs")
_GRANTED = {"allow": True, "reason": "granted", "status": 200}


class Asked(Protocol):
    """A line of a decision. What is bytes-like is JSON text, empty where there is none."""

    v: int
    kind: str
    at: str
    decision_id: str | None
    allow: bool | None
    reason: str | None
    detail: str | None
    status: int | None
    policy_revision: str | None
    situation_sha256: str | None
    replayed: bool
    waiting_helps: bool | None
    mode: str
    user: str | None
    workspace: str | None
    workspace_id: str | None
    action: str | None

    @property
    def situation(self) -> Any: ...  # noqa: ANN401 - bytes-like
    @property
    def charges(self) -> Any: ...  # noqa: ANN401 - bytes-like
    @property
    def upgrade(self) -> Any: ...  # noqa: ANN401 - bytes-like
    @property
    def needs(self) -> Any: ...  # noqa: ANN401 - bytes-like
    @property
    def amounts(self) -> Any: ...  # noqa: ANN401 - bytes-like
    @property
    def limits(self) -> Any: ...  # noqa: ANN401 - bytes-like


class NotKept(Exception):
    """The files of a revision are nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Different:
    file: str
    line: int
    writer: str | None
    n: int | None
    decision_id: str | None
    logged: Document
    replayed: Document | None

    @property
    def document(self) -> dict[str, object]:
        names = ("file", "line", "writer", "n", "decision_id", "logged", "replayed")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Counted:
    """*not_kept* is by revision; *decisions* are those that were put to a policy again."""

    lines: int = 0
    decisions: int = 0
    same: int = 0
    no_situation: int = 0
    masked: int = 0
    no_original: int = 0
    unread: int = 0
    revisions: set[str] = field(default_factory=set)
    different: list[Different] = field(default_factory=list)
    not_kept: dict[str, int] = field(default_factory=dict)

    @property
    def not_replayable(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("no_situation", "masked", "no_original", "unread")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    file: str
    line: int
    text: bytes


def decisions_in(
    files: Iterable[Any],
    counted: Counted,
    *,
    decode: Callable[[bytes], Asked],
    decision: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[tuple[Place, Asked]]:
    """The decisions that have a situation and are of that id and time; *counted* has the other lines.

    *files* have a name, `torn` and `damage`, as telemetry.log_files has them.
    """
    is_of_a_time = since is not None or until is not None
    for file in files:
        for number, text in enumerate(file, 1):
            try:
                line = decode(text)
            except (ValueError, RecursionError):
                counted.lines += 1
                counted.unread += 1
                continue
            if (decision is not None and line.decision_id != decision) or (
                is_of_a_time and not is_between(line.at, since, until)
            ):
                continue
            counted.lines += 1
            if line.v not in VERSIONS or not text.endswith(b"}"):
                counted.unread += 1
            elif line.allow is None or line.policy_revision is None or line.kind not in {"", "decision"}:
                counted.no_situation += 1
            elif line.situation_sha256 is not None:
                counted.masked += 1
            elif line.replayed or bytes(line.situation):
                yield Place(file=file.name, line=number, text=text), line
            else:
                counted.no_situation += 1
        if file.torn is not None or file.damage:
            counted.lines += 1
            counted.unread += 1


class Replay:
    """*verdict_of* is asked once about equal situations of a revision: the verdict, None if there is none.

    It raises NotKept.
    """

    def __init__(self, verdict_of: Callable[[str, bytes], Document | None], counted: Counted) -> None:
        self._verdict_of = verdict_of
        self._counted = counted
        self._verdicts: dict[tuple[str, bytes], Document | None] = {}
        self._outcomes: dict[tuple[object, ...], tuple[Document, Document | None] | bool] = {}
        self._originals, self._originals_by = Known(), Known()
        self._repeated: list[tuple[Place, str, str, Document]] = []
        self.situations = 0

    def add(self, place: Place, line: Asked) -> None:
        revision = line.policy_revision or ""
        if line.replayed:
            self._repeated.append((place, line.decision_id or "", revision, logged_verdict(line)))
            return
        counted = self._counted
        if line.allow and line.mode != "check" and line.decision_id is not None:
            self._originals.add(line.decision_id)
            self._originals_by.add(f"{line.decision_id} {revision}")
        key = (
            revision,
            bytes(line.situation),
            line.allow,
            line.reason,
            line.detail,
            line.status,
            bytes(line.charges),
            bytes(line.upgrade),
            bytes(line.needs),
            line.waiting_helps,
            line.v,
        )
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._asked(revision, line)
            if len(self._outcomes) >= _MOST_CACHED:
                self._outcomes.clear()
                self._verdicts.clear()
            self._outcomes[key] = outcome
        if outcome is True:
            counted.decisions += 1
            counted.same += 1
        elif outcome is False:
            counted.not_kept[revision] = counted.not_kept.get(revision, 0) + 1
        else:
            counted.decisions += 1
            counted.different.append(different(place, line.decision_id, *outcome))

    def close(self) -> None:
        """Decisions that were given again are those that were made first, wherever that stands."""
        counted = self._counted
        for place, decision, revision, logged in self._repeated:
            if decision not in self._originals:
                counted.no_original += 1
                continue
            counted.decisions += 1
            is_granted = all(logged[name] == value for name, value in _GRANTED.items())
            if is_granted and f"{decision} {revision}" in self._originals_by:
                counted.same += 1
            else:
                counted.different.append(different(place, decision, logged, None))
        counted.different.sort(key=lambda each: (each.file, each.line))

    def _asked(self, revision: str, line: Asked) -> tuple[Document, Document | None] | bool:
        """True if the verdict is the line's, False if there is none to ask."""
        self._counted.revisions.add(revision)
        situation = canonical(json.loads(bytes(line.situation)))
        if (revision, situation) not in self._verdicts:
            try:
                self._verdicts[revision, situation] = self._verdict_of(revision, situation)
            except NotKept:
                return False
            self.situations += 1
        verdict = self._verdicts[revision, situation]
        logged = logged_verdict(line)
        if verdict is not None and is_same(logged, verdict):
            return True
        return logged, verdict


def logged_verdict(line: Asked) -> dict[str, Any]:
    """The verdict as far as the line has it."""
    document: dict[str, Any] = {
        "allow": line.allow,
        "detail": line.detail,
        "reason": line.reason,
        "revision": line.policy_revision,
        "status": line.status,
    }
    for name in _OF_VERSION_1:
        if text := bytes(getattr(line, name)):
            document[name] = json.loads(text)
    if line.waiting_helps is not None:
        document["waiting_helps"] = line.waiting_helps
    return document if line.v == 0 else {**dict.fromkeys(_OF_VERSION_1), **document}


def is_same(logged: Document, verdict: Document) -> bool:
    """Byte for byte in canonical JSON, in all that a line of its version has."""
    return canonical(logged) == canonical({name: verdict.get(name) for name in logged})


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )


def different(place: Place, decision: str | None, logged: Document, replayed: Document | None) -> Different:
    says = json.loads(place.text)
    return Different(
        file=place.file,
        line=place.line,
        writer=says.get("writer"),
        n=says.get("n"),
        decision_id=decision,
        logged=logged,
        replayed=replayed,
    )
