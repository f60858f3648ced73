"""What people do with their workspaces, through the whole application over a real database."""

from __future__ import annotations

import json
import re
from uuid import uuid4

import pytest

from sidecar.api.advice import ADVICE
from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from tests.api.stage import BACKEND
from tests.identity.provider import SECRET, a_token
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

OF_USERS = [endpoint for endpoint in ENDPOINTS if endpoint.audience is Audience.END_USERS]


def somebody():
    return f"u-{uuid4().hex[:12]}"


def slugs(answer):
    return [row["slug"] for row in answer.json["workspaces"]]


def test_whoever_comes_for_the_first_time_has_a_workspace_as_after_a_signup(stage):
    user = somebody()

    answer = stage.get(user, "/workspaces")

    [own] = answer.json["workspaces"]
    assert re.fullmatch(f"{user}-[0-9a-f]{{8}}", own["slug"])
    assert own | {"id": None, "slug": None} == {
        "id": None,
        "name": user,
        "slug": None,
        "plan_tier": "starter",
        "role": "owner",
    }
    assert list(answer.json) == ["workspaces"]
    assert stage.get(user, f"/workspaces/{own['id']}").json["features"] == {
        "scenario_builder": True,
        "video_avatar": False,
        "live_coaching": False,
        "analytics": False,
        "team_sessions": False,
        "team_analytics": False,
    }
    assert stage.rows("SELECT email FROM authz.users WHERE id = %s", user) == [(f"{user}@example.com",)]


def test_they_have_it_whatever_they_ask_first(stage):
    user = somebody()
    assert stage.get(user, "/workspaces/acme").status_code == 403

    [slug] = slugs(stage.get(user, "/workspaces"))
    assert slug.startswith(f"{user}-")


def test_an_email_that_is_not_verified_is_shown_to_nobody(stage):
    user = somebody()

    def shown(**claims):
        [own] = stage.get(user, "/workspaces", **claims).json["workspaces"]
        return stage.get(user, f"/workspaces/{own['id']}/members", **claims).json["members"][0]["email"]

    assert shown(email_verified=False) is None
    assert shown(email=f"{user}@new.example.com") == f"{user}@new.example.com"
    assert shown(email=f"{user}@other.example.com", email_verified=False) == f"{user}@new.example.com"


def test_a_workspace_is_made_on_the_default_plan_under_a_slug_of_its_name(stage):
    user, name = somebody(), f"Ünï & Co. {uuid4().hex[:8]}"

    first = stage.post(user, "/workspaces", {"name": name})
    second = stage.post(user, "/workspaces", {"name": name})

    assert (first.status_code, second.status_code) == (201, 201)
    for made in (first, second):
        assert re.fullmatch(f"n-co-{name[-8:]}-[0-9a-f]{{8}}", made.json["slug"])
    assert [(each.json["name"], each.json["plan_tier"], each.json["role"]) for each in (first, second)] == [
        (name, "starter", "owner")
    ] * 2
    assert stage.roles(first.json["slug"]) == {user: "owner"}


@pytest.mark.parametrize(
    "name",
    ["日本", "---", "3f2b8a52-1111-4222-8333-444455556666", "'; DROP TABLE x; --", "a" * 256, "\u202e"],
)
def test_any_name_has_a_slug(stage, name):
    made = stage.post(somebody(), "/workspaces", {"name": name})

    assert (made.status_code, made.json["name"]) == (201, name)
    assert stage.rows("SELECT authz.is_slug(%s)", made.json["slug"]) == [(True,)]


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "  "}, {"name": "a\0"}, {"name": "a" * 257}, {"name": 7}, {"nme": "x"}, []],
)
def test_a_name_is_text(stage, body):
    workspace = stage.workspace(owner="nora")

    for answer in (
        stage.post("nora", "/workspaces", body),
        stage.patch("nora", f"/workspaces/{workspace}", body),
    ):
        assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")


def test_his_workspaces_are_listed_by_slug_in_pages_suspended_ones_too(stage):
    user = somebody()
    stem = f"p-{uuid4().hex[:8]}"
    for number in range(5):
        stage.workspace(slug=f"{stem}-{number}", members={user: "member"})
    stage.admin(f"/v1/workspaces/{stem}-3/status", {"status": "suspended"})
    pages, after = [], ""
    while True:
        page = stage.get(user, f"/workspaces?limit=2{after}")
        pages.append(slugs(page))
        if "next" not in page.json:
            break
        after = f"&after={page.json['next']}"

    assert pages == [[f"{stem}-0", f"{stem}-1"], [f"{stem}-2", f"{stem}-3"], [f"{stem}-4"]]


