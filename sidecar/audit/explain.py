"""Why a question was answered as it was: the facts, each rule with its place, and what would help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.audit.matrix import needs_of
from sidecar.audit.questions import outcome_of
from sidecar.decisions.reasons import GRANTED, REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sidecar.audit.helping import Asked
    from sidecar.catalog.catalog import Catalog
    from sidecar.catalog.places import Places
    from sidecar.decisions.model import Verdict
    from sidecar.rego.heads import Denials


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTold:
    """*in_history* is None where no history was asked, or it does not tell of such facts."""

    what: str
    value: object
    words: str
    since: str | None = None
    by: Mapping[str, str | None] | None = None
    event: int | None = None
    in_history: bool | None = None

    @property
    def document(self) -> dict[str, object]:
        return {
            "what": self.what,
            "value": self.value,
            "since": self.since,
            "by": None if self.by is None else dict(self.by),
            "event": self.event,
            "in_history": self.in_history,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTold:
    """A reason to deny, whether it does so here, and the lines that say so."""

    code: str
    denies: bool
    why: str
    places: Sequence[str]

    @property
    def document(self) -> dict[str, object]:
        return {"code": self.code, "denies": self.denies, "why": self.why, "places": list(self.places)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explaining:
    """What rules are explained by. *folder* and *plans_file* stand before their places.

    *figures* are the words about each meter that is taken.
    """

    asked: Asked
    catalog: Catalog
    denials: Denials
    places: Places
    folder: str
    plans_file: str
    figures: Sequence[str]

    def rules(self, denying: Collection[str], verdict: Verdict) -> list[RuleTold]:
        """Every reason to deny, in the order of precedence; *denying* are those that hold."""
        return [
            RuleTold(
                code=code,
                denies=code in denying,
                why=self._why(code, verdict, denies=code in denying),
                places=self._places(code, verdict),
            )
            for code in (*(code for code in REASONS if code != GRANTED), *sorted(set(denying) - set(REASONS)))
        ]

    def _why(self, code: str, verdict: Verdict, *, denies: bool) -> str:
        why: Mapping[str, Callable[[], str]] = {
            "not_a_member": self._membership,
            "unknown_action": lambda: "it is declared" if self.asked.action else "it is not declared",
            "workspace_suspended": self._status,
            "role_insufficient": self._roles,
            "feature_not_in_plan": self._feature,
            "quota_exceeded": lambda: self._quota(denies=denies),
            "denied_by_policy": lambda: self._company(verdict, denies=denies),
        }
        return why[code]() if code in why else "a rule of your own in authz"

    def _membership(self) -> str:
        if not self.asked.is_member:
            return "they are no member"
        return f"{self.asked.role} is declared" if self.asked.role else "their role is not declared"

    def _status(self) -> str:
        if self.asked.status is None:
            return "there is no workspace"
        if not self.asked.is_member:
            return f"{self.asked.status}, which a stranger's question does not tell"
        allowed = self.asked.action is not None and self.asked.action.while_suspended
        is_open = self.asked.status != "active" and allowed
        return f"{self.asked.status}, and it is allowed while_suspended" if is_open else self.asked.status

    def _roles(self) -> str:
        return (
            f"{', '.join(self.asked.action.roles)} may" if self.asked.action else "the action is not declared"
        )

    def _feature(self) -> str:
        feature = self.asked.action.feature if self.asked.action else None
        if feature is None:
            return "needs no feature" if self.asked.action else "the action is not declared"
        if feature in self.asked.features:
            return f"an override has switched {feature} {'on' if self.asked.features[feature] else 'off'}"
        plan = self.catalog.plans.get(self.asked.plan or "")
        if plan is None:
            return "the plan is not declared"
        return f"{plan.name} {'has' if feature in plan.features else 'has not'} {feature}"

    def _quota(self, *, denies: bool) -> str:
        if self.asked.action is None:
            return "the action is not declared"
        if not self.asked.action.takes:
            return "takes nothing"
        return "; ".join(self.figures) or ("there is no room" if denies else "there is room")

    def _company(self, verdict: Verdict, *, denies: bool) -> str:
        count = len(self.denials.of_company)
        rules = "1 rule" if count == 1 else f"{count} rules"
        if denies:
            return f"of {rules} {verdict.detail or 'at least one'} denies"
        return f"of {rules} none denies" if count else "there is no rule of your own"

    def _places(self, code: str, verdict: Verdict) -> list[str]:
        found = []
        if code == "denied_by_policy":
            place = self.denials.of(code, verdict.detail) if verdict.detail else None
            found = [place] if place else list(self.denials.of_company)
        if not found and (place := self.denials.of(code, None)):
            found = [place]
        places = [f"{self.folder}{place}" for place in found]
        if code in {"role_insufficient", "feature_not_in_plan", "quota_exceeded"} and self.asked.action:
            line = self.places.action(self.asked.action.name)
            places += [f"{self.plans_file}:{line}"] if line else []
        return places


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    return {**outcome_of(verdict).document, "detail": verdict.detail, "needs": needs_of(verdict)}


def is_same(verdict: Verdict, line: Mapping[str, Any]) -> bool:
    """Whether *verdict* is that of *line*, in every field that the line has."""
    again = {
        "allow": verdict.allow,
        "reason": verdict.reason,
        "status": verdict.status,
        "detail": verdict.detail,
        "charges": dict(verdict.charges),
        "upgrade": list(verdict.upgrade),
        "needs": needs_of(verdict),
        "policy_revision": verdict.revision,
    }
    return all(line[name] == value for name, value in again.items() if name in line)
