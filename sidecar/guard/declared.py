"""The names that the guards of an application ask for, compared with those that plans.yaml declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sidecar.guard.views import views_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

    from sidecar.guard.requirement import Requirement
    from sidecar.guard.stacking import Stack

_KINDS = ("role", "feature")  # of which each has an action: role:owner
_CHECK = "`sidecar check` says what is wrong with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """*takes* are the meters that each action takes by name."""

    of: Mapping[str, frozenset[str]]
    takes: Mapping[str, frozenset[str]]


def undeclared(app: object, plans: str | PathLike[str]) -> list[str]:
    """See `sidecar.guard.testing.undeclared`."""
    names = _names_in(Path(plans))
    return list(
        dict.fromkeys(
            f"{view.name}: {mistake}"
            for view in views_of(app)
            for stack in view.stacks
            for requirement in stack.requirements
            for mistake in _mistakes_in(requirement, stack, names, app)
        )
    )


def _mistakes_in(requirement: Requirement, stack: Stack, names: _Names, app: object) -> Iterator[str]:
    for action in requirement.actions or _membership(stack, app):
        kind, _, name = action.partition(":")
        if kind in _KINDS and name:
            yield from _unless_known(name, kind, names.of[kind])
        else:
            yield from _unless_known(action, "action", names.of["action"])
        if isinstance(requirement.amounts, Mapping):
            yield from _untaken(requirement.amounts, action, names)


def _untaken(meters: Iterable[str], action: str, names: _Names) -> Iterator[str]:
    for meter in meters:
        if meter not in names.of["meter"]:
            yield from _unless_known(meter, "meter", names.of["meter"])
        elif action in names.takes and meter not in names.takes[action]:
            takes = ", ".join(sorted(names.takes[action])) or "nothing"
            yield f'the action "{action}" does not take "{meter}"; it takes {takes}'


def _unless_known(name: str, kind: str, known: Iterable[str]) -> Iterator[str]:
    names = list(known)
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        yield f'the {kind} "{name}" is not declared{hint}'


def _membership(stack: Stack, app: object) -> tuple[str, ...]:
    """The action that is asked for where nothing else is required."""
    if any(each.actions for each in stack.requirements):
        return ()
    guard: Any = stack.guard
    if not hasattr(guard, "membership"):  # that of a function of sidecar.guard is its application's
        guard = getattr(app, "extensions", {}).get("sidecar")
    return () if guard is None else (guard.membership,)


def _names_in(path: Path) -> _Names:
    """ValueError if it is not the YAML of a catalog."""
    try:
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(file, dict) or "plans" not in file:
        raise ValueError(f"{path} declares no plans: is it the plans.yaml of this application?")
    sections = {name: _section(file, name, path) for name in ("roles", "features", "meters", "actions")}
    return _Names(
        of={name.removesuffix("s"): frozenset(section) for name, section in sections.items()},
        takes={
            name: frozenset(_section(action, "takes", path) if isinstance(action, dict) else ())
            for name, action in sections["actions"].items()
        },
    )


def _section(of: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = of.get(name) or {}
    if not isinstance(section, dict):
        raise ValueError(f"{path}: {name} is no mapping; {_CHECK}")  # noqa: TRY004 - the file is wrong
    return {str(key): value for key, value in section.items()}
