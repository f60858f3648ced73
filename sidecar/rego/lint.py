"""Validates policies: packages match their folders, and only a short list of builtins is used."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sidecar.catalog.finding import Finding
from sidecar.errors import NotAsked
from sidecar.rego.context import context_problems_in
from sidecar.rego.syntax.parser import module_in
from sidecar.rego.syntax.tokens import NotRego
from sidecar.rego.syntax.tree import Var

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

# Pure and the same in every engine: no clock, network, randomness or runtime, nothing that shows the order of
# a set (concat) or depends on a version of Unicode (lower). What orders or merges is not: the embedded engine
# sorts numbers as text (sort, min, max), makes no list of a sorted set, and merges one level (object.union).
ALLOWED_BUILTINS = frozenset(
    {
        "array.concat",
        "count",
        "endswith",
        "is_array",
        "is_boolean",
        "is_null",
        "is_number",
        "is_object",
        "is_set",
        "is_string",
        "object.get",
        "object.keys",
        "startswith",
        "sum",
    }
)
ROOTS = ("authz", "custom")
RESERVED = "revisions"  # in authz: where a bundle has each revision under its own name
# The fields of a situation, as in schemas/input.json: a rule with any other field would never hold.
INPUT_FIELDS = frozenset({"action", "context", "overrides", "plan", "role", "room", "status"})
_KEYWORDS = frozenset(
    {"not", "in", "if", "some", "every", "contains", "else", "default", "import", "package", "as", "with"}
)
_TEXT = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_TOKEN = re.compile(
    rf"(?P<template>\$(?:{_TEXT}))|(?P<text>{_TEXT})|(?P<comment>#[^\n]*)"
    r"|(?P<ref>(?<![\w.])[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)(?P<call>\()?"
    r"|\](?P<bracket_call>\()|(?P<brace>[{}])"
)
_BARE_NAME = re.compile(r"\s+(?!(?:input|data|true|false|null)\b)[A-Za-z_]\w*[ \t]*(?=[\n;#)}\]]|$)")
_WITH_INPUT = re.compile(r"\s+input\.[a-z_]+\s+as\s")
_OPA_TIMEOUT_S = 30


def problems_in(
    modules: Mapping[str, str],
    *,
    folder: str,
    package: str | None = None,
    fields: Collection[str] = INPUT_FIELDS,
) -> list[Finding]:
    """Problems that can be found without OPA. *modules* maps paths inside *folder* to Rego.

    *package* is that of the folder itself; None where the folder holds those of ROOTS. *fields* are those of
    `input`.
    """
    found: list[Finding] = []
    roots = (package,) if package else ROOTS
    for path, text in modules.items():
        source = PurePosixPath(folder, path).as_posix()
        found += _package_problems(path, text, source=source, outermost=package)
        own = _functions_in(modules, PurePosixPath(path).parent)
        decides = package is None and PurePosixPath(path).parts[0] == "authz"
        found += _problems_of_form(text, own=own, fields=fields, roots=roots, source=source, decides=decides)
        found += context_problems_in(path, text, source=source)
    return sorted(found, key=lambda each: each.order)


def opa_binary() -> Path | None:
    """OPA on PATH, or in the tests' own folder."""
    if on_path := shutil.which("opa"):
        return Path(on_path)
    try:
        kept = Path.home() / ".cache" / "opa-bin" / "opa"
    except RuntimeError:  # a user without a home, as containers have them
        return None
    try:
        return kept if kept.is_file() else None
    except PermissionError:  # HOME is another user's
        return None


def problems_by_opa(
    folder: Path, modules: Mapping[str, str], *, opa: Path, schema: Path | None = None, strict: bool = True
) -> list[Finding]:
    """What `opa check` finds when OPA knows only the builtins that are allowed.

    *schema* is the JSON Schema of `input`. What is not *strict* is all that OPA needs to load them.
    """
    if not modules:
        return []
    said = _output_of([str(opa), "capabilities", "--current"])
    try:
        known = json.loads(said.stdout)
    except ValueError:
        raise NotAsked(f"{opa} capabilities: {said.stderr.strip() or 'it said nothing'}") from None
    known["builtins"] = [
        each for each in known["builtins"] if "infix" in each or each["name"] in ALLOWED_BUILTINS
    ]
    known |= {"allow_net": [], "features": ["rego_v1"], "future_keywords": []}
    with tempfile.TemporaryDirectory() as scratch:
        capabilities = Path(scratch, "capabilities.json")
        capabilities.write_text(json.dumps(known), encoding="utf-8")
        options = ["--format=json", "--capabilities", str(capabilities)]
        options += ["--strict"] if strict else []
        options += ["--schema", str(schema)] if schema else []
        run = _output_of([str(opa), "check", *options, *(str(folder / path) for path in modules)])
    if (
        not run.returncode and not run.stderr.strip()
    ):  # the code alone may be lost: gunicorn's master reads it
        return []
    try:
        errors = json.loads(run.stderr or run.stdout)["errors"]
    except (ValueError, KeyError):
        raise NotAsked(f"{opa} check: {(run.stderr or run.stdout).strip()}") from None
    return [_finding_of_opa(error, folder=folder) for error in errors]


