"""The history has no holes: whatever is done, and by whom, is recorded or refused."""

from __future__ import annotations

import json
from uuid import uuid4

import psycopg
import pytest

from sidecar.settings import shipped
from sidecar.store.history import history, workspaces_called
from sidecar.store.migrate import CREATE_LEDGER, CREATE_SCHEMA, RECORD, migrate, migrations_in
from tests.postgres_server import rows, run
from tests.store.by_hand import BY_HAND, REFUSED
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

UNACCOUNTED = "SELECT workspace, what, name FROM authz.unaccounted()"


@pytest.fixture
def connection(database_url):
    """What is done on it is rolled back."""
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize("statement", BY_HAND.values(), ids=BY_HAND)
def test_what_is_done_by_hand_is_recorded(connection, statement):
    [before] = connection.execute("SELECT max(id) FROM authz.outbox").fetchone()

    for each in statement.split(";"):
        connection.execute(each)
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    recorded = connection.execute(
        "SELECT kind, actor_kind FROM authz.outbox WHERE id > %s", (before,)
    ).fetchall()
    assert recorded
    assert {kind for _, kind in recorded} == {"sql"}
    assert connection.execute(UNACCOUNTED).fetchall() == []


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_recorded_is_refused(connection, statement):
    *before, last = statement.split(";")
    for each in before:
        connection.execute(each)

    with pytest.raises(psycopg.Error) as refused:
        connection.execute(last)

    assert refused.value.sqlstate == "AZ003"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'", ("member", "mia")),
        ("DELETE FROM authz.workspace_memberships WHERE user_id = 'mia'", ("member", "mia")),
        (
            """INSERT INTO authz.workspace_memberships
            SELECT id, 'eve', 'admin' FROM authz.workspaces WHERE slug = 'acme'""",
            ("member", "eve"),
        ),
        ("UPDATE authz.workspaces SET plan_tier = 'pro' WHERE slug = 'acme'", ("plan", None)),
        ("UPDATE authz.workspaces SET status = 'suspended' WHERE slug = 'acme'", ("status", None)),
        ("UPDATE authz.workspaces SET subscribed_at = '2020-01-01' WHERE slug = 'acme'", ("anchor", None)),
        (
            """INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
            SELECT id, 'limit', 'minutes', NULL FROM authz.workspaces WHERE slug = 'acme'""",
            ("limit", "minutes"),
        ),
    ],
)
def test_what_was_hidden_is_found_and_is_not_shown_as_granted(connection, statement, found):
    connection.execute("SET session_replication_role = replica")  # no trigger fires
    connection.execute(statement)
    connection.execute("SET session_replication_role = origin")

    assert connection.execute(UNACCOUNTED).fetchall() == [("acme", *found)]
    connection.execute("SELECT authz.find_unrecorded()")
    assert connection.execute(UNACCOUNTED).fetchall() == []
    granted = connection.execute(
        "SELECT granted_kind, granted_by FROM authz.members_at() WHERE user_id = %s", (found[1],)
    ).fetchall()
    assert granted in ([], [("found", None)])


def test_a_database_of_before_the_history_is_found_once(empty_database_url):
    url = empty_database_url
    run(url, CREATE_SCHEMA, CREATE_LEDGER)
    for migration in migrations_in(shipped("sql") / "migrations")[:8]:
        run(url, migration.text)
        rows(url, RECORD, migration.number, migration.name, migration.checksum)
    run(
        url,
        "INSERT INTO authz.plans (name, rank) VALUES ('starter', 1), ('pro', 2), ('team', 3)",
        "INSERT INTO authz.roles (name, rank) VALUES ('member', 1), ('admin', 2), ('owner', 3)",
        """INSERT INTO authz.workspaces (slug, name, plan_tier, status)
        VALUES ('old', 'Old', 'pro', 'suspended')""",
        "INSERT INTO authz.workspace_memberships SELECT id, 'ann', 'owner' FROM authz.workspaces",
        """INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
        SELECT id, 'limit', 'minutes', 7 FROM authz.workspaces""",
    )

    migrate(url, catalog=the_catalog(), revision="dev")

    assert rows(url, UNACCOUNTED) == []
    assert rows(url, "SELECT kind FROM authz.outbox WHERE kind <> 'names.changed' ORDER BY id") == [
        ("workspace.found",),
        ("member.found",),
        ("history.began",),
    ]
    assert rows(url, "SELECT user_id, role, granted_kind, granted_by FROM authz.members_at()") == [
        ("ann", "owner", "found", None)
    ]
    [(_, slug, _, plan, status, _, limits)] = rows(url, "SELECT * FROM authz.workspaces_at()")
    assert (slug, plan, status, limits) == ("old", "pro", "suspended", {"minutes": 7})
    [(known, found)] = rows(
        url, "SELECT authz.known_since(), min(at) FROM authz.outbox WHERE kind = 'history.began'"
    )
    assert known == found
    migrate(url, catalog=the_catalog(), revision="dev")
    assert rows(url, "SELECT count(*) FROM authz.outbox WHERE kind = 'history.began'") == [(1,)]


