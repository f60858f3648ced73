"""Creating a workspace is an action like others where plans.yaml declares it: limited, and denied."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.model import Question
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.memo import MemoisedEngine
from sidecar.rego.compile import compiled
from sidecar.rego.load import modules_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.api.stage import BACKEND
from tests.catalog.files import sound
from tests.values import FAR_AWAY
from tests.workspaces.stage import a_people_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workspaces.stage import Stage

pytestmark = pytest.mark.postgres

PLANS = (
    shipped("plans.yaml")
    .read_text()
    .replace("\nplans:", "  owned: {kind: level, counts: owned, title: workspaces}\n\nplans:")
    .replace("scenarios: 10}", "scenarios: 10, owned: 1}")
    .replace("members: 1, scenarios: unlimited}", "members: 1, scenarios: unlimited, owned: 2}")
    .replace("members: 10, scenarios: unlimited}", "members: 10, scenarios: unlimited, owned: 4}")
    .replace("\nroutes:", "  workspaces.create: {role: owner, takes: {owned: 1}}\n\nroutes:")
)


@pytest.fixture(scope="module")
def stage(database_url: str) -> Iterator[Stage]:
    embedded = pytest.importorskip("sidecar.engines.embedded", reason="needs the extra `embedded`")
    catalog = sound(PLANS)
    made = compiled(catalog, modules_at(shipped("policies")))
    migrate(database_url, catalog=catalog, revision=made.revision)
    engine = embedded.EmbeddedEngine(made.modules, made.data, revision=made.revision)
    memo = MemoisedEngine(engine, cells=map(situation_bytes, cells(catalog)))
    with a_people_stage(database_url, engine=memo, catalog=catalog) as stage:
        yield stage


def somebody():
    return f"u-{uuid4().hex[:12]}"


def said(answer):
    return answer.status_code, answer.json and answer.json.get("code")


def create(stage, user, name="New"):
    return stage.post(user, "/workspaces", {"name": name})


def own(stage, user):
    return [row["id"] for row in stage.get(user, "/workspaces").json["workspaces"]]


def test_the_limit_is_that_of_the_oldest_workspace_and_counts_all_that_the_user_owns(stage):
    user = somebody()
    [first] = own(stage, user)

    denied = create(stage, user)
    assert said(denied) == (402, "quota_exceeded")
    assert denied.json["quota"] == {
        "owned": {"limit": 1, "used": 1, "reserved": 0, "remaining": 0, "resets_at": None}
    }
    assert [offer["plan"] for offer in denied.json["upgrade"]] == ["pro", "team"]

    stage.plan(first, "pro")
    second = create(stage, user)
    assert second.status_code == 201
    stage.plan(second.json["id"], "team")  # a newer one lends nothing
    assert said(create(stage, user)) == (402, "quota_exceeded")

    stage.admin(f"/v1/workspaces/{first}/overrides", {"limits": {"owned": 3}})
    third = create(stage, user)
    assert third.status_code == 201
    assert said(create(stage, user)) == (403, "quota_exceeded")

    stage.delete(user, f"/workspaces/{third.json['id']}")
    assert create(stage, user).status_code == 201


def test_the_meter_shows_the_same_in_every_workspace(stage):
    user, other = somebody(), somebody()
    [first] = own(stage, user)
    stage.plan(first, "pro")
    second = create(stage, user).json["id"]
    stage.plan(second, "team")
    shared = stage.workspace("team", owner=other, members={user: "member"})

    def shown(workspace, who=user):
        quota = stage.get(who, f"/workspaces/{workspace}").json["quotas"]["owned"]
        return quota["used"], quota["limit"]

    assert shown(first) == shown(second) == shown(shared) == (2, 2)
    assert shown(shared, other) == (1, 4)
    stage.admin(f"/v1/workspaces/{first}/overrides", {"limits": {"owned": "unlimited"}})
    assert shown(first) == shown(second) == shown(shared) == (2, None)
    listed = stage.service.authorizer.workspaces_of(
        user, action="workspaces.create", after=None, limit=9, deadline=FAR_AWAY
    )
    assert {str(facts.workspace_id) for facts in listed.workspaces} == {first, second}


def test_who_may_is_found_by_what_each_of_them_owns(stage):
    """The first of a roster says nothing of the others."""
    user, first = somebody(), f"a-{somebody()}"
    [workspace] = own(stage, user)
    stage.plan(workspace, "pro")
    stage.rows("INSERT INTO authz.workspace_memberships VALUES (%s, %s, 'admin')", workspace, first)
    stage.workspace("pro", owner=first)
    stage.workspace("pro", owner=first)
    question = Question(user=user, workspace=workspace, action="workspaces.create")

    def who():
        page = stage.service.authorizer.members_who_may(question, after=None, limit=9, deadline=FAR_AWAY)
        return page.users

    assert who() == (user,)
    assert create(stage, user).status_code == 201
    assert who() == ()


def test_who_owns_none_is_asked_as_owner_on_the_default_plan(stage):
    user = somebody()
    shared = stage.workspace(owner="nora", members={user: "member"})

    first = create(stage, user)

    assert (first.status_code, first.json["plan_tier"], first.json["role"]) == (201, "starter", "owner")
    assert said(create(stage, user)) == (402, "quota_exceeded")
    assert stage.get(user, f"/workspaces/{shared}").json["quotas"]["owned"]["limit"] == 1


def test_a_suspended_workspace_counts_and_a_deleted_one_does_not(stage):
    user = somebody()
    [first] = own(stage, user)
    stage.plan(first, "team")
    assert create(stage, user).status_code == 201
    stage.admin(f"/v1/workspaces/{first}/status", {"status": "suspended"})

    assert said(create(stage, user)) == (403, "workspace_suspended")

    stage.admin(f"/v1/workspaces/{first}/status", {"status": "active"})
    stage.delete(user, f"/workspaces/{first}")
    assert said(create(stage, user)) == (402, "quota_exceeded")  # of starter, which the other has


def test_a_transfer_does_not_ask(stage):
    user, heir = somebody(), somebody()
    [first] = own(stage, user)
    assert len(own(stage, heir)) == 1
    stage.rows("INSERT INTO authz.workspace_memberships VALUES (%s, %s, 'member')", first, heir)

    assert stage.post(user, f"/workspaces/{first}/transfer", {"user": heir}).status_code == 200
    assert said(create(stage, heir)) == (402, "quota_exceeded")


def test_the_last_place_is_taken_once(stage):
    user = somebody()
    [first] = own(stage, user)
    stage.plan(first, "team")

    def until_said(_):
        while (answer := create(stage, user)).status_code == 503:
            assert answer.json["code"] == "workspace_contended"
        return said(answer)

    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(pool.map(until_said, range(6)), key=str)

    assert outcomes == [(201, None)] * 3 + [(403, "quota_exceeded")] * 3
    assert len(own(stage, user)) == 4


def test_a_name_is_validated_after_the_policy_has_agreed(stage):
    user = somebody()
    own(stage, user)

    assert said(stage.post(user, "/workspaces", {"nme": "x"})) == (402, "quota_exceeded")
    stage.plan(own(stage, user)[0], "team")
    assert said(stage.post(user, "/workspaces", {"nme": "x"})) == (400, "invalid_request")


def test_what_the_database_counts_nobody_consumes(stage):
    user = somebody()
    [first] = own(stage, user)
    question = {"user": user, "workspace": first, "action": "workspaces.create"}

    def ask(mode):
        return stage.client.post(
            "/v1/authorize",
            json=question | {"mode": mode},
            headers={"Authorization": f"Bearer {BACKEND}"},
        )

    checked = ask("check").json
    assert (checked["reason"], checked["quota"]["owned"]["used"]) == ("quota_exceeded", 1)
    assert said(ask("consume")) == said(ask("reserve")) == (400, "meter_not_consumable")


class Refusing:
    """The engine, until it denies whoever wants to create a workspace."""

    def __init__(self, engine):
        self.engine = engine

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def verdict(self, situation, /, *, deadline):
        verdict = self.engine.verdict(situation, deadline=deadline)
        if json.loads(situation)["action"] != "workspaces.create":
            return verdict
        values = {name: getattr(verdict, name) for name in verdict.__slots__}
        return verdict.__class__(
            **values | {"allow": False, "reason": "denied_by_policy", "status": 403, "detail": "not you"}
        )


@pytest.fixture
def refusing(stage):
    with a_people_stage(
        stage.url, engine=Refusing(stage.engine), catalog=stage.service.authorizer.catalog
    ) as refusing:
        yield refusing


def test_who_may_not_create_one_has_none_and_is_in_what_they_are_invited_to(refusing):
    user = somebody()
    shop = refusing.workspace(owner="nora")
    token = refusing.invited("nora", shop, f"{user}@example.com")["token"]

    listed = refusing.get(user, "/workspaces")
    assert (listed.status_code, listed.json) == (200, {"workspaces": []})
    assert said(create(refusing, user)) == (403, "denied_by_policy")
    assert refusing.rows("SELECT FROM authz.workspaces WHERE default_of = %s", user) == []

    assert refusing.accept(user, token).status_code == 200
    [joined] = refusing.get(user, "/workspaces").json["workspaces"]
    assert joined["slug"] == shop
    members = refusing.get("nora", f"/workspaces/{shop}/members").json["members"]
    assert f"{user}@example.com" in {member["email"] for member in members}


def test_the_databases_own_signup_does_not_ask(refusing):
    user = somebody()
    refusing.rows("INSERT INTO authz.users (id, email) VALUES (%s, 'x@example.com')", user)

    assert len(refusing.get(user, "/workspaces").json["workspaces"]) == 1
    refusing.rows("DELETE FROM authz.workspace_memberships WHERE user_id = %s", user)
    assert refusing.get(user, "/workspaces").json == {"workspaces": []}
