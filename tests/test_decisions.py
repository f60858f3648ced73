"""The decision table: stories in tests/decisions, each through the core and a real OPA."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from sidecar.authorizer import Authorizer
from sidecar.catalog.compile import bundle
from sidecar.catalog.load import compiled_at
from sidecar.engines.opa import OpaEngine
from sidecar.settings import shipped
from tests.fakes import NoLedger
from tests.servers import opa_server
from tests.values import a_question, some_facts

STORIES = [
    pytest.param(story, id=story["story"])
    for file in sorted((Path(__file__).parent / "decisions").glob("*.yaml"))
    for story in yaml.safe_load(file.read_text())
]


class OneAnswer:
    """A store that knows one membership, whoever is asked about."""

    def __init__(self, facts):
        self._facts = facts

    def facts(self, members, /, *, deadline):
        return [self._facts] * len(members)

    def workspaces_of(self, user, /, *, after, limit, deadline):
        return []


@pytest.fixture(scope="module")
def compiled():
    return compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="module")
def policy(compiled):
    with opa_server(bundle(compiled)) as url:
        yield OpaEngine(url, revision=compiled.revision)


@pytest.mark.opa
@pytest.mark.parametrize("story", STORIES)
def test_story(story, compiled, policy):
    facts = story["facts"] and some_facts(**story["facts"])
    authorizer = Authorizer(
        catalog=compiled.catalog,
        context_fields=frozenset(),
        policy=policy,
        facts=OneAnswer(facts),
        ledger=NoLedger(),
    )

    decision = authorizer.decision(a_question(**story["question"]), deadline=time.monotonic() + 10)

    want = story["want"]
    needs = {"roles": list(decision.verdict.needs_roles), "feature": decision.verdict.needs_feature}
    actual = {
        "allow": decision.allowed,
        "status": decision.verdict.status,
        "reason": decision.verdict.reason,
        "upgrade": [upgrade.plan for upgrade in decision.upgrade],
        "needs": {kind: value for kind, value in needs.items() if value},
        "role": decision.role,
        "plan": decision.plan,
        "waits": decision.retry_after_s is not None,
    }
    assert actual == {
        "upgrade": [],
        "needs": {},
        "role": (story["facts"] or {}).get("role"),
        "plan": (story["facts"] or {}).get("plan"),
        "waits": want["status"] == 429,
        **want,
    }
    if "message" in story:
        assert decision.message == story["message"]
