"""The answers of the company's denials in one cell, and what to ask about the context."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sidecar.rego.marked import RULE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sidecar.decisions.model import Json, Situation

# Of each JSON type some values: what a caller may send instead of what a rule expects.
SAMPLES: Mapping[str, tuple[Json, ...]] = {
    "null": (None,),
    "a boolean": (True, False),
    "a number": (0, 1, -1, 1_000_000_000, 0.5),
    "a text": ("", "a", "true"),
    "an array": ([], ["a"]),
    "an object": ({}, {"a": 1}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Denials:
    """Those of one cell. *fault* says what is wrong with them; *codes* are as the engine writes them."""

    codes: tuple[Any, ...] = ()
    fault: str | None = None

    @property
    def texts(self) -> set[str]:
        return {code for code in self.codes if isinstance(code, str)}


def denials_in(document: object) -> Denials:
    """Of an answer to `rego.marked.RULE`, or of the error in its place."""
    match document:
        case {"codes": list(codes)}:
            wrong = [code for code in codes if not isinstance(code, str) or not code]
            fault = f"the code of a denial is {shown(wrong[0])}, not a text" if wrong else None
            return Denials(codes=tuple(codes), fault=fault)
        case {"codes": _}:
            return Denials(fault="data.custom.denials is no set of codes: write `denials contains …`")
        case Exception():
            return Denials(fault=" ".join(str(document).replace(RULE, "data.custom.denials").split()))
        case _:
            return Denials(fault=f"data.custom.denials is {shown(document)}")


def steps_of(situation: Situation) -> int:
    """How far it is from what is sold: an active member of a declared plan, with room."""
    if situation.status is None:
        return 1 + (situation.action is None)
    away = [
        situation.action is None,
        situation.role is None,
        situation.plan is None,
        situation.status == "suspended",
        bool(situation.feature_overrides),
        situation.room is not None and situation.plan not in situation.room.fits_in,
    ]
    return sum(away)


def first_cells(asked: Iterable[tuple[Situation, Denials]]) -> dict[str, Situation]:
    """For each code the smallest cell in which it denies."""
    found: dict[str, Situation] = {}
    for situation, denials in asked:
        for code in denials.texts:
            if code not in found or steps_of(situation) < steps_of(found[code]):
                found[code] = situation
    return found


def with_context(
    cells: Mapping[str, Situation], fields: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, str, str, Situation]]:
    """What else to ask of rules that look at the context: mark, field, type, situation.

    *cells* are those in which each mark denies without context, *fields* what its rule looks at.
    """
    for mark, situation in cells.items():
        for field in sorted(fields.get(mark, ())):
            for kind, values in SAMPLES.items():
                for value in values:
                    yield mark, field, kind, replace(situation, context={field: value})


def switched_off(answers: Sequence[tuple[str, str, str, Denials]]) -> dict[str, tuple[str, list[str]]]:
    """Marks that values of several types keep from denying, with the field and those types.

    One type is what the rule expects there.
    """
    types: dict[tuple[str, str], dict[str, None]] = {}
    for mark, field, kind, denials in answers:
        if mark not in denials.texts:
            types.setdefault((mark, field), {})[kind] = None
    return {mark: (field, list(kinds)) for (mark, field), kinds in types.items() if len(kinds) > 1}


def shown(value: object, *, at_most: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= at_most else f"{text[:at_most]}…"
