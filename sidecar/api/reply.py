"""A reply: its status, its header fields and its body."""

from __future__ import annotations

from sidecar.text.encoding import encoded

JSON = ("Content-Type", "application/json")

Reply = tuple[int, list[tuple[str, str]], bytes]


def json_reply(document: object, status: int = 200) -> Reply:
    return status, [JSON], encoded(document)


def text_reply(text: bytes) -> Reply:
    """200 with *text*, which is JSON already."""
    return 200, [JSON], text
