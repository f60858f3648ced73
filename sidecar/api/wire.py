"""The wire: bytes become questions, decisions become bytes.

A question is decoded twice at most. The typed decoder is fast, stops at the first problem and overlooks a
repeated name; so what it refuses, and what may repeat a name, is read again by the shapes, which find every
problem. The shapes are the definition: the decoder takes nothing that they would not.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sidecar.decisions.model import Question
from sidecar.errors import BadQuestion, Problem
from sidecar.text import shapes
from sidecar.text.encoding import Duplicated, document_from, is_too_deep, without_strings
from sidecar.text.ids import is_uuid
from sidecar.text.shapes import (
    Anything,
    Either,
    ExternalId,
    Flag,
    ListOf,
    MapOf,
    Moment,
    OneOf,
    OrWord,
    Record,
    Text,
    Whole,
)
from sidecar.workspaces.subscriptions import STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sidecar.catalog.catalog import Price
    from sidecar.decisions.model import Decision, Facts, Quota, Reservation

MOST_AMOUNT = 10**12
LONGEST_TTL_S = 3_600
MOST_QUESTIONS = 1_000
KIB = 1024
LARGEST_BODY = 64 * KIB
LARGEST_INPUT = 256 * KIB  # with a client's whole head, in JSON
LARGEST_BATCH = 1_024 * KIB

AMOUNTS = MapOf(Whole(1, MOST_AMOUNT))
_FIELDS: Mapping[str, shapes.Shape] = {
    "user": Text(),
    "workspace": Text(),
    "action": Text(),
    "mode": OneOf(("check", "consume", "reserve")),
    "amounts": AMOUNTS,
    "idempotency_key": Text(shapes.LONGEST_KEY),
    "resource": Text(shapes.LONGEST_KEY),
    "ttl_seconds": Whole(1, LONGEST_TTL_S),
    "context": Anything(kind=dict),
}
_REQUIRED = ("user", "workspace", "action")
QUESTION = Record(_FIELDS, required=_REQUIRED)
_ITEM = Record(_FIELDS)
# What an item is to look like stands in its schema only: a bad one is answered in its place.
_ANY_ITEM = Anything(10**6, also=_ITEM.schema)
BATCH = Record({"defaults": _ITEM, "questions": ListOf(_ANY_ITEM, MOST_QUESTIONS)}, required=("questions",))
PLAN = Record({"plan": Text(), "as_of": Moment(), "overrule": Flag()}, required=("plan",))
COMMIT = Record({"amounts": MapOf(Whole(0, MOST_AMOUNT), fewest=1)})
_REFUND = Record(
    {
        "workspace": Text(),
        "idempotency_key": Text(shapes.LONGEST_KEY),
        "amounts": MapOf(Whole(1, MOST_AMOUNT), fewest=1),
    },
    required=("workspace", "idempotency_key"),
)
_LEVEL = Record(
    {"workspace": Text(), "meter": Text(), "resource": Text(shapes.LONGEST_KEY)},
    required=("workspace", "meter", "resource"),
)
RELEASE = Either(_REFUND, _LEVEL, by=("meter", "resource"))
STATUS = Record(
    {
        "status": OneOf(("active", "suspended")),
        "reason": OrWord(Text(), None),
        "as_of": Moment(),
        "overrule": Flag(),
    },
    required=("status",),
)
SUBSCRIPTION = Record(
    {
        "subscription": Text(),
        "plan": Text(),
        "status": OneOf(STATUSES),
        "seats": OrWord(Whole(0, MOST_AMOUNT), None),
        "trial_ends_at": OrWord(Moment(), None),
        "billing_anchor": OrWord(Moment(), None),
        "as_of": Moment(),
        "event": Text(),
        "source": Text(),
    },
    required=("plan", "status", "as_of"),
)
PATCH = Record({"external_id": OrWord(ExternalId(), None)}, required=("external_id",))
OVERRIDES = Record(
    {
        "features": MapOf(OrWord(Flag(), None)),
        "limits": MapOf(OrWord(OrWord(Whole(0, MOST_AMOUNT), "unlimited"), None)),
        "expires_at": OrWord(Moment(), None),
        "reason": OrWord(Text(), None),
        "until_plan_change": Flag(),
    }
)

_SUSPICIOUS = re.compile(rb"\\u(0000|[dD])")  # a NUL, or half of a surrogate pair

PlainText = Annotated[str, Meta(min_length=1, max_length=shapes.LONGEST_TEXT)]
_Key = Annotated[str, Meta(min_length=1, max_length=shapes.LONGEST_KEY)]


class _Fields(Struct, forbid_unknown_fields=True):
    user: PlainText | UnsetType = UNSET
    workspace: PlainText | UnsetType = UNSET
    action: PlainText | UnsetType = UNSET
    mode: Literal["check", "consume", "reserve"] | UnsetType = UNSET
    amounts: dict[PlainText, Annotated[int, Meta(ge=1, le=MOST_AMOUNT)]] | UnsetType = UNSET
    idempotency_key: _Key | UnsetType = UNSET
    resource: _Key | UnsetType = UNSET
    ttl_seconds: Annotated[int, Meta(ge=1, le=LONGEST_TTL_S)] | UnsetType = UNSET
    context: dict[str, Any] | UnsetType = UNSET


class _Batch(Struct, forbid_unknown_fields=True):
    questions: Annotated[list[_Fields], Meta(min_length=1, max_length=MOST_QUESTIONS)]
    defaults: _Fields | UnsetType = UNSET


class _PlainFields(Struct, forbid_unknown_fields=True, gc=False):
    """Empty text stands for what is not said."""

    user: PlainText = ""
    workspace: PlainText = ""
    action: PlainText = ""


class _PlainBatch(Struct, forbid_unknown_fields=True):
    questions: Annotated[list[_PlainFields], Meta(min_length=1, max_length=MOST_QUESTIONS)]
    defaults: _PlainFields | UnsetType = UNSET


_PLAIN = msgspec.json.Decoder(_PlainFields)
_PLAIN_BATCH = msgspec.json.Decoder(_PlainBatch)
_NOT_SAID = _PlainFields()
_ONE = msgspec.json.Decoder(_Fields)
_MANY = msgspec.json.Decoder(_Batch)
NOT_TYPED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NONE = _Fields()


def question_from(raw: bytes) -> Question:
    """BadQuestion with every problem of the body."""
    try:
        fields = _ONE.decode(raw)
    except NOT_TYPED:
        return _question_by_shape(raw)
    # The three comparisons are for the type checker and for a missing field alike.
    if (
        fields.user is UNSET
        or fields.workspace is UNSET
        or fields.action is UNSET
        or is_too_deep(raw)
        or not plain(raw, names=_names_in(fields))
        or not _clean(fields)
    ):
        return _question_by_shape(raw)
    return _question(fields, _NONE)


def plain_question_in(raw: bytes) -> tuple[str, str, str] | None:
    """User, workspace and action of a question that says nothing else; None for any other body."""
    try:
        question = _PLAIN.decode(raw)
    except NOT_TYPED:
        return None
    user, workspace, action = question.user, question.workspace, question.action
    is_plain = (raw.count(b":") == 3 and b"\\" not in raw) or plain(raw, names=3)  # noqa: PLR2004 - its fields
    if not (user and workspace and action and is_plain):
        return None
    return user, workspace_from(workspace), action


def batch_from(raw: bytes) -> list[tuple[str, str, str]] | list[Question | BadQuestion]:
    """As `plain_questions_in`, or else as `questions_from`."""
    return plain_questions_in(raw) or questions_from(raw)


def questions_from(raw: bytes) -> list[Question | BadQuestion]:
    """In order; a bad item is its own answer, a bad body or bad defaults are raised."""
    try:
        batch = _MANY.decode(raw)
    except NOT_TYPED:
        return _questions_by_shape(raw)
    if is_too_deep(raw):
        return _questions_by_shape(raw)
    defaults = _NONE if batch.defaults is UNSET else batch.defaults
    _refuse_effects(defaults, "/defaults")
    names = 1 + (batch.defaults is not UNSET) + _names_in(defaults) + sum(map(_names_in, batch.questions))
    if not plain(raw, names=names) or not _clean(defaults) or not all(map(_clean, batch.questions)):
        return _questions_by_shape(raw)
    return [_item(fields, defaults, place) for place, fields in enumerate(batch.questions)]


def plain_questions_in(raw: bytes, *, quickly: bool = False) -> list[tuple[str, str, str]] | None:
    """As `plain_question_in`, of a batch. *quickly*: within a millisecond; None where it takes longer."""
    try:
        batch = _PLAIN_BATCH.decode(raw)
    except NOT_TYPED:
        return None
    default = _NOT_SAID if batch.defaults is UNSET else batch.defaults
    questions = []
    names = 1 + (batch.defaults is not UNSET) + _names_in_plain(default)
    for fields in batch.questions:
        names += _names_in_plain(fields)
        user, workspace = fields.user or default.user, fields.workspace or default.workspace
        action = fields.action or default.action
        if not (user and workspace and action):
            return None
        questions.append((user, workspace_from(workspace), action))
    if quickly and raw.count(b":") != names:  # it takes a look at every text
        return None
    return questions if plain(raw, names=names) else None


def _names_in_plain(fields: _PlainFields) -> int:
    return (fields.user != "") + (fields.workspace != "") + (fields.action != "")


def workspace_from(text: str) -> str:
    """A UUID in its canonical form; a slug as it is."""
    return text.lower() if is_uuid(text) else text


def _question_by_shape(raw: bytes) -> Question:
    return _question(msgspec.convert(shapes.check(raw, QUESTION), _Fields), _NONE)


def _questions_by_shape(raw: bytes) -> list[Question | BadQuestion]:
    body = document_from(raw)
    if problems := shapes.problems_with(_frame_of(body), BATCH):
        raise shapes.refusal(problems)
    if not isinstance(body, dict):
        raise TypeError("a body is an object")
    defaults = msgspec.convert(body.get("defaults", {}), _Fields)
    _refuse_effects(defaults, "/defaults")
    answers: list[Question | BadQuestion] = []
    for place, item in enumerate(body["questions"]):
        if problems := shapes.problems_with(item, _ITEM, at=f"/questions/{place}"):
            answers.append(shapes.refusal(problems))
        else:
            answers.append(_item(msgspec.convert(item, _Fields), defaults, place))
    return answers


def _frame_of(body: object) -> object:
    """The body without what stands in its items: those problems are the items' own."""
    if isinstance(body, dict) and isinstance(body.get("questions"), list):
        frame = Duplicated({**body, "questions": [None] * len(body["questions"])})
        frame.names = body.names if isinstance(body, Duplicated) else frozenset()
        return frame
    return body


