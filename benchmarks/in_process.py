"""How many decisions one thread makes in a second when facts cost nothing: the price of our own code."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.cells import cells
from sidecar.decisions.model import Question
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.memo import MemoisedEngine
from tests.values import some_facts

if TYPE_CHECKING:
    from sidecar.rego.compile import Compiled

SECONDS = 3


class _InMemory:
    def __init__(self) -> None:
        self._facts = some_facts(plan="pro")

    def facts(self, members, meters=None, /, *, deadline):
        return [self._facts] * len(members)

    def workspaces_of(self, user, /, *, after, limit, deadline):
        return []


def decisions_in_process(compiled: Compiled) -> float:
    engine = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    policy = MemoisedEngine(engine, cells=map(situation_bytes, cells(compiled.catalog)))
    policy.know(engine.verdicts(policy.unknown, deadline=time.monotonic() + 60))
    authorizer = Authorizer(
        catalog=compiled.catalog,
        context_fields=compiled.context_fields,
        policy=policy,
        facts=_InMemory(),
    )
    actions = [*compiled.catalog.declared_actions]
    made, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        for action in actions:
            authorizer.decide(Question(user="u", workspace="w", action=action), deadline=float("inf"))
        made += len(actions)
    return made / (time.perf_counter() - began)
