"""Plain checks: what is asked most, from bytes to bytes, without the values in between.

Nothing is decided or rendered here that `authorize` has not decided and rendered before: its templates are
filled in. Whatever is not a plain question about a cell with templates goes the way of `authorize` itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.api import wire
from sidecar.api.log_lines import asked_of, head_of, took_of, whole
from sidecar.decisions.timings import Timings
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
        user, workspace, action = question
        cell = self._authorizer.known_cell(action, facts)
        if cell is None:
            return None
        native, outcome = cell.texts.get("native"), cell.texts.get("outcome")
        if native is None or outcome is None:
            return None
        is_member = facts is not None and cell.verdict.reason != "not_a_member"
        at = facts.at if facts and is_member else datetime.now(UTC)
        fills = {b"id": fresh_id().encode(), b"at": encoded(at)}
        self._service.metrics.count_verdict(cell.verdict)
        head = head_of(request_id, caller, "authorize") + asked_of(user, workspace, action)
        took_s = monotonic() - began
        self._service.log.note(whole(head, outcome % fills, took_of(Timings(facts_s=took_s), took_s)))
        return native % fills
