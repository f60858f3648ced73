"""Plain checks: what is asked most, from bytes to bytes, without the values in between.

Nothing is decided or rendered here that `authorize` has not decided and rendered before: its templates are
filled in. Whatever is not a plain question about a cell with templates goes the way of `authorize` itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sidecar.api import wire
from sidecar.api.log_lines import head_of, note_plainly
from sidecar.text.encoding import encoded
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    from sidecar.api.service import Service
    from sidecar.decisions.model import Facts
    from sidecar.identity.callers import Caller


class PlainChecks:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._authorizer = service.authorizer
        self._nothing_taken = frozenset(
            name for name, action in service.authorizer.catalog.actions.items() if not action.takes
        )

    def question_in(self, raw: bytes) -> tuple[str, str, str] | None:
        """User, workspace and action, where *raw* says these alone and the action takes nothing."""
        asked = wire.plain_question_in(raw)
        return asked if asked is not None and asked[2] in self._nothing_taken else None

    def answer(
        self,
        question: tuple[str, str, str],
        facts: Facts | None,
        *,
        caller: Caller | None,
        request_id: str,
        began: float,
    ) -> bytes | None:
        """The body of the answer, with its count and its line in the log; None: ask `authorize`.

        *request_id* is plain text; *began* is on the monotonic clock, when the request was whole.
        """
        cell = self._authorizer.known_cell(question[2], facts)
        if cell is None:
            return None
        native, outcome = cell.texts.get("native"), cell.texts.get("outcome")
        if native is None or outcome is None:
            return None
        is_member = facts is not None and cell.verdict.reason != "not_a_member"
        at = facts.at if facts and is_member else datetime.now(UTC)
        fills = {b"id": fresh_id().encode(), b"at": encoded(at)}
        self._service.metrics.count_verdict(cell.verdict)
        note_plainly(
            self._service,
            head_of(self._service, "decision", request_id, caller, "authorize"),
            question,
            outcome % fills,
            facts=facts if is_member else None,
            allows=cell.verdict.allow,
            began=began,
        )
        return native % fills
