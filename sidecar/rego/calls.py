"""Who calls whom: the calls of each function, and the ways in which one body can be reached by calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.rego.meaning import CallSite, Meaning
from sidecar.rego.program import bodies_of
from sidecar.rego.syntax.tree import Call
from sidecar.rego.syntax.walk import terms_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.rego.program import Name, Program, Scope

_MOST_WAYS = 100
_DEEPEST = 4


def calls_in(program: Program) -> dict[Name, list[CallSite]]:
    """Of the program's own functions."""
    meaning = Meaning(program)
    found: dict[Name, list[CallSite]] = {}
    for scope, outermost in bodies_of(program):
        for term in terms_in(outermost):
            if isinstance(term, Call) and (name := meaning.function_called(term.function, scope)):
                found.setdefault(name, []).append(CallSite(call=term, scope=scope))
    return found


def ways_into(scope: Scope, calls: Mapping[Name, list[CallSite]]) -> list[dict[Name, CallSite]]:
    """For a function's body each chain of calls that leads there: arguments of two calls are not mixed."""
    ways = []
    for way in _ways(scope.written.name, calls, _DEEPEST):
        ways.append(way)
        if len(ways) == _MOST_WAYS:
            break
    return ways


def _ways(function: Name, calls: Mapping[Name, list[CallSite]], depth: int) -> Iterator[dict[Name, CallSite]]:
    sites = calls.get(function, ())
    if not sites or not depth:
        yield {}
        return
    for site in sites:
        for way in _ways(site.scope.written.name, calls, depth - 1):
            if function not in way:
                yield {**way, function: site}
