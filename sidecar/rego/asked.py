"""What a verdict depends on: rules that nobody asks, rules that depend on themselves, and the context."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sidecar.catalog.finding import finding_at
from sidecar.rego.meaning import Meaning
from sidecar.rego.program import bodies_of
from sidecar.rego.syntax.tree import Ref, Var
from sidecar.rego.syntax.walk import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sidecar.catalog.finding import Finding
    from sidecar.rego.meaning import Path
    from sidecar.rego.program import Name, Program, Written
    from sidecar.rego.syntax.tree import Rule, Term

DENIALS: Name = ("custom", "denials")
# Names of rules that are meant to be asked, in other products or by mistake.
_MEANT = frozenset(
    {
        "allow",
        "allowed",
        "block",
        "blocked",
        "denial",
        "denied",
        "denies",
        "deny",
        "forbid",
        "forbidden",
        "grant",
        "granted",
        "grants",
        "reject",
        "rejected",
        "violation",
        "violations",
    }
)


class Dependencies:
    """Of each rule what it looks at, itself and by other rules."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._direct: dict[Rule, set[Path]] = {}
        meaning = Meaning(program)
        for scope, outermost in bodies_of(program):
            found = self._direct.setdefault(scope.written.rule, set())
            for term in _whole_refs_in(outermost):
                found |= meaning.paths(term, scope)

    def of(self, rule: Rule) -> set[Name]:
        """The rules that *rule* refers to, itself only where it does."""
        return {name for path in self._direct.get(rule, ()) for name in self._rules_at(path)}

    def behind(self, names: Iterable[Name]) -> set[Name]:
        """*names*, and all rules that they depend on."""
        found: set[Name] = set()
        waiting = [name for name in names if name in self._program.rules]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                for written in self._program.rules[name]:
                    waiting += self.of(written.rule)
        return found

    def context_of(self, rule: Rule) -> set[str]:
        """The context fields that *rule* looks at, itself or by others; "" for the context as a whole."""
        rules = [
            rule,
            *(each.rule for name in self.behind(self.of(rule)) for each in self._program.rules[name]),
        ]
        paths = {path for each in rules for path in self._direct.get(each, ())}
        looked_at = {path[2:3] for path in paths if path[:2] == ("input", "context")}
        fields = {step for path in looked_at for step in path if isinstance(step, str)}
        return fields or ({""} if looked_at else set())

    def circle_from(self, name: Name) -> bool:
        return any(name in self.behind(self.of(written.rule)) for written in self._program.rules[name])

    def _rules_at(self, path: Path) -> Iterator[Name]:
        if path[0] != "data":
            return
        if (name := self._program.rule_before(path[1:])) is not None:
            yield name
            return
        for rule in self._program.rules:  # a package, or any of several
            if all(
                step == found or not isinstance(step, str)
                for step, found in zip(path[1:], rule, strict=False)
            ):
                yield rule


def _whole_refs_in(term: Term) -> Iterator[Var | Ref]:
    """Names with all that stands behind them: of `data.custom.x` not `data` too."""
    match term:
        case Var():
            yield term
        case Ref(head=head, steps=steps):
            yield term
            for part in steps if isinstance(head, Var) else (head, *steps):
                yield from _whole_refs_in(part)
        case _:
            for part in parts_of(term):
                yield from _whole_refs_in(part)


def not_asked_in(
    program: Program, tests: Program, depends: Dependencies, *, texts: Mapping[str, str], folder: str
) -> list[Finding]:
    """Rules that look like denials and that no verdict depends on. *tests* are files that are not loaded."""
    roots = [DENIALS, *(name for name in program.rules if name[0] == "authz")]
    asked = depends.behind(roots)
    found = []
    for name, written in program.rules.items():
        if name not in asked and (says := _why_meant(name, written)):
            found.append(_finding(written[0], says, texts, folder, code="not_asked"))
    for name, written in tests.rules.items():
        if name == DENIALS:
            says = "tests are not loaded, so these denials are not asked: rename the file, without _test"
            found.append(_finding(written[0], says, texts, folder, code="not_asked"))
    return found


def _why_meant(name: Name, written: list[Written]) -> str | None:
    if name[0] != "custom":
        return None
    if len(name) > len(DENIALS) and name[-1] == "denials":
        return f"only denials of package custom are asked, not those of {'.'.join(name[:-1])}"
    collects = any(each.rule.element is not None for each in written)
    is_meant = name[-1].strip("_").lower() in _MEANT
    # Below, what collects may be a helper that nobody needs yet, and so may a function of any name.
    is_below = name[:-1] != ("custom",)
    if is_meant and is_below and any(each.rule.parameters is None for each in written):
        return f'nobody asks {".".join(name)}: in package custom, write `denials contains "…"`'
    if not is_below and (collects or is_meant):
        return f'nobody asks {name[-1]}: rules of your own deny by `denials contains "…"`'
    return None


def circles_in(
    program: Program, depends: Dependencies, *, texts: Mapping[str, str], folder: str
) -> list[Finding]:
    """Where a rule depends on itself: no engine evaluates that."""
    return [
        _finding(
            program.rules[name][0], f"{name[-1]} depends on itself", texts, folder, code="does_not_build"
        )
        for name in sorted(program.rules)
        if depends.circle_from(name)
    ]


def clashes_in(program: Program, *, texts: Mapping[str, str], folder: str) -> list[Finding]:
    """Rules of one name that cannot be one rule: a set and a value, a function and none."""
    found = []
    for name, written in program.rules.items():
        says = None
        if name in program.packages:
            says = f"{name[-1]} is a rule, and a package as well"
        elif len({kind for each in written if (kind := _kind(each))}) > 1:
            says = (
                f"{name[-1]} is several things: rules of one name are all sets, all functions or all values"
            )
        if says:
            found.append(_finding(written[-1], says, texts, folder, code="does_not_build"))
    return found


def _kind(written: Written) -> str | None:
    """None where the head has more than a name: such rules may be parts of one object."""
    rule = written.rule
    if rule.parameters is not None:
        return f"a function of {len(rule.parameters)}"
    if isinstance(rule.head, Ref):
        return None
    return "a set" if rule.element is not None else "a value"


def _finding(written: Written, message: str, texts: Mapping[str, str], folder: str, *, code: str) -> Finding:
    return finding_at(
        texts[written.file],
        written.rule.at,
        source=PurePosixPath(folder, written.file).as_posix(),
        code=code,
        message=message,
    )