def _item(fields: _Fields, defaults: _Fields, place: int) -> Question | BadQuestion:
    missing = tuple(
        Problem(pointer=f"/questions/{place}/{name}", detail="is required, here or in /defaults")
        for name in _REQUIRED
        if getattr(fields, name) is UNSET and getattr(defaults, name) is UNSET
    )
    if missing:
        return shapes.refusal(missing)
    try:
        _refuse_effects(fields, f"/questions/{place}")
    except BadQuestion as bad:
        return bad
    return _question(fields, defaults)


def _refuse_effects(fields: _Fields, at: str) -> None:
    if fields.mode is not UNSET and fields.mode != "check":
        raise BadQuestion(
            "a batch takes nothing: ask for an effect with /v1/authorize",
            code="mode_not_batched",
            problems=(Problem(pointer=f"{at}/mode", detail=f"must be check, got {fields.mode}"),),
        )


def _question(fields: _Fields, defaults: _Fields) -> Question:
    """*fields*, where they are set, over *defaults*; the required ones stand in one of them."""
    if defaults is not _NONE:
        fields = _over(fields, defaults)
    context = fields.context
    return Question(
        user=fields.user or "",
        workspace=workspace_from(fields.workspace or ""),
        action=fields.action or "",
        mode=fields.mode or "check",
        amounts=None if fields.amounts is UNSET else fields.amounts,
        idempotency_key=fields.idempotency_key or None,
        resource=fields.resource or None,
        ttl_s=fields.ttl_seconds or 60,
        context={} if context is UNSET else context,
    )


