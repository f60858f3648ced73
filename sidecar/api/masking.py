"""Masks of the decision log: what must not stand in a line stands there as a code."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sidecar.audit.masks import mac_of
from sidecar.text.encoding import decoded, encoded, raw_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTEXT, _FIELD = "context", "context."
# What each mask is of: fields of a line, and the id of an entity.
_FIELDS = {
    "user": ("user", "end_user", "who", "subject"),
    "workspace": ("workspace",),
    "resource": ("resource",),
    "request": ("request",),
    "caller": ("caller",),
}
NAMES = (*_FIELDS, CONTEXT)
_USER = "user"


class Masks:
    """*names* are of `NAMES`, or ``context.`` with the name of one field."""

    def __init__(self, names: Iterable[str], *, key: bytes) -> None:
        self._key = key
        self.generation = object()  # another one as soon as codes are others
        self._fields = frozenset(field for name in names for field in _FIELDS.get(name, ()))
        self._context = frozenset(name.removeprefix(_FIELD) for name in names if name.startswith(_FIELD))
        self._all_context = CONTEXT in names

    def replace_key(self, newer: bytes) -> None:
        """From any thread: lines from now on have codes by *newer*."""
        self._key = newer
        self.generation = object()

    def text(self, field: str, value: str | None) -> bytes:
        """*value* of *field* in JSON, masked if it has to be."""
        return encoded(mac_of(self._key, value) if value is not None and field in self._fields else value)

    def document(self, raw: bytes) -> bytes:
        """As the JSON object *raw*, with nothing in it that has to be masked."""
        document: dict[str, Any] = decoded(raw)
        for field in self._fields & document.keys():
            document[field] = self._masked(document[field])
        unverified = document.get("unverified")  # what a refused token says: its sub is a user
        if isinstance(unverified, dict) and _USER in self._fields and "sub" in unverified:
            unverified["sub"] = mac_of(self._key, unverified["sub"])
        situation = document.get("situation")
        if isinstance(situation, dict) and self._mask_context(situation):
            document["situation_sha256"] = sha256(raw_fields(raw)["situation"]).hexdigest()
        return encoded(document)

    def _mask_context(self, situation: dict[str, Any]) -> bool:
        context = situation.get(CONTEXT, {})
        names = [name for name in context if self._all_context or name in self._context]
        for name in names:
            context[name] = mac_of(self._key, context[name])
        return bool(names)

    def _masked(self, value: object) -> object:
        if isinstance(value, dict):  # an entity of AuthZEN
            return value | ({"id": mac_of(self._key, value["id"])} if "id" in value else {})
        return value if value is None else mac_of(self._key, value)
