"""An authorizer that knows every verdict of the shipped catalog, and facts of all kinds to ask it about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.cells import cells
from sidecar.decisions.model import Usage
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.memo import MemoisedEngine
from tests.api.stage import PolicyInPython
from tests.fakes import FactsInMemory
from tests.values import FAR_AWAY, some_facts, the_catalog

CATALOG = the_catalog()
FACTS = FactsInMemory({})


class AlsoARule(PolicyInPython):
    """One rule of the company's own, whose detail would be a place to fill if it was not escaped."""

    def verdict(self, situation, /, *, deadline):
        verdict = super().verdict(situation, deadline=deadline)
        if verdict.allow and b'"data.' in situation:
            return replace(
                verdict,
                allow=False,
                reason="denied_by_policy",
                status=403,
                charges={},
                detail='100%(id)b "%d"',
            )
        return verdict


def an_authorizer():
    memo = MemoisedEngine(AlsoARule(CATALOG), cells=map(situation_bytes, cells(CATALOG)))
    for cell in memo.unknown:
        memo.verdict(cell, deadline=FAR_AWAY)
    return Authorizer(
        catalog=CATALOG,
        context_fields=frozenset({"ip"}),
        policy=memo,
        facts=FACTS,
        recall=memo.recall,
        plainly_by=FACTS.plain_facts,
    )


AUTHORIZER = an_authorizer()


def some_usage(chance):
    """Around every limit there is, and far from it."""
    limits = [limit for plan in CATALOG.plans.values() for limit in plan.limits.values() if limit is not None]
    resets = datetime(2026, 12, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**6))
    return {
        meter: Usage(
            used=max(0, chance.choice(limits) + chance.choice((-2, -1, 0, 1, 10**9))),
            reserved=chance.choice((0, 0, 1, 7)),
            resets_at=chance.choice((None, resets)),
        )
        for meter in CATALOG.meters
    }


def facts_of(chance, role, plan, status, action):
    feature = CATALOG.actions[action].feature
    return replace(
        some_facts(role=role, plan=plan, status=status),
        workspace_id=UUID(int=chance.getrandbits(128)),
        slug=chance.choice(("acme", "100%(id)b", 'qu"ote', "zo\u00eb")),
        feature_overrides=chance.choice(({}, {feature: True}, {feature: False})) if feature else {},
        limit_overrides=chance.choice(({}, {meter: chance.choice((0, 5, None)) for meter in CATALOG.meters})),
        usage=some_usage(chance),
        at=datetime(2026, 11, 28, 7, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**6)),
        lag_ms=chance.choice((None, None, 0, 42)),
    )