def test_who_invited_has_granted_it_in_rows_of_before_too(connection):
    connection.execute("SELECT authz.acting_as('eve', 'user', 'd-1')")
    [acme] = connection.execute("SELECT id FROM authz.workspaces WHERE slug = 'acme'").fetchone()
    invited = json.dumps({"id": str(uuid4()), "invited_by": "adam", "role": "member"})
    connection.execute("SET session_replication_role = replica")
    for kind, data in (
        ("member.joined", '{"user": "eve", "role": "member"}'),
        ("invitation.accepted", invited),
    ):
        connection.execute("SELECT authz.record(%s, %s, %s::jsonb)", (acme, kind, data))

    [row] = connection.execute(
        "SELECT granted_kind, granted_by FROM authz.members_at(workspace => %s) WHERE user_id = 'eve'",
        (acme,),
    ).fetchall()
    assert row == ("user", "adam")
    [event] = [each for each in history(connection, kinds=["member.joined"]) if each.user == "eve"]
    assert (event.actor, event.granted_by, event.decision_id) == ("eve", "adam", "d-1")


def test_a_slug_of_two_workspaces_is_told_with_both(connection):
    connection.execute("UPDATE authz.workspaces SET slug = 'former' WHERE slug = 'acme'")
    connection.execute("INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('acme', 'A', 'pro')")

    first, second = workspaces_called(connection, "acme")

    assert first.until is not None
    assert (second.until, second.deleted_at) == (None, None)
    assert workspaces_called(connection, "nowhere") == []


def test_a_kind_that_is_not_known_is_counted(connection):
    connection.execute(
        """SELECT authz.record(id, 'member.blessed', '{"user": "mia"}')
        FROM authz.workspaces WHERE slug = 'acme'"""
    )

    assert connection.execute("SELECT authz.not_understood()").fetchone() == (1,)
    assert [each.data for each in history(connection, kinds=["member.blessed"])] == [{"user": "mia"}]


def test_the_history_is_read_in_pages(connection):
    connection.execute(
        """SELECT authz.record(w.id, 'workspace.changed', jsonb_build_object('n', n))
        FROM authz.workspaces AS w, generate_series(1, 2500) AS n WHERE w.slug = 'solo'"""
    )

    numbers = [each.data["n"] for each in history(connection, kinds=["workspace.changed"])]

    assert numbers == list(range(1, 2501))


def test_anchors_are_thinned_to_the_last_of_each_hour(connection):
    connection.execute("SET session_replication_role = replica")
    connection.execute(
        """INSERT INTO authz.log_anchors (writer, number, head, at)
        SELECT 'w', n, sha256(n::text::bytea), '2026-01-01 00:00+00'::timestamptz + n * interval '10 minutes'
        FROM generate_series(0, 11) AS n"""
    )
    connection.execute("SET session_replication_role = origin")
    connection.execute(
        "SELECT authz.anchor_log('w', 100, sha256('a')), authz.anchor_log('w', 101, sha256('b'))"
    )

    assert connection.execute("SELECT authz.thin_anchors()").fetchone() == (10,)
    assert connection.execute("SELECT number FROM authz.anchors()").fetchall() == [
        (5,),
        (11,),
        (100,),
        (101,),
    ]


def test_a_sealed_part_of_the_history_shows_what_was_forged_and_what_was_pruned(fresh_database_url):
    url = fresh_database_url
    [(sealed,)] = rows(url, "SELECT authz.seal_history('w')")
    assert rows(url, "SELECT authz.seal_history('w')") == [(None,)]  # within the hour
    same = "SELECT rows_now = rows AND sha256_now = sha256, pruned FROM authz.digests()"
    assert rows(url, same) == [(True, False)]
    assert sealed["rows"] == rows(url, "SELECT count(*) FROM authz.outbox")[0][0]
    with psycopg.connect(url, options="-c timezone=Asia/Tokyo -c datestyle=SQL,DMY") as elsewhere:
        assert elsewhere.execute(same).fetchone() == (True, False)

    run(
        url,
        """SET session_replication_role = replica;
        UPDATE authz.outbox SET actor = 'me' WHERE kind = 'member.joined'""",
    )
    assert rows(url, same) == [(False, False)]
    run(url, "SELECT authz.prune_history(clock_timestamp())")
    assert rows(url, same) == [(False, True)]


def test_a_workspace_of_thousands_of_members_is_deleted_at_once(connection):
    connection.execute(
        """INSERT INTO authz.workspace_memberships
        SELECT id, 'u-' || n, 'member' FROM authz.workspaces, generate_series(1, 5000) AS n
        WHERE slug = 'solo'"""
    )
    connection.execute("SET LOCAL statement_timeout = '5s'")  # one look-up for each member takes longer

    connection.execute(
        "SELECT authz.delete_workspace(id, facts_version) FROM authz.workspaces WHERE slug = 'solo'"
    )

    assert connection.execute(UNACCOUNTED).fetchall() == []
