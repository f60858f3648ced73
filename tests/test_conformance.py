"""Cases that others wrote: each becomes a plans.yaml and a world, and every check is asked for real.

Nothing is left out: this model can say every check that the files hold. What their notes leave out of the
originals it could not: a grant on one issue to whoever it is assigned to (a resource is known here only as a
text that usage is noted under), a group of users (a membership is a user's own), and the question who
subscribes to a plan (a question is always about an action).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.catalog.check import check_plans
from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.model import Question
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.rego.compile import compiled
from sidecar.rego.load import modules_at
from sidecar.settings import shipped
from tests.values import FAR_AWAY

SCENARIOS = Path(__file__).parent.parent.parent / "shared/conformance/scenarios"
KEEPER = "keeper-of-the-workspace"  # a workspace has one owner, and these scenarios name none

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(
        not SCENARIOS.exists(), reason=f"{SCENARIOS} is not there: the scenarios come with no clone"
    ),
]


def plans_from(scenario: dict[str, Any]) -> dict[str, Any]:
    """A `plans.yaml`; an action needs the feature of its name where some plan has it, and takes its meter."""
    features = {name for plan in scenario["plans"].values() for name in plan.get("features", [])} - {"*"}
    meters = sorted({name for plan in scenario["plans"].values() for name in plan.get("limits", {})})
    named = {action for role in scenario["roles"].values() for action in role.get("actions", [])} - {"*"}

    def actions_of(role: str) -> set[str]:
        own = set(scenario["roles"][role].get("actions", []))
        for other in scenario["roles"][role].get("inherits", []):
            own |= actions_of(other)
        return features | named if "*" in own else own

    actions: dict[str, dict[str, Any]] = {}
    for action in sorted(features | named):
        may = [role for role in scenario["roles"] if action in actions_of(role)]
        actions[action] = {"roles": may}
        if action in features:
            actions[action]["feature"] = action
        if action in meters:
            actions[action]["takes"] = {action: 1}
    return {
        "version": 1,
        "currency": "EUR",
        "default_plan": next(iter(scenario["plans"])),
        "roles": {**{role: {} for role in scenario["roles"]}, "owner": {}},
        "features": {feature: {} for feature in sorted(features)},
        "meters": {meter: {"kind": "counter", "per": "month"} for meter in meters},
        "plans": {
            name: {
                "price": price,
                "features": sorted(features) if "*" in plan["features"] else plan["features"],
                "limits": plan.get("limits", {}),
            }
            for price, (name, plan) in enumerate(scenario["plans"].items())
        },
        "actions": actions,
    }


def world_from(scenario: dict[str, Any]) -> dict[str, Any]:
    users = sorted(
        {member["user"] for member in scenario["members"]} | {check["user"] for check in scenario["checks"]}
    )
    return {
        "users": [{"id": user, "email": f"{user}@example.com"} for user in [KEEPER, *users]],
        "workspaces": [
            {
                "slug": slug_of(name),
                "name": name,
                "plan": workspace["plan"],
                "status": "active",
                "owner": KEEPER,
                "members": {
                    member["user"]: member["role"]
                    for member in scenario["members"]
                    if member["workspace"] == name
                },
            }
            for name, workspace in scenario["workspaces"].items()
        ],
    }


def slug_of(workspace: str) -> str:
    return workspace.replace("_", "-")


def scenarios() -> list[Path]:
    return sorted(SCENARIOS.glob("*.yaml"))


def test_there_are_scenarios():
    assert scenarios()


@pytest.mark.parametrize("path", scenarios(), ids=lambda path: path.stem)
def test_agrees_with_every_check(path, tmp_path, database):
    scenario = yaml.safe_load(path.read_text())
    said = yaml.safe_dump(plans_from(scenario), sort_keys=False).encode()
    outcome = check_plans(said, source=f"{path.stem}.plans.yaml")
    assert [str(problem) for problem in outcome.problems] == []
    assert outcome.catalog is not None
    policies = compiled(outcome.catalog, modules_at(shipped("policies")))
    world = tmp_path / "world.yaml"
    world.write_text(yaml.safe_dump(world_from(scenario), sort_keys=False))
    store = database.prepared(outcome.catalog, revision=policies.revision, world=world)
    authorizer = Authorizer(
        catalog=outcome.catalog,
        context_fields=policies.context_fields,
        policy=EmbeddedEngine(policies.modules, policies.data, revision=policies.revision),
        facts=store,
    )

    answers, wanted = {}, {}
    for number, check in enumerate(scenario["checks"]):
        name = f"{number}: {check}"
        question = Question(
            user=check["user"],
            workspace=slug_of(check["workspace"]),
            action=check["action"],
            amounts={check["action"]: check["usage"]} if "usage" in check else None,
        )
        decision = authorizer.decide(question, deadline=FAR_AWAY)
        answers[name] = "allow" if decision.allowed else "deny"
        wanted[name] = check["expect"]

    assert answers == wanted
