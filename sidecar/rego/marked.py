"""The company's denials, each with a code of its own, so that an answer says which rules deny."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sidecar.rego.asked import DENIALS
from sidecar.rego.syntax.tree import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.rego.compile import Compiled
    from sidecar.rego.program import Program, Written

_PACKAGE = "authz.checked"  # under a root of ours
RULE = f"data.{_PACKAGE}.answer"
# No denials at all is an answer too.
_ANSWER = f"""package {_PACKAGE}

default answer := {{"codes": []}}

answer := {{"codes": data.custom.denials}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """*compiled* answers RULE; *marks* are the codes that stand in it for those of rules."""

    compiled: Compiled
    marks: Mapping[str, Written]


def marked(compiled: Compiled, program: Program) -> Marked:
    """*program* is that of the modules of *compiled*."""
    marks: dict[str, Written] = {}
    modules = dict(compiled.modules)
    # From the last to the first, so that positions stay what they are.
    for written in sorted(program.rules.get(DENIALS, ()), key=lambda each: -each.rule.at):
        element = written.rule.element
        if isinstance(element, Text) and element.value:
            mark = f"sidecar check {len(marks)}: {element.value}"
            marks[mark] = written
            text = modules[written.file]
            modules[written.file] = text[: element.at] + json.dumps(mark) + text[element.end :]
    modules[f"{_PACKAGE.replace('.', '/')}/answer.rego"] = _ANSWER
    return Marked(compiled=replace(compiled, modules=modules), marks=marks)
