"""Users who are deleted at once, or while others move: each workspace keeps its one owner, or goes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from random import Random

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.postgres_server import rows, run

pytestmark = pytest.mark.postgres

WITHIN_S = 30
PEOPLE = [f"u-{number}" for number in range(6)]
BROKEN = """
    SELECT w.slug, w.member_count, count(m.user_id), count(m.user_id) FILTER (WHERE m.role = 'owner')
    FROM authz.workspaces AS w LEFT JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id
    GROUP BY w.id
    HAVING count(m.user_id) FILTER (WHERE m.role = 'owner') <> 1 OR count(m.user_id) <> w.member_count
"""
# Twelve workspaces with everybody in each; each owns two of them, and half of the others are admins.
LAY_WORKSPACES = """
    WITH w AS (
        INSERT INTO authz.workspaces (slug, name, plan_tier)
        SELECT 'w-' || n, 'x', 'team' FROM generate_series(0, 11) AS n
        RETURNING id, substr(slug, 3)::integer AS n
    )
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'u-' || u.n, CASE
        WHEN mod(w.n, 6) = u.n THEN 'owner' WHEN mod(u.n, 2) = 0 THEN 'admin' ELSE 'member'
    END
    FROM w, generate_series(0, 5) AS u (n)
"""
MEMBERS = """
    SELECT m.user_id, m.role FROM authz.workspace_memberships AS m
    JOIN authz.workspaces AS w ON w.id = m.workspace_id WHERE w.slug = %s ORDER BY 1
"""
DELETE_USERS = "DELETE FROM authz.users WHERE id = ANY (%s)"
# As whoever moves ownership does it: under the lock of the workspace's row, down first and then up.
TRANSFER = """
    DO $$
    DECLARE
        acme CONSTANT uuid := authz.workspace_locked('acme');
    BEGIN
        UPDATE authz.workspace_memberships SET role = 'admin' WHERE workspace_id = acme AND role = 'owner';
        UPDATE authz.workspace_memberships SET role = 'owner' WHERE workspace_id = acme AND user_id = 'adam';
    END;
    $$
"""


@pytest.fixture
def url(fresh_database_url):
    """Where what waits for ever fails, instead of the test never ending."""
    return make_conninfo(fresh_database_url, options=f"-c statement_timeout={WITHIN_S}s")


def lay_people(url):
    for user in PEOPLE:
        rows(url, "INSERT INTO authz.users (id) VALUES (%s)", user)
    rows(url, LAY_WORKSPACES)


@pytest.mark.parametrize("seed", range(4))
def test_whoever_goes_at_once_leaves_no_workspace_without_an_owner(url, seed):
    lay_people(url)
    random = Random(seed)  # noqa: S311 - to be the same each time
    gone = random.sample(PEOPLE, 5)
    batches = [gone[:2], gone[2:4], gone[4:], ["nobody", gone[0]]]
    for batch in batches:
        random.shuffle(batch)

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(rows, url, DELETE_USERS, batch) for batch in batches]:
            each.result(WITHIN_S)

    [left] = set(PEOPLE) - set(gone)
    assert rows(url, BROKEN) == []
    assert rows(
        url,
        "SELECT DISTINCT user_id, role FROM authz.workspace_memberships WHERE user_id LIKE 'u-%'",
    ) == [(left, "owner")]
    assert rows(url, "SELECT count(*) FROM authz.workspaces WHERE slug LIKE 'w-%'") == [(12,)]


def test_the_last_ones_who_go_at_once_take_the_workspace_with_them(url):
    lay_people(url)

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(rows, url, DELETE_USERS, [user]) for user in PEOPLE]:
            each.result(WITHIN_S)

    assert rows(url, BROKEN) == []
    assert rows(url, "SELECT slug FROM authz.workspaces WHERE slug LIKE 'w-%'") == []


def test_a_deletion_sees_a_transfer_that_was_first(url):
    with psycopg.connect(url) as transfer, ThreadPoolExecutor(1) as pool:
        transfer.execute(TRANSFER.encode())
        deletion = pool.submit(rows, url, DELETE_USERS, ["adam"])
        assert not wait([deletion], timeout=0.3).done
        transfer.commit()
        deletion.result(WITHIN_S)

    assert rows(url, MEMBERS, "acme") == [("mia", "member"), ("olivia", "owner")]


def test_a_transfer_sees_a_deletion_that_was_first(url):
    with psycopg.connect(url) as deletion, ThreadPoolExecutor(1) as pool:
        deletion.execute(DELETE_USERS, (["olivia"],))
        transfer = pool.submit(run, url, TRANSFER)
        assert not wait([transfer], timeout=0.3).done
        deletion.commit()
        transfer.result(WITHIN_S)

    assert rows(url, MEMBERS, "acme") == [("adam", "owner"), ("mia", "member")]


def test_a_deletion_and_whoever_takes_quota_do_not_lock_each_other_out(url):
    """The workspace goes, and they have its counter already when they come to lock it."""
    run(
        url,
        """INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
        SELECT id, 'minutes', '-infinity', 1 FROM authz.workspaces WHERE slug = 'solo'""",
    )
    with psycopg.connect(url) as taking, ThreadPoolExecutor(1) as pool:
        taking.execute("UPDATE authz.workspace_usage SET used = used + 1")
        deletion = pool.submit(rows, url, DELETE_USERS, ["sam"])
        assert not wait([deletion], timeout=0.3).done
        taking.execute("SELECT FROM authz.workspaces WHERE slug = 'solo' FOR SHARE")
        taking.commit()
        deletion.result(WITHIN_S)

    assert rows(url, "SELECT FROM authz.workspaces WHERE slug = 'solo'") == []


def test_a_deletion_that_fails_has_deleted_nothing(url):
    run(
        url,
        """CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON authz.workspace_memberships EXECUTE FUNCTION public.fail()""",
    )
    before = rows(url, MEMBERS, "acme")

    with pytest.raises(psycopg.errors.RaiseException):
        rows(url, DELETE_USERS, ["olivia"])

    assert rows(url, "SELECT count(*) FROM authz.users WHERE id = 'olivia'") == [(1,)]
    assert rows(url, MEMBERS, "acme") == before