def _over(fields: _Fields, defaults: _Fields) -> _Fields:
    names = fields.__struct_fields__
    own = {name: value for name in names if (value := getattr(fields, name)) is not UNSET}
    return _Fields(**({name: getattr(defaults, name) for name in names} | own))


def plain(raw: bytes, *, names: int) -> bool:
    """True when no name of a field stands twice in *raw*, and no text needs a closer look.

    JSON has one colon for each name, and others only inside of text. So when there are as many colons as
    there are different names, none of them was dropped.
    """
    if raw.count(b":") != names and without_strings(raw).count(b":") != names:
        return False
    return b"\\u" not in raw or not _SUSPICIOUS.search(raw)


def _names_in(fields: _Fields) -> int:
    names = (
        (fields.user is not UNSET)
        + (fields.workspace is not UNSET)
        + (fields.action is not UNSET)
        + (fields.mode is not UNSET)
        + (fields.idempotency_key is not UNSET)
        + (fields.resource is not UNSET)
        + (fields.ttl_seconds is not UNSET)
    )
    if fields.amounts is not UNSET:
        names += 1 + len(fields.amounts)
    if fields.context is not UNSET:
        names += 1 + _names_inside(fields.context)
    return names


def _names_inside(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_names_inside, value.values()))
    if isinstance(value, list):
        return sum(map(_names_inside, value))
    return 0


