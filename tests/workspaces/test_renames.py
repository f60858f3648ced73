"""A sidecar of the revision before answers as before while rows are stored by other names."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sidecar.store.migrate import migrate
from tests.api.stage import BACKEND
from tests.postgres_server import rows
from tests.values import the_catalog
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

ROLES = {"member": "person", "admin": "manager", "owner": "owner"}
PLANS = {"starter": "small", "pro": "middle", "team": "large"}
METERS = {"minutes": "talk", "scenarios": "scenes", "members": "seats"}
FEATURES = {"analytics": "figures"}
ACTIONS = {"recording.start": "tape.start", "scenarios.create": "scenes.create"}


def renamed(names, mapping):
    return {mapping.get(name, name): _named(each, mapping.get(name, name)) for name, each in names.items()}


def _named(each, name):
    return each if each.name == name else replace(each, name=name, renamed_from=each.name)


def the_renamed_catalog():
    catalog = the_catalog()
    plans = {
        name: replace(
            plan,
            features=frozenset(FEATURES.get(each, each) for each in plan.features),
            limits={METERS[meter]: limit for meter, limit in plan.limits.items()},
        )
        for name, plan in catalog.plans.items()
    }
    actions = {
        name: replace(
            action,
            roles=tuple(ROLES[role] for role in action.roles),
            feature=action.feature and FEATURES.get(action.feature, action.feature),
            takes={METERS[meter]: amount for meter, amount in action.takes.items()},
        )
        for name, action in catalog.actions.items()
    }
    return replace(
        catalog,
        roles=renamed(catalog.roles, ROLES),
        features=renamed(catalog.features, FEATURES),
        meters=renamed(catalog.meters, METERS),
        plans=renamed(plans, PLANS),
        actions=renamed(actions, ACTIONS),
        declared_actions=tuple(ACTIONS.get(name, name) for name in catalog.declared_actions),
        default_plan=PLANS[catalog.default_plan],
        routes=(),
        invariants=(),
    )


@pytest.fixture
def stage(fresh_database_url):
    """Of the revision that is published at first."""
    with a_people_stage(fresh_database_url, revision="dev", pool_size=2) as stage:
        yield stage


def backend(stage, path, body):
    return stage.client.post(path, json=body, headers={"Authorization": f"Bearer {BACKEND}"})


def told(answer):
    """What an answer says, without what is another each time."""
    text = f"{answer.status_code} {answer.text}"
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)
    text = re.sub(r'("slug": ?"[^"]*-)[0-9a-f]{8}"', r'\1"', text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "TIME", text)
    return re.sub(r'"(decision_id|retry_after|token|url|id)": ?("[^"]*"|\d+)', r'"\1": ', text)


def everything(stage, slug):
    """Each way to ask and to change, in the workspace *slug*, whose owner is olga; what was answered."""
    of = {"workspace": slug, "user": "olga"}
    minutes = {**of, "action": "recording.start", "mode": "consume", "amounts": {"minutes": 5}}
    made = {**of, "action": "scenarios.create", "mode": "consume", "resource": "s-1"}
    yield stage.admin(f"/v1/workspaces/{slug}/plan", {"plan": "team"})
    yield stage.admin(
        f"/v1/workspaces/{slug}/overrides", {"features": {"analytics": False}, "limits": {"minutes": 50}}
    )
    yield backend(stage, "/v1/authorize", {**of, "action": "analytics.view"})
    for key in ("first", "first", "second"):
        yield backend(stage, "/v1/authorize", {**minutes, "idempotency_key": f"{slug}-{key}"})
    yield backend(stage, "/v1/authorize", minutes)
    yield backend(stage, "/v1/authorize", {**minutes, "amounts": {"minutes": 999}})
    yield backend(stage, "/v1/authorize", made)
    yield backend(stage, "/v1/authorize", made)
    held = backend(stage, "/v1/authorize", {**minutes, "mode": "reserve", "ttl_seconds": 600})
    yield held
    reservation = held.json["reservation"]["id"]
    yield backend(stage, f"/v1/reservations/{reservation}/commit", {"amounts": {"minutes": 9}})
    yield backend(stage, f"/v1/reservations/{reservation}/commit", {"amounts": {"minutes": 2}})
    other = backend(stage, "/v1/authorize", {**minutes, "mode": "reserve", "ttl_seconds": 600})
    yield backend(stage, f"/v1/reservations/{other.json['reservation']['id']}/release", None)
    yield backend(stage, "/v1/usage/release", {"workspace": slug, "idempotency_key": f"{slug}-first"})
    yield backend(stage, "/v1/usage/release", {"workspace": slug, "meter": "scenarios", "resource": "s-1"})
    yield backend(
        stage,
        "/v1/authorize/batch",
        {"questions": [{**of, "action": "role:admin"}, minutes | {"mode": "check"}]},
    )
    yield stage.client.get(
        f"/v1/workspaces/{slug}/entitlements?user=olga", headers={"Authorization": f"Bearer {BACKEND}"}
    )
    yield stage.get("olga", f"/workspaces/{slug}/members")
    yield stage.patch("olga", f"/workspaces/{slug}/members/max", {"role": "admin"})
    yield stage.post("olga", f"/workspaces/{slug}/transfer", {"user": "max"})
    yield stage.post("max", f"/workspaces/{slug}/transfer", {"user": "olga"})
    yield stage.post("olga", f"/workspaces/{slug}/invite", {"email": "nora@example.com", "role": "member"})
    yield stage.get("olga", f"/workspaces/{slug}/invitations")
    yield stage.admin(f"/v1/workspaces/{slug}/overrides", {"features": {"analytics": None}})
    yield stage.admin(f"/v1/workspaces/{slug}/status", {"status": "active"})
    yield stage.post(f"olga-{slug}", "/workspaces", {"name": f"{slug}-x"})


def test_a_sidecar_of_the_revision_before_answers_as_before_on_every_way_in(stage):
    people = {"max": "member"}
    stage.workspace("starter", owner="olga", members=people, slug="w-before")
    stage.get("max", "/workspaces")  # so that their e-mail is known
    before = [told(answer).replace("w-before", "W") for answer in everything(stage, "w-before")]

    migrate(stage.url, catalog=the_renamed_catalog(), revision="next")
    stage.rows(
        """WITH made AS (INSERT INTO authz.workspaces (slug, name, plan_tier)
            VALUES ('w-after', 'w-after', 'small') RETURNING id)
        INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
        SELECT made.id, p.* FROM made, (VALUES ('olga', 'owner'), ('max', 'person')) AS p"""
    )
    after = [told(answer).replace("w-after", "W") for answer in everything(stage, "w-after")]

    assert after == before
    assert sorted(answer[:3] for answer in before if answer[:3] != "200") == ["201", "201", "409"]
    stored = rows(
        stage.url,
        """SELECT DISTINCT l.meter, l.action FROM authz.usage_ledger AS l
        JOIN authz.workspaces AS w ON w.id = l.workspace_id WHERE w.slug = 'w-after' ORDER BY 1""",
    )
    assert {meter for meter, _ in stored} == {"talk", "scenes"}


def test_what_was_taken_and_held_before_goes_on_after_by_either_name(stage):
    of = {"workspace": stage.workspace("team", owner="olga"), "user": "olga"}
    asked = {**of, "action": "recording.start", "amounts": {"minutes": 5}}
    taken = {**asked, "mode": "consume", "idempotency_key": "before"}
    backend(stage, "/v1/authorize", taken)
    held = [
        backend(stage, "/v1/authorize", {**asked, "mode": "reserve", "ttl_seconds": 600}).json["reservation"][
            "id"
        ]
        for _ in range(2)
    ]

    migrate(stage.url, catalog=the_renamed_catalog(), revision="next")

    with a_people_stage(stage.url, catalog=the_renamed_catalog(), revision="next", pool_size=2) as new:
        by_new = {**taken, "action": "tape.start", "amounts": {"talk": 5}}
        for each, repeated, reservation in ((stage, taken, held[0]), (new, by_new, held[1])):
            again = backend(each, "/v1/authorize", repeated).json
            assert (again["allow"], again["replayed"], again["plan"]) == (
                True,
                True,
                "team" if each is stage else "large",
            )
            assert backend(each, f"/v1/reservations/{reservation}/commit", {}).status_code == 200
        given_back = {"workspace": of["workspace"], "idempotency_key": "before"}
        assert backend(new, "/v1/usage/release", given_back).json["released"] == {"talk": 5}
    assert rows(stage.url, "SELECT used FROM authz.workspace_usage WHERE meter = 'talk' AND used > 0") == [
        (10,)
    ]


def test_nothing_is_taken_twice_or_lost_while_the_rows_are_renamed(stage):
    workspace = stage.workspace("team", owner="olga")
    asked = {
        "workspace": workspace,
        "user": "olga",
        "action": "recording.start",
        "mode": "consume",
        "amounts": {"minutes": 1},
    }
    assert backend(stage, "/v1/authorize", asked).json["allow"]

    def spend(_):
        return [backend(stage, "/v1/authorize", asked).json.get("allow", False) for _ in range(15)]

    with ThreadPoolExecutor(4) as pool:
        spent = pool.map(spend, range(4))
        migrate(stage.url, catalog=the_renamed_catalog(), revision="next")
        allowed = 1 + sum(map(sum, spent))

    assert rows(
        stage.url,
        "SELECT u.meter, u.used FROM authz.workspace_usage AS u"
        " JOIN authz.workspaces AS w ON w.id = u.workspace_id"
        " WHERE w.slug = %s",
        workspace,
    ) == [("talk", allowed)]
    assert rows(stage.url, "SELECT m.* FROM authz.workspaces AS w, authz.miscounts(w.id) AS m") == []


def test_an_override_of_a_name_that_is_gone_is_not_shown_and_can_be_removed(stage):
    workspace = stage.workspace("team", owner="olga")
    path = f"/v1/workspaces/{workspace}/overrides"
    stage.admin(path, {"features": {"analytics": False, "video_avatar": True}})
    catalog = the_catalog()
    without = replace(
        catalog,
        features={name: each for name, each in catalog.features.items() if name != "analytics"},
        plans={
            name: replace(plan, features=plan.features - {"analytics"})
            for name, plan in catalog.plans.items()
        },
        routes=(),
    )
    migrate(stage.url, catalog=without, revision="next", accept_loss=True)

    with a_people_stage(stage.url, catalog=without, revision="next", pool_size=1) as new:
        shown = list(new.admin(path, {"features": {}}).json["overrides"]["features"])
        removed = new.admin(path, {"features": {"analytics": None}})
        refused = new.admin(path, {"features": {"analytics": True}})

    assert (shown, removed.status_code, refused.status_code) == (["video_avatar"], 200, 400)
    assert (
        rows(
            stage.url,
            "SELECT name FROM authz.workspace_features WHERE kind = 'feature' AND name = 'analytics'",
        )
        == []
    )
