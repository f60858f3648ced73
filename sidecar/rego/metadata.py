"""What the metadata in policies say of packages and rules, in the order of the files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.catalog.read import Fields, Items, Text, document_in, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.finding import Finding
    from sidecar.catalog.read import Node

_BLOCK = re.compile(r"^# METADATA[ \t]*\r?\n((?:#.*\n)*)", flags=re.MULTILINE)
_STATEMENT = re.compile(r"(?:\s|#[^\n]*\n)*([^\n]*)")
_HEAD = re.compile(r'(?:"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`{])*?(?=\s+(?:if|:=)\b|\s*:=|\s*\{|\s*#|$)')
_OWN = ("title", "description")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """*root* is what it says, None where that cannot be read; *end* is behind it, an offset into the text."""

    end: int
    text: str
    root: Node | None
    findings: list[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """*of* is the head of the rule, or the package; *place* its PATH:LINE.

    *others* are the fields beside title and description, each with its value in one line. Of a block that
    cannot be read, the description is its text.
    """

    of: str
    place: str
    title: str
    description: str
    others: tuple[tuple[str, str], ...]


def blocks_in(text: str, *, source: str) -> Iterator[Block]:
    for block in _BLOCK.finditer(text):
        above = "\n" * text.count("\n", 0, block.start(1))  # so that positions are the policy's
        said = re.sub(r"^#", " ", block[1], flags=re.MULTILINE)
        document = document_in((above + said).encode(), source=source)
        yield Block(end=block.end(), text=said, root=document.root, findings=list(document.findings))


def annotations_in(modules: Mapping[str, str]) -> list[Annotation]:
    return [
        _annotation(path, text, block)
        for path, text in sorted(modules.items())
        for block in blocks_in(text, source=path)
    ]


def _annotation(path: str, text: str, block: Block) -> Annotation:
    statement = _STATEMENT.match(text, block.end)
    at, line = (statement.start(1), statement[1]) if statement else (block.end, "")
    head = _HEAD.match(line)
    values: Mapping[str, Node] = block.root.values if isinstance(block.root, Fields) else {}
    title, description = (
        node.value.strip() if isinstance(node := values.get(name), Text) else "" for name in _OWN
    )
    return Annotation(
        of=(head[0] if head else line).strip(),
        place=f"{path}:{text.count(chr(10), 0, at) + 1}",
        title=title,
        description=description if values else "\n".join(each.strip() for each in block.text.splitlines()),
        others=tuple((name, _in_a_line(node)) for name, node in values.items() if name not in _OWN),
    )


def _in_a_line(node: Node) -> str:
    match node:
        case Fields(values=values):
            return "; ".join(f"{name}: {_in_a_line(each)}" for name, each in values.items())
        case Items(items=items):
            return f"[{', '.join(map(_in_a_line, items))}]"
        case _:
            value = plain(node)
            return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
