"""AuthZEN 1.0 on the wire: bytes become evaluations and searches. Its words stay in modules of its name.

What a field is not said to mean is not looked at, and an optional field may be null: it is then absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from sidecar.api import wire
from sidecar.text import shapes
from sidecar.text.encoding import Duplicated, document_from
from sidecar.text.shapes import Anything, OneOf, Open, Text, Whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.errors import BadQuestion

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]
Kind = Literal["subject", "resource", "action"]
KINDS: tuple[Kind, ...] = get_args(Kind)

replaced = msgspec.structs.replace  # one of the values below, with other fields

MOST_EVALUATIONS = wire.MOST_QUESTIONS
MOST_ON_A_PAGE = 1_000
USUAL_PAGE = 100
_LONGEST_NAME = 1_024
_LONGEST_TOKEN = 8_192
_DEEPEST = 32
_LARGEST_LIMIT = 2**53 - 1

_FREE = Anything(_DEEPEST, kind=dict)
_NAME = Text(_LONGEST_NAME)
# By what each part of a question is known; the rest of it is its properties.
_KNOWN_BY: Mapping[str, tuple[str, ...]] = {
    "subject": ("type", "id"),
    "action": ("name",),
    "resource": ("type", "id"),
}


def _entity(part: str, *required: str) -> Open:
    return Open({**dict.fromkeys(_KNOWN_BY[part], _NAME), "properties": _FREE}, required=required)


_WHOLE_PARTS = {part: _entity(part, *names) for part, names in _KNOWN_BY.items()}
_ITEM = Open({**{part: _entity(part) for part in _KNOWN_BY}, "context": _FREE})
EVALUATION = Open({**_WHOLE_PARTS, "context": _FREE}, required=tuple(_KNOWN_BY))
# What an item is to look like stands in its schema only: a bad one is answered in its place.
_ANY_ITEM = Anything(10**6, also=_ITEM.schema)
EVALUATIONS = Open(
    {
        **_ITEM.fields,
        "evaluations": shapes.ListOf(_ANY_ITEM, MOST_EVALUATIONS, shortest=0),
        "options": Open({"evaluations_semantic": OneOf(get_args(Semantic))}),
    }
)
_PAGE = Open(
    {"token": Text(_LONGEST_TOKEN, shortest=0), "limit": Whole(0, _LARGEST_LIMIT), "properties": _FREE}
)


def _search(kind: Kind) -> Open:
    """Who or what is searched for has a type, an action nothing at all: its name is what is asked."""
    parts = {part: whole for part, whole in _WHOLE_PARTS.items() if part != kind}
    if kind != "action":
        parts[kind] = Open({"type": _NAME, "properties": _FREE}, required=("type",))
    return Open({**parts, "context": _FREE, "page": _PAGE}, required=tuple(parts))


SEARCHES: Mapping[Kind, Open] = {kind: _search(kind) for kind in KINDS}


class Entity(Struct, frozen=True, forbid_unknown_fields=True):
    """A subject or a resource; *id* is empty of what is searched for."""

    type: wire.PlainText
    id: wire.PlainText
    properties: dict[str, Any] | None = None


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    """*name* is empty when actions are searched for."""

    name: wire.PlainText
    properties: dict[str, Any] | None = None


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True):
    subject: Entity
    action: Action
    resource: Entity
    context: dict[str, Any] | None = None


class _PlainItem(Struct, forbid_unknown_fields=True):
    subject: Entity | None = None
    action: Action | None = None
    resource: Entity | None = None


class _PlainOptions(Struct, forbid_unknown_fields=True):
    evaluations_semantic: Semantic


class _PlainBatch(_PlainItem, forbid_unknown_fields=True, kw_only=True):
    evaluations: Annotated[list[_PlainItem], Meta(min_length=1, max_length=MOST_EVALUATIONS)]
    options: _PlainOptions | None = None


# Of what says no more than what its parts are known by. Properties would be names that are not counted.
_PLAIN = msgspec.json.Decoder(Evaluation)
_PLAIN_BATCH = msgspec.json.Decoder(_PlainBatch)
_NAMES_OF = {part: 1 + len(names) for part, names in _KNOWN_BY.items()}
_NAMES_OF_PLAIN = sum(_NAMES_OF.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """*items* in order; a bad one is its own answer."""

    items: Sequence[Evaluation | BadQuestion]
    semantic: Semantic


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """*about* lacks what is searched for; *page* is whether the caller spoke of pages."""

    kind: Kind
    about: Evaluation
    page: bool
    token: str | None
    limit: int | None


def evaluation_from(raw: bytes) -> Evaluation:
    """BadQuestion with every problem of the body."""
    return _evaluation(shapes.check(raw, EVALUATION))


def plain_evaluation_in(raw: bytes) -> Evaluation | None:
    """None for any other body, which may be an evaluation as well."""
    try:
        plain = _PLAIN.decode(raw)
    except wire.NOT_TYPED:
        return None
    return plain if wire.plain(raw, names=_NAMES_OF_PLAIN) else None


def evaluations_from(raw: bytes) -> Batch | Evaluation:
    """A body without evaluations is one evaluation. BadQuestion for what is wrong with the whole of it."""
    plain = _plain_batch_in(raw)
    if plain is not None:
        return plain
    body = document_from(raw)
    items = body.get("evaluations") if isinstance(body, dict) else None
    if not isinstance(body, dict) or items is None or items == []:
        return _evaluation(shapes.check(raw, EVALUATION))
    if problems := shapes.problems_with(_frame_of(body), EVALUATIONS):
        raise shapes.refusal(problems)
    semantic: Semantic = (body.get("options") or {}).get("evaluations_semantic") or "execute_all"
    return Batch(items=[_item(item, body, place) for place, item in enumerate(items)], semantic=semantic)


def _plain_batch_in(raw: bytes) -> Batch | None:
    """As `plain_evaluation_in`, of evaluations."""
    try:
        batch = _PLAIN_BATCH.decode(raw)
    except wire.NOT_TYPED:
        return None
    items = []
    names = 1 + _names_in(batch) + (2 if batch.options else 0)
    for item in batch.evaluations:
        subject, action, resource = item.subject, item.action, item.resource
        if subject or action or resource:
            names += _names_in(item)
        subject, action = subject or batch.subject, action or batch.action
        resource = resource or batch.resource
        if subject is None or action is None or resource is None:
            return None
        items.append(Evaluation(subject, action, resource))
    if not wire.plain(raw, names=names):
        return None
    return Batch(items=items, semantic=batch.options.evaluations_semantic if batch.options else "execute_all")


def _names_in(item: _PlainItem) -> int:
    names = 0
    if item.subject:
        names += _NAMES_OF["subject"]
    if item.action:
        names += _NAMES_OF["action"]
    if item.resource:
        names += _NAMES_OF["resource"]
    return names


def search_from(kind: Kind, raw: bytes) -> Search:
    """BadQuestion with every problem of the body."""
    body = shapes.check(raw, SEARCHES[kind])
    page = body.get("page")
    limit = (page or {}).get("limit")
    # What is searched for is not looked at, but for its type and its properties.
    unnamed = dict.fromkeys(_KNOWN_BY[kind], "") | {"properties": None}
    if kind != "action":
        unnamed |= {name: body[kind].get(name) for name in ("type", "properties")}
    return Search(
        kind=kind,
        about=_evaluation({**body, kind: unnamed}),
        page=page is not None,
        token=(page or {}).get("token") or None,
        limit=None if limit is None else min(limit, MOST_ON_A_PAGE),
    )


def names_in(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """What each part is known by; what is searched for has no id, or no part at all."""
    subject, action, resource = evaluation.subject, evaluation.action, evaluation.resource
    return {
        "subject": {"type": subject.type} | ({"id": subject.id} if subject.id else {}),
        **({"action": {"name": action.name}} if action.name else {}),
        "resource": {"type": resource.type} | ({"id": resource.id} if resource.id else {}),
    }


def document_of(evaluation: Evaluation) -> dict[str, Any]:
    """As a policy of another domain sees it: what was said and is known here, and nothing else."""
    document: dict[str, Any] = names_in(evaluation)
    for part, named in document.items():
        properties = getattr(evaluation, part).properties
        if properties is not None:
            named["properties"] = properties
    if evaluation.context is not None:
        document["context"] = evaluation.context
    return document


def error_document(bad: BadQuestion) -> dict[str, Any]:
    """The answer to an item that is no question: closed, and why."""
    told = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in bad.problems)
    return {"decision": False, "context": {"error": {"status": 400, "message": told or bad.detail}}}


def _frame_of(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what stands in its items: those problems are the items' own."""
    frame = Duplicated(body)
    if isinstance(body["evaluations"], list):
        frame["evaluations"] = [None] * len(body["evaluations"])
    frame.names = body.names if isinstance(body, Duplicated) else frozenset()
    return frame


