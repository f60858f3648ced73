"""An explanation: facts, situation, each rule, verdict, and the smallest changes that would help."""

from __future__ import annotations

from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.audit.answers import Answers, ManyAnswered
from sidecar.audit.borne_out import facts_told, figure_text
from sidecar.audit.explain import Explaining, is_same, verdict_document
from sidecar.audit.helping import smallest
from sidecar.catalog.places import Places
from sidecar.decisions.situation import input_document, situation_bytes
from sidecar.engines.verdict import ENTRYPOINT
from sidecar.rego.heads import Denials

if TYPE_CHECKING:
    from sidecar.reports.explained import Explained
    from sidecar.reports.ruling import Ruling

DENIALS = "data.authz.denials"
RULES = (ENTRYPOINT, DENIALS)  # what an engine is asked here
_WITHIN_S = 60.0


@lru_cache(maxsize=4)
def _places_in(text: bytes | None) -> Places:
    """Reading a catalog takes longer than all else: the console explains by the same one again and again."""
    return Places(text)


class Engine(ManyAnswered, Protocol):
    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object: ...


def explanation(
    explained: Explained, ruling: Ruling, line: dict[str, Any] | None, *, by: Engine
) -> dict[str, Any]:
    """As its JSON, with `words` of each fact. *by* was made for RULES; *line* is of the log, if any is."""
    asked, catalog = explained.asked, ruling.compiled.catalog
    denials = Denials(ruling.compiled.modules)
    answers = Answers(by)
    situation = asked.situation
    verdict = answers.about(situation)
    denying = by.document(DENIALS, situation_bytes(situation), deadline=monotonic() + _WITHIN_S)
    helps = smallest(asked, catalog, answers)
    facts = facts_told(
        asked,
        user=explained.user,
        called=explained.called,
        workspace=explained.workspace,
        member=explained.member,
        events=explained.events,
        figures=explained.figures,
    )
    explaining = Explaining(
        asked=asked,
        catalog=catalog,
        denials=denials,
        places=_places_in(ruling.text),
        folder=ruling.policies_folder,
        plans_file=ruling.plans_file,
        figures=[figure_text(meter, of) for meter, of in explained.figures.items()],
    )
    return {
        "verdict": verdict_document(verdict),
        "facts": [fact.document for fact in facts],
        "situation": input_document(situation),
        "rules": [rule.document for rule in explaining.rules(set(_codes(denying)), verdict)],
        "would_help": [helping.document for helping in helps],
        "same": None if line is None else is_same(verdict, line),
        "words": [fact.words for fact in facts],
    }


def _codes(denying: object) -> list[str]:
    """A set is a list in JSON."""
    return [code for code in denying if isinstance(code, str)] if isinstance(denying, list) else []
