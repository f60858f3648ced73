"""Heads of decision logs in PostgreSQL, and the marks of the history that logs hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.store.connections import Query

if TYPE_CHECKING:
    from sidecar.store.asked import Done
    from sidecar.store.connections import Connections

ANCHOR = Query(name=b"anchor_log", sql=b"SELECT authz.anchor_log($1, $2, $3, $4)::text")
SEAL_HISTORY = Query(name=b"seal_history", sql=b"SELECT authz.seal_history($1)::text")


class LogAnchors:
    """On *connections*, which are another's."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def ask_anchor(
        self, writer: str, number: int, head: bytes, /, *, ended: bool, deadline: float, done: Done
    ) -> None:
        params = writer.encode(), b"%d" % number, b"\\x%b" % head.hex().encode(), b"t" if ended else b"f"
        self._connections.ask(ANCHOR, params, deadline=deadline, done=done)

    def ask_seal_history(self, writer: str, /, *, deadline: float, done: Done) -> None:
        self._connections.ask(SEAL_HISTORY, (writer.encode(),), deadline=deadline, done=done)
