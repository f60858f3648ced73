"""Who is in a workspace, in which role, and who may change that."""

from __future__ import annotations

from urllib.parse import quote

import pytest

pytestmark = pytest.mark.postgres

PEOPLE = {"ada": "admin", "abe": "admin", "max": "member", "moe": "member"}


@pytest.fixture
def shop(stage):
    return stage.workspace(owner="nora", members=PEOPLE)


def change(stage, by, shop, user, role):
    return stage.patch(by, f"/workspaces/{shop}/members/{user}", {"role": role})


def remove(stage, by, shop, user):
    return stage.delete(by, f"/workspaces/{shop}/members/{user}")


def said(answer):
    return answer.status_code, answer.json and answer.json.get("code")


def test_members_are_listed_by_user_in_pages(stage, shop):
    first = stage.get("max", f"/workspaces/{shop}/members?limit=3").json
    second = stage.get("max", f"/workspaces/{shop}/members?limit=3&after={first['next']}").json

    assert [(row["user"], row["role"]) for row in first["members"] + second["members"]] == sorted(
        {**PEOPLE, "nora": "owner"}.items()
    )
    assert "next" not in second
    assert set(first["members"][0]) == {"user", "role", "email", "joined_at"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=", "page=2", "limit=1&limit=2"])
def test_a_page_is_as_described(stage, shop, query):
    assert said(stage.get("max", f"/workspaces/{shop}/members?{query}")) == (400, "invalid_request")


def test_the_owner_changes_roles(stage, shop):
    changed = change(stage, "nora", shop, "max", "admin")

    assert (changed.status_code, changed.json["user"], changed.json["role"]) == (200, "max", "admin")
    assert change(stage, "nora", shop, "max", "admin").json["role"] == "admin"  # again: nothing to do
    assert change(stage, "nora", shop, "max", "member").json["role"] == "member"


@pytest.mark.parametrize("by", ["ada", "max"])
def test_nobody_else_does(stage, shop, by):
    assert said(change(stage, by, shop, "moe", "admin")) == (403, "role_insufficient")
    assert said(change(stage, by, shop, by, "owner")) == (403, "role_insufficient")
    assert stage.roles(shop) == {**PEOPLE, "nora": "owner"}


def test_nobody_is_made_owner_by_a_change_of_role_nor_is_the_owner_made_less(stage, shop):
    assert said(change(stage, "nora", shop, "ada", "owner")) == (409, "use_transfer")
    assert said(change(stage, "nora", shop, "nora", "owner")) == (409, "use_transfer")
    assert said(change(stage, "nora", shop, "nora", "admin")) == (409, "owner_must_transfer")


@pytest.mark.parametrize(
    "body", [{}, {"role": "janitor"}, {"role": ""}, {"role": None}, {"role": "Admin"}, {"rle": "admin"}]
)
def test_a_role_is_one_of_the_catalog(stage, shop, body):
    answer = stage.patch("nora", f"/workspaces/{shop}/members/max", body)

    assert said(answer) == (400, "invalid_request")
    assert said(stage.patch("max", f"/workspaces/{shop}/members/max", body)) == (403, "role_insufficient")


def test_somebody_who_is_not_there_is_404_to_who_might_know(stage, shop):
    assert said(change(stage, "nora", shop, "zoe", "admin")) == (404, "unknown_member")
    assert said(remove(stage, "ada", shop, "zoe")) == (404, "unknown_member")
    assert said(remove(stage, "max", shop, "zoe")) == (403, "role_insufficient")


def test_an_admin_removes_members_and_admins_and_never_the_owner(stage, shop):
    assert said(remove(stage, "ada", shop, "max")) == (204, None)
    assert said(remove(stage, "ada", shop, "abe")) == (204, None)
    denied = remove(stage, "ada", shop, "nora")
    assert said(denied) == (403, "role_insufficient")
    assert denied.json["needs"] == {"roles": ["owner"]}
    assert said(remove(stage, "moe", shop, "ada")) == (403, "role_insufficient")
    assert stage.roles(shop) == {"ada": "admin", "moe": "member", "nora": "owner"}


def test_whoever_is_removed_is_out_at_once(stage, shop):
    assert stage.get("max", f"/workspaces/{shop}").status_code == 200
    remove(stage, "ada", shop, "max")

    assert said(stage.get("max", f"/workspaces/{shop}")) == (403, "not_a_member")


def test_an_admin_may_remove_themselves_and_the_owner_not(stage, shop):
    assert said(remove(stage, "ada", shop, "ada")) == (204, None)
    assert said(remove(stage, "nora", shop, "nora")) == (409, "owner_must_transfer")


def test_anybody_leaves_but_the_owner(stage, shop):
    assert said(stage.post("max", f"/workspaces/{shop}/leave")) == (204, None)
    assert said(stage.post("ada", f"/workspaces/{shop}/leave")) == (204, None)
    assert said(stage.post("nora", f"/workspaces/{shop}/leave")) == (409, "owner_must_transfer")
    assert said(stage.post("max", f"/workspaces/{shop}/leave")) == (403, "not_a_member")
    assert stage.roles(shop) == {"abe": "admin", "moe": "member", "nora": "owner"}


def test_a_transfer_makes_the_former_owner_an_admin(stage, shop):
    moved = stage.post("nora", f"/workspaces/{shop}/transfer", {"user": "max"})

    assert moved.status_code == 200
    assert (moved.json["owner"]["user"], moved.json["owner"]["role"]) == ("max", "owner")
    assert (moved.json["former_owner"]["user"], moved.json["former_owner"]["role"]) == ("nora", "admin")
    assert stage.roles(shop) == {**PEOPLE, "max": "owner", "nora": "admin"}
    assert said(stage.post("nora", f"/workspaces/{shop}/transfer", {"user": "ada"})) == (
        403,
        "role_insufficient",
    )
    assert said(stage.post("nora", f"/workspaces/{shop}/leave")) == (204, None)


def test_only_the_owner_transfers_and_only_to_a_member(stage, shop):
    path = f"/workspaces/{shop}/transfer"

    assert said(stage.post("ada", path, {"user": "ada"})) == (403, "role_insufficient")
    for user, fault in (("zoe", "is no member of this workspace"), ("nora", "is the owner already")):
        refused = stage.post("nora", path, {"user": user})
        assert said(refused) == (400, "invalid_request")
        assert refused.json["errors"] == [{"pointer": "/user", "detail": fault}]
    for body in ({}, {"user": ""}, {"user": 1}, {"usr": "ada"}):
        assert said(stage.post("nora", path, body)) == (400, "invalid_request")
    assert stage.roles(shop) == {**PEOPLE, "nora": "owner"}


@pytest.mark.parametrize("user", ["auth0|123", "a/b", "ü ☃", "%2F", "..", "' OR true --"])
def test_a_user_may_be_called_anything(stage, user):
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, "odd@example.com")["token"]
    assert stage.accept(user, token, email="odd@example.com").status_code == 200

    changed = change(stage, "nora", shop, quote(user, safe=""), "admin")

    assert (changed.status_code, changed.json["user"]) == (200, user)
    assert said(remove(stage, "nora", shop, quote(user, safe=""))) == (204, None)


def test_a_member_whose_role_is_declared_no_more_can_still_be_given_another(stage, shop):
    stage.rows("UPDATE authz.workspace_memberships SET role = 'janitor' WHERE user_id = 'moe'")

    assert said(stage.get("moe", f"/workspaces/{shop}")) == (403, "not_a_member")
    assert change(stage, "nora", shop, "moe", "member").json["role"] == "member"
