"""The views of an application, each with its guards: what `unguarded` lists and `undeclared` reads.

Flask, Starlette and FastAPI are known by what their applications have: none of them is imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from http import HTTPMethod
from inspect import isclass
from typing import TYPE_CHECKING, Any

from sidecar.guard.stacking import stacks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.guard.stacking import Stack

_HANDLERS = (*(method.lower() for method in HTTPMethod), "on_connect")  # of a class of views; of a WebSocket


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """*name* is Flask's endpoint, or the route's name in Starlette and FastAPI."""

    name: str
    guarded: bool
    stacks: tuple[Stack, ...]


def views_of(app: object) -> Iterator[View]:
    """TypeError for what is no application of Flask, Starlette or FastAPI."""
    functions, routes = getattr(app, "view_functions", None), getattr(app, "routes", None)
    if functions is not None:
        for endpoint, function in functions.items():
            yield _view(endpoint, function, ())
    elif routes is not None:
        yield from _in_routes(routes, within="")
    else:
        raise TypeError(f"expected an application of Flask, Starlette or FastAPI, got {type(app).__name__}")


def unguarded(app: object) -> set[str]:
    """The names of the views of *app* that no guard stands before, for a test that lists them.

    In Flask they are endpoints, in Starlette and FastAPI names of routes; what stands in a mounted
    application is ``MOUNT:NAME``. A view that only reserves, inside of itself, is among them. TypeError as
    in `views_of`.
    """
    return {view.name for view in views_of(app) if not view.guarded}


def _in_routes(routes: Iterable[Any], *, within: str) -> Iterator[View]:
    # FastAPI keeps a router that is included as one route; its own function shows what is inside.
    flat = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", iter)
    for route in flat(routes):
        name = f"{within}{getattr(route, 'name', None) or getattr(route, 'path', None) or '?'}"
        endpoint, inner = getattr(route, "endpoint", None), getattr(route, "routes", None)
        if endpoint is not None:
            yield _view(name, endpoint, _dependencies_of(getattr(route, "dependant", None)))
        elif inner:
            yield from _in_routes(inner, within=f"{name}:")
        else:  # an application of another kind
            yield View(name=name, guarded=False, stacks=())


def _dependencies_of(dependant: Any) -> Iterator[object]:  # noqa: ANN401 - FastAPI's Dependant
    for each in getattr(dependant, "dependencies", ()):
        yield each.call
        yield from _dependencies_of(each)


def _view(name: str, function: object, dependencies: Iterable[object]) -> View:
    before = [stack for each in (*dependencies, function) for stack in stacks_of(each)]
    methods = [[*stacks_of(each)] for each in _methods_of(function)]
    return View(
        name=name,
        guarded=bool(before) or (bool(methods) and all(methods)),
        stacks=(*before, *(stack for stacks in methods for stack in stacks)),
    )


def _methods_of(function: object) -> list[object]:
    """Of a class of views; none for a function."""
    of = function if isclass(function) else getattr(function, "view_class", None)
    methods = [getattr(of, name) for name in _HANDLERS if hasattr(of, name)]
    dispatch = getattr(of, "dispatch_request", None)
    return methods or ([] if dispatch is None else [dispatch])
