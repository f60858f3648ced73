"""A backend without JWTs acts for a user: at all their routes, and it is known by whose token."""

from __future__ import annotations

from socket import AF_UNIX
from types import SimpleNamespace

import pytest

from tests.api.stage import BACKEND
from tests.identity.provider import a_token
from tests.workspaces.stage import PORTAL, a_people_stage

pytestmark = pytest.mark.postgres


def act(stage, user, method, path, body=None, *, token=PORTAL, email=None, **headers):
    named = {"X-Act-As": user, "X-Act-As-Email": email, "Authorization": f"Bearer {token}"} | headers
    sent = {name: value for name, value in named.items() if value is not None}
    return stage.client.open(path, method=method, json=body, headers=sent)


@pytest.fixture(params=["with JWT keys", "without"])
def either(request, stage, database_url, policy):
    if request.param == "with JWT keys":
        yield stage
    else:
        with a_people_stage(database_url, engine=policy, identities=None) as without:
            yield without


def test_a_caller_acts_for_a_user_and_the_outbox_says_for_whom_and_by_whose_token(either):
    shop = either.workspace(owner="nora")
    began = either.newest()

    answer = act(either, "nora", "PATCH", f"/workspaces/{shop}", {"name": "New"})

    assert (answer.status_code, answer.json["name"]) == (200, "New")
    told = "SELECT actor, actor_kind, via, kind FROM authz.outbox WHERE id > %s"
    assert either.rows(told, began) == [("nora", "user", "portal", "workspace.renamed")]
    line = either.lines[-1]
    assert (line["end_user"], line["caller"], line["action"]) == ("nora", "portal", "workspace.update")


def test_who_acts_themselves_does_so_by_nobodys_token(stage):
    shop = stage.workspace(owner="nora")
    began = stage.newest()

    stage.patch("nora", f"/workspaces/{shop}", {"name": "New"})

    assert stage.rows("SELECT actor, via FROM authz.outbox WHERE id > %s", began) == [("nora", None)]


def test_a_user_who_is_acted_for_the_first_time_gets_a_workspace_and_their_email_counts_as_verified(either):
    shop = either.workspace(owner="nora")
    invited = act(
        either, "nora", "POST", f"/workspaces/{shop}/invite", {"email": "zoé@example.com", "role": "member"}
    )
    token = {"token": invited.json["token"]}

    # As header fields are sent: UTF-8, which WSGI reads as Latin-1.
    user, email = (each.encode().decode("latin-1") for each in (f"zoé-{shop}", "zoé@example.com"))
    unproved = act(either, user, "POST", "/invitations/accept", token)
    accepted = act(either, user, "POST", "/invitations/accept", token, email=email)

    assert (unproved.status_code, unproved.json["code"]) == (404, "invitation_invalid")
    assert (accepted.status_code, accepted.json["slug"]) == (200, shop)
    assert either.roles(shop) == {"nora": "owner", f"zoé-{shop}": "member"}
    joined = "SELECT via FROM authz.outbox WHERE kind = 'member.joined' AND actor = %s"
    assert set(either.rows(joined, f"zoé-{shop}")) == {("portal",)}


def test_what_the_user_may_not_do_the_caller_may_not_do_for_them(either):
    shop = either.workspace(owner="nora", members={"max": "member"})

    assert act(either, "max", "DELETE", f"/workspaces/{shop}").json["code"] == "role_insufficient"
    assert act(either, "eve", "GET", f"/workspaces/{shop}").json["code"] == "not_a_member"


@pytest.mark.parametrize("token", [BACKEND, "ops-token", "auditor-token"])
def test_a_token_without_the_scope_is_403(either, token):
    answer = act(either, "nora", "GET", "/workspaces", token=token)

    assert (answer.status_code, answer.json["code"]) == (403, "scope_missing")
    assert "people" in answer.json["detail"]


@pytest.mark.parametrize("token", ["sct_unknown", ""])
def test_an_unknown_token_is_401(either, token):
    answer = act(either, "nora", "GET", "/workspaces", token=token)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    assert act(either, "nora", "GET", "/workspaces", Authorization=None).status_code == 401


def test_beside_a_users_own_token_it_is_400_whether_or_not_that_is_good(either):
    for token in (a_token(sub="nora", iss=None), a_token(key="x" * 32, sub="nora")):
        for named in ("X-Act-As", "X-Act-As-Email"):
            answer = act(either, None, "GET", "/workspaces", token=token, **{named: "adam@example.com"})
            assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
            assert answer.json["errors"][0]["pointer"] == "/header/X-Act-As"


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"X-Act-As": ""}, "X-Act-As"),
        ({"X-Act-As": "x" * 257}, "X-Act-As"),
        ({"X-Act-As": "\xff"}, "X-Act-As"),
        ({"X-Act-As-Email": "a@example.com"}, "X-Act-As"),
        ({"X-Act-As": "nora", "X-Act-As-Email": "nora"}, "X-Act-As-Email"),
        ({"X-Act-As": "nora", "X-Act-As-Email": ""}, "X-Act-As-Email"),
        ({"X-Act-As": "nora", "X-Act-As-Email": f"{'x' * 320}@example.com"}, "X-Act-As-Email"),
    ],
)
def test_whom_it_is_for_is_said_well_or_refused(either, headers, pointer):
    answer = act(either, None, "GET", "/workspaces", **headers)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [each["pointer"] for each in answer.json["errors"]] == [f"/header/{pointer}"]


def test_a_caller_who_forgets_for_whom_is_told_so_where_nobody_else_could_be_meant(database_url, policy):
    with a_people_stage(database_url, engine=policy, identities=None) as stage:
        answer = act(stage, None, "GET", "/workspaces")

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/header/X-Act-As")


def test_with_jwt_keys_a_callers_token_alone_is_no_users(stage):
    assert act(stage, None, "GET", "/workspaces").json["code"] == "user_unauthenticated"


def test_the_hash_of_a_row_covers_by_whose_token_it_was(stage):
    row = "o.id, o.at, o.transaction, o.workspace_id, o.actor, o.actor_kind, o.kind, o.data, o.decision_id"
    by = ", ".join(
        f"authz.outbox_hash(ROW({row}, {via}, o.epoch)::authz.outbox)" for via in ("NULL", "'a'", "'b'")
    )
    [hashes] = stage.rows(
        f"SELECT authz.outbox_hash(o), {by} FROM authz.outbox AS o WHERE o.via IS NULL LIMIT 1"
    )
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_on_a_unix_socket_a_backend_has_every_scope_and_is_named_in_the_history(stage):
    shop = stage.workspace(owner="nora")
    began = stage.newest()
    came = {"gunicorn.socket": SimpleNamespace(family=AF_UNIX), "REMOTE_ADDR": ""}

    def asked(method, path, body=None, **headers):
        return stage.client.open(path, method=method, json=body, headers=headers, environ_base=came)

    question = {"user": "nora", "workspace": shop, "action": "platform.use"}
    answers = [
        asked("POST", "/v1/authorize", question),
        asked("PUT", f"/v1/workspaces/{shop}/plan", {"plan": "pro"}),
        asked("GET", "/metrics"),
        asked("PATCH", f"/workspaces/{shop}", {"name": "New"}, **{"X-Act-As": "nora"}),
    ]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert stage.rows("SELECT actor, via, kind FROM authz.outbox WHERE id > %s ORDER BY id", began) == [
        ("unix-socket", None, "workspace.plan_changed"),
        ("nora", "unix-socket", "workspace.renamed"),
    ]
