"""What each role may do on each plan, as sold, and what a suspension, an override or a full quota changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sidecar.audit.questions import Situations, outcome_of, question_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sidecar.audit.answers import Answers
    from sidecar.audit.questions import QuestionCell
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Json, Verdict
    from sidecar.rego.compile import Compiled

NOBODY = "\N{EN DASH}"
COLUMNS = (
    "action",
    "title",
    "role",
    "plan",
    "allow",
    "http_status",
    "reason",
    "detail",
    "needs",
    "upgrade",
    "takes",
    "limits",
    "when_full",
    "with_feature_on",
    "with_feature_off",
    "suspended",
    "rule",
    "plans_line",
    "cases",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A cell as sold. *when_full* is None where nothing is taken, *on* and *off* where no feature is needed.

    *rule* is FILE:LINE of what denies, None if nothing does; *cases* is FILE:LINE of those that assert it.
    """

    cell: QuestionCell
    title: str
    verdict: Verdict
    takes: Mapping[str, int]
    limits: Mapping[str, int | None]
    when_full: Verdict | None
    on: Verdict | None
    off: Verdict | None
    suspended: Verdict
    rule: str | None
    plans_line: int | None
    cases: tuple[str, ...]

    @property
    def document(self) -> dict[str, object]:
        document = {
            "action": self.cell.action,
            "title": self.title,
            "role": self.cell.role,
            "plan": self.cell.plan,
            **outcome_of(self.verdict).document,
            "detail": self.verdict.detail,
            "needs": needs_of(self.verdict),
            "takes": dict(self.takes),
            "limits": dict(self.limits),
            "when_full": _document_of(self.when_full),
            "with_feature_on": _document_of(self.on),
            "with_feature_off": _document_of(self.off),
            "suspended": _document_of(self.suspended),
            "rule": self.rule,
            "plans_line": self.plans_line,
            "cases": list(self.cases),
        }
        return {name: document[name] for name in COLUMNS}


def matrix_of(
    compiled: Compiled,
    answers: Answers,
    *,
    rule_of: Callable[[QuestionCell, Verdict], str | None],
    plans_line_of: Callable[[str], int | None],
    cases: Mapping[QuestionCell, Sequence[str]],
    context: Mapping[str, Json],
) -> list[Row]:
    """In the order of the catalog: action, plan, role."""
    catalog = compiled.catalog
    situations = Situations(catalog, context_fields=compiled.context_fields)
    of = {cell: situations.of(cell, context=context) for cell in question_cells(catalog)}
    sold = [cell for cell in of if cell.as_sold]
    full = {cell: situations.when_full(cell, context=context) for cell in sold}
    answers.learn([*of.values(), *(situation for situation in full.values() if situation)])

    def row(cell: QuestionCell) -> Row:
        action, plan = catalog.actions[cell.action], catalog.plans[cell.plan]
        verdict, when_full = answers.about(of[cell]), full[cell]
        return Row(
            cell=cell,
            title=action.title,
            verdict=verdict,
            takes=action.takes,
            limits={meter: plan.limits[meter] for meter in action.takes},
            when_full=answers.about(when_full) if when_full else None,
            on=answers.about(of[replace(cell, override="on")]) if action.feature else None,
            off=answers.about(of[replace(cell, override="off")]) if action.feature else None,
            suspended=answers.about(of[replace(cell, status="suspended")]),
            rule=None if verdict.allow else rule_of(cell, verdict),
            plans_line=plans_line_of(cell.action),
            cases=tuple(cases.get(cell, ())),
        )

    return [row(cell) for cell in sold]


def needs_of(verdict: Verdict) -> dict[str, object]:
    """As an answer says it."""
    if verdict.needs_feature is not None:
        return {"feature": verdict.needs_feature}
    return {"roles": list(verdict.needs_roles)} if verdict.needs_roles else {}


def roles_in_words(roles: Sequence[str], catalog: Catalog) -> str:
    """`admin+` for a role and all above it, where the roles are a ladder; else their names."""
    names = [name for name in catalog.roles if name in roles]
    if len(names) > 1 and _is_ladder(catalog) and names == list(catalog.roles)[-len(names) :]:
        return f"{names[0]}+"
    return ", ".join(names)


def by_plan(texts: Mapping[str, str]) -> str:
    """One text of all plans, or each with its plans in front."""
    plans: dict[str, list[str]] = {}
    for plan, text in texts.items():
        plans.setdefault(text, []).append(plan)
    if len(plans) == 1:
        return next(iter(plans))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in plans.items())


def rows_by_action(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """By action, then by plan: a row for each role."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row.cell.action, {}).setdefault(row.cell.plan, []).append(row)
    return found


def in_words(rows: Sequence[Row], catalog: Catalog, of: Callable[[Row], Verdict | None]) -> str:
    """Who of the roles may: `member+ (100 minutes)`, `402 → pro` where a plan would help, else NOBODY."""
    verdicts = {row.cell.role: verdict for row in rows if (verdict := of(row)) is not None}
    granted = [role for role, verdict in verdicts.items() if verdict.allow]
    offered: dict[str, list[str]] = {}
    for role, verdict in verdicts.items():
        for offer in _offers(verdict):
            offered.setdefault(offer, []).append(role)
    if not granted:
        return " · ".join(offered) or NOBODY
    limits = ", ".join(limit_in_words(meter, limit) for meter, limit in rows[0].limits.items())
    may = roles_in_words(granted, catalog) + (f" ({limits})" if limits else "")
    return " · ".join(
        [may, *(f"{roles_in_words(roles, catalog)} {offer}" for offer, roles in offered.items())]
    )


def limit_in_words(meter: str, limit: int | None) -> str:
    return f"unlimited {meter}" if limit is None else f"{limit} {meter}"


def _offers(verdict: Verdict) -> Iterator[str]:
    if verdict.upgrade:
        yield f"402 → {verdict.upgrade[0]}"
    elif verdict.waiting_helps:
        yield "429"


def _is_ladder(catalog: Catalog) -> bool:
    names = list(catalog.roles)
    return all(catalog.roles[name].includes >= set(names[:at]) for at, name in enumerate(names))


def _document_of(verdict: Verdict | None) -> dict[str, object] | None:
    return None if verdict is None else outcome_of(verdict).document
