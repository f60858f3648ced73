"""What `renamed_from` says must have one meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.node import node_at
from sidecar.catalog.read import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.read import Fields
    from sidecar.catalog.shape import Walk

_OWNER = "owner"  # the database goes by this name


def check_renames(sections: Mapping[str, Fields], walk: Walk) -> None:
    """*sections* are those of roles, features, meters, plans and actions."""
    for section, items in sections.items():
        kind = section.removesuffix("s")
        claimed: dict[str, str] = {}
        for name, item in items.values.items():
            former = node_at(item, "renamed_from")
            if not isinstance(former, Text):
                continue
            says = f'{kind} "{name}" is renamed from "{former.value}"'
            if former.value in items.values:
                walk.find(
                    "renamed_from_declared",
                    f"{says}, which is declared: leave out one of the two, or renamed_from",
                    former,
                )
            elif former.value in claimed:
                walk.find(
                    "renamed_from_twice",
                    f'{says}, as {kind} "{claimed[former.value]}" is: only one of them has its rows',
                    former,
                )
            elif kind == "role" and _OWNER in {name, former.value}:
                walk.find("renamed_owner", f"{says}: the role {_OWNER} keeps its name", former)
            claimed.setdefault(former.value, name)
