"""Where policies deny, read from their text: the heads of rules, and what is no comment."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_TEXT_OR_COMMENT = re.compile(rf"(?P<text>{_TEXT})|#[^\n]*")
_DENIAL = re.compile(rf"^[ \t]*denials\s+contains\s+(?:(?P<text>{_TEXT})|(?P<name>\w+))", flags=re.MULTILINE)
_NEW_LINE = "\n"
_CONTEXT = re.compile(r"\bcontext\b")


class Denials:
    """The lines of `denials contains …`: of reasons in `authz`, and of the company's codes in `custom`."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._places: dict[tuple[str, str], str] = {}
        self._computed: dict[str, list[str]] = {}
        for path, text in sorted(modules.items()):
            package = path.rpartition("/")[0]
            code = _without_comments(text)
            for head in _DENIAL.finditer(code):
                place = f"{path}:{code.count(_NEW_LINE, 0, head.start()) + 1}"
                if head["text"] is None:
                    self._computed.setdefault(package, []).append(place)
                else:
                    said = head["text"]
                    denies = said[1:-1] if said.startswith("`") else json.loads(said)
                    self._places.setdefault((package, denies), place)

    def of(self, reason: str, detail: str | None) -> str | None:
        """PATH:LINE of the rule, *detail* being the code of a company's own; None if its head does not tell.

        A rule whose head has a variable is taken where there is one such rule, and none of that name.
        """
        package, code = ("authz", reason) if detail is None else ("custom", detail)
        computed = self._computed.get(package, [])
        return self._places.get((package, code)) or (computed[0] if len(computed) == 1 else None)

    @property
    def own(self) -> dict[str, str]:
        """PATH:LINE of each of the company's codes that stand in heads, in the order of codes."""
        return {code: place for (package, code), place in sorted(self._places.items()) if package == "custom"}

    @property
    def codes(self) -> tuple[str, ...]:
        """The company's codes that stand in heads, in order."""
        return tuple(self.own)

    @property
    def of_company(self) -> tuple[str, ...]:
        """PATH:LINE of every rule of the company's own that denies, in order."""
        places = [place for (package, _), place in self._places.items() if package == "custom"]
        return tuple(sorted([*places, *self._computed.get("custom", [])]))


def line_of_override(modules: Mapping[str, str]) -> str | None:
    """PATH:LINE at which the rules of `authz` look up the override of a feature."""
    for path, text in sorted(modules.items()):
        code = _without_comments(text)
        before, looked_up, _ = code.partition("input.overrides.features[")
        if looked_up and path.startswith("authz/"):
            return f"{path}:{before.count(_NEW_LINE) + 1}"
    return None


def code_of(text: str) -> str:
    """*text* without comments, blank lines and spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in _without_comments(text).split("\n") if line.strip())


def looks_at_context(text: str) -> bool:
    return _CONTEXT.search(_without_comments(text)) is not None


def _without_comments(text: str) -> str:
    """Each line stays where it is."""
    return _TEXT_OR_COMMENT.sub(lambda found: found["text"] or "", text)
