"""Lines for standard output: what is too long for one write gives up its largest values."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sidecar.text.encoding import decoded, encoded, raw_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEPT = {"v", "kind", "at", "decision_id", "situation_sha256"}


def fitted(line: bytes, most: int) -> bytes:
    """*line*, a JSON object without its last brace, in at most *most* bytes.

    The largest values, those of the context first, become their SHA-256 and their size. A situation that has
    lost one says by `situation_sha256` which it was.
    """
    text_of = raw_fields(line + b"}")
    document: dict[str, Any] = decoded(line + b"}")
    unchanged = encoded(document.get("situation"))
    for holder, name in _candidates(document):
        if len(line) <= most:
            break
        text = encoded(holder[name])
        holder[name] = {"sha256": sha256(text).hexdigest(), "bytes": len(text)}
        situation = document.get("situation")
        if isinstance(situation, dict) and encoded(situation) != unchanged:
            document.setdefault("situation_sha256", sha256(text_of["situation"]).hexdigest())
        line = encoded(document)[:-1]
    return line


def _candidates(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the values are that may go, in order."""
    situation = document.get("situation")
    context = situation.get("context") if isinstance(situation, dict) else None
    if isinstance(situation, dict) and isinstance(context, dict):
        yield from _by_size(context)
        yield situation, "context"
    yield from _by_size({name: value for name, value in document.items() if name not in _KEPT}, document)


def _by_size(
    values: dict[str, Any], holder: dict[str, Any] | None = None
) -> Iterator[tuple[dict[str, Any], str]]:
    for name in sorted(values, key=lambda name: len(encoded(values[name])), reverse=True):
        yield values if holder is None else holder, name