def test_details_are_those_of_the_member(stage):
    details = stage.get("mia", "/workspaces/acme").json

    assert (details["slug"], details["role"], details["plan_tier"], details["status"]) == (
        "acme",
        "member",
        "team",
        "active",
    )
    assert details["features"]["team_sessions"] is True
    assert details["quotas"]["members"] == {
        "limit": 10,
        "used": 3,
        "reserved": 0,
        "remaining": 7,
        "resets_at": None,
    }


def test_a_workspace_is_named_by_its_id_too(stage):
    id_ = stage.get("mia", "/workspaces/acme").json["id"]

    assert stage.get("mia", f"/workspaces/{id_}").json["slug"] == "acme"
    assert stage.get("mia", f"/workspaces/{id_.upper()}").json["slug"] == "acme"


def test_the_owner_renames_it_and_the_slug_stays(stage):
    workspace = stage.workspace(owner="nora", members={"ada": "admin"})

    renamed = stage.patch("nora", f"/workspaces/{workspace}", {"name": "New"})
    denied = stage.patch("ada", f"/workspaces/{workspace}", {"name": "Mine"})

    assert (renamed.status_code, renamed.json["name"], renamed.json["slug"]) == (200, "New", workspace)
    assert (denied.status_code, denied.json["code"]) == (403, "role_insufficient")
    assert denied.json["needs"] == {"roles": ["owner"]}
    assert stage.get("ada", f"/workspaces/{workspace}").json["name"] == "New"


def test_a_deleted_workspace_is_gone_for_everybody_at_once(stage):
    workspace = stage.workspace(owner="nora", members={"ada": "admin"})
    token = stage.invited("nora", workspace, "eve@example.com")["token"]
    id_ = stage.get("nora", f"/workspaces/{workspace}").json["id"]

    assert stage.delete("ada", f"/workspaces/{workspace}").status_code == 403
    assert stage.delete("nora", f"/workspaces/{workspace}").status_code == 204

    for user in ("nora", "ada"):
        for name in (workspace, id_):
            assert stage.get(user, f"/workspaces/{name}").json["code"] == "not_a_member"
            asked = stage.client.post(
                "/v1/authorize",
                json={"user": user, "workspace": name, "action": "platform.use"},
                headers={"Authorization": f"Bearer {BACKEND}"},
            )
            assert asked.json["reason"] == "not_a_member"
        assert workspace not in slugs(stage.get(user, "/workspaces"))
    assert stage.delete("nora", f"/workspaces/{workspace}").status_code == 403
    assert stage.accept("eve", token).json["code"] == "invitation_invalid"
    assert (
        stage.admin(f"/v1/workspaces/{workspace}/plan", {"plan": "pro"}).json["code"] == "unknown_workspace"
    )


def test_a_slug_does_not_tell_whether_the_name_is_taken(stage):
    user = somebody()

    def made():
        return stage.post(somebody(), "/workspaces", {"name": user + "-shop"}).json["slug"]

    first = made()
    stage.workspace(slug=f"{user}-shop")
    others = [made() for _ in range(3)]

    assert all(re.fullmatch(f"{user}-shop-[0-9a-f]{{8}}", slug) for slug in (first, *others))
    assert len({first, *others}) == 4


def test_whoever_has_lost_their_last_workspace_has_one_of_their_own(stage):
    user = somebody()
    workspace = stage.workspace(owner="nora", members={user: "member"})
    assert slugs(stage.get(user, "/workspaces")) == [workspace]
    stage.delete("nora", f"/workspaces/{workspace}/members/{user}")

    [own] = stage.get(user, "/workspaces").json["workspaces"]

    assert (own["name"], own["role"]) == (user, "owner")


def test_a_suspended_workspace_says_so(stage):
    workspace = stage.workspace(owner="nora")
    stage.admin(f"/v1/workspaces/{workspace}/status", {"status": "suspended"})

    for answer in (
        stage.get("nora", f"/workspaces/{workspace}"),
        stage.patch("nora", f"/workspaces/{workspace}", {"name": "x"}),
        stage.post("nora", f"/workspaces/{workspace}/invite", {"email": "a@b", "role": "member"}),
    ):
        assert (answer.status_code, answer.json["code"]) == (403, "workspace_suspended")


