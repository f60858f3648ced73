"""What is wrong with policies as they are written, compared with the catalog: no engine is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
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
            return [
                self._at(path, error.at, error.says, code="does_not_build")
                for path, error in self.program.unread.items()
            ]
        return [
            *self._annotated_twice(),
            *clashes_in(self.program, texts=self.texts, folder=self.folder),
            *circles_in(self.program, self.depends, texts=self.texts, folder=self.folder),
            *unsafe_in(self.program, texts=self.texts, folder=self.folder),
        ]

    def _annotated_twice(self) -> Iterator[Finding]:
        modules = self.program.modules
        for package, files in annotated_packages(modules, self.texts).items():
            for path in files[1:]:
                says = f"package {package} has metadata in {files[0]} too: write them in one file"
                yield self._at(path, modules[path].at, says, code="does_not_build")

    def unread(self) -> list[Finding]:
        """Files that OPA reads and we do not."""
        return [
            self._at(
                path,
                error.at,
                f"the names in this file were not checked: {error.says}",
                code="not_checked",
                warning=True,
            )
            for path, error in self.program.unread.items()
        ]

    def _at(self, path: str, at: int, message: str, *, code: str, warning: bool = False) -> Finding:
        return finding_at(
            self.texts[path],
            at,
            source=PurePosixPath(self.folder, path).as_posix(),
            code=code,
            message=message,
            severity="warning" if warning else "error",
        )


def reading_of(texts: Mapping[str, str], tests: Mapping[str, str], *, folder: str) -> Reading:
    program = program_of(texts)
    return Reading(texts=texts, tests=tests, program=program, depends=Dependencies(program), folder=folder)
