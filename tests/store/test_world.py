from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from sidecar.cli.load import command
from sidecar.errors import ConfigError, NotAsked
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts
from sidecar.store.world import Loaded, load
from tests.postgres_server import DEMO_WORLD, rows, run
from tests.values import FAR_AWAY, the_catalog

pytestmark = pytest.mark.postgres

MEMBERS = """
    SELECT w.slug, w.plan_tier, m.user_id, m.role FROM authz.workspaces AS w
    JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id ORDER BY 1, 3
"""
EVERYTHING = """
    SELECT w::text, m::text, f::text, u::text FROM authz.workspaces AS w
    LEFT JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id
    LEFT JOIN authz.workspace_features AS f ON f.workspace_id = w.id
    LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id
    ORDER BY w.slug, m.user_id, f.kind, f.name, u.meter
"""
SOLO = """
users:
  - {id: sam, email: sam@example.com}
  - {id: mia, email: mia@example.com}
workspaces:
  - {slug: solo, name: Solo, plan: starter, status: suspended, owner: sam, members: {mia: member},
     overrides: {features: {analytics: true}, limits: {minutes: unlimited, members: 2}},
     usage: {minutes: 97, scenarios: 4}}
"""


@pytest.fixture
def world(tmp_path):
    path = tmp_path / "world.yaml"

    def written(text):
        path.write_text(text)
        return path

    return written


def facts(url, user, workspace):
    store = PostgresFacts(url, catalog=the_catalog(), pool_size=1)
    store.open()
    [found] = store.facts([(user, workspace)], deadline=FAR_AWAY)
    store.close()
    return found


def test_the_demo_world_has_exactly_these_members(database_url):
    assert rows(database_url, MEMBERS) == [
        ("acme", "team", "adam", "admin"),
        ("acme", "team", "mia", "member"),
        ("acme", "team", "olivia", "owner"),
        ("piano", "pro", "pia", "owner"),
        ("solo", "starter", "sam", "owner"),
        ("zoe", "starter", "zoe", "owner"),
    ]
    assert rows(database_url, "TABLE authz.workspace_usage") == []
    assert rows(database_url, "SELECT id, email FROM authz.users ORDER BY 1") == [
        (user, f"{user}@example.com") for user in ("adam", "mia", "olivia", "pia", "sam", "zoe")
    ]


def test_everything_that_a_world_says_is_there(fresh_database_url, world):
    loaded = load(fresh_database_url, world(SOLO))
    found = facts(fresh_database_url, "mia", "solo")

    assert loaded == Loaded(users=2, workspaces=1)
    assert (found.role, found.plan, found.status, found.name) == ("member", "starter", "suspended", "Solo")
    assert found.feature_overrides == {"analytics": True}
    assert found.limit_overrides == {"minutes": None, "members": 2}
    assert {name: usage.used for name, usage in found.usage.items()} == {
        "minutes": 97,
        "scenarios": 4,
        "members": 2,
    }


def test_twice_is_once(fresh_database_url, world):
    load(fresh_database_url, world(SOLO))
    once = rows(fresh_database_url, EVERYTHING)
    load(fresh_database_url, world(SOLO))

    assert rows(fresh_database_url, EVERYTHING) == once


def test_what_a_world_no_longer_says_of_its_workspaces_is_removed(fresh_database_url, world):
    load(fresh_database_url, world(SOLO))
    load(
        fresh_database_url, world("workspaces: [{slug: solo, plan: pro, owner: mia, members: {sam: admin}}]")
    )
    found = facts(fresh_database_url, "mia", "solo")

    assert [row for row in rows(fresh_database_url, MEMBERS) if row[0] == "solo"] == [
        ("solo", "pro", "mia", "owner"),
        ("solo", "pro", "sam", "admin"),
    ]
    assert (found.status, found.feature_overrides, found.limit_overrides) == ("active", {}, {})
    assert found.usage["minutes"].used == 0
    assert found.usage["members"].used == 2


