"""What is wrong with policies as they are written, compared with the catalog: no engine is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.catalog.finding import finding_at
from sidecar.rego.asked import Dependencies, circles_in, clashes_in, not_asked_in
from sidecar.rego.context import annotated_packages, context_fields_in, waiting_in
from sidecar.rego.declared import declared_by
from sidecar.rego.names import unknown_names_in
from sidecar.rego.program import Program, program_of
from sidecar.rego.unsafe import unsafe_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.catalog.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """*texts* are the policies, *tests* the files that the product does not load."""

    texts: Mapping[str, str]
    tests: Mapping[str, str]
    program: Program
    depends: Dependencies
    folder: str

    def names(self, catalog: Catalog) -> list[Finding]:
        """Names that nobody declares, and rules that nobody asks."""
        declared = declared_by(catalog, context=context_fields_in(self.texts))
        waiting = waiting_in(self.program.modules, self.texts)
        return [
            *unknown_names_in(
                self.program, self.texts, declared=declared, waiting=waiting, folder=self.folder
            ),
            *not_asked_in(
                self.program,
                program_of(self.tests),
                self.depends,
                texts={**self.texts, **self.tests},
                folder=self.folder,
            ),
        ]

    def unbuildable(self) -> list[Finding]:
        """What OPA would refuse, for where there is none."""
        if self.program.unread:
            return [self._unread(path, "does_not_build") for path in self.program.unread]
        return [
            *self._annotated_twice(),
            *clashes_in(self.program, texts=self.texts, folder=self.folder),
            *circles_in(self.program, self.depends, texts=self.texts, folder=self.folder),
            *unsafe_in(self.program, texts=self.texts, folder=self.folder),
        ]

    def _annotated_twice(self) -> Iterator[Finding]:
        for package, files in annotated_packages(self.program.modules, self.texts).items():
            for path in files[1:]:
                message = f"package {package} has metadata in {files[0]} too: write them in one file"
                yield finding_at(
                    self.texts[path],
                    self.program.modules[path].at,
                    source=f"{self.folder}/{path}",
                    code="does_not_build",
                    message=message,
                )

    def unread(self) -> list[Finding]:
        """Files that OPA reads and we do not."""
        return [self._unread(path, "not_checked") for path in self.program.unread]

    def _unread(self, path: str, code: str) -> Finding:
        error = self.program.unread[path]
        says = (
            error.says
            if code == "does_not_build"
            else f"the names in this file were not checked: {error.says}"
        )
        return finding_at(
            self.texts[path],
            error.at,
            source=f"{self.folder}/{path}",
            code=code,
            message=says,
            severity="error" if code == "does_not_build" else "warning",
        )


def reading_of(texts: Mapping[str, str], tests: Mapping[str, str], *, folder: str) -> Reading:
    program = program_of(texts)
    return Reading(texts=texts, tests=tests, program=program, depends=Dependencies(program), folder=folder)
