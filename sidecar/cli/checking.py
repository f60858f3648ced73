"""What `sidecar check` looks at, one after the other: files, form, names, engine, effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecar.audit.effects import Effects, changed_cells
from sidecar.catalog.finding import Finding
from sidecar.cli.sources import is_shipped
from sidecar.engines.building import has_embedded, unbuilt_by_embedded
from sidecar.engines.many import ManyAtOnce
from sidecar.rego.compile import compiled
from sidecar.rego.files import changed_files, not_loaded_in, stale_in
from sidecar.rego.lint import opa_binary, problems_by_opa, problems_in
from sidecar.rego.load import modules_at, tests_at
from sidecar.rego.reading import reading_of
from sidecar.settings import shipped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.rego.compile import Compiled
    from sidecar.rego.reading import Reading


@dataclass(slots=True)
class Found:
    problems: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            (self.warnings if finding.severity == "warning" else self.problems).append(finding)


def policies_checked(folder: Path, catalog: Catalog | None, *, plans: Path, quick: bool) -> Found:
    """What is wrong with the policies of *folder*; without a *catalog* only what needs none.

    *quick*: no engine is asked about the cells.
    """
    found = Found()
    modules = modules_at(folder)
    found.add(not_loaded_in(folder))
    if catalog is not None and not (is_shipped(folder) and not is_shipped(plans)):
        found.add(stale_in(folder, catalog))
    reading = reading_of(modules, tests_at(folder), folder=str(folder))
    form = problems_in(modules, folder=str(folder))
    found.add(form)
    ours = modules_at(shipped("policies"))
    if catalog is not None:
        # The shipped rules speak of the shipped catalog: of another one they hold nothing, and are not wrong.
        same = {str(folder / path) for path, text in modules.items() if ours.get(path) == text}
        names = [each for each in reading.names(catalog) if each.source not in same]
        found.add(_not_yet(names, form))
    if form:
        return found
    policies = compiled(catalog, modules) if catalog is not None else None
    builds = _built(folder, reading, policies, found)
    if policies is None or not builds:
        return found
    changed = changed_files(modules, ours)
    if quick:
        says = "--quick: the policies were not asked about the cells"
        found.add(
            [_warning(str(folder), says, code="not_checked"), *_changed(changed, policies, folder, None)]
        )
        return found
    ask = ManyAtOnce(opa_binary())
    if opa_binary() is None and not has_embedded():
        return found
    effects = Effects(policies, reading.program, reading.depends, folder=str(folder), ask=ask)
    denials = effects.of_denials()
    found.add(denials)
    if changed and all(each.code != "no_verdict" for each in denials):
        found.add(effects.of_verdicts())
    found.add(_changed(changed, policies, folder, ask))
    return found


def _built(folder: Path, reading: Reading, policies: Compiled | None, found: Found) -> bool:
    """Whether the policies build, as far as anybody here can say."""
    opa = opa_binary()
    if opa is not None:
        schema = shipped("schemas") / "input.json"
        problems = problems_by_opa(folder, reading.texts, opa=opa, schema=schema)
        found.add(problems)
        found.add(reading.unread() if not problems else ())
        return not problems
    problems = reading.unbuildable()
    says = "policies were built by the embedded engine only: types were not checked"
    if not has_embedded():
        says = "policies were built by no engine: install OPA, or policy-sidecar[embedded]"
    elif policies is None:
        says = "policies were not built, since the catalog has problems"
    elif not problems:
        problems = unbuilt_by_embedded(policies, folder)
    found.add(problems)
    found.add([_warning(str(folder), says, code="not_checked")])
    return not problems


def _not_yet(found: list[Finding], before: list[Finding]) -> list[Finding]:
    """Of *found* what is not one of *before* in other words."""
    told = {(each.source, each.line, each.code) for each in before}
    return [each for each in found if (each.source, each.line, each.code) not in told]


def _changed(changed: list[str], policies: Compiled, folder: Path, ask: ManyAtOnce | None) -> list[Finding]:
    if not changed:
        return []
    says = f"not as shipped: {', '.join(changed)}"
    if ask is not None:
        ours = {path: text for path, text in policies.modules.items() if not path.startswith("authz/")}
        theirs = modules_at(shipped("policies"))
        ours |= {path: text for path, text in theirs.items() if path.startswith("authz/")}
        other = compiled(policies.catalog, ours)
        number, of = changed_cells(policies, other, ask=ask)
        says += f"; that changes {number} of {of} cells"
    return [_warning(str(folder / "authz"), says, code="authz_changed")]


def _warning(source: str, message: str, *, code: str) -> Finding:
    return Finding(source=source, line=1, column=1, code=code, message=message, severity="warning")
