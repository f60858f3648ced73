"""What administrators tell and read of workspaces, over HTTP and a real database."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.api.stage import AUDITOR, BACKEND, OPS
from tests.values import the_catalog
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

AS_OF = "2026-11-28T09:00:00Z"


def ask(stage, method, path, body=None, token=OPS):
    return stage.client.open(path, method=method, json=body, headers={"Authorization": f"Bearer {token}"})


def subscribe(stage, workspace, **body):
    told = {"plan": "pro", "status": "active", "as_of": AS_OF} | body
    return ask(stage, "PUT", f"/v1/workspaces/{workspace}/subscription", told)


def an_external_id():
    return f"crm:{uuid4().hex}@eu.1_a-b"


def test_a_subscription_is_answered_as_it_is_stored(stage):
    shop = stage.workspace("starter")

    answer = subscribe(stage, shop, seats=25, event="evt_1", source="stripe", subscription="sub_1")

    assert (answer.status_code, answer.json["plan"], answer.json["applied"]) == (200, "pro", True)
    assert answer.json["subscription"] == {
        "subscription": "sub_1",
        "plan": "pro",
        "status": "active",
        "seats": 25,
        "trial_ends_at": None,
        "past_due_since": None,
        "billing_anchor": None,
        "as_of": AS_OF,
        "event": "evt_1",
        "source": "stripe",
    }
    again = subscribe(stage, shop, seats=25, event="evt_1", source="stripe", subscription="sub_1")
    assert (again.status_code, again.json["replayed"], again.json["applied"]) == (200, True, False)


def test_another_body_under_an_events_name_is_409(stage):
    shop = stage.workspace("starter")
    subscribe(stage, shop, event="evt_1")

    answer = subscribe(stage, shop, event="evt_1", plan="team")

    assert (answer.status_code, answer.json["code"]) == (409, "event_reused")


def test_an_event_is_replayed_though_its_plan_is_no_longer_declared(stage, policy):
    shop, told = stage.workspace("starter"), {"plan": "team", "event": "evt_1"}
    unnamed = {"plan": "team", "as_of": "2026-11-28T08:00:00Z"}
    subscribe(stage, shop, **told)
    subscribe(stage, shop, **unnamed)
    catalog = the_catalog()
    without = replace(catalog, plans={name: plan for name, plan in catalog.plans.items() if name != "team"})

    with a_people_stage(stage.url, catalog=without, engine=policy) as later:
        again = [subscribe(later, shop, **each) for each in (told, unnamed)]
        other = subscribe(later, shop, **told | {"status": "past_due"})
        new = subscribe(later, shop, plan="team", event="evt_2")

    assert [(each.status_code, each.json.get("replayed")) for each in again] == [(200, True)] * 2
    assert (other.status_code, other.json["code"]) == (409, "event_reused")
    assert (new.status_code, new.json["code"]) == (400, "unknown_plan")
    assert [each["pointer"] for each in new.json["errors"]] == ["/plan"]


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("plan", {"plan": "pro", "overrule": True}),
        ("status", {"status": "active", "overrule": True}),
        ("subscription", {"plan": "pro", "status": "active"}),
    ],
)
def test_a_date_that_is_to_come_is_400_at_all_three(stage, what, body):
    path = f"/v1/workspaces/{stage.workspace()}/{what}"

    answer = ask(stage, "PUT", path, body | {"as_of": "2999-01-01T00:00:00Z"})

    assert (answer.status_code, answer.json["code"]) == (400, "as_of_in_the_future")


def test_seats_are_the_limit_of_members_while_the_subscription_gives_its_plan(stage):
    shop = stage.workspace("starter")
    owner = f"{shop}-owner"
    refused = stage.post(owner, f"/workspaces/{shop}/invite", {"email": "a@example.com", "role": "member"})
    assert refused.status_code == 402

    subscribe(stage, shop, seats=2, event="a")
    stage.invited(owner, shop, "a@example.com")
    quota = stage.get(owner, f"/workspaces/{shop}").json["quotas"]["members"]
    full = stage.post(owner, f"/workspaces/{shop}/invite", {"email": "b@example.com", "role": "member"})

    assert (quota["limit"], quota["used"]) == (2, 2)
    assert (full.status_code, full.json["code"]) == (402, "quota_exceeded")
    assert [each["plan"] for each in full.json["upgrade"]] == ["team"]

    ask(stage, "PUT", f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 3}})
    assert stage.invited(owner, shop, "b@example.com")
    ask(stage, "PUT", f"/v1/workspaces/{shop}/overrides", {"limits": {"members": None}})
    subscribe(stage, shop, seats=2, status="canceled", event="b")
    assert stage.get(owner, f"/workspaces/{shop}").json["quotas"]["members"]["limit"] == 1


def test_a_workspace_is_shown_with_all_that_is_known(stage):
    shop = stage.workspace("starter", members={"mia": "member"})
    subscribe(stage, shop, subscription="sub_1")
    override = {"features": {"team_sessions": True}, "reason": "pilot", "until_plan_change": True}
    ask(stage, "PUT", f"/v1/workspaces/{shop}/overrides", override)

    answer = ask(stage, "GET", f"/v1/workspaces/{shop}", token=AUDITOR)

    assert answer.status_code == 200
    known = answer.json
    assert list(known) == [
        *("id", "slug", "name", "external_id", "plan", "status", "subscriptions", "overrides", "owner"),
        *("members", "created"),
    ]
    assert (known["slug"], known["plan"], known["owner"]) == (shop, "pro", f"{shop}-owner")
    assert [each["subscription"] for each in known["subscriptions"]] == ["sub_1"]
    assert known["overrides"] == {
        "features": {
            "team_sessions": {
                "value": True,
                "expires_at": None,
                "until_plan_change": True,
                "reason": "pilot",
            }
        },
        "limits": {},
    }
    assert [(each["user"], each["role"]) for each in known["members"]] == [
        ("mia", "member"),
        (f"{shop}-owner", "owner"),
    ]
    assert ask(stage, "GET", f"/v1/workspaces/{shop}", token=BACKEND).status_code == 403
    assert ask(stage, "GET", "/v1/workspaces/nowhere").json["code"] == "unknown_workspace"


def test_members_of_a_workspace_come_in_pages_and_the_owner_on_each(stage):
    shop = stage.workspace("team", slug=f"a-{uuid4().hex[:10]}", members={"mia": "member", "max": "admin"})
    path = f"/v1/workspaces/{shop}"

    def page(**query):
        known = ask(stage, "GET", f"{path}?{urlencode(query)}").json
        assert known["owner"] == f"{shop}-owner"
        return [each["user"] for each in known["members"]], known.get("next")

    assert page(limit=2) == ([f"{shop}-owner", "max"], "max")
    assert page(limit=2, after="max") == (["mia"], None)
    assert page(limit=3) == page() == ([f"{shop}-owner", "max", "mia"], None)
    for wrong in ("limit=0", "limit=1001", "after="):
        assert ask(stage, "GET", f"{path}?{wrong}").status_code == 400


def test_no_answer_has_more_than_a_thousand_members(stage):
    shop = stage.workspace("team")
    stage.rows(
        """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
        SELECT w.id, format('m-%%s', n), 'member' FROM authz.workspaces AS w, generate_series(1, 1000) AS n
        WHERE w.slug = %s""",
        shop,
    )
    for answer in (
        ask(stage, "GET", f"/v1/workspaces/{shop}"),
        ask(stage, "PATCH", f"/v1/workspaces/{shop}", {"external_id": None}),
    ):
        known = answer.json
        assert (len(known["members"]), known["next"]) == (1_000, known["members"][-1]["user"])


def test_an_external_id_names_a_workspace_wherever_one_is_named(stage):
    shop, id_ = stage.workspace("team"), an_external_id()
    owner = f"{shop}-owner"

    patched = ask(stage, "PATCH", f"/v1/workspaces/{shop}", {"external_id": id_})

    assert (patched.status_code, patched.json["external_id"]) == (200, id_)
    named = f"ext:{id_}"
    question = {"user": owner, "workspace": named, "action": "platform.use"}
    consume = {"user": owner, "workspace": named, "action": "recording.start", "mode": "consume"}
    path = f"/v1/workspaces/{named}"
    answers = [
        ask(stage, "GET", path),
        ask(stage, "PUT", f"{path}/plan", {"plan": "pro"}),
        ask(stage, "PUT", f"{path}/status", {"status": "active"}),
        ask(stage, "PUT", f"{path}/overrides", {"features": {}}),
        subscribe(stage, named, plan="team"),
        ask(stage, "POST", "/v1/authorize", question, BACKEND),
        ask(stage, "POST", "/v1/authorize", consume | {"idempotency_key": "k"}, BACKEND),
        ask(stage, "POST", "/v1/usage/release", {"workspace": named, "idempotency_key": "k"}, BACKEND),
        ask(stage, "GET", f"{path}/entitlements?user={owner}", None, BACKEND),
        stage.get(owner, f"/workspaces/{named}"),
        stage.get(owner, f"/workspaces/{named}/members"),
    ]
    assert [each.status_code for each in answers] == [200] * len(answers)
    assert [each.json["allow"] for each in answers[5:7]] == [True, True]
    assert stage.rows("SELECT authz.members_of(%s, NULL, 9) #>> '{facts,slug}'", named) == [(shop,)]
    assert stage.rows("SELECT authz.facts(ARRAY[%s], ARRAY[%s]) -> 0 ->> 'slug'", owner, named) == [(shop,)]

    ask(stage, "PATCH", f"/v1/workspaces/{shop}", {"external_id": None})
    assert ask(stage, "GET", path).status_code == 404


def test_an_external_id_is_of_one_workspace(stage):
    one, other, id_ = stage.workspace(), stage.workspace(), an_external_id()
    ask(stage, "PATCH", f"/v1/workspaces/{one}", {"external_id": id_})

    taken = ask(stage, "PATCH", f"/v1/workspaces/{other}", {"external_id": id_})

    assert (taken.status_code, taken.json["code"]) == (409, "external_id_taken")
    assert ask(stage, "PATCH", f"/v1/workspaces/{one}", {"external_id": id_}).status_code == 200


@pytest.mark.parametrize("wrong", ["", "a b", "a/b", "ä", "x" * 201, 7, True])
def test_an_external_id_needs_no_escape_in_a_path(stage, wrong):
    answer = ask(stage, "PATCH", f"/v1/workspaces/{stage.workspace()}", {"external_id": wrong})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")


def test_a_change_of_the_external_id_is_recorded(stage):
    shop, id_ = stage.workspace(), an_external_id()
    ask(stage, "PATCH", f"/v1/workspaces/{shop}", {"external_id": id_})

    assert stage.outbox(shop)[-1] == (
        "ops",
        "caller",
        "workspace.changed",
        {"external_id": {"from": None, "to": id_}},
    )


def find(stage, **query):
    answer = ask(stage, "GET", f"/v1/workspaces?{urlencode(query)}")
    assert answer.status_code == 200, answer.text
    return [each["slug"] for each in answer.json["workspaces"]], answer.json["next"]


def test_workspaces_are_found_by_what_an_administrator_knows(stage):
    mark = uuid4().hex[:8]
    one = stage.workspace("team", slug=f"{mark}-one", members={f"{mark}-mia": "member"})
    two = stage.workspace("starter", slug=f"{mark}-two")
    id_ = an_external_id()
    known = ask(stage, "PATCH", f"/v1/workspaces/{one}", {"external_id": id_}).json
    stage.get(f"{mark}-mia", "/workspaces", email=f"{mark}@example.com")
    subscribe(stage, two, plan="pro", status="unpaid")

    assert find(stage, q=mark) == ([one, two], None)
    assert find(stage, q=mark.upper()) == ([one, two], None)
    assert find(stage, q=mark, plan="team") == ([one], None)
    assert find(stage, q=mark, status="suspended") == ([two], None)
    assert find(stage, q=known["id"].upper()) == ([one], None)
    assert find(stage, q=f"ext:{id_}") == ([one], None)
    assert one in find(stage, q=f"{mark}@EXAMPLE.com")[0]
    assert one in find(stage, q=f"{mark}-mia")[0]
    assert find(stage, q=f"{mark}%") == ([], None)
    assert find(stage, q=mark, limit=1) == ([one], one)
    assert find(stage, q=mark, limit=1, after=one) == ([two], None)
