"""When a denial for want of room ends: by the facts, or by one more read where they do not suffice.

Allowed answers never wait for it. docs/decisions/0042 says why.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.decisions.model import ToCome
from sidecar.decisions.steps import Wait
from sidecar.decisions.waiting import is_exact, seconds_until_more, seconds_until_room
from sidecar.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision, Quota
    from sidecar.decisions.ports import FactStore
    from sidecar.decisions.steps import Steps


class Foresight:
    def __init__(self, catalog: Catalog, facts: FactStore) -> None:
        self._catalog = catalog
        self._facts = facts

    def completing_all(
        self, decided: Sequence[tuple[Decision, Mapping[str, int]]], *, deadline: float
    ) -> Steps[list[Decision]]:
        """Each decision about its amounts, with the exact time to wait if it is a denial for want of room.

        In order and with one read for all; what they wait for is in their own timings. If the read fails, or
        takes half of the time that is left, they stay as they are: they were made from facts, and are no less
        true. One that says that waiting helps and has no time to wait is to be decided again, since an
        override ends before.
        """
        meters: dict[UUID, dict[str, None]] = {}
        for decision, amounts in decided:
            if decision.workspace_id is not None and not self._is_complete(decision, amounts):
                meters.setdefault(decision.workspace_id, {}).update(dict.fromkeys(amounts))
        decisions = [decision for decision, _ in decided]
        if not meters:
            return decisions

        began = monotonic()
        try:
            found: Mapping[UUID, Mapping[str, ToCome]] = yield Wait(
                self._facts.to_come,
                {workspace: tuple(wanted) for workspace, wanted in meters.items()},
                deadline=began + (deadline - began) / 2,
            )
        except DependencyError:
            found = {}
        took_s = monotonic() - began
        for place, (decision, amounts) in enumerate(decided):
            if decision.workspace_id in meters and not self._is_complete(decision, amounts):
                decision.timings.facts_s += took_s
                to_come = found.get(decision.workspace_id, {})
                if amounts.keys() <= to_come.keys():
                    decisions[place] = self._complete(decision, amounts, to_come)
        return decisions

    def _is_complete(self, decision: Decision, amounts: Mapping[str, int]) -> bool:
        if decision.verdict.reason != "quota_exceeded" or not decision.quota:
            return True
        limits = self._limits(decision, amounts)
        return all(
            is_exact(
                decision.quota[meter],
                amount,
                plan_limit=limits[meter],
                waits=decision.retry_after_s is not None,
            )
            for meter, amount in amounts.items()
        )

    def _complete(
        self, decision: Decision, amounts: Mapping[str, int], to_come: Mapping[str, ToCome]
    ) -> Decision:
        # What a user owns is of no workspace: no read tells more of it than the facts, nor of its limit.
        owned = self._owned(decision)
        limits = self._limits(decision, amounts) | {meter: quota.limit for meter, quota in owned.items()}
        to_come = {
            **to_come,
            **{meter: ToCome(used=quota.used, resets_in_s=None) for meter, quota in owned.items()},
        }
        wait_s = decision.retry_after_s
        if wait_s is not None:
            wait_s = seconds_until_room(amounts, limits, to_come)
        quotas = {
            meter: _with_end(quota, seconds_until_more(limits[meter], to_come[meter]), decision)
            for meter, quota in (decision.quota or {}).items()
        }
        return replace(decision, retry_after_s=wait_s, quota=quotas)

    def _owned(self, decision: Decision) -> dict[str, Quota]:
        """The quotas of what the user owns."""
        quotas = decision.quota or {}
        return {
            meter: quota for meter, quota in quotas.items() if self._catalog.meters[meter].kind == "owned"
        }

    def _limits(self, decision: Decision, amounts: Mapping[str, int]) -> dict[str, int | None]:
        """Those of the plan and its seats, without overrides; 0 where the plan is not declared."""
        plan = self._catalog.plans.get(decision.plan or "")
        seats = decision.facts.seats if decision.facts else {}
        return {meter: seats.get(meter, plan.limits[meter] if plan else 0) for meter in amounts}


def _with_end(quota: Quota, grows_in_s: int | None, decision: Decision) -> Quota:
    if grows_in_s is None or quota.frees_at is not None or not quota.reserved:
        return quota
    return replace(quota, frees_at=decision.at + timedelta(seconds=grows_in_s))
