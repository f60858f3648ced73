"""The product guards itself: each route asks the policy, and does nothing unless it says yes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.problems import DENIALS
from sidecar.decisions.reasons import REASONS
from sidecar.errors import EngineUnavailable
from tests.api.stage import PolicyInPython
from tests.values import the_catalog
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

WITHOUT_AN_ACTION = {
    "show_entitlements": "a member may see what they have: test_entitlements",
    "list_workspaces": "whoever is in one may know that they are",
    "create_workspace": "the shipped catalog does not declare workspaces.create, so anybody may",
}
BODIES = {
    "rename_workspace": {"name": "New"},
    "change_role": {"role": "admin"},
    "transfer": {"user": "max"},
    "invite": {"email": "ivy@example.com", "role": "member"},
}
GUARDS = {
    "show_workspace": "data.view_own",
    "rename_workspace": "workspace.update",
    "delete_workspace": "workspace.delete",
    "list_members": "data.view_own",
    "change_role": "members.change_role",
    "remove_member": "members.remove",
    "transfer": "role:owner",
    "leave": "platform.use",
    "invite": "members.invite",
    "list_invitations": "role:admin",
    "revoke_invitation": "role:admin",
    "accept_invitation": "members.invite",
}
ROUTES = [each for each in ENDPOINTS if each.audience is Audience.END_USERS]


class Scripted(PolicyInPython):
    """The shipped rules in short, until *refuses* names an action."""

    refuses: str | None = None

    def verdict(self, situation, /, *, deadline):
        verdict = super().verdict(situation, deadline=deadline)
        if json.loads(situation)["action"] != self.refuses:
            return verdict
        return verdict.__class__(
            **{name: getattr(verdict, name) for name in verdict.__slots__}
            | {"allow": False, "reason": "denied_by_policy", "status": 403, "detail": "scripted"}
        )


@pytest.fixture(scope="module")
def stage(database_url):
    with a_people_stage(database_url, engine=Scripted(the_catalog())) as stage:
        yield stage


@pytest.fixture
def scene(stage):
    """Somewhere every route would do something for its owner, or for eve who is invited."""
    stage.engine.refuses = stage.engine.outage = None
    shop = stage.workspace(owner="nora", members={"max": "member"})
    invitation = stage.invited("nora", shop, "eve@example.com")

    def ask(endpoint):
        path = endpoint.path.replace("{workspace}", shop).replace("{user}", "max")
        path = path.replace("{invitation}", invitation["id"])
        if endpoint.name == "accept_invitation":
            return stage.accept("eve", invitation["token"])
        user = "max" if endpoint.name == "leave" else "nora"
        return stage.ask(user, endpoint.method, path, BODIES.get(endpoint.name))

    stage.get("eve", "/workspaces")  # they are known already
    stage.get("max", "/workspaces")
    yield ask
    stage.engine.refuses = stage.engine.outage = None


def test_every_route_is_guarded_or_has_a_reason_not_to_be():
    assert {route.name for route in ROUTES} == set(GUARDS) | set(WITHOUT_AN_ACTION)


def test_the_actions_are_those_that_are_described():
    text = (Path(__file__).parent.parent.parent / "docs/people.md").read_text()
    rows = re.findall(r"^\| `(\w+) (/\S+)`[^|]*\| (?:`([^`]+)`)?", text, re.MULTILINE)

    described = {(method, path): action for method, path, action in rows}

    assert described == {(route.method, route.path): GUARDS.get(route.name, "") for route in ROUTES}


def test_every_reason_to_deny_has_a_title():
    assert set(DENIALS) == set(REASONS) - {"granted"}


@pytest.mark.parametrize(
    "route", [each for each in ROUTES if each.name in GUARDS], ids=lambda each: each.name
)
def test_a_route_does_what_its_action_allows_and_nothing_else(stage, scene, route):
    stage.engine.refuses = GUARDS[route.name]
    before = stage.newest()

    denied = scene(route)

    hidden = route.name == "accept_invitation"
    assert denied.json["code"] == ("invitation_invalid" if hidden else "denied_by_policy")
    assert denied.status_code == (404 if hidden else 403)
    assert stage.newest() == before

    stage.engine.refuses = None
    assert scene(route).status_code in {200, 201, 204}


@pytest.mark.parametrize(
    "route", [each for each in ROUTES if each.name in GUARDS], ids=lambda each: each.name
)
def test_an_outage_of_the_engine_is_a_503_and_nothing_is_done(stage, scene, route):
    stage.engine.outage = EngineUnavailable("no OPA")
    before = stage.newest()

    answer = scene(route)

    assert (answer.status_code, answer.json["code"]) == (503, "policy_engine_unavailable")
    assert stage.newest() == before


def test_who_may_not_list_the_members_is_not_told_who_is_one(stage, scene):
    shop = stage.workspace(owner="nora", members={"max": "member"})

    def invite():
        return stage.post(
            "nora", f"/workspaces/{shop}/invite", {"email": "MAX@example.com", "role": "member"}
        )

    stage.engine.refuses = "data.view_own"
    assert invite().status_code == 201

    stage.engine.refuses = None
    told = invite()
    assert (told.status_code, told.json["code"]) == (409, "already_a_member")


@pytest.mark.parametrize("route", ROUTES, ids=lambda each: each.name)
def test_an_outage_of_the_database_is_a_503(route):
    path = (
        route.path.replace("{workspace}", "acme")
        .replace("{user}", "max")
        .replace("{invitation}", str(uuid4()))
    )

    with a_people_stage("postgresql://postgres@127.0.0.1:1/x", engine=Scripted(the_catalog())) as stage:
        answer = stage.ask("nora", route.method, path, BODIES.get(route.name, {"token": "x", "name": "x"}))

    assert (answer.status_code, answer.json["code"]) == (503, "facts_unavailable")


def test_nobody_acts_above_themselves_even_where_the_policy_would_let_them(stage):
    """A catalog may let members remove: whom, is still a question of their roles."""
    shop = stage.workspace(owner="nora", members={"max": "member", "ada": "admin"})
    stage.engine.refuses = None
    everybody = stage.service.authorizer.catalog.actions["members.remove"]
    assert "member" not in everybody.roles

    stage.engine.refuses = "role:admin"  # as the policy answers a member
    denied = stage.delete("nora", f"/workspaces/{shop}/members/ada")
    stage.engine.refuses = None

    assert (denied.status_code, denied.json["code"]) == (403, "denied_by_policy")
    assert "ada" in stage.roles(shop)
