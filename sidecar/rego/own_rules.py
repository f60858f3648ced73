"""Which of the company's codes depend on the context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.rego.asked import DENIALS, Dependencies
from sidecar.rego.program import program_of
from sidecar.rego.syntax.tree import Text

if TYPE_CHECKING:
    from collections.abc import Mapping


def codes_by_context(modules: Mapping[str, str]) -> frozenset[str]:
    """The codes written in `denials contains …` whose rule looks at the context, itself or by others."""
    program = program_of(modules)
    depends = Dependencies(program)
    return frozenset(
        written.rule.element.value
        for written in program.rules.get(DENIALS, ())
        if isinstance(written.rule.element, Text) and depends.context_of(written.rule)
    )