def test_other_workspaces_stay_as_they_are(fresh_database_url, world):
    before = [row for row in rows(fresh_database_url, MEMBERS) if row[0] != "solo"]
    load(fresh_database_url, world(SOLO))

    assert [row for row in rows(fresh_database_url, MEMBERS) if row[0] != "solo"] == before


def test_a_world_takes_back_what_an_administrator_did(fresh_database_url):
    run(
        fresh_database_url,
        "SELECT authz.set_plan('solo', 'team', now() + interval '1 minute')",
        """SELECT authz.set_overrides('solo', '{"analytics": true}')""",
        "SELECT authz.set_status('solo', 'suspended', 'unpaid')",
    )

    load(fresh_database_url, DEMO_WORLD)
    found = facts(fresh_database_url, "sam", "solo")

    assert (found.plan, found.status, found.feature_overrides) == ("starter", "active", {})
    assert rows(fresh_database_url, "SELECT authz.set_plan('solo', 'pro') ->> 'applied'") == [("true",)]


def test_usage_is_of_the_period_that_the_meter_has_now(fresh_database_url, world):
    catalog = the_catalog()
    minutes = replace(catalog.meters["minutes"], anchor="subscription")
    migrate(
        fresh_database_url,
        catalog=replace(catalog, meters={**catalog.meters, "minutes": minutes}),
        revision="anniversary",
    )
    run(
        fresh_database_url,
        "UPDATE authz.workspaces SET subscribed_at = date_trunc('day', now() - interval '3 months 5 days')",
    )

    load(fresh_database_url, world(SOLO))
    usage = facts(fresh_database_url, "sam", "solo").usage["minutes"]
    [(subscribed_at,)] = rows(
        fresh_database_url, "SELECT subscribed_at FROM authz.workspaces WHERE slug = 'solo'"
    )

    assert usage.used == 97
    assert usage.resets_at > datetime.now(UTC)
    assert usage.resets_at.astimezone(UTC).time() == subscribed_at.astimezone(UTC).time()


def test_users_without_a_workspace_get_their_own_and_others_do_not(fresh_database_url, world):
    load(
        fresh_database_url,
        world(
            """
users:
  - {id: u-1, email: "Jo.Doe+tag@example.com"}
  - {id: u-2, email: jo-doe-tag@example.com}
  - {id: u-3}
  - {id: u-4, email: 0123456789abcdef0123456789abcdef@example.com}
  - {id: adam, email: adam@example.com}
"""
        ),
    )

    found = [
        (slug, user)
        for slug, _, user, _ in rows(fresh_database_url, MEMBERS)
        if user in {"u-1", "u-3", "u-4"}
    ]
    assert sorted(user for _, user in found) == ["u-1", "u-3", "u-4"]
    stems = {user: slug[:-9] for slug, _, user, _ in rows(fresh_database_url, MEMBERS) if user[:2] == "u-"}
    assert stems == {"u-1": "jo-doe-tag", "u-2": "jo-doe-tag", "u-3": "workspace", "u-4": "workspace"}
    assert [slug for slug, _, user, _ in rows(fresh_database_url, MEMBERS) if user == "adam"] == ["acme"]


def test_a_member_who_lost_their_place_gets_a_workspace_of_their_own(fresh_database_url, world):
    load(
        fresh_database_url, world("users: [{id: mia}]\nworkspaces: [{slug: acme, plan: team, owner: olivia}]")
    )

    assert [row[0][:-9] for row in rows(fresh_database_url, MEMBERS) if row[2] == "mia"] == ["workspace"]


BAD = """
users: [{id: a, emale: x}, {id: a}]
workspaces:
  - {slug: Acme, plan: teem, owner: a, members: {a: admin, b: owner, c: admn},
     usage: {members: 3, minuts: 1}, overrides: {limits: {minutes: x}, features: {analytics: 1}}}
  - {slug: solo, plan: pro}
  - {slug: solo, plan: pro, owner: b, status: frozen, colour: red}
  - {slug: 0123456789abcdef0123456789abcdef, plan: pro, owner: b}
"""