def _clean(fields: _Fields) -> bool:
    """False where a context needs the shapes' verdict; the rest is checked by its type."""
    context = fields.context
    return context is UNSET or not context or not shapes.problems_with(context, _FIELDS["context"])


def document_about(decision: Decision) -> dict[str, Any]:
    """A decision as a caller reads it, in this order."""
    verdict = decision.verdict
    document: dict[str, Any] = {
        "allow": verdict.allow,
        "status": verdict.status,
        "reason": verdict.reason,
        "message": decision.message,
    }
    if decision.role is not None:
        document["role"] = decision.role
        document["plan"] = decision.plan
        document["workspace"] = workspace_document(decision.workspace_id, decision.slug)
    add_help(document, decision)
    document["reservation"] = reservation_document(decision.reservation) if decision.reservation else None
    document["decision_id"] = decision.decision_id
    document["policy_revision"] = verdict.revision
    document["facts"] = facts = {"at": decision.at.astimezone(UTC), "cached": decision.cached}
    if (lag_ms := lag_of(decision.facts)) is not None:
        facts["lag_ms"] = lag_ms
    if decision.replayed:
        document["replayed"] = True
    return document


def lag_of(facts: Facts | None) -> int | None:
    """How old *facts* of a replica are at most; None where the primary has told them."""
    return None if facts is None else facts.lag_ms


def workspace_document(workspace_id: UUID | None, slug: str | None) -> dict[str, Any]:
    return {"id": workspace_id, "slug": slug}


def add_help(document: dict[str, Any], decision: Decision) -> None:
    """What would change the answer, in so far as anything would."""
    if decision.verdict.needs_roles:
        document["needs"] = {"roles": decision.verdict.needs_roles}
    elif decision.verdict.needs_feature is not None:
        document["needs"] = {"feature": decision.verdict.needs_feature}
    if decision.upgrade:
        document["upgrade"] = [
            {
                "plan": upgrade.plan,
                "title": upgrade.title,
                "price": price_document(upgrade.price),
            }
            for upgrade in decision.upgrade
        ]
    if decision.quota is not None:
        document["quota"] = quotas_document(decision.quota)
    if decision.retry_after_s is not None:
        document["retry_after"] = decision.retry_after_s


def price_document(price: Price) -> dict[str, Any]:
    return {"amount": price.amount, "currency": price.currency, "per": price.per}


def reservation_document(reservation: Reservation) -> dict[str, Any]:
    return {
        "id": reservation.id,
        "expires_at": reservation.expires_at.astimezone(UTC),
        "amounts": reservation.amounts,
        "state": reservation.state,
    }


def quotas_document(quotas: Mapping[str, Quota]) -> dict[str, Any]:
    return {meter: _quota_document(quota) for meter, quota in quotas.items()}


def _quota_document(quota: Quota) -> dict[str, Any]:
    document: dict[str, Any] = {
        "limit": quota.limit,
        "used": quota.used,
        "reserved": quota.reserved,
        "remaining": quota.remaining,
        "resets_at": quota.resets_at.astimezone(UTC) if quota.resets_at else None,
    }
    if quota.over_by:
        document["over_by"] = quota.over_by
    if (grows_at := quota.grows_at) != quota.resets_at and grows_at is not None:
        document["grows_at"] = grows_at.astimezone(UTC)
    return document
