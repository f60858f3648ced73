"""Invariants of plans.yaml: their shapes, what shapes cannot say of them, and how one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.catalog.catalog import Cell, Choice, Invariant, Ladder, Separate
from sidecar.catalog.read import Fields
from sidecar.catalog.shape import Either, Field, Line, ListOf, Record, Reference, Whole, Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.catalog.read import Node
    from sidecar.catalog.shape import Shape, Walk

NOBODYS = ("stranger", "undeclared")  # roles and plans that no file declares
# As sidecar/decisions/reasons.py has them: a test compares the two.
REASONS = (
    "not_a_member",
    "unknown_action",
    "workspace_suspended",
    "role_insufficient",
    "feature_not_in_plan",
    "quota_exceeded",
    "denied_by_policy",
    "granted",
)
HTTP_STATUSES = (200, 402, 403, 429)

_ACTION = Reference(kind="action", verb="names the action")
_ROLE = Reference(kind="role", verb="names the role")
_PLAN = Reference(kind="plan", verb="names the plan")
_TITLE = Line(pattern=r"(?=.*\S).{1,120}", says="text on one line, at most 120 characters")
_CODE = Line(pattern=r"(?=.*\S).{1,200}", says="the code of a rule of your own")


def _choice(item: Reference | Words | Whole | Line, says: str = "") -> Field:
    several = ListOf(item=item, says=f"{item.says}, or a list", least=1, or_one=True)
    but = Record(fields={"not": Field(shape=several, says="Any but these.", required=True)})
    shape = Either(record=but, other=several, says=f"{item.says}, a list, or a mapping with not")
    return Field(shape=shape, says=says)


_OF_SITUATIONS: Mapping[str, Field] = {
    "action": _choice(_ACTION, "If absent, every action; in always, every declared one."),
    "role": _choice(
        Reference(kind="role", verb=_ROLE.verb, also=NOBODYS),
        "If absent, anybody, also strangers; in always, every declared role.",
    ),
    "plan": _choice(
        Reference(kind="plan", verb=_PLAN.verb, also=NOBODYS),
        "If absent, every plan, also one that is not declared; in always, every declared one.",
    ),
    "status": _choice(Words(words=("active", "suspended")), "If absent, any; in always, active."),
    "override": _choice(
        Words(words=("none", "on", "off")),
        "Of the feature that the action needs. If absent, any; in always, none.",
    ),
    "room": _choice(
        Words(words=("yes", "no")),
        "Whether what the action takes fits into the plan now. If absent, any; in always, yes.",
    ),
}
_OF_VERDICTS: Mapping[str, Field] = {
    "allow": _choice(Words(words=("yes", "no")), "Whether it is granted."),
    "http_status": _choice(Whole(low=200, high=429, among=HTTP_STATUSES), "The status of the answer."),
    "reason": _choice(Words(words=REASONS), "The reason of the answer."),
    "upgrade": _choice(
        Reference(kind="plan", verb="names the upgrade", also=("none", "some")),
        "none, some, or plans that are all offered.",
    ),
    "needs": _choice(Words(words=("none", "roles", "feature")), "What the answer says is needed."),
    "detail": _choice(_CODE, "The code of a rule of your own that denies."),
}


def _cell(*, required: tuple[str, ...] = (), verdict: bool = False) -> Record:
    fields = {
        name: Field(shape=each.shape, says=each.says, required=name in required)
        for name, each in ({**_OF_SITUATIONS, **(_OF_VERDICTS if verdict else {})}).items()
    }
    return Record(fields=fields, says=f"a mapping with some of {', '.join(fields)}", least=1)


def _order(reference: Reference) -> Field:
    shape = ListOf(item=reference, says=f"a list of {reference.kind}s, least first", least=2)
    return Field(shape=shape, says="Least first.")


_SEPARATE = Record(
    fields={
        "actions": Field(
            shape=ListOf(item=_ACTION, says="a list of actions", least=2),
            says="No role may do more than one of these.",
            required=True,
        ),
        "except": Field(
            shape=ListOf(item=_ROLE, says="the name of a role, or a list", least=1, or_one=True),
            says="The role or roles that may do several.",
        ),
    },
    says="a mapping with actions, and except",
)
_LADDER = Either(
    record=Record(fields={"roles": _order(_ROLE), "plans": _order(_PLAN)}, one_of=(("roles", "plans"),)),
    other=Words(words=("roles", "plans")),
    says="roles or plans, or a mapping with a list of one of them",
)
_FORMS: Mapping[str, Field] = {
    "never": Field(shape=_cell(), says="These situations are never granted."),
    "always": Field(shape=_cell(), says="These situations are always granted."),
    "only": Field(
        shape=_cell(required=("action", "role")), says="No role but these is ever granted the action."
    ),
    "whenever": Field(shape=_cell(verdict=True), says="Every answer that fits this fits then too."),
    "separate": Field(shape=_SEPARATE, says="No role is granted more than one of several actions."),
    "ladder": Field(shape=_LADDER, says="What is granted, and each limit, only grows along an order."),
}
_THEN: Shape = _cell(verdict=True)
INVARIANT = Record(
    fields={
        "title": Field(shape=_TITLE, says="The promise, in words.", required=True),
        **_FORMS,
        "then": Field(shape=_THEN, says="Of whenever: what those answers are."),
    },
    says="a mapping with title, and never, always, only, whenever, separate or ladder",
    one_of=(tuple(_FORMS),),
)


def check_invariants(invariants: Iterable[Node], walk: Walk) -> None:
    for number, each in enumerate(invariants, start=1):
        if not isinstance(each, Fields):
            continue
        if "whenever" in each.values and "then" not in each.values:
            message = f"invariant {number} has no then: what are the answers that fit whenever?"
            walk.find("missing_field", message, each.keys.get("whenever", each))
        elif "then" in each.values and "whenever" not in each.values and _FORMS.keys() & each.values.keys():
            message = f"invariant {number} has then, which belongs to whenever"
            walk.find("field_not_for_form", message, each.keys.get("then", each))


def invariant_in(file: dict[str, Any], *, line: int) -> Invariant:
    """*file* is one of `invariants`, as its shape validated it."""
    form: Any = next(form for form in _FORMS if form in file)  # as Form names them
    given = file[form]
    return Invariant(
        title=file["title"],
        form=form,
        cell=_cell_in(given) if form not in {"separate", "ladder"} else Cell(),
        then=_cell_in(file.get("then", {})),
        separate=_separate_in(given) if form == "separate" else None,
        ladder=_ladder_in(given) if form == "ladder" else None,
        line=line,
    )


def _cell_in(file: dict[str, Any]) -> Cell:
    return Cell(**{name: _choice_in(given) for name, given in file.items()})


def _choice_in(given: list[Any] | dict[str, list[Any]]) -> Choice:
    values = given["not"] if isinstance(given, dict) else given
    return Choice(values=tuple(map(str, values)), others=isinstance(given, dict))


def _separate_in(file: dict[str, Any]) -> Separate:
    return Separate(actions=tuple(file["actions"]), exempt=tuple(file.get("except", ())))


def _ladder_in(given: str | dict[str, list[str]]) -> Ladder:
    order = {given: []} if isinstance(given, str) else given
    of: Any  # as the shape of a ladder names them
    ((of, names),) = order.items()
    return Ladder(of=of, order=tuple(names))
