"""Whether policies build: by OPA where its binary is, else by the embedded engine, apart."""

from __future__ import annotations

from pathlib import PurePosixPath
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.catalog.finding import Finding
from sidecar.engines.verdict import NOBODY
from sidecar.errors import ConfigError, EngineUnavailable, NotAsked, Problem
from sidecar.rego.lint import opa_binary, problems_by_opa
from sidecar.rego.load import refused
from sidecar.rego.reading import reading_of

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.rego.compile import Compiled

_BUILT_WITHIN_S = 20.0
_IS_THERE = "data.authz.plans.revision"  # asked of the embedded engine, which builds when it is asked


def refuse_unbuilt(compiled: Compiled, folder: Path, *, by_embedded: bool = True) -> None:
    """ConfigError with a line for each reason why *compiled*, of *folder*, does not build.

    *by_embedded*: whether the embedded engine is asked where there is no OPA. Without both, nobody is.
    """
    opa = opa_binary()
    if opa is not None:
        problems = problems_by_opa(folder, compiled.modules, opa=opa, strict=False)
    else:
        problems = unbuilt_by_embedded(compiled, folder) if by_embedded and has_embedded() else []
    if problems:
        raise refused(f"{folder} holds policies that do not build", problems)


def unbuilt_by_embedded(compiled: Compiled, folder: Path) -> list[Finding]:
    """Why *compiled* does not build: as it is read, else as the embedded engine says. NotAsked if late.

    Read first, since the engine does not notice all of it: on some it never ends.
    """
    if found := reading_of(compiled.modules, {}, folder=str(folder)).unbuildable():
        return found
    from sidecar.engines.apart import documents_apart  # noqa: PLC0415 - only where there is no OPA

    try:
        list(documents_apart(compiled, _IS_THERE, [NOBODY], deadline=monotonic() + _BUILT_WITHIN_S))
    except ConfigError as error:
        problems = error.problems or (Problem(pointer="", detail=f"{error.detail} (does_not_build)"),)
        return [_finding(problem, folder) for problem in problems]
    except EngineUnavailable as error:
        raise NotAsked(
            f"the embedded engine did not build the policies within {_BUILT_WITHIN_S:g} s"
        ) from error
    return []


def has_embedded() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - where it is needed

    return find_spec("regopy") is not None


def in_folder(error: ConfigError, folder: Path, *, root: str = "") -> ConfigError:
    """The embedded engine's *error* with places below *folder*: it knows only paths inside of it.

    *root* is what stands before them: the name of a domain's policies, which lie in *folder* itself.
    """
    return ConfigError(
        error.detail,
        problems=tuple(
            Problem(
                pointer=PurePosixPath(folder, problem.pointer.removeprefix(f"{root}/")).as_posix(),
                detail=problem.detail,
            )
            for problem in error.problems
        ),
    )


def _finding(problem: Problem, folder: Path) -> Finding:
    says = problem.detail.removesuffix(" (does_not_build)")
    path, _, place = problem.pointer.partition(".rego:")
    if not place:
        return Finding(source=str(folder), line=1, column=1, code="does_not_build", message=says)
    line, _, column = place.partition(":")
    return Finding(
        source=PurePosixPath(folder, f"{path}.rego").as_posix(),
        line=int(line),
        column=int(column),
        code="does_not_build",
        message=says,
    )
