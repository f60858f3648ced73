"""What policies do, found by asking them about every cell: denials that never deny, answers that are none."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from sidecar.audit.denials import Denials, denials_in, first_cells, steps_of, switched_off, with_context
from sidecar.catalog.finding import finding_at
from sidecar.decisions.cells import MOST_REMEMBERED, cells
from sidecar.decisions.situation import situation_bytes
from sidecar.rego.asked import DENIALS
from sidecar.rego.marked import RULE, marked
from sidecar.rego.meaning import Meaning
from sidecar.rego.syntax.tree import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.catalog.finding import Finding
    from sidecar.decisions.model import Situation
    from sidecar.rego.asked import Dependencies
    from sidecar.rego.compile import Compiled
    from sidecar.rego.program import Program, Written
    from sidecar.rego.syntax.tree import Rule

VERDICT = "data.authz.decision"


class Ask(Protocol):
    """Asks an engine."""

    def documents(self, compiled: Compiled, rule: str, situations: Sequence[bytes], /) -> Sequence[object]:
        """What *rule* is in each, an exception where it is nothing; the first may end the list."""

    def fault_of(self, verdict: object, /) -> str | None:
        """Why it is no verdict; None if it is one."""


class Effects:
    """*program* is that of *compiled*, *depends* its dependencies; *folder* the folder of the policies."""

    def __init__(
        self, compiled: Compiled, program: Program, depends: Dependencies, *, folder: str, ask: Ask
    ) -> None:
        self._compiled = compiled
        self._program = program
        self._depends = depends
        self._folder = folder
        self._ask = ask
        # Nearest to what is sold first: an engine may end with the first cell that is in error.
        self._cells = sorted(islice(cells(compiled.catalog), MOST_REMEMBERED + 1), key=steps_of)

    def of_verdicts(self) -> list[Finding]:
        """Where the rules that decide are not the shipped ones: a cell that has no verdict."""
        return [
            self._finding(
                None, 0, f"{why}: no verdict about {situation_bytes(situation).decode()}", code="no_verdict"
            )
            for situation, why in islice(self._without_verdict(self._cells), 1)
        ]

    def of_denials(self) -> list[Finding]:
        """What is wrong with the rules of package custom."""
        if DENIALS not in self._program.rules:
            return []
        marks = marked(self._compiled, self._program)
        answers = self._asked(marks.compiled, self._cells)
        if faulty := [(situation, denials.fault) for situation, denials in answers if denials.fault]:
            return [self._fault(faulty)]
        if len(answers) < len(self._cells) or len(self._cells) > MOST_REMEMBERED:
            return []  # what was not asked may deny
        denies = first_cells(answers)
        idle = [
            (written, code)
            for mark, written, code in _literal_codes(self._program, marks.marks)
            if mark not in denies
        ]
        fields = {mark: self._declared_fields(written.rule) for mark, written in marks.marks.items()}
        return [
            *(finding for written, code in idle for finding in self._of_idle(written, code)),
            *self._of_other_types(marks.compiled, marks.marks, denies, fields),
        ]

    def _asked(self, compiled: Compiled, situations: Sequence[Situation]) -> list[tuple[Situation, Denials]]:
        documents = self._ask.documents(compiled, RULE, [situation_bytes(each) for each in situations])
        return [
            (situation, denials_in(document))
            for situation, document in zip(situations, documents, strict=False)
        ]

    def _fault(self, faulty: Sequence[tuple[Situation, str | None]]) -> Finding:
        """About the smallest cell that has no verdict; in one engine an odd code may hide behind another."""
        without = list(self._without_verdict([situation for situation, _ in faulty]))
        situation = without[0][0] if without else faulty[0][0]
        rule = self._only_odd_denial()
        says = f"{faulty[0][1]}: no verdict about {situation_bytes(situation).decode()}"
        return self._finding(rule, rule.rule.at if rule else 0, says, code="no_verdict")

    def _without_verdict(self, situations: Sequence[Situation]) -> Iterator[tuple[Situation, str]]:
        """Those that have none, with the reason."""
        documents = self._ask.documents(
            self._compiled, VERDICT, [situation_bytes(each) for each in situations]
        )
        for situation, document in zip(situations, documents, strict=False):
            if why := self._ask.fault_of(document):
                yield situation, why

    def _only_odd_denial(self) -> Written | None:
        """The rule whose code is no text that is written out, if there is one alone."""
        rules = self._program.rules[DENIALS]
        odd = [
            each for each in rules if not (isinstance(each.rule.element, Text) and each.rule.element.value)
        ]
        return odd[0] if len(odd) == 1 else None

    def _declared_fields(self, rule: Rule) -> set[str]:
        fields = self._depends.context_of(rule)
        return set(self._compiled.context_fields) if "" in fields else fields & self._compiled.context_fields

    def _of_idle(self, written: Written, code: Text) -> Iterator[Finding]:
        """A rule that denies in no cell; no cell has a context."""
        if fields := self._declared_fields(written.rule):
            says = (
                f'"{code.value}" denies nothing where the context has no {_in_words(fields)}: gateways never'
                " send context; docs/policies.md has the form that denies then"
            )
            yield self._finding(written, code.at, says, code="absent_context", warning=True)
        elif not self._depends.context_of(written.rule):
            says = f'"{code.value}" denies in none of the {len(self._cells)} cells: this rule never holds'
            yield self._finding(written, code.at, says, code="never_denies")

    def _of_other_types(
        self,
        compiled: Compiled,
        marks: Mapping[str, Written],
        denies: Mapping[str, Situation],
        fields: Mapping[str, set[str]],
    ) -> Iterator[Finding]:
        asked = list(with_context({mark: denies[mark] for mark in marks if mark in denies}, fields))
        if not asked:
            return
        answers = self._asked(compiled, [situation for *_, situation in asked])
        told = [
            (mark, field, kind, denials)
            for (mark, field, kind, _), (_, denials) in zip(asked, answers, strict=False)
        ]
        for mark, (field, kinds) in switched_off(told).items():
            written = marks[mark]
            code = written.rule.element
            at = code.at if isinstance(code, Text) else written.rule.at
            says = (
                f"this denies nothing where {field} of the context is {' or '.join(kinds)}: compare it"
                " with what it must be, or ask for its type"
            )
            yield self._finding(written, at, says, code="absent_context", warning=True)

    def _finding(
        self, written: Written | None, at: int, message: str, *, code: str, warning: bool = False
    ) -> Finding:
        """Of the folder where no rule is known to be at fault."""
        return finding_at(
            self._compiled.modules[written.file] if written else "",
            at,
            source=PurePosixPath(self._folder, written.file if written else "").as_posix(),
            code=code,
            message=message,
            severity="warning" if warning else "error",
        )


def changed_cells(compiled: Compiled, other: Compiled, *, ask: Ask) -> tuple[int, int]:
    """In how many cells two policies decide otherwise about one catalog, and how many cells were asked."""
    asked = [situation_bytes(each) for each in islice(cells(compiled.catalog), MOST_REMEMBERED)]
    ours = [*ask.documents(compiled, VERDICT, asked)]
    theirs = [*ask.documents(replace(other, data=compiled.data), VERDICT, asked)]
    told = [[None if isinstance(each, Exception) else each for each in some] for some in (ours, theirs)]
    some, others = (each + [None] * (len(asked) - len(each)) for each in told)
    return sum(one != another for one, another in zip(some, others, strict=True)), len(asked)


def _literal_codes(program: Program, marks: Mapping[str, Written]) -> Iterator[tuple[str, Written, Text]]:
    """By what each rule is known in an answer, the rule, and its code, if that is written out."""
    known = {written: mark for mark, written in marks.items()}
    meaning = Meaning(program)
    for written in program.rules[DENIALS]:
        element = written.rule.element
        if written in known and isinstance(element, Text):
            yield known[written], written, element
        elif element is not None:
            codes = [text for text, _ in meaning.texts(element, program.at[written.rule][0])]
            if len(codes) == 1:
                yield codes[0].value, written, codes[0]
        else:
            for branch, scope in zip(written.rule.branches, program.at[written.rule], strict=True):
                for member, of in meaning.members(branch.value, scope) if branch.value else ():
                    if isinstance(member, Text):
                        yield member.value, of.written, member


def _in_words(fields: set[str]) -> str:
    return " or ".join(sorted(fields))
