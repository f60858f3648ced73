"""Policies under the name of their revision, so that OPA answers by two at once while a release is under way.

They are the same rules and data, moved from `data.authz` and `data.custom` to
``data.authz.revisions["<revision>"].authz`` and ``.custom``. Those of another domain, for AuthZEN, are moved
from `data.authzen` to the name of their own revision alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.errors import ConfigError, Problem
from sidecar.rego.authzen import PACKAGE, authzen_policy
from sidecar.rego.kept import content_of
from sidecar.rego.lint import RESERVED, ROOTS
from sidecar.rego.syntax.tokens import NotRego, tokens_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled
    from sidecar.rego.syntax.tokens import Token

_MOVED = (*ROOTS, PACKAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """*modules* are by their path in a bundle; *data* is that of ``data.authz.revisions[revision]``."""

    revision: str
    modules: Mapping[str, str]
    data: Mapping[str, Any]


def own_name(rule: str, revision: str) -> str:
    """The name of *rule*, ``data.authz.decision``, by *revision* alone, as an URL of OPA has it."""
    return f"data.authz.{RESERVED}.{revision}.{rule.removeprefix('data.')}"


def own_ref(rule: str, revision: str) -> str:
    """As own_name, in Rego."""
    return f'data.authz.{RESERVED}["{revision}"].{rule.removeprefix("data.")}'


def beside(compiled: Compiled) -> Beside:
    """ConfigError where a module is not Rego."""
    return _moved(compiled.revision, compiled.modules, json.loads(compiled.data))


def authzen_beside(policy: AuthzenPolicy) -> Beside:
    """As `beside`; a bundle in which it is the newest needs it under the plain name alone."""
    return _moved(policy.revision, policy.modules, json.loads(policy.data))


def besides_in(bundle: bytes, *, new: Collection[str], source: str) -> list[Beside]:
    """What *bundle* answers by besides the revisions *new*, for us and for another domain, if it has one.

    Of each its newest revision, else the one beside that. ConfigError if it is no bundle of ours.
    """
    modules, data = content_of(bundle, source=source, roots=(*ROOTS, PACKAGE))
    of_authz = data.get("authz", {})
    newest = of_authz.get("plans", {}).get("revision")
    if not isinstance(newest, str):
        raise ConfigError(f"{source} is no bundle of ours")
    theirs = {path: text for path, text in modules.items() if path.startswith(f"{PACKAGE}/")}
    ours = {
        path: text
        for path, text in modules.items()
        if path not in theirs and not path.startswith(f"authz/{PACKAGE}/")
    }
    found = [_moved(newest, ours, {"authz": {"plans": of_authz["plans"]}})]
    if theirs:
        inside = {path.removeprefix(f"{PACKAGE}/"): text for path, text in theirs.items()}
        found.append(authzen_beside(authzen_policy(inside, data.get(PACKAGE, {}))))
    for revision, held in of_authz.get(RESERVED, {}).items():
        folder = _folder(revision)
        named = {path: text for path, text in modules.items() if path.startswith(folder)}
        found.append(Beside(revision=revision, modules=named, data=held))
    of_domain = {PACKAGE in each.data: each for each in reversed(found) if each.revision not in new}
    return [*of_domain.values()]


def _folder(revision: str) -> str:
    return f"authz/{RESERVED}/{revision}/"


def _moved(revision: str, modules: Mapping[str, str], data: Mapping[str, Any]) -> Beside:
    moved = {
        f"{_folder(revision)}{path}": moved_text(text, revision=revision, path=path)
        for path, text in modules.items()
        if not path.startswith(f"authz/{RESERVED}/")
    }
    return Beside(revision=revision, modules=moved, data=data)


def moved_text(text: str, *, revision: str, path: str = "") -> str:
    """The module *text*, in the package of its *revision* and with references to that."""
    try:
        places = list(_places_in(tokens_of(text)))
    except NotRego as error:
        line = text.count("\n", 0, error.at) + 1
        problem = Problem(pointer=f"{path}:{line}", detail=error.says)
        raise ConfigError(f"{path} cannot be read as Rego: {error.says}", problems=(problem,)) from error
    done, pieces = 0, []
    for at, way in places:
        pieces += [text[done:at], way.format(f'authz.{RESERVED}["{revision}"]')]
        done = at
    return "".join([*pieces, text[done:]])


def _places_in(tokens: list[Token]) -> Iterator[tuple[int, str]]:
    """Where the way to the revision is to be put in, and as what: before the name of a root."""
    for number, token in enumerate(tokens):
        before = tokens[number - 1].kind if number else ""
        after = tokens[number + 1 : number + 4]
        if token.kind == "package" and before != ".":
            yield after[0].at, "{}."
        elif token.kind == "name" and token.text == "data" and before != ".":
            match [(each.kind, each) for each in after]:
                case [(".", _), ("name", root), *_] if root.text in _MOVED:
                    yield root.at, "{}."
                case [("[", bracket), ("text", root), ("]", _)] if root.value in _MOVED:
                    yield bracket.at, ".{}"
                case _:
                    pass
