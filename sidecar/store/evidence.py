"""What the database knows that a decision log must tell: heads, effects, changes, what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row

from sidecar.store.published import publications

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import LiteralString

    from psycopg import Connection

ANCHORS = "SELECT * FROM authz.anchors(after_writer => %(writer)s, after_number => %(number)s)"
EFFECTS = "SELECT decision_id, at FROM authz.effects(since => %(since)s, until => %(until)s)"
DIGESTS = """\
SELECT id, at, rows, encode(sha256, 'hex') AS sha256,
    rows_now, encode(sha256_now, 'hex') AS sha256_now, pruned
FROM authz.digests(since => %(since)s, until => %(until)s)"""
UNACCOUNTED = "SELECT workspace_id::text, workspace, what, name, recorded, stored FROM authz.unaccounted()"
_AT_A_TIME = 10_000


class Evidence:
    """On a connection of `store.auditing`. A time ends before *until*."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def anchors(self) -> Iterator[dict[str, Any]]:
        """`writer`, `number`, `head`, `at`, `ended`, `removed_at`; by writer and number."""
        writer, number = "", 0
        while page := self._rows(ANCHORS, writer=writer, number=number):
            yield from page
            writer, number = page[-1]["writer"], page[-1]["number"]

    def effects(self, since: datetime, until: datetime) -> Iterator[tuple[str, datetime]]:
        """Decisions, each with when it took or gave back something; in no order."""
        with self._connection.cursor(name="effects") as cursor:
            cursor.itersize = _AT_A_TIME
            cursor.execute(EFFECTS, {"since": since, "until": until})
            yield from cursor

    def digests(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """`id`, `at`, `rows`, `sha256`, `rows_now`, `sha256_now`, `pruned`."""
        return self._rows(DIGESTS, since=since, until=until)

    def unaccounted(self) -> list[dict[str, Any]]:
        """`workspace_id`, `workspace`, `what`, `name`, `recorded`, `stored`."""
        return self._rows(UNACCOUNTED)

    def published(self) -> frozenset[str]:
        """Every revision that was ever published."""
        return frozenset(each.revision for each in publications(self._connection, None, None))

    def _rows(self, query: LiteralString, **values: object) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()
