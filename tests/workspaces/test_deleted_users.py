"""Deleted stays deleted: no token brings a deleted user back, whatever was remembered of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from uuid import uuid4

import psycopg
import pytest

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from tests.identity.provider import a_token
from tests.values import FAR_AWAY, a_question

pytestmark = pytest.mark.postgres

OF_USERS = [endpoint for endpoint in ENDPOINTS if endpoint.audience is Audience.END_USERS]
BODIES = {
    "create_workspace": {"name": "New"},
    "rename_workspace": {"name": "New"},
    "change_role": {"role": "admin"},
    "transfer": {"user": "max"},
    "invite": {"email": "ivy@example.com", "role": "member"},
    "accept_invitation": {"token": "inv_x"},
}


def somebody():
    return f"u-{uuid4().hex[:12]}"


def said(answer):
    return answer.status_code, answer.json and answer.json.get("code")


def delete(stage, user):
    stage.rows("DELETE FROM authz.users WHERE id = %s", user)


def insert(stage, user):
    stage.rows("INSERT INTO authz.users (id, email) VALUES (%s, NULL)", user)


def at_gateway(stage, user, **claims):
    headers = {
        "Authorization": f"Bearer {a_token(sub=user, iss=None, **claims)}",
        "X-Original-Method": "GET",
        "X-Original-URI": "/workspaces/acme/analytics",
    }
    return stage.client.get("/gw/nginx", headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"})


NOBODY = (401, "user_unauthenticated")


@pytest.mark.parametrize("route", OF_USERS, ids=lambda each: each.name)
def test_a_user_who_was_deleted_a_moment_after_they_came_is_401_on_every_route(stage, route):
    user = somebody()
    shop = stage.workspace(owner="nora", members={user: "admin"})
    assert stage.get(user, f"/workspaces/{shop}").status_code == 200

    delete(stage, user)
    path = route.path.replace("{workspace}", shop).replace("{user}", "max").replace("{invitation}", "x")
    answer = stage.ask(user, route.method, path, BODIES.get(route.name))

    assert said(answer) == NOBODY
    assert stage.rows("SELECT FROM authz.workspace_memberships WHERE user_id = %s", user) == []
    assert stage.rows("SELECT FROM authz.users WHERE id = %s", user) == []


def test_a_deleted_user_is_401_at_a_gateway_and_a_stranger_403(stage):
    user, stranger = somebody(), somebody()
    stage.rows(
        """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
        SELECT id, %s, 'admin' FROM authz.workspaces WHERE slug = 'acme'""",
        user,
    )
    insert(stage, user)
    assert at_gateway(stage, user).status_code == 200

    delete(stage, user)

    assert said(at_gateway(stage, user)) == NOBODY
    assert said(at_gateway(stage, stranger)) == (403, "not_a_member")


def test_a_deleted_user_who_is_put_back_by_hand_is_a_member_nowhere(stage):
    user = somebody()
    insert(stage, user)
    delete(stage, user)
    shop = stage.workspace(owner="nora", members={user: "admin"})

    authorizer = stage.service.authorizer
    decision = authorizer.decide(a_question(user=user, workspace=shop), deadline=FAR_AWAY)
    listed = authorizer.workspaces_of(user, action=None, after=None, limit=9, deadline=FAR_AWAY)
    role = "SELECT authz.get_workspace_role(%s, id) FROM authz.workspaces WHERE slug = %s"

    assert decision.verdict.reason == "not_a_member"
    assert listed.workspaces == ()
    assert stage.rows(role, user, shop) == [(None,)]


def test_a_tombstone_stands_for_thirty_days_and_an_insert_lifts_it(stage):
    user = somebody()
    stage.get(user, "/workspaces")
    delete(stage, user)

    def after(days):
        stage.rows(
            "UPDATE authz.deleted_users SET deleted_at = now() - make_interval(days => %s) WHERE id = %s",
            days,
            user,
        )
        return stage.get(user, "/workspaces").status_code

    assert (after(29), after(31)) == (401, 200)

    delete(stage, user)
    assert stage.get(user, "/workspaces").status_code == 401
    insert(stage, user)
    assert stage.get(user, "/workspaces").status_code == 200


def test_a_user_who_is_forgotten_by_hand_stays_so_and_old_tombstones_go(stage):
    user, former = somebody(), somebody()
    stage.rows("INSERT INTO authz.deleted_users VALUES (%s, now() - interval '31 days')", former)
    stage.workspace(owner=user)

    stage.rows("SELECT authz.forget_users(%s)", [user])

    assert said(stage.get(user, "/workspaces")) == NOBODY
    assert stage.rows("SELECT id FROM authz.deleted_users WHERE id IN (%s, %s)", user, former) == [(user,)]


@pytest.mark.parametrize("route", ["accept_invitation", "create_workspace", "list_workspaces"])
def test_who_is_deleted_while_they_ask_gets_nothing(stage, route):
    """The deletion has begun when they come, and ends while they wait for it."""
    user = somebody()
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, f"{user}@example.com")["token"]
    if route == "list_workspaces":
        insert(stage, user)  # they come for the first time
    else:
        stage.get(user, "/workspaces")

    with psycopg.connect(stage.url) as deleting, ThreadPoolExecutor(1) as pool:
        deleting.execute("DELETE FROM authz.users WHERE id = %s", (user,))
        asking = pool.submit(
            {
                "accept_invitation": lambda: stage.accept(user, token),
                "create_workspace": lambda: stage.post(user, "/workspaces", {"name": "New"}),
                "list_workspaces": lambda: stage.get(user, "/workspaces"),
            }[route]
        )
        assert not wait([asking], timeout=0.3).done
        deleting.commit()
        answer = asking.result(30)

    assert said(answer) == NOBODY
    assert stage.rows("SELECT FROM authz.workspace_memberships WHERE user_id = %s", user) == []
    assert stage.rows("SELECT FROM authz.users WHERE id = %s", user) == []
