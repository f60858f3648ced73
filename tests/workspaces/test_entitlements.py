"""What a member's page is drawn from, with the member's own token."""

from __future__ import annotations

import pytest

from tests.api.test_openapi import check
from tests.identity.provider import a_token

pytestmark = pytest.mark.postgres


def entitlements(stage, user, workspace, **more):
    return stage.get(user, f"/workspaces/{workspace}/entitlements", **more)


def test_a_member_sees_all_of_it_and_which_plans_would_unlock_the_rest(stage):
    shop = stage.workspace("starter", owner="ann")

    answer = entitlements(stage, "ann", shop)
    of_caller = stage.client.get(
        f"/v1/workspaces/{shop}/entitlements?user=ann", headers={"Authorization": "Bearer backend-token"}
    ).json

    check(answer.json, "OwnEntitlements")
    assert answer.status_code == 200
    assert answer.json["features"]["video_avatar"] == {
        "enabled": False,
        "title": "Video avatar",
        "unlocked_by": ["pro", "team"],
    }
    assert answer.json["features"]["team_sessions"]["unlocked_by"] == ["team"]
    assert answer.json["features"]["scenario_builder"] == {
        "enabled": True,
        "title": "Scenario builder",
        "unlocked_by": [],
    }
    flat = {name: feature["enabled"] for name, feature in answer.json["features"].items()}
    assert answer.json | {"features": flat} == of_caller
    assert list(answer.json) == list(of_caller)


def test_what_unlocks_a_feature_is_the_upgrade_of_its_action(stage):
    shop = stage.workspace("starter", owner="una", members={"max": "member"})
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"features": {"analytics": False, "team_sessions": True}})

    for user in ("una", "max"):
        for name, feature in entitlements(stage, user, shop).json["features"].items():
            decision = stage.client.post(
                "/v1/authorize",
                json={"user": user, "workspace": shop, "action": f"feature:{name}"},
                headers={"Authorization": "Bearer backend-token"},
            ).json
            assert feature["enabled"] is decision["allow"]
            assert feature["unlocked_by"] == [each["plan"] for each in decision.get("upgrade", [])]
    assert entitlements(stage, "max", shop).json["features"]["analytics"]["unlocked_by"] == []


def test_a_suspended_workspace_is_shown_and_nothing_in_it_is_on(stage):
    shop = stage.workspace("pro", owner="sue")
    stage.admin(f"/v1/workspaces/{shop}/status", {"status": "suspended"})

    answer = entitlements(stage, "sue", shop)

    assert (answer.status_code, answer.json["plan"]) == (200, "pro")
    assert {(each["enabled"], *each["unlocked_by"]) for each in answer.json["features"].values()} == {
        (False,)
    }
    assert [action for action, may in answer.json["actions"].items() if may] == ["billing.manage"]
    assert stage.get("sue", f"/workspaces/{shop}").status_code == 403  # as before


def test_a_stranger_gets_the_same_whether_it_exists_or_not(stage):
    shop = stage.workspace(owner="ida")
    gone = stage.workspace(owner="eve")
    assert stage.delete("eve", f"/workspaces/{gone}").status_code == 204

    answers = [entitlements(stage, "zoe", named) for named in (shop, "nowhere", gone)]

    assert {(answer.status_code, answer.data) for answer in answers} == {(403, answers[0].data)}
    assert answers[0].json["code"] == "not_a_member"
    assert stage.client.get(f"/workspaces/{shop}/entitlements").status_code == 401
    assert entitlements(stage, "ida", shop, headers={"X-Workspace-Id": gone}).status_code == 400


def test_what_is_known_is_304_until_anything_of_it_changes(stage):
    shop = stage.workspace("starter", owner="tom")
    first = entitlements(stage, "tom", shop)
    tag = first.headers["ETag"]

    again = entitlements(stage, "tom", shop, headers={"If-None-Match": tag})
    stage.plan(shop, "pro")
    changed = entitlements(stage, "tom", shop, headers={"If-None-Match": tag})

    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    for answer in (first, again, changed):
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Origin"
    assert (changed.status_code, changed.json["plan"]) == (200, "pro")
    assert changed.headers["ETag"] not in {tag, f"W/{tag}"}
    told, known, _ = [line for line in stage.lines if line["endpoint"] == "show_entitlements"][-3:]
    assert (told["status"], known["status"]) == (200, 304)
    assert told["sha256"] == known["sha256"]


def test_why_a_token_was_refused_is_for_the_log_alone(stage):
    token = a_token(
        sub="adam", aud="x", iss="https://other.example", email="adam@secret.example", role="r0le"
    )

    answer = stage.client.get("/workspaces", headers={"Authorization": f"Bearer {token}"})

    line = stage.lines[-1]
    assert answer.status_code == 401
    assert "aud" not in answer.text
    assert (line["code"], line["why"]) == ("user_unauthenticated", "aud is [x], expected authenticated")
    assert list(line["unverified"]) == ["iss", "aud", "sub", "exp"]
    assert line["unverified"]["sub"] == "adam"
    for secret in (token, token.partition(".")[0], "secret.example", "r0le", "iat"):
        assert secret not in str(line)


def test_a_deleted_users_line_says_so(stage):
    shop = stage.workspace(owner="del")
    assert entitlements(stage, "del", shop).status_code == 200
    stage.rows("DELETE FROM authz.users WHERE id = 'del'")

    assert entitlements(stage, "del", shop).status_code == 401
    assert stage.lines[-1]["why"] == "the user was deleted"
