"""The names of the catalog as types of TypeScript and Python, so that a typo does not compile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sidecar.catalog.catalog import Catalog

_HEAD = "What plans.yaml declares, written by `sidecar types --{option}`: do not edit it, write it anew."


def typescript(catalog: Catalog) -> str:
    """A module: one union for each kind of name, and `Catalog`, for ``new Sidecar<Catalog>(…)``."""
    names = _names(catalog)
    unions = [f"export type {kind} ={_union(of)};\n" for kind, of in names.items()]
    fields = "".join(f"  {kind.lower()}: {kind};\n" for kind in names)
    return "\n".join(
        [f"// {_HEAD.format(option='ts')}\n", *unions, f"export interface Catalog {{\n{fields}}}\n"]
    )


def python(catalog: Catalog) -> str:
    """A module: one Literal for each kind of name."""
    names = _names(catalog)
    types = ["Literal"] if all(names.values()) else ["Literal", "Never"]
    literals = [f"{kind}: TypeAlias = {_literal(of)}\n" for kind, of in names.items()]
    return "\n".join(
        [
            f'"""{_HEAD.format(option="py")}"""\n',
            f"from typing import {', '.join([*types, 'TypeAlias'])}\n",
            *literals,
        ]
    )


def _names(catalog: Catalog) -> Mapping[str, Collection[str]]:
    return {
        "Action": catalog.declared_actions,
        "Feature": catalog.features,
        "Meter": catalog.meters,
        "Plan": catalog.plans,
        "Role": catalog.roles,
    }


def _union(names: Collection[str]) -> str:
    return "".join(f"\n  | {json.dumps(name)}" for name in names) or " never"


def _literal(names: Collection[str]) -> str:
    listed = "".join(f"    {json.dumps(name)},\n" for name in names)
    return f"Literal[\n{listed}]" if listed else "Never"
