"""Two policies are asked the same questions by names; what they answer otherwise, and what else differs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Literal

from sidecar.audit.joined import JoinedNames
from sidecar.audit.matrix import needs_of
from sidecar.audit.questions import STATUSES, QuestionCell, Situations, outcome_of
from sidecar.catalog.places import Places
from sidecar.rego.heads import Denials, code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.audit.answers import Answers
    from sidecar.audit.joined import Joined, Pair
    from sidecar.audit.questions import Override
    from sidecar.catalog.catalog import Action, Catalog
    from sidecar.decisions.model import Situation, Verdict
    from sidecar.rego.compile import Compiled

Kind = Literal["gained", "lost", "dearer", "cheaper", "reason"]
KINDS: tuple[Kind, ...] = ("gained", "lost", "dearer", "cheaper", "reason")
_OVERRIDES: tuple[tuple[Override, bool | None], ...] = (("none", None), ("on", True), ("off", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two policies. *text* is its plans.yaml, None where only a bundle was kept.

    *plans* and *policies* are what a place begins with: a file and a folder.
    """

    compiled: Compiled
    text: bytes | None
    catalog: str | None
    plans: str
    policies: str

    @property
    def document(self) -> dict[str, object]:
        return {"revision": self.compiled.revision, "catalog": self.catalog}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A question that is answered otherwise. *file* and *line* are of what changed, if it is known."""

    kind: Kind
    cell: QuestionCell
    old: Verdict
    new: Verdict
    old_price: float
    new_price: float
    file: str | None
    line: int | None

    @property
    def place(self) -> str | None:
        return f"{self.file}:{self.line}" if self.file and self.line else None

    @property
    def document(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "action": self.cell.action,
            "role": self.cell.role,
            "plan": self.cell.plan,
            "status": self.cell.status,
            "override": self.cell.override,
            "from": outcome_of(self.old).document | _more(self.old),
            "to": outcome_of(self.new).document | _more(self.new),
            "line": self.line,
            "place": self.place,
        }


class Compared:
    """*old* and *new* with their answers; the questions are asked when they are first needed."""

    def __init__(self, old: Side, new: Side, answers: tuple[Answers, Answers]) -> None:
        self.old, self.new = old, new
        self.names = JoinedNames(old.compiled.catalog, new.compiled.catalog)
        self.questions = 0
        self._answers = answers
        self._situations = tuple(Situations(side.compiled.catalog) for side in (old, new))
        self._denials = Denials(new.compiled.modules)
        self._changed_files = {
            path
            for path, text in new.compiled.modules.items()
            if code_of(text) != code_of(old.compiled.modules.get(path, ""))
        }
        self._places = Places(new.text)

    def changes(self) -> list[Change]:
        """In the order of the catalog: action, plan, role, status, override."""
        asked = list(self._questions())
        self.questions = len(asked)
        for side, answers in enumerate(self._answers):
            answers.learn(question.situations[side] for question in asked)
        found = []
        for question in asked:
            old, new = (self._answers[side].about(question.situations[side]) for side in (0, 1))
            if kind := self.kind_of(old, new):
                file, line = self._place(question, new)
                old_price, new_price = self._prices(old, new)
                found.append(
                    Change(
                        kind=kind,
                        cell=question.cell,
                        old=old,
                        new=new,
                        old_price=old_price,
                        new_price=new_price,
                        file=file,
                        line=line,
                    )
                )
        return found

    def both_about(
        self, action: Pair, role: str, plan: str, status: str, features: Mapping[str, bool]
    ) -> Question:
        """What a member is asked about who has the overrides *features*; names may be of either side."""
        names = self.names
        cells = (
            QuestionCell(
                action=action.old or action.name,
                role=names.roles.old_of(role),
                plan=names.plans.old_of(plan),
                status=status,
            ),
            QuestionCell(
                action=action.new or action.name,
                role=names.roles.new_of(role),
                plan=names.plans.new_of(plan),
                status=status,
            ),
        )
        own = (
            {names.features.old_of(name): on for name, on in features.items()},
            {names.features.new_of(name): on for name, on in features.items()},
        )
        old, new = (self._situations[side].of(cells[side], features=own[side]) for side in (0, 1))
        return Question(cell=cells[1], action=action, situations=(old, new), feature=None, plan=None)

    def learn(self, questions: list[Question]) -> None:
        for side, answers in enumerate(self._answers):
            answers.learn(question.situations[side] for question in questions)

    def kind_about(self, question: Question) -> Kind | None:
        return self.kind_of(*(self._answers[side].about(question.situations[side]) for side in (0, 1)))

    def kind_of(self, old: Verdict, new: Verdict) -> Kind | None:
        if old.allow != new.allow:
            return "gained" if new.allow else "lost"
        old_price, new_price = self._prices(old, new)
        if old.reason == new.reason and old_price != new_price:
            return "dearer" if new_price > old_price else "cheaper"
        said = (old.reason, old.status, old.detail, self._needs_in_new_names(old))
        return "reason" if said != (new.reason, new.status, new.detail, needs_of(new)) else None

    def _prices(self, old: Verdict, new: Verdict) -> tuple[float, float]:
        """Of the cheapest plan that is offered; none is dearest. Two currencies are not compared."""
        before, after = self.old.compiled.catalog, self.new.compiled.catalog
        prices = _price(old, before), _price(new, after)
        currencies = {before.currency, after.currency} - {""}  # a bundle does not say which
        if len(currencies) > 1 and inf not in prices:
            return 0, 0
        return prices

    def _needs_in_new_names(self, verdict: Verdict) -> dict[str, object]:
        needs = needs_of(verdict)
        if verdict.needs_feature is not None:
            return {"feature": self.names.features.new_of(verdict.needs_feature)}
        if verdict.needs_roles:
            return {"roles": [self.names.roles.new_of(role) for role in verdict.needs_roles]}
        return needs

    def _questions(self) -> Iterator[Question]:
        names = self.names
        for action in names.actions.pairs:
            feature = self._feature_of(action)
            overrides = _OVERRIDES if feature else _OVERRIDES[:1]
            for plan, role, status, (override, on) in product(
                names.plans.pairs, names.roles.pairs, STATUSES, overrides
            ):
                features = {} if on is None or feature is None else {feature.name: on}
                both = self.both_about(action, role.name, plan.name, status, features)
                cell = QuestionCell(
                    action=action.name, role=role.name, plan=plan.name, status=status, override=override
                )
                yield Question(
                    cell=cell, action=action, situations=both.situations, feature=feature, plan=plan
                )

    def _feature_of(self, action: Pair) -> Pair | None:
        """The one whose overrides there are today: what the old policy needs, else what the new one does."""
        needed = self._action(0, action)
        name = needed.feature if needed else None
        if name is not None:
            return next(pair for pair in self.names.features.pairs if pair.old == name)
        needed = self._action(1, action)
        name = needed.feature if needed else None
        return next((pair for pair in self.names.features.pairs if name and pair.new == name), None)

    def _action(self, side: int, action: Pair) -> Action | None:
        name = (action.old, action.new)[side]
        return None if name is None else self._catalog(side).actions.get(name)

    def _catalog(self, side: int) -> Catalog:
        return (self.old, self.new)[side].compiled.catalog

    def _place(self, question: Question, new: Verdict) -> tuple[str | None, int | None]:
        """Where the new side says what it did not say before."""
        rule = self._denials.of(new.reason, new.detail)
        path, _, line = (rule or "").partition(":")
        if path in self._changed_files:
            return f"{self.new.policies}/{path}" if self.new.policies else path, int(line)
        found = self._plans_line(question)
        return (self.new.plans, found) if found else (None, None)

    def _plans_line(self, question: Question) -> int | None:
        action, plan, names = question.action, question.plan, self.names
        before, after = self._action(0, action), self._action(1, action)
        if action.new is None or after is None:
            return None
        if before is None or _without_names(before, names) != _without_names(after, None):
            return self._places.action(action.new)
        if plan is None or plan.new is None:
            return None
        had = self._has(0, plan.old, before.feature)
        if after.feature and had != self._has(1, plan.new, after.feature):
            return self._places.features_of(plan.new, after.feature)
        return self._places.plan(plan.new) if plan.old is None else None

    def _has(self, side: int, plan: str | None, feature: str | None) -> bool:
        catalog = self._catalog(side)
        return plan is not None and plan in catalog.plans and feature in catalog.plans[plan].features


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """*situations* are the old side's and the new side's."""

    cell: QuestionCell
    action: Pair
    situations: tuple[Situation, Situation]
    feature: Pair | None
    plan: Pair | None


def _without_names(action: Action, names: JoinedNames | None) -> tuple[object, ...]:
    """What a right is made of; with *names*, in the names of the new catalog."""

    def new_of(kind: str, name: str) -> str:
        joined: Joined | None = getattr(names, kind, None)
        return joined.new_of(name) if joined else name

    roles = {new_of("roles", role) for role in action.roles}
    takes = {new_of("meters", meter): amount for meter, amount in action.takes.items()}
    feature = action.feature and new_of("features", action.feature)
    return roles, takes, feature, action.while_suspended


def _price(verdict: Verdict, catalog: Catalog) -> float:
    return min((catalog.plans[plan].price.amount for plan in verdict.upgrade), default=inf)


def _more(verdict: Verdict) -> dict[str, object]:
    return {"detail": verdict.detail, "needs": needs_of(verdict)}
