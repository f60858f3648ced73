"""Which fields of the context the metadata of policies declare.

They count in an entrypoint of authz and in `package custom`. A rule may say that it waits for a field: until
somebody declares it, the rule is off, and that is meant.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sidecar.catalog.finding import Finding
from sidecar.catalog.read import Fields, Items, Text, Truth
from sidecar.rego.metadata import blocks_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sidecar.catalog.read import Node
    from sidecar.rego.syntax.tree import Module, Rule

_PACKAGE = re.compile(r"(?:\s|#[^\n]*\n)*package\s+custom\s*(?:[#;]|$)", flags=re.MULTILINE)
WAITS = "off_until_declared"


def context_fields_in(modules: Mapping[str, str]) -> frozenset[str]:
    """The fields that policies see: those of the entrypoint and of `package custom` together."""
    return frozenset().union(*(_declared_in(path, text, source=path)[0] for path, text in modules.items()))


def context_problems_in(path: str, text: str, *, source: str) -> list[Finding]:
    return _declared_in(path, text, source=source)[1]


def waiting_in(modules: Mapping[str, Module], texts: Mapping[str, str]) -> dict[Rule, Collection[str]]:
    """The fields that a rule waits for: `custom: {off_until_declared: […]}` in its metadata."""
    found: dict[Rule, Collection[str]] = {}
    for path, module in modules.items():
        for block in blocks_in(texts[path], source=path):
            rule = next((each for each in module.rules if each.at >= block.end), None)
            match block.root:
                case Fields(values={"custom": Fields(values={"off_until_declared": Items(items=items)})}) if (
                    rule
                ):
                    found[rule] = [item.value for item in items if isinstance(item, Text)]
                case _:
                    pass
    return found


def annotated_packages(modules: Mapping[str, Module], texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Of each package the files whose metadata are its own: OPA takes one."""
    found: dict[str, list[str]] = {}
    for path, module in modules.items():
        if any(block.end <= module.at for block in blocks_in(texts[path], source=path)):
            found.setdefault(".".join(module.package), []).append(path)
    return found


def _declared_in(path: str, text: str, *, source: str) -> tuple[frozenset[str], list[Finding]]:
    fields: set[str] = set()
    found: list[Finding] = []
    folders = PurePosixPath(path).parent.parts
    if not folders:
        return frozenset(), []
    for block in blocks_in(text, source=source):
        of_package = folders == ("custom",) and _PACKAGE.match(text, block.end)
        if folders[0] == "authz" or of_package:
            found += block.findings
        match block.root:
            case Fields(values={"custom": Fields(values={"context": node})} as values):
                entrypoint = values.get("entrypoint")
                is_entrypoint = isinstance(entrypoint, Truth) and entrypoint.value
                scope = values.get("scope")
                is_whole = scope is None or (isinstance(scope, Text) and scope.value == "package")
                if (folders[0] == "authz" and is_entrypoint) or (of_package and is_whole):
                    fields |= _names_in(node, found, source=source)
            case _:
                pass
    return frozenset(fields), found


def _names_in(node: Node, found: list[Finding], *, source: str) -> set[str]:
    if isinstance(node, Items) and all(isinstance(item, Text) for item in node.items):
        return {item.value for item in node.items if isinstance(item, Text)}
    message = "context: expected a list of field names, like [country, device]"
    found.append(
        Finding(source=source, line=node.line, column=node.column, code="bad_context", message=message)
    )
    return set()
