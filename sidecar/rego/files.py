"""Files below the policies that OPA's own commands read, and the product does not, or not as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sidecar.catalog.finding import Finding
from sidecar.rego.compile import data_file
from sidecar.rego.load import unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog

_DATA = "authz/plans/data.json"
_READ_BY_OPA = (".json", ".yaml", ".yml", ".tar.gz")


def not_loaded_in(folder: Path) -> list[Finding]:
    """Data that `opa eval -d` has and no bundle of ours."""
    message = "OPA's commands would read it, the bundle has it not: write it as rules, in *.rego"
    return [
        _finding(path, message, code="data_not_loaded")
        for path in sorted(folder.rglob("*"))
        if path.name.endswith(_READ_BY_OPA)
        and path.is_file()
        and path.relative_to(folder).as_posix() != _DATA
    ]


def stale_in(folder: Path, catalog: Catalog) -> list[Finding]:
    """The committed policy data, where it is not what *catalog* compiles to. None at all misleads nobody."""
    path = folder / _DATA
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        same = json.loads(found) == json.loads(data_file(catalog))
    except ValueError:
        same = False
    message = "it is not what the catalog compiles to: run sidecar compile"
    return [] if same else [_finding(path, message, code="stale_data")]


def changed_files(modules: Mapping[str, str], shipped: Mapping[str, str]) -> list[str]:
    """The files of authz that differ, are missing or are new."""
    ours, theirs = (
        {path: text for path, text in some.items() if path.startswith("authz/")}
        for some in (modules, shipped)
    )
    return sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))


def _finding(path: Path, message: str, *, code: str) -> Finding:
    return Finding(source=str(path), line=1, column=1, code=code, message=message)
