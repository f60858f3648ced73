"""Faults to seed in the shipped policies and their data: each one small thing that somebody could get wrong.

Policies are changed as text, which is safe because they are formatted by `opa fmt`: a statement begins in the
first column, and ends where the next one begins.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STATEMENT = re.compile(r"^(?!package\b)[a-z_].*\n(?:(?:[ \t}\])].*)?\n)*", re.MULTILINE)
_OPERAND = r"(?:\{[^{}]*\}|[\w.]+\([^()]*\)|[\w.]+(?:\[\w+\][\w.]*)?)"
_MEMBER = re.compile(rf"(?<!some )(?<!every )(?<!, )\b({_OPERAND}) in ({_OPERAND})")
_TURNED = (  # what stands in the text, what is put in its place, and what that does
    (re.compile(r" == (?!0)"), " != ", "turned"),
    (re.compile(r" != "), " == ", "turned"),
    (re.compile(r" <= "), " > ", "turned"),
    (re.compile(r" <= "), " < ", "moved"),
    (re.compile(r" > 0"), " == 0", "turned"),
    (re.compile(r" > 0"), " > 1", "moved"),
    (re.compile(r" > (?!0)"), " < ", "turned"),
    (re.compile(r" > (?!0)"), " >= ", "moved"),
    (re.compile(r" == 0"), " > 0", "turned"),
    (re.compile(r" == 0"), " == 1", "moved"),
    (_MEMBER, r"count({1 | \1 in \2}) == 0", "turned"),
    (re.compile(r"\bnot "), "", "lost"),
    (re.compile(r"\btrue\b"), "false", "flipped"),
    (re.compile(r"\bfalse\b"), "true", "flipped"),
    (re.compile(r"\bnull\b"), '"nothing"', "flipped"),
    (re.compile(r"\b[1-9][0-9]{2}\b"), "418", "changed"),
    (re.compile(r"\[0\]"), "[1]", "moved"),
    (re.compile(r'"([^"\n]*)"'), r'"\1?"', "misspelt"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """*what* is for people; *names* are what it is about in the catalog; *modules* and *plans* have it.

    None among the *names* is the plan that nobody declared: every plan is offered to who has it.
    """

    what: str
    names: frozenset[str | None] = frozenset()
    modules: Mapping[str, str]
    plans: Mapping[str, Any]


def faults(modules: Mapping[str, str], plans: Mapping[str, Any]) -> Iterator[Fault]:
    """*modules* is path → Rego, *plans* is `data.authz.plans`; each fault changes one of the two."""
    for path, text in modules.items():
        for what, changed in _in_policy(text):
            yield Fault(what=f"{path}{what}", modules={**modules, path: changed}, plans=plans)
    for what, names, wrong in _in_data(plans):
        yield Fault(what=f"plans{what}", names=names, modules=modules, plans=wrong)


def _in_policy(text: str) -> Iterator[tuple[str, str]]:
    seen = {text}
    for what, changed in (*_removals(text), *_swaps(text), *_turns(text)):
        if changed not in seen:
            seen.add(changed)
            yield what, changed


def _at(text: str, position: int) -> str:
    number = text.count("\n", 0, position) + 1
    return f":{number}: {text.splitlines()[number - 1].strip()}"


def _removals(text: str) -> Iterator[tuple[str, str]]:
    for statement in _STATEMENT.finditer(text):
        start, end = statement.span()
        yield f"{_at(text, start)} — the rule removed", text[:start] + text[end:]
        for line in re.finditer(r"^\t+[^\t\n#}\]].*[^{\[|(\n]\n", statement[0], re.MULTILINE):
            begin, after = start + line.start(), start + line.end()
            yield f"{_at(text, begin)} — the line removed", text[:begin] + text[after:]


def _swaps(text: str) -> Iterator[tuple[str, str]]:
    """Two neighbours in a list that is written one a line."""
    for pair in re.finditer(r'^(\t"[a-z_]+",\n)(?=(\t"[a-z_]+",\n))', text, re.MULTILINE):
        start, middle, end = pair.start(), pair.end(1), pair.end(2)
        swapped = text[:start] + pair[2] + pair[1] + text[end:]
        assert middle > start
        yield f"{_at(text, start)} — swapped with the next", swapped


def _turns(text: str) -> Iterator[tuple[str, str]]:
    code = re.sub(r"#.*", lambda comment: " " * len(comment[0]), text)
    for pattern, replacement, done in _TURNED:
        for match in pattern.finditer(code):
            changed = text[: match.start()] + match.expand(replacement) + text[match.end() :]
            yield f"{_at(text, match.start())} — {match[0].strip()} {done}", changed


def _in_data(plans: Mapping[str, Any]) -> Iterator[tuple[str, frozenset[str | None], dict[str, Any]]]:
    for place in list(_places(plans)):
        for what, wrong in _wrong_at(plans, place):
            names: frozenset[str | None] = frozenset(str(key) for key in place)
            if names & {"by_price", "price", "sold"}:
                names |= {None}
            yield f"{''.join(f'/{key}' for key in place)} — {what}", names, wrong


def _places(node: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of every value at any depth."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield (*above, key)
        if isinstance(node[key], dict | list):
            yield from _places(node[key], (*above, key))


def _wrong_at(plans: Mapping[str, Any], place: tuple[str | int, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    *above, key = place

    def changed(value: object, *, removed: bool = False) -> dict[str, Any]:
        copy: dict[str, Any] = deepcopy(dict(plans))
        holder: Any = copy
        for each in above:
            holder = holder[each]
        if removed:
            del holder[key]
        else:
            holder[key] = value
        return copy

    old: Any = plans
    for each in place:
        old = old[each]
    yield "removed", changed(None, removed=True)
    for what, value in _other_values(place, old, plans):
        if json.dumps(value) != json.dumps(old):
            yield what, changed(value)


def _other_values(
    place: tuple[str | int, ...], old: Any, plans: Mapping[str, Any]
) -> Iterator[tuple[str, object]]:
    match place:
        case ("actions", _, str(field)):
            yield from _other_values_of_action(field, old, plans)
        case (*_, "limits", _) if old is None:
            yield "limited", 7
        case (*_, "limits", _):
            yield "raised", old + 1
            yield "lifted", None
        case ("plans", _, "features"):
            yield from ((f"has {each}", [*old, each]) for each in plans["features"] if each not in old)
        case ("plans", _, "sold"):
            yield "flipped", not old
        case ("plans", _, "price"):
            yield "free", 0
            yield "the dearest", 10**12
        case ("by_price",):
            for at in range(len(old) - 1):
                yield f"swapped at {at}", [*old[:at], old[at + 1], old[at], *old[at + 2 :]]
        case ("revision",):
            yield "another", "another"
        case _:
            return


def _other_values_of_action(field: str, old: Any, plans: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    match field:
        case "while_suspended":
            yield "flipped", not old
        case "feature":
            yield "asks for none", None
            yield "asks for another", next(each for each in plans["features"] if each != old)
        case "takes":
            yield from ((f"takes {meter}", {**old, meter: 1}) for meter in plans["meters"])
        case "roles":
            yield "in another order", old[::-1]
            yield from ((f"{role} may", [*old, role]) for role in plans["roles"] if role not in old)
        case _:
            raise ValueError(f"actions have no field {field} that is known here")
