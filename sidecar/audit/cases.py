"""Decision cases, as read from YAML: who asks for what, by which facts, and which answer is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.catalog.read import Fields, Items, Text, document_in, plain
from sidecar.catalog.sections import HIGHEST
from sidecar.catalog.shape import (
    Anything,
    Field,
    Flag,
    Line,
    ListOf,
    MapOf,
    Place,
    Record,
    Reference,
    Walk,
    Whole,
    Words,
)
from sidecar.catalog.stated import OVERRIDES, STATUS, USER_ID, counts
from sidecar.decisions.model import Facts, Question, Usage
from sidecar.decisions.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Catalog, Meter
    from sidecar.catalog.finding import Finding
    from sidecar.catalog.read import Node

# Any instant would do: what a decision says of time is only how long it is until the reset.
_NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
_RESETS = {"day": datetime(2026, 1, 16, tzinfo=UTC), "month": datetime(2026, 2, 1, tzinfo=UTC)}
_NAME = Line(pattern=r"(?s:.{1,256})", says="text of at most 256 characters")
_SENTENCE = Line(pattern=r"(?=.*\S).{1,500}", says="a sentence on one line")
_STATUSES = sorted({status for statuses in REASONS.values() for status in statuses})
_QUESTION = Record(
    fields={
        "user": Field(shape=USER_ID),
        "workspace": Field(shape=_NAME),
        "action": Field(shape=_NAME, required=True),
        "amounts": Field(
            shape=MapOf(
                key=Reference(kind="meter", verb="asks for"),
                value=Whole(low=1, high=HIGHEST),
                says="a mapping of meters to numbers",
                noun="amount",
            )
        ),
        "context": Field(
            shape=MapOf(key=_NAME, value=Anything(), says="a mapping of fields to values", noun="field")
        ),
    },
    says="a mapping with action",
)
_FACTS = Record(
    fields={
        "role": Field(shape=_NAME, required=True),
        "plan": Field(shape=_NAME, required=True),
        "status": Field(shape=STATUS),
        "overrides": Field(shape=OVERRIDES),
        "usage": Field(shape=counts("what is used of them", verb="uses", code="bad_usage")),
        "reserved": Field(shape=counts("what is held of them", verb="holds", code="bad_usage")),
    },
    says="a mapping with role and plan, or null for a stranger",
    or_nothing=True,
)
_WANT = Record(
    fields={
        "allow": Field(shape=Flag(), required=True),
        "status": Field(shape=Whole(low=_STATUSES[0], high=_STATUSES[-1]), required=True),
        "reason": Field(shape=Words(words=tuple(REASONS)), required=True),
        "upgrade": Field(shape=ListOf(item=Reference(kind="plan", verb="wants"), says="a list of plans")),
        "needs": Field(
            shape=Record(
                fields={
                    "roles": Field(
                        shape=ListOf(item=Reference(kind="role", verb="wants"), says="a list of roles")
                    ),
                    "feature": Field(shape=Reference(kind="feature", verb="wants")),
                },
                says="a mapping with roles or feature",
            )
        ),
        "detail": Field(shape=_NAME),
    },
    says="a mapping with allow, status and reason",
)
CASE = Record(
    fields={
        "story": Field(shape=_SENTENCE, required=True),
        "question": Field(shape=_QUESTION, required=True),
        "facts": Field(shape=_FACTS, required=True),
        "want": Field(shape=_WANT, required=True),
        "message": Field(shape=_SENTENCE),
    },
    says="a mapping with story, question, facts and want",
)
_CASES = ListOf(item=CASE, says="a list of stories", least=1, noun="story")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """*facts* None is a stranger; *want* is what the answer says, field by field.

    A field that *want* leaves out must be empty in the answer; *message* is compared only when stated.
    """

    sentence: str
    source: str
    line: int
    column: int
    question: Question
    facts: Facts | None
    want: Mapping[str, Any]
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """A file of cases: those that can be run, and every problem of the file."""

    cases: tuple[Case, ...] = ()
    problems: tuple[Finding, ...] = field(default=())


def cases_in(raw: bytes, *, source: str, catalog: Catalog) -> CaseFile:
    """A file with any problem has no cases. Roles, plans and actions may be ones that nobody declared."""
    document = document_in(raw, source=source)
    walk = Walk(source=source, findings=list(document.findings))
    walk.declared.update(
        {
            "feature": catalog.features,
            "meter": catalog.meters,
            "plan": catalog.plans,
            "role": catalog.roles,
        }
    )
    root = document.root
    if root is not None:
        root = walk.sound(root, _CASES, Place(owner="the file", line=root.line, column=root.column))
        _refuse_doublets(root, walk)
    if walk.findings or not isinstance(root, Items):
        return CaseFile(problems=tuple(sorted(set(walk.findings), key=lambda each: each.order)))
    return CaseFile(
        cases=tuple(_case(node, source, catalog) for node in root.items if isinstance(node, Fields))
    )


def _refuse_doublets(root: Node, walk: Walk) -> None:
    seen: dict[str, int] = {}
    for sentence in _sentences(root):
        if first := seen.get(sentence.value):
            walk.find("duplicate_story", f'"{sentence.value}" is told twice, first on line {first}', sentence)
        seen.setdefault(sentence.value, sentence.line)


def _sentences(root: Node) -> Iterator[Text]:
    for item in root.items if isinstance(root, Items) else ():
        sentence = item.values.get("story") if isinstance(item, Fields) else None
        if isinstance(sentence, Text):
            yield sentence


def _case(node: Fields, source: str, catalog: Catalog) -> Case:
    said: dict[str, Any] = plain(node)
    question = {"user": "somebody", "workspace": "somewhere", **said["question"]}
    return Case(
        sentence=said["story"],
        source=source,
        line=node.line,
        column=node.column,
        question=Question(**question),
        facts=_facts(said["facts"], workspace=question["workspace"], catalog=catalog),
        want={"upgrade": [], "needs": {}, "detail": None, **said["want"]},
        message=said.get("message"),
    )


def _facts(said: dict[str, Any], *, workspace: str, catalog: Catalog) -> Facts | None:
    if not said:  # null: the walk refuses a mapping without role and plan
        return None
    overrides = said.get("overrides", {})
    usage, reserved = said.get("usage", {}), said.get("reserved", {})
    return Facts(
        workspace_id=UUID(int=1),
        slug=workspace,
        name=workspace,
        role=said["role"],
        plan=said["plan"],
        status=said.get("status", "active"),
        feature_overrides=overrides.get("features", {}),
        limit_overrides={
            meter: None if limit == "unlimited" else limit
            for meter, limit in overrides.get("limits", {}).items()
        },
        usage={
            name: _usage(meter, used=usage.get(name, 0), reserved=reserved.get(name, 0))
            for name, meter in catalog.meters.items()
        },
        at=_NOON,
        token=None,  # a case takes and changes nothing
    )


def _usage(meter: Meter, *, used: int, reserved: int) -> Usage:
    return Usage(used=used, reserved=reserved, resets_at=_RESETS.get(meter.per or ""))