def _item(item: object, defaults: Mapping[str, Any], place: int) -> Evaluation | BadQuestion:
    at = f"/evaluations/{place}"
    if problems := shapes.problems_with(item, _ITEM, at=at):
        return shapes.refusal(problems)
    own: dict[str, Any] = item if isinstance(item, dict) else {}
    whole = {part: _with_default(part, own.get(part), defaults.get(part)) for part in _KNOWN_BY}
    context = own.get("context")
    whole["context"] = defaults.get("context") if context is None else context
    if problems := shapes.problems_with(whole, EVALUATION, at=at):
        return shapes.refusal(problems)
    return _evaluation(whole)


def _with_default(part: str, own: dict[str, Any] | None, default: dict[str, Any] | None) -> Any:  # noqa: ANN401 - JSON
    """*own* in place of *default*, whole; but what *own* lacks to be known by, it has of *default*.

    Its properties it has never of it: they are those of another.
    """
    if own is None or default is None:
        return default if own is None else own
    lacking = [name for name in _KNOWN_BY[part] if own.get(name) is None]
    return {**own, **{name: default.get(name) for name in lacking}}


def _evaluation(body: Mapping[str, Any]) -> Evaluation:
    """*body* has every part."""
    subject, action, resource = body["subject"], body.get("action") or {"name": ""}, body["resource"]
    return Evaluation(
        subject=Entity(type=subject["type"], id=subject["id"], properties=subject.get("properties")),
        action=Action(name=action["name"], properties=action.get("properties")),
        resource=Entity(type=resource["type"], id=resource["id"], properties=resource.get("properties")),
        context=body.get("context"),
    )
