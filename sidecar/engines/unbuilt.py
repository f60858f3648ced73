"""Why rego-cpp does not build policies, as lines with a place: it says a tree, with offsets in bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecar.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# (error 13:custom/x.rego|57|2 (errormsg 24:Invalid boolean operator) …
_ERROR = re.compile(
    r"\(error\s+\d+:(?P<path>[^|\n]+)\|(?P<offset>\d+)\|\d+\s+\(errormsg\s+\d+:(?P<says>[^\n)]*)\)"
)


def problems_of(
    tree: str, modules: Mapping[str, str], *, original: Callable[[str, int], int]
) -> tuple[Problem, ...]:
    """One for each error in *tree* that has a place. *modules* are path → Rego as their authors wrote it.

    *original* takes a path and an offset in the bytes that were built, and returns that of the author's text.
    """
    found: dict[Problem, None] = {}
    for error in _ERROR.finditer(tree):
        path, says = error["path"], error["says"]
        if path not in modules:
            continue
        before = modules[path].encode()[: original(path, int(error["offset"]))].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        detail = f"{says[:1].lower()}{says[1:]} (does_not_build)"
        found.setdefault(Problem(pointer=f"{path}:{line}:{column}", detail=detail))
    return tuple(found)