def same_but_for_ids(answer):
    headers = {name: value for name, value in answer.headers if name != "X-Request-ID"}
    return answer.status_code, headers, answer.data


@pytest.mark.parametrize(
    "endpoint", [each for each in OF_USERS if "{workspace}" in each.path], ids=lambda each: each.name
)
def test_a_stranger_learns_nothing_of_what_there_is(stage, endpoint):
    hidden = [stage.workspace(), stage.get("mia", "/workspaces/acme").json["id"], "acme"]
    nowhere = ["nowhere", str(uuid4()), "ä", "x" * 200]

    def asked(workspace, body):
        path = endpoint.path.replace("{workspace}", workspace).replace("{user}", "mia")
        path = path.replace("{invitation}", str(uuid4()))
        return same_but_for_ids(stage.ask("zoe", endpoint.method, path, body))

    bodies = [None, {"name": "x"}, {"nonsense": [1]}] if endpoint.body else [None]
    answers = {repr(asked(workspace, body)) for workspace in (*hidden, *nowhere) for body in bodies}

    [answer] = answers
    assert "not_a_member" in answer
    assert answer.startswith("(403")
    assert not any(secret in answer for secret in ("role", "plan", "quota", "upgrade", "needs"))


def test_two_workspaces_that_differ_are_refused_before_any_look(stage):
    id_ = stage.get("mia", "/workspaces/acme").json["id"]

    def with_header(value, path="/workspaces/acme", user="mia"):
        return stage.get(user, path, headers={"X-Workspace-Id": value})

    assert with_header("acme").status_code == 200
    assert with_header(id_, f"/workspaces/{id_}").status_code == 200
    for user in ("mia", "zoe"):
        for header in (id_, "solo", "nowhere", ""):
            answer = with_header(header, user=user)
            assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
            assert answer.json["errors"][0]["pointer"] == "/header/X-Workspace-Id"


@pytest.mark.parametrize("endpoint", OF_USERS, ids=lambda each: each.name)
def test_nobody_is_answered_without_a_token(stage, endpoint):
    path = endpoint.path.replace("{workspace}", "acme").replace("{user}", "mia").replace("{invitation}", "x")

    for header in (
        None,
        "Bearer x",
        f"Bearer {BACKEND}",
        f"Bearer {a_token(exp=1)}",
        f"Bearer {a_token('b' * 32)}",
    ):
        headers = {"Authorization": header} if header else {}
        answer = stage.client.open(path, method=endpoint.method, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (401, "user_unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json["detail"] == ADVICE["user_unauthenticated"]


def test_an_end_users_token_is_no_callers(stage):
    answer = stage.ask("olivia", "PUT", "/v1/workspaces/acme/plan", {"plan": "pro"})

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")


def test_without_an_identity_provider_there_is_nothing_here(database_url, policy):
    with a_people_stage(database_url, engine=policy, identities=None) as stage:
        for endpoint in OF_USERS:
            path = endpoint.path.replace("{workspace}", "acme").replace("{user}", "mia")
            answer = stage.ask("olivia", endpoint.method, path)
            assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_what_is_asked_is_logged_and_counted_and_no_token_is(stage):
    stage.lines.clear()
    before = stage.service.metrics.text()

    stage.delete("adam", "/workspaces/acme/members/olivia")

    assert [
        (line["endpoint"], line["end_user"], line["user"], line["workspace"], line["action"], line["reason"])
        for line in stage.lines
    ] == [
        ("remove_member", "adam", "adam", "acme", "members.remove", "granted"),
        ("remove_member", "adam", "adam", "acme", "role:owner", "role_insufficient"),
    ]
    assert stage.service.metrics.text() != before
    assert SECRET not in str(stage.lines)
    assert "eyJ" not in str(stage.lines)


def test_a_body_is_read_once_the_policy_has_agreed(stage):
    big = {"name": "x" * 100_000}

    denied = stage.patch("mia", "/workspaces/acme", big)
    allowed = stage.patch("olivia", "/workspaces/acme", big)

    assert (denied.status_code, denied.json["code"]) == (403, "role_insufficient")
    assert (allowed.status_code, allowed.json["code"]) == (413, "body_too_large")


def test_answers_are_json_and_nothing_else_is_said(stage):
    workspace = stage.workspace(owner="nora")

    deleted = stage.delete("nora", f"/workspaces/{workspace}")

    assert (deleted.data, "Content-Length" in deleted.headers) == (b"", False)
    assert json.loads(stage.get("nora", "/workspaces").data)
