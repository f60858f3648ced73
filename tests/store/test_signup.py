"""Sign-ups at once, in each other's way, and while something is broken: none fails, nobody goes without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from tests.postgres_server import rows, run

pytestmark = pytest.mark.postgres

SIGN_UP = "INSERT INTO authz.users (id, email) VALUES (%s, %s)"
PROVISION = "SELECT authz.create_default_workspace(%s, %s)"
WORKSPACES = "SELECT workspace_id, slug, role FROM authz.get_user_workspaces(%s)"
WITHIN_S = 30


@pytest.fixture
def url(fresh_database_url):
    """Where a signup that waits for another fails, instead of the test never ending."""
    return make_conninfo(fresh_database_url, options=f"-c statement_timeout={WITHIN_S}s")


def slug_of(url, user):
    [(_, slug, _)] = rows(url, WORKSPACES, user)
    assert slug.startswith(f"{user}-")
    return slug


def test_one_user_who_is_seen_many_times_at_once_has_one_workspace(url):
    def see(number):
        if number == 3:
            rows(url, SIGN_UP, "twin", "twin@example.com")
        return rows(url, PROVISION, "twin", "twin@example.com")

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(see, range(8)))
        [(own, slug, role)] = rows(url, WORKSPACES, "twin")

        assert seen == [[(own,)]] * 8
        assert (slug[:5], role) == ("twin-", "owner")
        run(url, "DELETE FROM authz.users WHERE id = 'twin'")


def test_many_users_with_one_name_at_once_have_a_workspace_each(url):
    def sign_up(number):
        rows(url, SIGN_UP, f"info-{number}", "info@example.com")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sign_up, range(100)))

    owned = rows(
        url,
        """SELECT count(DISTINCT w.slug), count(DISTINCT m.user_id), count(*) FROM authz.workspaces AS w
        JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id AND m.role = 'owner'
        WHERE w.slug ~ '^info'""",
    )
    assert owned == [(100, 100, 100)]


def test_a_signup_waits_for_no_other_that_takes_its_time(url):
    with psycopg.connect(url) as slow:
        slow.execute(SIGN_UP, ("slow", "info@example.com"))
        rows(url, SIGN_UP, "fast", "info@example.com")

        [(_, slug, _)] = rows(url, WORKSPACES, "fast")
        assert slug.startswith("info-")


def test_sign_ups_in_opposite_orders_do_not_lock_each_other_out(url):
    with (
        psycopg.connect(url) as one,
        psycopg.connect(url) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        one.execute(SIGN_UP, ("a-1", "a@example.com"))
        other.execute(SIGN_UP, ("b-1", "b@example.com"))
        crossed = [
            pool.submit(one.execute, SIGN_UP, ("b-2", "b@example.com")),
            pool.submit(other.execute, SIGN_UP, ("a-2", "a@example.com")),
        ]
        done, _ = wait(crossed, timeout=WITHIN_S)
        assert len(done) == 2
        assert [each.exception() for each in crossed] == [None, None]

    for user in ("a-1", "a-2", "b-1", "b-2"):
        assert len(rows(url, WORKSPACES, user)) == 1


def test_whoever_sees_a_user_whose_workspace_is_being_made_is_told_of_that_one(url):
    def see():
        with suppress(errors.LockNotAvailable):
            return rows(url, PROVISION, "twin", None)
        return see()  # they waited too long, on a machine with much to do

    with psycopg.connect(url) as slow, ThreadPoolExecutor(1) as pool:
        made = slow.execute(PROVISION, ("twin", None)).fetchall()
        seen = pool.submit(see)
        assert not wait([seen], timeout=0.3).done
        slow.commit()

        assert seen.result(WITHIN_S) == made


def test_whoever_waits_too_long_for_it_is_told_to_try_again(url):
    with psycopg.connect(url) as slow:
        slow.execute(PROVISION, ("twin", None))
        with pytest.raises(errors.LockNotAvailable, match="another session"):
            rows(url, PROVISION, "twin", None)


BREAKAGES = {
    "no_catalog": ("DELETE FROM authz.catalog", "INSERT INTO authz.catalog VALUES (true, 'dev', 'starter')"),
    "no_roles": ("ALTER TABLE authz.roles RENAME TO r", "ALTER TABLE authz.r RENAME TO roles"),
    "no_function": (
        "ALTER FUNCTION authz.create_default_workspace RENAME TO f",
        "ALTER FUNCTION authz.f RENAME TO create_default_workspace",
    ),
    "a_constraint": (
        "ALTER TABLE authz.workspaces ADD CONSTRAINT never CHECK (slug !~ '^eve-')",
        "ALTER TABLE authz.workspaces DROP CONSTRAINT never",
    ),
    "a_trigger_of_somebody": (
        """CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON authz.workspace_memberships EXECUTE FUNCTION public.fail()""",
        "DROP FUNCTION public.fail CASCADE",
    ),
}


@pytest.mark.parametrize("breakage", sorted(BREAKAGES))
def test_a_signup_outlives_what_is_broken_and_is_made_up_for(url, breakage):
    broken, mended = BREAKAGES[breakage]
    run(url, broken)
    warned: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: warned.append(notice.message_primary or ""))
        connection.execute(SIGN_UP, ("eve", "eve@example.com"))
    run(url, mended)

    assert rows(url, "SELECT email FROM authz.users WHERE id = 'eve'") == [("eve@example.com",)]
    assert rows(url, WORKSPACES, "eve") == []
    assert [text.split(":")[0] for text in warned] == ["user eve has no workspace of his own"]
    [(own,)] = rows(url, PROVISION, "eve", "eve@example.com")
    assert rows(url, WORKSPACES, "eve") == [(own, slug_of(url, "eve"), "owner")]


def test_a_signup_outlives_a_migration_that_holds_the_table(url):
    with psycopg.connect(url) as migration:
        migration.execute("LOCK TABLE authz.workspaces IN ACCESS EXCLUSIVE MODE")
        rows(url, SIGN_UP, "eve", "eve@example.com")
        migration.rollback()

    [(own,)] = rows(url, PROVISION, "eve", "eve@example.com")
    assert rows(url, WORKSPACES, "eve") == [(own, slug_of(url, "eve"), "owner")]


def test_an_id_that_no_question_could_name_is_no_user(url):
    with pytest.raises(errors.CheckViolation):
        rows(url, SIGN_UP, "x" * 300, "x@example.com")
    rows(url, SIGN_UP, "ä" * 256, "x@example.com")

    assert len(rows(url, WORKSPACES, "ä" * 256)) == 1
