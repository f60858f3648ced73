"""Many questions of one request: the plain ones of them are answered together, from templates.

Nothing is decided or rendered here that was not decided and rendered in the usual way before. What is not
plain, or is about a cell without templates, goes that way: with one read of facts more.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from sidecar.api.log_lines import LinesOfOne, facts_of
from sidecar.api.rendered import fills_of, name_of
from sidecar.decisions.authorizer import AT_ONCE
from sidecar.decisions.model import Verdict
from sidecar.decisions.steps import Pause
from sidecar.text.encoding import encoded
from sidecar.text.ids import fresh_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.ports import PlainFacts, PlainFound
    from sidecar.decisions.steps import Steps

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Plain = tuple[str, str, str]  # user, workspace and action of a question that says nothing else
Told = tuple[bytes, bytes | None, Verdict]  # an answer, its line in the log unless that is left out, and why


class Many:
    """The questions of one *request*, by an *endpoint* of this name.

    *form* is the one of the answers, a function's name in `rendered`.
    """

    def __init__(
        self, service: Service, request: Request, *, endpoint: str, form: str, deadline: float
    ) -> None:
        self._service = service
        self._request = request
        self._endpoint = endpoint
        self._form = form
        self._deadline = deadline

    def answering(
        self,
        items: Sequence[Item],
        plain: Sequence[Plain | None],
        *,
        deciding: Callable[[Sequence[Item]], Steps[Sequence[Answer]]],
        text_of: Callable[[int, Item, Answer], tuple[bytes, bool]],
        ends_with: bool | None = None,
    ) -> Steps[list[bytes]]:
        """The answers to *items*, each counted and noted, in order.

        *plain* has those that are plain in their places, None in the others'. *deciding* answers what is left
        of *items*, at least up to the first that ends it; *text_of* renders, counts and notes one of these,
        by its place, and tells whether it is allowed. *ends_with*: the first answer that is so is the last.
        """
        told = yield from self._answering_plainly(plain)
        if ends_with is not None:
            ends = (place for place, each in enumerate(told) if each and each[2].allow == ends_with)
            told = told[: next(ends, len(told)) + 1]
        left = [item for item, each in zip(items, told, strict=False) if each is None]
        if not left:  # as mostly
            return self._noted(told)
        answers = iter((yield from deciding(left)))
        texts: list[bytes] = []
        for place, (item, each) in enumerate(zip(items, told, strict=False)):
            if place % AT_ONCE == AT_ONCE - 1:
                yield Pause()
            if each is not None:
                texts += self._noted([each])
                continue
            text, allows = text_of(place, item, next(answers))
            texts.append(text)
            if allows == ends_with:
                break
        return texts

    def _answering_plainly(self, asked: Sequence[Plain | None]) -> Steps[list[Told | None]]:
        """Nothing of it is counted or noted yet. None: it has to be decided in the usual way."""
        request, authorizer = self._request, self._service.authorizer
        are_many = len(asked) > AT_ONCE  # then others have their turn after each step
        if are_many:
            yield Pause()
        takes_nothing = authorizer.takes_nothing
        asked = [each if each is not None and each[2] in takes_nothing else None for each in asked]
        members = dict.fromkeys([each[:2] for each in asked if each is not None])
        found = None
        if members:
            found = yield from authorizer.reading_plainly(
                [*members], deadline=self._deadline, timings=request.timings
            )
        if found is None:
            return [None] * len(asked)
        facts = dict(zip(members, found, strict=True))
        told: list[Told | None] = []
        for start in range(0, len(asked), AT_ONCE):
            told += self._told(asked[start : start + AT_ONCE], facts)
            if are_many:
                yield Pause()
        return told

    def _told(
        self, asked: Sequence[Plain | None], found: Mapping[tuple[str, str], PlainFound]
    ) -> list[Told | None]:
        service, form = self._service, self._form
        kept_cell, skips_grants = service.authorizer.kept_cell, service.skips_grants
        now = encoded(datetime.now(UTC))
        line_of = LinesOfOne.of(service, self._request, self._endpoint, at=now).line
        before: PlainFound = None
        row: PlainFacts | None = None
        fills, said, name, outcome_name = fills_of(now, None), facts_of(None), form, "outcome"
        told: list[Told | None] = []
        for question, id_ in zip(asked, fresh_ids(len(asked)), strict=True):
            if question is None:
                told.append(None)
                continue
            user, workspace, action = question
            facts = found[user, workspace]
            if facts is not before:  # else what varies is that of the question before
                before = facts
                row, moment = facts or (None, None)
                fills = fills_of(now if moment is None else encoded(moment.astimezone(UTC)), row)
                said, name, outcome_name = facts_of(row), name_of(form, row), name_of("outcome", row)
            cell = kept_cell(action, row)
            if (
                cell is None
                or cell.member(row) is not row
                or (text := cell.texts.get(name)) is None
                or (outcome := cell.texts.get(outcome_name)) is None
            ):
                told.append(None)
                continue
            verdict, line = cell.verdict, None
            fills[b"id"] = id_
            if not (verdict.allow and skips_grants):
                line = line_of(question, said, outcome % fills)
            told.append((text % fills, line, verdict))
        return told

    def _noted(self, told: Sequence[Told | None]) -> list[bytes]:
        """The texts of what was *told*, each counted and noted."""
        if not told:
            return []
        service = self._service
        texts, lines, verdicts = zip(*filter(None, told), strict=True)
        service.metrics.count_known_verdicts(verdicts)
        written = [line for line in lines if line is not None]
        for _ in range(len(lines) - len(written)):
            service.log.skip()
        if written:
            self._request.is_noted = True
            service.log.note_all(written)
        return [*texts]
