"""A policy of another domain than ours, for AuthZEN: a folder that is the package ``authzen``, and its data.

It means the same as OPA's ``-d authzen:FOLDER``: the place of a file's data is its folder, whatever the
file's name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sidecar.catalog.finding import Finding
from sidecar.catalog.read import document_in, plain
from sidecar.rego.compile import REVISION_DIGITS, canonical
from sidecar.rego.lint import problems_in, rules_in
from sidecar.rego.load import modules_at, refused, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = "authzen"
DECISION = "decision"
# What may be searched for, with the rule that returns the candidates.
CANDIDATES = {"subject": "subjects", "resource": "resources", "action": "actions"}
_INPUT = (*CANDIDATES, "context")
_ANSWERS = "authz.authzen"  # under a root of ours: nobody else writes there


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthzenPolicy:
    """*modules* are by their path in a bundle, *data* is the JSON of ``data``.

    *rules* maps the package's rules among DECISION and CANDIDATES to the generated rules to ask instead: they
    answer ``{"revision", "answer"}``, so that an answer of another revision is recognised.
    """

    revision: str
    modules: Mapping[str, str]
    data: bytes
    rules: Mapping[str, str]
    root: str = PACKAGE


def authzen_policy_at(folder: Path) -> AuthzenPolicy:
    """ConfigError with every problem of the policies and their data."""
    modules = modules_at(folder)
    data, problems = _data_at(folder)
    if problems := [*_problems_with(folder, modules, data), *problems]:
        raise refused(f"{folder} holds no policy for AuthZEN", problems)
    return authzen_policy(modules, data)


def authzen_policy(modules: Mapping[str, str], data: Mapping[str, Any]) -> AuthzenPolicy:
    """Of *modules* by their path in the package, and the *data* of ``data.authzen``."""
    revision = sha256(canonical({"modules": modules, "data": data})).hexdigest()[:REVISION_DIGITS]
    asked = sorted(rules_in(modules) & {DECISION, *CANDIDATES.values()})
    answers = [f"package {_ANSWERS}"]
    answers += [f'{rule} := {{"revision": "{revision}", "answer": data.{PACKAGE}.{rule}}}' for rule in asked]
    return AuthzenPolicy(
        revision=revision,
        modules={f"{PACKAGE}/{path}": text for path, text in modules.items()}
        | {f"{_ANSWERS.replace('.', '/')}/answers.rego": "\n\n".join(answers) + "\n"},
        data=canonical({PACKAGE: data}),
        rules={rule: f"data.{_ANSWERS}.{rule}" for rule in asked},
    )


def findings_at(folder: Path) -> list[Finding]:
    """What authzen_policy_at would refuse; ConfigError where there is nothing to read."""
    data, problems = _data_at(folder)
    return [*_problems_with(folder, modules_at(folder), data), *problems]


def _problems_with(folder: Path, modules: Mapping[str, str], data: Mapping[str, Any]) -> Iterator[Finding]:
    yield from problems_in(modules, folder=str(folder), package=PACKAGE, fields=_INPUT)
    if DECISION not in rules_in(modules):
        message = f"no rule {DECISION} in the package {PACKAGE}: it is what is asked"
        yield _found(folder, "no_decision", message)
    for rule in sorted(rules_in(modules) & data.keys()):
        yield _found(folder, "data_hides_rule", f"data.{PACKAGE}.{rule} is a rule, and data as well")


def _data_at(folder: Path) -> tuple[dict[str, Any], list[Finding]]:
    data: dict[str, Any] = {}
    problems: list[Finding] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".json", ".yaml", ".yml"} or path.name.startswith(".") or not path.is_file():
            continue
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from error
        value, found = _from_json(raw, path) if path.suffix == ".json" else _from_yaml(raw, path)
        problems += found
        if found:
            continue
        for part in reversed(PurePosixPath(path.relative_to(folder).as_posix()).parent.parts):
            value = {part: value}
        if not isinstance(value, dict):
            problems.append(_found(path, "data_no_object", "expected an object: its names are those of data"))
            continue
        problems += [
            _found(path, "data_twice", f"data.{PACKAGE}.{name} stands in another file too")
            for name in _merge(data, value, "")
        ]
    return data, problems


def _merge(into: dict[str, Any], more: dict[str, Any], at: str) -> Iterator[str]:
    """Puts *more* into *into*; the names that both say something of."""
    for name, value in more.items():
        if name not in into:
            into[name] = value
        elif isinstance(value, dict) and isinstance(into[name], dict):
            yield from _merge(into[name], value, f"{at}{name}.")
        else:
            yield f"{at}{name}"


def _from_json(raw: bytes, path: Path) -> tuple[Any, list[Finding]]:
    try:
        value = json.loads(raw, object_pairs_hook=_object)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no NaN, no half of a surrogate pair
    except (ValueError, RecursionError) as error:
        return None, [_found(path, "data_no_json", f"is not JSON: {error}")]
    return value, []


def _from_yaml(raw: bytes, path: Path) -> tuple[Any, list[Finding]]:
    document = document_in(raw, source=str(path))
    return (plain(document.root) if document.root else None), list(document.findings)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(name for name in value if [other for other, _ in pairs].count(name) > 1)
        raise ValueError(f'"{twice}" is there twice in one object')
    return value


def _found(path: Path, code: str, message: str) -> Finding:
    return Finding(source=str(path), line=1, column=1, code=code, message=message)
