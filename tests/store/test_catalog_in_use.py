"""Whether the database fits a catalog, asked of a real one in every state that it may be in."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

import psycopg
import pytest

from sidecar.errors import DatabaseNotMigrated, FactsMisread, FactsUnavailable
from sidecar.settings import shipped
from sidecar.store.migrate import migrate, migrations_in
from sidecar.store.postgres import PostgresFacts
from tests.postgres_server import run
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

WITHOUT_PRO = (
    'plan "pro" is held by workspaces and is not in the catalog: put it back, or move them to another plan'
    " first (sidecar migrate names them)"
)


@contextmanager
def a_store(url):
    store = PostgresFacts(url, catalog=the_catalog(), pool_size=1)
    store.open()
    try:
        yield store
    finally:
        store.close()


def missing(url, catalog):
    with a_store(url) as store:
        return store.missing(catalog, deadline=monotonic() + 10)


def without_plan(name):
    catalog = the_catalog()
    return replace(catalog, plans={key: plan for key, plan in catalog.plans.items() if key != name})


def with_meter(name, **changes):
    """The catalog with a meter *name*, which is minutes with *changes*."""
    catalog = the_catalog()
    meter = replace(catalog.meters["minutes"], name=name, **changes)
    plans = {key: replace(plan, limits={**plan.limits, name: 1}) for key, plan in catalog.plans.items()}
    return replace(catalog, meters={**catalog.meters, name: meter}, plans=plans)


def test_nothing_is_missing_once_the_catalog_was_published(database_url):
    assert missing(database_url, the_catalog()) == ()


def test_a_meter_is_missing_until_it_was_published(fresh_database_url):
    assert missing(fresh_database_url, with_meter("tokens")) == (
        'meter "tokens" is not in the database: run sidecar migrate',
    )

    migrate(fresh_database_url, catalog=with_meter("tokens"), revision="new")

    assert missing(fresh_database_url, with_meter("tokens")) == ()


@pytest.mark.parametrize(
    "changes", [{"per": "day"}, {"anchor": "subscription"}, {"kind": "level", "per": None}]
)
def test_a_meter_that_is_counted_otherwise_is_another_one(database_url, changes):
    assert missing(database_url, with_meter("minutes", **changes)) == (
        'meter "minutes" is counted otherwise in the database: run sidecar migrate',
    )


def test_a_catalog_without_a_meter_fits(fresh_database_url):
    migrate(fresh_database_url, catalog=with_meter("tokens"), revision="new")

    assert missing(fresh_database_url, the_catalog()) == ()


def test_a_plan_that_is_held_is_missing_in_a_catalog_without_it(fresh_database_url):
    assert missing(fresh_database_url, without_plan("pro")) == (WITHOUT_PRO,)

    run(fresh_database_url, "SELECT authz.set_plan('piano', 'team')")

    assert missing(fresh_database_url, without_plan("pro")) == ()


def test_a_deleted_workspace_holds_its_plan_until_it_is_purged(fresh_database_url):
    run(
        fresh_database_url,
        "DELETE FROM authz.workspace_memberships WHERE user_id = 'pia'",
        "UPDATE authz.workspaces SET deleted_at = now() - interval '31 days', deleted_by = 'pia',"
        " members_before = '[]' WHERE slug = 'piano'",
    )
    assert missing(fresh_database_url, without_plan("pro")) == (WITHOUT_PRO,)

    run(fresh_database_url, "SELECT authz.purge_workspaces()")

    assert missing(fresh_database_url, without_plan("pro")) == ()


def test_the_plan_of_workspaces_to_come_is_held_by_nobody_yet(fresh_database_url):
    run(fresh_database_url, "UPDATE authz.catalog SET default_plan = 'pro'")
    run(fresh_database_url, "SELECT authz.set_plan('piano', 'team')")

    assert missing(fresh_database_url, without_plan("pro")) == (
        'plan "pro" is what new workspaces get and is not in the catalog: run sidecar migrate',
    )


def test_everything_that_is_missing_is_told_at_once(database_url):
    catalog = with_meter("tokens")
    plans = {name: plan for name, plan in catalog.plans.items() if name not in {"pro", "team"}}

    assert [each.split(" is ")[0] for each in missing(database_url, replace(catalog, plans=plans))] == [
        'meter "tokens"',
        'plan "pro"',
        'plan "team"',
    ]


def migrated_up_to(url, last, tmp_path):
    """As a sidecar of the version before did."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for each in migrations_in(shipped("sql") / "migrations"):
        if each.number <= last:
            (folder / f"{each.name}.sql").write_text(each.text)
    migrate(url, catalog=the_catalog(), revision="dev", migrations=folder)


def test_a_database_of_the_version_before_is_not_migrated(empty_database_url, tmp_path):
    migrated_up_to(empty_database_url, 24, tmp_path)

    with pytest.raises(DatabaseNotMigrated, match="is of a version before: run sidecar migrate"):
        missing(empty_database_url, the_catalog())


@pytest.mark.usefixtures("migrated_template")  # the role is there: it belongs to the whole server
def test_an_empty_database_is_not_migrated(empty_database_url):
    with pytest.raises(DatabaseNotMigrated, match="is of a version before: run sidecar migrate"):
        missing(empty_database_url, the_catalog())


def test_a_server_without_the_role_was_never_migrated(database_url, monkeypatch):
    nobody = "authz_of_nobody"
    monkeypatch.setattr("sidecar.store.session_setup.ROLE", nobody)
    monkeypatch.setattr("sidecar.store.outage.NO_ROLE", f'role "{nobody}" does not exist')

    with pytest.raises(DatabaseNotMigrated, match="was never migrated: run sidecar migrate"):
        missing(database_url, the_catalog())


def test_a_database_that_is_away_is_an_outage(database_url):
    with pytest.raises(FactsUnavailable):
        missing(database_url.replace("/authz_test_", "/no_such_"), the_catalog())


def test_an_answer_outside_the_contract_is_misread(fresh_database_url):
    run(
        fresh_database_url,
        "CREATE OR REPLACE FUNCTION authz.catalog_in_use() RETURNS json LANGUAGE sql RETURN '{}'::json",
    )

    with pytest.raises(FactsMisread, match="outside its contract"):
        missing(fresh_database_url, the_catalog())


def test_it_costs_one_look_a_plan_however_many_workspaces_there_are(fresh_database_url):
    run(
        fresh_database_url,
        "INSERT INTO authz.workspaces (slug, name, plan_tier)"
        " SELECT 'w' || n, 'W', 'team' FROM generate_series(1, 5000) AS n",
        "ANALYZE authz.workspaces",
    )
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("SELECT authz.catalog_in_use()")
        [(whole, read)] = connection.execute(
            "SELECT seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE schemaname = 'authz' AND relname = 'workspaces'"
        ).fetchall()

    assert whole == 0
    assert read <= len(the_catalog().plans)
