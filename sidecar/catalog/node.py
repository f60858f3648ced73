"""What stands where in a document: nodes found by the names that lead to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.read import Fields, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.read import Node


def node_at(node: Node | None, *path: str) -> Node | None:
    for name in path:
        if not isinstance(node, Fields) or name not in node.values:
            return None
        node = node.values[name]
    return node


def text_at(node: Node, *path: str) -> str | None:
    found = node_at(node, *path)
    return found.value if isinstance(found, Text) else None


def fields_at(node: Node, *path: str) -> Mapping[str, Node]:
    found = node_at(node, *path)
    return found.values if isinstance(found, Fields) else {}