def _output_of(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - our own OPA, no shell, no text of a caller
            command, capture_output=True, text=True, check=False, timeout=_OPA_TIMEOUT_S
        )
    except OSError as error:
        raise NotAsked(f"{command[0]} does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NotAsked(f"{command[0]} {command[1]} did not end within {_OPA_TIMEOUT_S} s") from error


def _finding_of_opa(error: dict[str, object], *, folder: Path) -> Finding:
    match error:
        case {"location": {"file": str(file), "row": int(row), "col": int(column)}}:
            source, line = file, row
        case _:
            source, line, column = str(folder), 1, 1
    code, message = str(error.get("code", "rego_error")), str(error.get("message", "")).replace("\n", " ")
    return Finding(source=source, line=line, column=column, code=code, message=message)


def rules_in(modules: Mapping[str, str]) -> frozenset[str]:
    """The rules that the policies of the outermost folder define."""
    return frozenset(
        token["ref"].partition(".")[0]
        for path, text in modules.items()
        if PurePosixPath(path).parent == PurePosixPath()
        for token in _heads_in(text)
    )


def _package_problems(path: str, text: str, *, source: str, outermost: str | None) -> Iterator[Finding]:
    folders = (*([outermost] if outermost else []), *PurePosixPath(path).parent.parts)
    if not outermost and (not folders or folders[0] not in ROOTS):
        message = f"policies stand in {' or '.join(ROOTS)}: OPA does not load them from anywhere else"
        yield Finding(source=source, line=1, column=1, code="outside_the_roots", message=message)
        return
    if not outermost and folders[:2] == ("authz", RESERVED):
        message = f"authz/{RESERVED} is where a bundle has the policies of each revision: take another folder"
        yield Finding(source=source, line=1, column=1, code="reserved_name", message=message)
        return
    if not outermost and folders == ("authz",):
        for token in _heads_in(text):
            if token["ref"].partition(".")[0] == RESERVED:
                line = text.count("\n", 0, token.start()) + 1
                message = (
                    f"data.authz.{RESERVED} is where a bundle has each revision: name the rule otherwise"
                )
                yield Finding(source=source, line=line, column=1, code="reserved_name", message=message)
    expected = ".".join(folders)
    package = re.search(r"^\s*package\s+([\w.]+)", text, flags=re.MULTILINE)
    if package is None or package[1] != expected:
        line = text.count("\n", 0, package.start(1)) + 1 if package else 1
        was = f"package {package[1]}" if package else "no package"
        message = f"{was} in the folder {'/'.join(folders)}: expected package {expected}"
        yield Finding(source=source, line=line, column=1, code="package_not_its_folder", message=message)


def _problems_of_form(
    text: str,
    *,
    own: frozenset[str],
    fields: Collection[str],
    roots: Collection[str],
    source: str,
    decides: bool,
) -> Iterator[Finding]:
    imported = set(re.findall(r"^import\s+data\.(?:\w+\.)*(\w+)\s*$", text, flags=re.MULTILINE))
    imported |= set(re.findall(r"^import\s+data\.[\w.]+\s+as\s+(\w+)", text, flags=re.MULTILINE))
    for token in _TOKEN.finditer(text):
        if problem := _problem_of(
            token, text, own=own, fields=fields, roots=roots, packages=imported | {"data"}, decides=decides
        ):
            code, message = problem
            before = text[: token.start()]
            line, column = before.count("\n") + 1, token.start() - (before.rfind("\n") + 1) + 1
            yield Finding(source=source, line=line, column=column, code=code, message=message)


def _problem_of(
    token: re.Match[str],
    text: str,
    *,
    own: frozenset[str],
    fields: Collection[str],
    roots: Collection[str],
    packages: Collection[str],
    decides: bool,
) -> tuple[str, str] | None:
    """Code and message; calls of *own* functions, and of those in *packages*, are allowed.

    Only a policy that *decides* may ask itself about another situation.
    """
    name = re.sub(r"\s", "", token["ref"] or "")
    first, *rest = name.split(".")
    if token["template"]:
        return "builtin_not_allowed", "text with values in it: not every engine has it"
    if token["bracket_call"]:
        return "builtin_not_allowed", "a call by a name in brackets: write it with dots"
    if name == "with" and not (decides and _WITH_INPUT.match(text, token.end())):
        return "with_in_policy", "with replaces what is known: only tests may, and authz a field of input"
    if name == "not" and (token["call"] or not _BARE_NAME.match(text, token.end())):
        # `not input.role in {"owner"}` is undefined when there is no role: nothing would be denied.
        return (
            "not_without_name",
            "not stands before the bare name of a rule: give the rest a rule of its own",
        )
    if first == "input" and rest and rest[0] not in fields:
        return "unknown_input", f"input.{rest[0]} is never there: this would never hold"
    if first == "data" and (not rest or rest[0] not in roots):
        allowed = " or ".join(f"data.{root}.…" for root in roots)
        return "unknown_data", f"{'.'.join(['data', *rest[:1]])} is not for this policy: write {allowed}"
    if token["call"] and name not in ALLOWED_BUILTINS | _KEYWORDS | own and first not in packages:
        return (
            "builtin_not_allowed",
            f"{name} is not among the builtins that policies may call (docs/plans.md lists them)",
        )
    return None


def _functions_in(modules: Mapping[str, str], folder: PurePosixPath) -> frozenset[str]:
    """The functions that the policies of one folder define."""
    found: set[str] = set()
    for path, text in modules.items():
        if PurePosixPath(path).parent == folder:
            try:
                rules = module_in(text).rules
            except NotRego:  # reported elsewhere: here its other mistakes are
                found |= {
                    token["ref"] for token in _heads_in(text) if token["call"] and "." not in token["ref"]
                }
            else:
                found |= {
                    rule.name for rule in rules if rule.parameters is not None and isinstance(rule.head, Var)
                }
    return frozenset(found)


def _heads_in(text: str) -> Iterator[re.Match[str]]:
    """The names of rules and functions: a head stands first on its line, in no braces."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"{": 1, "}": -1}.get(token["brace"] or "", 0)
        first_on_line = text[: token.start()].endswith(("\n", "\ndefault ")) or not token.start()
        if token["ref"] and not depth and first_on_line and token["ref"] not in _KEYWORDS:
            yield token
