"""A proof as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sidecar.audit.asked import has_room, is_stranger
from sidecar.audit.forms import shown, text_table
from sidecar.decisions.situation import input_document, situation_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.audit.asked import Asked
    from sidecar.audit.made import Made
    from sidecar.audit.outcomes import Outcome
    from sidecar.audit.proof import Proof
    from sidecar.decisions.model import Verdict

_INDENT = " " * 8
_MARKS = {"holds": "holds", "broken": "BROKEN", "vacuous": "VACUOUS"}
_CODES = {"holds": None, "broken": "broken_invariant", "vacuous": "vacuous_invariant"}


class Places(Protocol):
    """Where things stand."""

    def of_promise(self, outcome: Outcome) -> str:
        """plans.yaml:69, or what stands for it."""
        ...

    def of_cell(self, asked: Asked) -> list[str]:
        """`plans.yaml:56 the action`, and what else made the verdict."""
        ...


def json_document(
    proof: Proof, made: Made, *, places: Places, verdict_document: Callable[[Verdict], object]
) -> dict[str, object]:
    """*verdict_document* is a verdict as the engine answers it."""
    return {
        "made": made.document,
        "promises": [
            {
                "title": each.title,
                "form": each.form,
                "builtin": each.builtin,
                "verdict": each.found,
                "code": _CODES[each.found],
                "situations": each.situations,
                "broken": each.broken,
                "line": each.line,
                "counterexamples": [
                    {
                        "situation": input_document(cell.situation),
                        "verdict": None if cell.verdict is None else verdict_document(cell.verdict),
                        "steps": cell.steps,
                        "places": places.of_cell(cell),
                    }
                    for cell in each.counterexamples
                ],
                "notes": list(each.notes),
            }
            for each in proof.outcomes
        ],
    }


def text_lines(proof: Proof, *, places: Places) -> list[str]:
    """A line for each promise, and under those that are broken why."""
    rows = [
        (_MARKS[each.found], each.title, _count(each, first=number == 0), places.of_promise(each))
        for number, each in enumerate(proof.outcomes)
    ]
    lines = []
    for row, outcome in zip(text_table(rows), proof.outcomes, strict=True):
        lines += [row, *(f"{_INDENT}{shown(line)}" for line in _under(outcome, places))]
    held = sum(each.found == "holds" for each in proof.outcomes)
    return [*lines, f"{held} of {len(proof.outcomes)} promises hold"]


def _count(outcome: Outcome, *, first: bool) -> str:
    count = f"{outcome.situations:,}{' situations' if first else ''}"
    return f"{outcome.broken:,} of {count}" if outcome.broken and outcome.counterexamples else count


def _under(outcome: Outcome, places: Places) -> Iterator[str]:
    for cell in outcome.counterexamples:
        yield in_words(cell)
        yield situation_bytes(cell.situation).decode()
        if found := places.of_cell(cell):
            yield " · ".join(found)
    yield from outcome.notes
    if outcome.found == "vacuous":
        yield f"it speaks of no situation, so it promises nothing ({_CODES['vacuous']})"


def in_words(cell: Asked) -> str:
    """Member · starter · active · override video_avatar on → granted, with the action before it."""
    situation = cell.situation
    words = [situation.action or "an action that is not declared"]
    if is_stranger(situation):
        words.append("a stranger")
    else:
        words += [situation.role or "undeclared role", situation.plan or "undeclared plan"]
        words.append(situation.status or "")
    words += [f"override {name} {'on' if on else 'off'}" for name, on in situation.feature_overrides.items()]
    if situation.room is not None:
        words.append("room" if has_room(situation) else "no room")
    return f"{' · '.join(words)} → {_answer(cell.verdict)}"


def _answer(verdict: Verdict | None) -> str:
    if verdict is None:
        return "no verdict"
    if verdict.allow:
        return verdict.reason
    says = f"{verdict.status} {verdict.reason}"
    says += f" {verdict.detail}" if verdict.detail else ""
    return f"{says} → {', '.join(verdict.upgrade)}" if verdict.upgrade else says
