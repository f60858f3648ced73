"""Promises that always stand, whatever plans.yaml says."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.audit.outcomes import Outcome, nearest_to_sold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sidecar.audit.asked import Asked
    from sidecar.audit.outcomes import Promise
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Situation

RULES_CAN_DENY = "each rule of the company can deny"


def built_in(catalog: Catalog) -> list[Promise]:
    """All but RULES_CAN_DENY, which is not about verdicts."""
    actions = catalog.actions

    def stays_closed(situation: Situation) -> bool:
        action = actions.get(situation.action or "")
        return situation.status == "suspended" and not (action and action.while_suspended)

    def may(asked: Asked) -> bool:
        action = actions.get(asked.situation.action or "")
        return action is not None and asked.situation.role in action.roles

    return [
        _BuiltIn("a stranger is granted nothing and told nothing", _is_nobodys, _tells_nothing),
        _BuiltIn("402 exactly with an upgrade, and never to a role that may not", _any, _sells(may)),
        _BuiltIn("every situation has a verdict", _any, lambda each: each.verdict is not None),
        _BuiltIn(
            "only actions with while_suspended are granted in a suspended workspace",
            stays_closed,
            lambda each: not each.granted,
        ),
    ]


def rules_can_deny(
    rules: Mapping[str, str], denying: Iterable[str], *, unknown: Iterable[str], situations: int
) -> Outcome:
    """*rules* is code → place, *denying* are the codes that deny in some cell.

    *unknown* are codes whose rules look at context, which no cell has: nothing is said of them.
    """
    unknown = frozenset(unknown)
    never = [code for code in rules if code not in {*denying, *unknown}]
    notes = [f'{rules[code]} "{code}" denies in none of {situations:,} situations' for code in never]
    if left_out := [code for code in rules if code in unknown]:
        notes.append(f"not looked at, since they look at context: {', '.join(left_out)}")
    return Outcome(
        title=RULES_CAN_DENY,
        form="builtin",
        found="broken" if never else "holds",
        situations=situations,
        broken=len(never),
        builtin=True,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    title: str
    speaks: Callable[[Situation], bool]
    keeps: Callable[[Asked], bool]

    def speaks_of(self, situation: Situation, /) -> bool:
        return self.speaks(situation)

    def outcome(self, asked: Sequence[Asked], /) -> Outcome:
        spoken = [each for each in asked if self.speaks(each.situation)]
        broken = [each for each in spoken if not self.keeps(each)]
        return Outcome(
            title=self.title,
            form="builtin",
            found="broken" if broken else "holds",
            situations=len(spoken),
            broken=len(broken),
            builtin=True,
            counterexamples=(nearest_to_sold(broken),) if broken else (),
        )


def _any(_: Situation) -> bool:
    return True


def _is_nobodys(situation: Situation) -> bool:
    """A stranger's, or of a role that is not declared: the policy cannot tell one from the other."""
    return situation.role is None


def _tells_nothing(asked: Asked) -> bool:
    verdict = asked.verdict
    if verdict is None:
        return True
    told = (
        verdict.upgrade,
        verdict.needs_roles,
        verdict.needs_feature,
        verdict.detail,
        verdict.waiting_helps,
    )
    return verdict.reason == "not_a_member" and not any(told)


def _sells(may: Callable[[Asked], bool]) -> Callable[[Asked], bool]:
    def keeps(asked: Asked) -> bool:
        verdict = asked.verdict
        if verdict is None:
            return True
        costs = verdict.status == HTTPStatus.PAYMENT_REQUIRED
        return costs == bool(verdict.upgrade) and (not costs or may(asked))

    return keeps