def test_every_problem_is_reported_with_its_place(database_url, world):
    before = rows(database_url, EVERYTHING)
    path = world(BAD)

    with pytest.raises(ConfigError) as refused:
        load(database_url, path)

    found = [
        (each.pointer.removeprefix(f"{path}:"), each.detail.rpartition("(")[2].rstrip(")"))
        for each in refused.value.problems
    ]
    assert found == [
        ("2:17", "unknown_field"),
        ("2:33", "duplicate_user"),
        ("4:12", "bad_slug"),
        ("4:24", "unknown_plan"),
        ("4:50", "duplicate_member"),
        ("4:63", "second_owner"),
        ("4:73", "unknown_role"),
        ("5:14", "counted_meter"),
        ("5:26", "unknown_meter"),
        ("5:68", "bad_limit"),
        ("5:94", "wrong_type"),
        ("6:5", "missing_field"),
        ("7:12", "duplicate_workspace"),
        ("7:47", "bad_word"),
        ("7:55", "unknown_field"),
        ("8:12", "bad_slug"),
    ]
    assert rows(database_url, EVERYTHING) == before


def test_a_plan_that_was_misspelt_is_guessed(database_url, world):
    with pytest.raises(ConfigError) as refused:
        load(database_url, world("workspaces: [{slug: x, plan: statrer, owner: a}]"))

    [problem] = refused.value.problems
    assert 'did you mean "starter"?' in problem.detail


@pytest.mark.parametrize("text", ["", "[]", "workspaces: {solo: 1}", "users: [&a {id: x}, *a]", "x: 1", "{"])
def test_what_is_no_world_is_refused(database_url, world, text):
    with pytest.raises(ConfigError, match="is not a world"):
        load(database_url, world(text))


def test_where_no_catalog_was_published_the_message_says_what_to_do(empty_database_url):
    with pytest.raises(ConfigError, match="run `sidecar migrate` first"):
        load(empty_database_url, DEMO_WORLD)


def test_where_the_catalog_has_no_owner_everybody_is_a_member(fresh_database_url, world):
    catalog = the_catalog()
    roles = {name: role for name, role in catalog.roles.items() if name != "owner"}
    migrate(fresh_database_url, catalog=replace(catalog, roles=roles), revision="flat", accept_loss=True)

    load(fresh_database_url, world("workspaces: [{slug: flat, plan: pro, members: {a: admin, b: member}}]"))
    with pytest.raises(ConfigError) as refused:
        load(fresh_database_url, world("workspaces: [{slug: flat, plan: pro, owner: a}]"))

    assert [row[2:] for row in rows(fresh_database_url, MEMBERS) if row[0] == "flat"] == [
        ("a", "admin"),
        ("b", "member"),
    ]
    assert "(unknown_role)" in refused.value.problems[0].detail


def test_a_file_that_is_not_there(database_url, tmp_path):
    with pytest.raises(ConfigError) as refused:
        load(database_url, tmp_path / "none.yaml")

    assert refused.value.problems[0].detail == "cannot be read: no such file or directory"


def test_nobody_there_is_one_line():
    with pytest.raises(NotAsked, match="Connection refused"):
        load("postgresql://postgres@127.0.0.1:1/x", DEMO_WORLD)


def test_the_command_says_what_it_did(fresh_database_url):
    arguments = [str(DEMO_WORLD), "--database-url", fresh_database_url]

    text = CliRunner().invoke(command, arguments, catch_exceptions=False)
    document = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)

    assert text.output == f"{DEMO_WORLD}: 4 workspaces and 6 users are as it says\n"
    assert json.loads(document.output) == {"users": 6, "workspaces": 4}
