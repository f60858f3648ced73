"""Loads the catalog and the policies from disk; all their problems are one ConfigError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.check import check_plans
from sidecar.catalog.read import MAX_BYTES
from sidecar.errors import ConfigError, Problem
from sidecar.rego.compile import compiled
from sidecar.rego.lint import problems_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.catalog.finding import Finding
    from sidecar.rego.compile import Compiled


def catalog_at(path: Path) -> Catalog:
    """ConfigError with every problem."""
    found = check_plans(plans_text(path), source=str(path))
    if found.catalog is None:
        raise refused(f"{path} is not a catalog", found.problems)
    return found.catalog


def compiled_at(plans: Path, policies: Path) -> Compiled:
    """ConfigError with every problem of the catalog, or of the policies."""
    catalog = catalog_at(plans)
    modules = modules_at(policies)
    if problems := problems_in(modules, folder=str(policies)):
        raise refused(f"{policies} holds policies that may not be used", problems)
    return compiled(catalog, modules)


def plans_text(path: Path) -> bytes:
    """At most one byte more than a catalog may have: enough to see that it is too large."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from error


def modules_at(folder: Path) -> dict[str, str]:
    """Every policy by its path inside *folder*, in order, without the tests."""
    return dict(_rego_at(folder, tests=False))


def tests_at(folder: Path) -> dict[str, str]:
    """The Rego that is not loaded, by its path inside *folder*."""
    return dict(_rego_at(folder, tests=True))


def _rego_at(folder: Path, *, tests: bool) -> Iterator[tuple[str, str]]:
    if not folder.is_dir():
        raise unreadable(folder, NotADirectoryError(0, "there is no such folder"))
    paths = sorted(
        (path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.rego") if path.is_file()
    )
    yield from ((name, _module(path)) for name, path in paths if name.endswith("_test.rego") == tests)


def _module(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise _refused_at(path, "is not UTF-8") from error


def unreadable(path: Path, error: OSError) -> ConfigError:
    return _refused_at(path, f"cannot be read: {(error.strerror or str(error)).lower()}")


def _refused_at(path: Path, detail: str) -> ConfigError:
    return ConfigError(f"{path} {detail}", problems=(Problem(pointer=str(path), detail=detail),))


def refused(detail: str, findings: Iterable[Finding]) -> ConfigError:
    return ConfigError(detail, problems=tuple(finding.problem for finding in findings))
