"""Which rules of the company's own look at context: in themselves, or by what they refer to."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from sidecar.rego.heads import code_of, looks_at_context

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = re.compile(r'denials\s+contains\s+(?P<code>"(?:[^"\\\n]|\\.)*"|`[^`]*`)')
_NAME = re.compile(r"(?:default\s+)?(?P<name>[A-Za-z_]\w*)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_STATEMENTS = re.compile(r"\n(?=[A-Za-z_])")  # what is indented or closes a bracket belongs to the one above


def codes_by_context(modules: Mapping[str, str]) -> frozenset[str]:
    """The codes of `custom.denials` with a rule that looks at context, if only by a rule with a name."""
    named: dict[str, list[str]] = {}
    for path, text in modules.items():
        if path.startswith("custom/"):
            for statement in _STATEMENTS.split(code_of(text)):
                if name := _NAME.match(statement):
                    named.setdefault(name["name"], []).append(statement)
    return frozenset(
        _text_in(head["code"])
        for statement in named.get("denials", ())
        if (head := _HEAD.match(statement)) and _looks(statement, named)
    )


def _looks(statement: str, named: Mapping[str, list[str]]) -> bool:
    waiting, seen = [statement], {"denials"}
    while waiting:
        each = waiting.pop()
        if looks_at_context(each):
            return True
        for word in _WORD.findall(each):
            if word not in seen:
                seen.add(word)
                waiting += named.get(word, ())
    return False


def _text_in(said: str) -> str:
    return said[1:-1] if said.startswith("`") else str(json.loads(said))
