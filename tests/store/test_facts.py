"""The contract of a FactStore, for PostgreSQL and for the fake alike; then what PostgreSQL alone can show."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic
from unittest.mock import ANY
from uuid import UUID, uuid4

import psycopg
import pytest

from sidecar.decisions.model import Roster
from sidecar.errors import DatabaseNotMigrated, FactsMisread, FactsUnavailable
from sidecar.store.facts_token import FactsToken
from sidecar.store.postgres import PostgresFacts, facts_in
from tests.fakes import FactsInMemory
from tests.postgres_server import rows, run
from tests.values import FAR_AWAY, some_facts, the_catalog

pytestmark = pytest.mark.postgres

DEMO = [
    ("olivia", "acme", "team", "owner"),
    ("adam", "acme", "team", "admin"),
    ("mia", "acme", "team", "member"),
    ("pia", "piano", "pro", "owner"),
    ("sam", "solo", "starter", "owner"),
    ("zoe", "zoe", "starter", "owner"),
]
HOSTILE = [
    "",
    " ",
    "'",
    '"',
    "\\",
    '\\"',
    "{}",
    "{acme,solo}",
    "NULL",
    "null",
    "%",
    "%s",
    "$1",
    "_",
    "acme'--",
    '","acme',
    "adam\0",
    "\0adam",
    "\ud800",
    "ädam",
    "\uff41\uff44\uff41\uff4d",  # adam, in full width
    "Adam",
    "adam ",
    "\n",
    "😀" * 256,
    "a" * 10_000,
    "ACME",
    "not-a-uuid",
    "00000000-0000-0000-0000-00000000000",
    "{3f2b8a52-1111-4222-8333-444455556666}",
]


@pytest.fixture(scope="module")
def postgres(database_url):
    store = PostgresFacts(database_url, catalog=the_catalog(), pool_size=2)
    store.open()
    yield store
    store.close()


@pytest.fixture(scope="module")
def in_memory():
    ids = {slug: uuid4() for _, slug, _, _ in DEMO}
    return FactsInMemory(
        {
            (user, slug): replace(some_facts(plan=plan, role=role), workspace_id=ids[slug], slug=slug)
            for user, slug, plan, role in DEMO
        }
    )


@pytest.fixture(params=["postgres", "in_memory"])
def store(request):
    return request.getfixturevalue(request.param)


def facts(store, user, workspace):
    [found] = store.facts([(user, workspace)], deadline=FAR_AWAY)
    return found


@pytest.mark.parametrize(("user", "slug", "plan", "role"), DEMO)
def test_a_member_has_facts(store, user, slug, plan, role):
    found = facts(store, user, slug)

    assert (found.slug, found.plan, found.role, found.status) == (slug, plan, role, "active")


def test_a_workspace_is_named_by_its_slug_or_its_id(store):
    by_slug = facts(store, "adam", "acme")

    assert facts(store, "adam", str(by_slug.workspace_id)).slug == "acme"
    assert facts(store, "adam", str(by_slug.workspace_id).upper()).slug == "acme"


def test_a_stranger_and_an_unknown_user_and_an_unknown_workspace_are_the_same(store):
    acme = str(facts(store, "adam", "acme").workspace_id)
    questions = [
        ("pia", "acme"),
        ("pia", acme),
        ("nobody", "acme"),
        ("adam", "nowhere"),
        ("adam", str(uuid4())),
    ]

    assert store.facts(questions, deadline=FAR_AWAY) == [None] * 5


def test_facts_come_in_the_order_of_the_questions(store):
    questions = [("sam", "solo"), ("sam", "acme"), ("mia", "acme"), ("sam", "solo"), ("adam", "acme")]

    found = store.facts(questions, deadline=FAR_AWAY)

    assert [each and (each.slug, each.role) for each in found] == [
        ("solo", "owner"),
        None,
        ("acme", "member"),
        ("solo", "owner"),
        ("acme", "admin"),
    ]


def test_no_question_has_no_facts(store):
    assert store.facts([], deadline=FAR_AWAY) == []


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_matches_nobody(store, text):
    questions = [(text, "acme"), ("adam", text), ("adam", "acme"), (text, text)]

    found = store.facts(questions, deadline=FAR_AWAY)

    assert [each and each.role for each in found] == [None, None, "admin", None]
    assert store.workspaces_of(text, after=None, limit=10, deadline=FAR_AWAY) == []


def test_every_meter_of_the_catalog_has_its_usage(store):
    assert set(facts(store, "adam", "acme").usage) >= set(the_catalog().meters)


def test_the_workspaces_of_a_user_are_theirs(store):
    found = store.workspaces_of("adam", after=None, limit=10, deadline=FAR_AWAY)

    assert [(each.slug, each.role) for each in found] == [("acme", "admin")]
    assert store.workspaces_of("adam", after="acme", limit=10, deadline=FAR_AWAY) == []


def test_workspaces_come_by_slug_in_pages(postgres, database_url):
    slugs = ["b", "a-2", "a", "a2", "z9"]
    for slug in slugs:
        rows(
            database_url,
            """WITH w AS (
                INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'x', 'pro') RETURNING id
            )
            INSERT INTO authz.workspace_memberships SELECT id, 'rover', 'member' FROM w""",
            slug,
        )

    seen, after = [], None
    while page := postgres.workspaces_of("rover", after=after, limit=2, deadline=FAR_AWAY):
        seen += [each.slug for each in page]
        after = seen[-1]

    assert seen == sorted(slugs)


def test_the_members_of_a_workspace_come_by_user_id_with_the_facts_of_the_first(store):
    found = store.members_of("acme", after=None, limit=10, deadline=FAR_AWAY)

    assert found.members == (("adam", "admin"), ("mia", "member"), ("olivia", "owner"))
    assert (found.facts.role, found.facts.slug, found.facts.plan) == ("admin", "acme", "team")
    assert store.members_of(str(found.facts.workspace_id), after=None, limit=10, deadline=FAR_AWAY) == (
        replace(found, facts=replace(found.facts, at=ANY))
    )


def test_members_come_in_pages(store):
    first = store.members_of("acme", after=None, limit=1, deadline=FAR_AWAY)
    second = store.members_of("acme", after="adam", limit=1, deadline=FAR_AWAY)
    last = store.members_of("acme", after="olivia", limit=1, deadline=FAR_AWAY)

    assert (first.members, second.members) == ((("adam", "admin"),), (("mia", "member"),))
    assert second.facts.role == "member"
    assert last == Roster(facts=None, members=())
    assert store.members_of("acme", after="mi", limit=1, deadline=FAR_AWAY).members == second.members


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_names_no_workspace_that_has_members(store, text):
    assert store.members_of(text, after=None, limit=10, deadline=FAR_AWAY) == Roster(facts=None, members=())


@pytest.mark.parametrize(
    "answer",
    [
        "NULL",
        "'[]'",
        "'{}'",
        """'{"facts": null, "members": [["adam", "admin"]]}'""",
        """'{"facts": {}, "members": [["adam", "admin"]]}'""",
        """'{"facts": null, "members": null}'""",
        """'{"facts": {}, "members": []}'""",
    ],
)
def test_an_answer_that_is_no_roster_is_misread(fresh_database_url, answer):
    run(
        fresh_database_url,
        f"""CREATE OR REPLACE FUNCTION authz.members_of(workspace text, after text, at_most integer)
        RETURNS json LANGUAGE sql SECURITY DEFINER AS $$ SELECT {answer}::json $$""",
    )
    store = PostgresFacts(fresh_database_url, catalog=the_catalog(), pool_size=1)
    store.open()

    with pytest.raises(FactsMisread):
        store.members_of("acme", after=None, limit=10, deadline=FAR_AWAY)
    store.close()


@pytest.mark.parametrize("members", [[["adam"]], [["adam", None]], [[7, "admin"]], ["adam"], [{}]], ids=str)
def test_a_member_outside_the_contract_is_misread(fresh_database_url, members):
    run(
        fresh_database_url,
        f"""CREATE OR REPLACE FUNCTION authz.members_of(workspace text, after text, at_most integer)
        RETURNS json LANGUAGE sql SECURITY DEFINER AS $$ SELECT json_build_object(
            'facts', authz.facts('{{adam}}', '{{acme}}') -> 0, 'members', '{json.dumps(members)}'::json
        ) $$""",
    )
    store = PostgresFacts(fresh_database_url, catalog=the_catalog(), pool_size=1)
    store.open()

    with pytest.raises(FactsMisread, match="outside"):
        store.members_of("acme", after=None, limit=10, deadline=FAR_AWAY)
    store.close()


def test_overrides_replace_until_they_expire(postgres, database_url):
    run(
        database_url,
        """INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, at_most, expires_at)
        SELECT id, o.kind, o.name, o.enabled, o.at_most, o.expires_at FROM authz.workspaces, (VALUES
            ('feature', 'video_avatar', true, NULL::bigint, NULL::timestamptz),
            ('feature', 'analytics', false, NULL, now() + '1 hour'),
            ('feature', 'live_coaching', true, NULL, now() - '1 microsecond'::interval),
            ('limit', 'minutes', NULL, NULL, NULL),
            ('limit', 'scenarios', NULL, 0, now() + '1 hour'),
            ('limit', 'members', NULL, 7, now())
        ) AS o (kind, name, enabled, at_most, expires_at) WHERE slug = 'piano'""",
    )

    found = facts(postgres, "pia", "piano")

    assert found.feature_overrides == {"video_avatar": True, "analytics": False}
    assert found.limit_overrides == {"minutes": None, "scenarios": 0}


def test_usage_of_an_older_period_counts_nothing(postgres, database_url):
    run(
        database_url,
        """INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
        SELECT id, u.meter, u.period_start, u.used FROM authz.workspaces, (VALUES
            ('minutes', date_trunc('month', now(), 'UTC') - interval '1 microsecond', 9),
            ('scenarios', '-infinity', 4)
        ) AS u (meter, period_start, used) WHERE slug = 'solo'""",
    )
    old = facts(postgres, "sam", "solo").usage
    run(
        database_url,
        """UPDATE authz.workspace_usage SET period_start = period_start + interval '1 microsecond'
        WHERE meter = 'minutes'""",
    )
    new = facts(postgres, "sam", "solo").usage

    assert [old[meter].used for meter in ("minutes", "scenarios", "members")] == [0, 4, 1]
    assert [new[meter].used for meter in ("minutes", "scenarios", "members")] == [9, 4, 1]


def test_a_month_is_back_on_the_first_in_utc_and_a_level_never(postgres):
    found = facts(postgres, "adam", "acme")
    first = found.at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    assert found.usage["minutes"].resets_at == (first + timedelta(days=32)).replace(day=1)
    assert found.usage["members"].resets_at is None
    assert found.usage["scenarios"].resets_at is None


def test_the_zone_of_the_session_changes_nothing(database_url):
    answers = set()
    for zone in ("UTC", "Pacific/Kiritimati", "America/St_Johns", "Pacific/Niue"):
        options = f"options=-c%20TimeZone%3D{zone}%20-c%20DateStyle%3DGerman"
        url = f"{database_url}{'&' if '?' in database_url else '?'}{options}"
        store = PostgresFacts(url, catalog=the_catalog(), pool_size=1)
        store.open()
        found = facts(store, "adam", "acme")
        store.close()
        answers.add((found.usage["minutes"].resets_at.isoformat(), str(found.at.tzinfo)))
        assert abs(found.at - datetime.now(UTC)) < timedelta(minutes=5)

    assert len(answers) == 1


def test_every_change_that_matters_raises_the_version(postgres, database_url):
    changes = [
        "SELECT authz.set_plan('solo', 'team')",
        "SELECT authz.set_status('solo', 'suspended')",
        """SELECT authz.set_overrides('solo', '{"analytics": true}')""",
        """SELECT authz.set_overrides('solo', '{"analytics": null}')""",
        """INSERT INTO authz.workspace_memberships
        SELECT id, 'guest', 'member' FROM authz.workspaces WHERE slug = 'solo'""",
        "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'guest'",
        "DELETE FROM authz.workspace_memberships WHERE user_id = 'guest'",
    ]
    versions = [facts(postgres, "sam", "solo").token.version]
    for change in changes:
        run(database_url, change)
        versions.append(facts(postgres, "sam", "solo").token.version)
    run(
        database_url,
        "SELECT authz.set_plan('solo', 'team')",
        "UPDATE authz.workspace_usage SET used = used + 1",
    )
    unchanged = facts(postgres, "sam", "solo").token.version

    assert [after - before for before, after in pairwise(versions)] == [1] * len(changes)
    assert unchanged == versions[-1]


def test_the_database_counts_members_itself(postgres, database_url):
    run(
        database_url,
        """INSERT INTO authz.workspace_memberships
        SELECT id, 'm' || n, 'member' FROM authz.workspaces, generate_series(1, 7) AS n
        WHERE slug = 'acme'""",
        "DELETE FROM authz.workspace_memberships WHERE user_id IN ('m1', 'm2', 'nobody')",
        """UPDATE authz.workspace_memberships AS m SET workspace_id = w.id
        FROM authz.workspaces AS w WHERE m.user_id = 'm3' AND w.slug = 'zoe'""",
    )

    assert facts(postgres, "adam", "acme").usage["members"].used == 3 + 7 - 2 - 1
    assert facts(postgres, "zoe", "zoe").usage["members"].used == 2


def test_a_thousand_questions_are_few_round_trips(database_url):
    trips = []
    store = PostgresFacts(
        database_url, catalog=the_catalog(), pool_size=1, observe=lambda *seconds: trips.append(seconds)
    )
    store.open()
    questions = [("adam", "acme"), ("nobody", "acme")] * 500

    found = store.facts(questions, deadline=monotonic() + 5)
    store.close()

    assert [each is not None for each in found] == [True, False] * 500
    assert len(trips) == 4
    assert all(waited >= 0 and took > 0 for waited, took in trips)


def test_the_revision_is_that_of_the_plan_tables(postgres):
    assert postgres.revision(deadline=FAR_AWAY) == "dev"


def test_a_store_that_is_closed_answers_nobody(database_url):
    store = PostgresFacts(database_url, catalog=the_catalog(), pool_size=1)

    with pytest.raises(FactsUnavailable, match="closed"):
        store.facts([("adam", "acme")], deadline=FAR_AWAY)


def test_a_database_without_the_schema_is_an_outage_that_says_what_to_run(empty_database_url):
    store = PostgresFacts(empty_database_url, catalog=the_catalog(), pool_size=1)
    store.open()

    with pytest.raises(DatabaseNotMigrated, match="run sidecar migrate"):
        store.facts([("adam", "acme")], deadline=FAR_AWAY)
    store.close()


METERS = ("members", "minutes", "scenarios")
GOOD_USAGE: dict[str, object] = {
    "minutes": [1, 0, "2026-12-01T00:00:00+00:00"],
    "members": [1, 0, None],
    "scenarios": [0, 0, None],
}
GOOD_ROW: dict[str, object] = {
    "workspace_id": "3f2b8a52-1111-4222-8333-444455556666",
    "slug": "acme",
    "name": "Acme",
    "role": "member",
    "plan": "team",
    "status": "active",
    "features": {"analytics": True},
    "limits": {"minutes": None, "members": 3},
    "usage": GOOD_USAGE,
    "version": 1,
    "at": "2026-11-24T12:00:00+00:00",
    "periods": {"minutes": "2026-11-01T00:00:00+00:00", "members": "-infinity", "scenarios": "-infinity"},
    "until": "2026-11-30T00:00:00+00:00",
}


def test_a_row_of_a_database_that_is_still_to_be_migrated_is_read_too():
    found = facts_in(
        {name: value for name, value in GOOD_ROW.items() if name not in {"periods", "until"}}, meters=METERS
    )

    assert found.token == FactsToken(version=1, periods={}, until=None)


def test_a_row_within_the_contract_is_read():
    found = facts_in(GOOD_ROW, meters=METERS)

    assert found.workspace_id == UUID("3f2b8a52-1111-4222-8333-444455556666")
    assert found.limit_overrides == {"minutes": None, "members": 3}
    assert found.token == FactsToken(
        version=1,
        periods={"minutes": "2026-11-01T00:00:00+00:00", "members": "-infinity", "scenarios": "-infinity"},
        until="2026-11-30T00:00:00+00:00",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "frozen"},
        {"status": None},
        {"role": None},
        {"plan": 7},
        {"workspace_id": "acme"},
        {"workspace_id": None},
        {"usage": {"minutes": [1, 0, None]}},
        {"usage": None},
        {"usage": {**GOOD_USAGE, "minutes": [True, 0, None]}},
        {"usage": {**GOOD_USAGE, "minutes": [-1, 0, None]}},
        {"usage": {**GOOD_USAGE, "minutes": [1.5, 0, None]}},
        {"usage": {**GOOD_USAGE, "minutes": [1, 0]}},
        {"usage": {**GOOD_USAGE, "minutes": [1, 0, "soon"]}},
        {"features": {"analytics": "true"}},
        {"features": {"analytics": 1}},
        {"features": None},
        {"periods": None},
        {"periods": {"minutes": 1}},
        {"until": 7},
        {"limits": {"minutes": "unlimited"}},
        {"limits": {"minutes": True}},
        {"limits": {"minutes": -1}},
        {"version": "1"},
        {"version": True},
        {"at": "infinity"},
        {"at": None},
    ],
    ids=str,
)
def test_a_row_outside_the_contract_is_misread_and_never_an_answer(wrong):
    with pytest.raises(FactsMisread):
        facts_in({**GOOD_ROW, **wrong}, meters=METERS)


@pytest.mark.parametrize("name", sorted(GOOD_ROW.keys() - {"periods", "until"}))
def test_a_row_that_lacks_something_is_misread(name):
    with pytest.raises(FactsMisread):
        facts_in({key: value for key, value in GOOD_ROW.items() if key != name}, meters=METERS)


@pytest.mark.parametrize("answer", ["'7'", "'{}'", "NULL", "'[]'", "'[null, null]'", "'[7]'"])
def test_an_answer_that_is_no_list_of_facts_is_misread(fresh_database_url, answer):
    run(
        fresh_database_url,
        f"""CREATE OR REPLACE FUNCTION authz.facts(users text[], workspaces text[]) RETURNS json
        LANGUAGE sql SECURITY DEFINER AS $$ SELECT {answer}::json $$""",
    )
    store = PostgresFacts(fresh_database_url, catalog=the_catalog(), pool_size=1)
    store.open()

    with pytest.raises(FactsMisread):
        store.facts([("adam", "acme")], deadline=FAR_AWAY)
    store.close()


def test_facts_are_read_by_index_even_where_the_tables_are_tiny(database_url):
    run(database_url, "ANALYZE")
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT authz.facts('{adam,x,adam}', '{acme,acme,nowhere}')")
        scans = connection.execute(
            "SELECT sum(seq_scan), sum(idx_scan) > 0 FROM pg_stat_xact_user_tables WHERE schemaname = 'authz'"
        ).fetchone()

    assert scans == (0, True)


def test_members_are_read_by_index_even_where_the_tables_are_tiny(database_url):
    run(database_url, "ANALYZE")
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT authz.members_of('acme', 'adam', 10)")
        scans = connection.execute(
            """SELECT relname FROM pg_stat_xact_user_tables
            WHERE schemaname = 'authz' AND relname LIKE 'workspace%' AND seq_scan > 0"""
        ).fetchall()

    assert scans == []


def test_all_who_are_not_members_are_looked_for_in_the_same_way(database_url):
    """As many look-ups in each table, whether the workspace is somebody else's or nobody's."""
    run(database_url, "ANALYZE")
    asked = []
    for workspace in ("acme", "nowhere"):
        with psycopg.connect(database_url) as connection:
            connection.execute("SELECT authz.facts(%s, %s)", (["nobody"], [workspace]))
            asked.append(
                connection.execute(
                    """SELECT relname, idx_scan FROM pg_stat_xact_user_tables
                    WHERE schemaname = 'authz' ORDER BY relname"""
                ).fetchall()
            )

    assert asked[0] == asked[1]
