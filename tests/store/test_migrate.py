from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner

from sidecar.cli.migrate import command
from sidecar.errors import ConfigError, Interrupted, NotAsked
from sidecar.settings import shipped
from sidecar.store.migrate import migrate, migrations_in
from tests.postgres_server import rows, run, url_of
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

MIGRATIONS = shipped("sql") / "migrations"
LAST = len(list(MIGRATIONS.glob("*.sql")))
NAMES = tuple(path.stem for path in sorted(MIGRATIONS.glob("*.sql")))


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(MIGRATIONS, tmp_path / "migrations")


def migrated(url, *, catalog=None, revision="dev", folder=MIGRATIONS):
    return migrate(url, catalog=catalog or the_catalog(), revision=revision, migrations=folder)


def without_plan(name):
    catalog = the_catalog()
    return replace(catalog, plans={key: plan for key, plan in catalog.plans.items() if key != name})


def test_an_empty_database_gets_everything_and_a_second_time_nothing(empty_database_url):
    first = migrated(empty_database_url)
    second = migrated(empty_database_url)

    assert (first.applied, first.revision, first.replaced) == (NAMES, "dev", None)
    assert (second.applied, second.revision, second.replaced) == ((), "dev", "dev")


def test_the_plan_tables_are_what_the_catalog_says(database_url):
    catalog = the_catalog()

    limits = {(plan, meter): limit for plan, meter, limit in rows(database_url, "TABLE authz.plan_limits")}
    features = set(rows(database_url, "TABLE authz.plan_features"))
    names = {
        table: [name for (name,) in rows(database_url, query)]
        for table, query in (
            ("plans", "SELECT name FROM authz.plans ORDER BY rank"),
            ("roles", "SELECT name FROM authz.roles ORDER BY rank"),
        )
    }

    assert limits == {
        (plan.name, meter): limit for plan in catalog.plans.values() for meter, limit in plan.limits.items()
    }
    assert features == {(plan.name, feature) for plan in catalog.plans.values() for feature in plan.features}
    assert names == {"plans": list(catalog.plans), "roles": list(catalog.roles)}
    assert rows(database_url, "SELECT revision, default_plan FROM authz.catalog") == [("dev", "starter")]


def test_a_catalog_takes_the_place_of_the_one_before(fresh_database_url):
    catalog = the_catalog()
    pro = replace(
        catalog.plans["pro"], features=frozenset(), limits={"minutes": 7, "members": 1, "scenarios": 2}
    )
    changed = replace(
        catalog,
        plans={"pro": pro, **{name: plan for name, plan in catalog.plans.items() if name != "pro"}},
        default_plan="pro",
    )

    result = migrated(fresh_database_url, catalog=changed, revision="new")

    assert (result.replaced, result.revision) == ("dev", "new")
    assert rows(fresh_database_url, "SELECT revision, default_plan FROM authz.catalog") == [("new", "pro")]
    assert rows(fresh_database_url, "SELECT name FROM authz.plans ORDER BY rank") == [
        ("pro",),
        ("starter",),
        ("team",),
    ]
    assert rows(fresh_database_url, "SELECT feature FROM authz.plan_features WHERE plan = 'pro'") == []
    assert rows(
        fresh_database_url, "SELECT at_most FROM authz.plan_limits WHERE plan = 'pro' ORDER BY meter"
    ) == [
        (1,),
        (7,),
        (2,),
    ]


def test_a_plan_that_is_held_cannot_vanish_and_the_message_says_by_whom(fresh_database_url):
    before = rows(fresh_database_url, "SELECT * FROM authz.plan_limits ORDER BY 1, 2")

    with pytest.raises(ConfigError) as refused:
        migrated(fresh_database_url, catalog=without_plan("pro"), revision="new")

    assert '"pro" by 1 workspace (piano)' in str(refused.value)
    assert "Move them to another plan first" in str(refused.value)
    assert rows(fresh_database_url, "SELECT revision FROM authz.catalog") == [("dev",)]
    assert rows(fresh_database_url, "SELECT * FROM authz.plan_limits ORDER BY 1, 2") == before


def test_a_plan_that_nobody_holds_vanishes(fresh_database_url):
    run(fresh_database_url, "SELECT authz.set_plan('piano', 'team')")

    migrated(fresh_database_url, catalog=without_plan("pro"))

    assert rows(fresh_database_url, "SELECT name FROM authz.plans ORDER BY rank") == [("starter",), ("team",)]


def test_a_meter_that_is_gone_stays_for_workers_of_the_revision_before(fresh_database_url):
    catalog = the_catalog()
    meters = {name: meter for name, meter in catalog.meters.items() if name != "scenarios"}
    plans = {
        name: replace(plan, limits={meter: plan.limits[meter] for meter in meters})
        for name, plan in catalog.plans.items()
    }

    migrated(fresh_database_url, catalog=replace(catalog, meters=meters, plans=plans))

    assert ("scenarios",) in rows(fresh_database_url, "SELECT name FROM authz.meters")
    with pytest.raises(psycopg.Error, match='meter "scenarios" is not declared'):
        run(fresh_database_url, """SELECT authz.set_overrides('acme', '{}', '{"scenarios": 1}')""")


def test_many_at_once_are_one(empty_database_url):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: migrated(empty_database_url), range(4)))

    assert sorted(len(result.applied) for result in results) == [0, 0, 0, len(NAMES)]


def test_a_file_that_was_edited_is_refused(fresh_database_url, folder):
    path = folder / "0002_create_workspaces.sql"
    path.write_text(path.read_text() + "-- a comment\n")

    with pytest.raises(ConfigError, match=r"0002_create_workspaces\.sql is not what was applied"):
        migrated(fresh_database_url, folder=folder)


def test_line_ends_do_not_count_as_an_edit(fresh_database_url, folder):
    path = folder / "0002_create_workspaces.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert migrated(fresh_database_url, folder=folder).applied == ()


def test_a_newer_database_is_refused(fresh_database_url, folder):
    (folder / f"{NAMES[-1]}.sql").unlink()

    with pytest.raises(
        ConfigError, match=f"the database is at {NAMES[-1]}, and this sidecar ends at {NAMES[-2]}"
    ):
        migrated(fresh_database_url, folder=folder)


def test_a_migration_that_fails_leaves_nothing_and_can_be_done_again(empty_database_url, folder):
    last = folder / f"{len(NAMES) + 1:04}_create_trouble.sql"
    last.write_text("CREATE TABLE authz.trouble (id integer); SELECT 1 / 0;")

    with pytest.raises(Interrupted, match="division by zero"):
        migrated(empty_database_url, folder=folder)
    assert rows(empty_database_url, "SELECT to_regclass('authz.trouble') IS NULL") == [(True,)]

    last.write_text("CREATE TABLE authz.trouble (id integer);")
    assert migrated(empty_database_url, folder=folder).applied == (last.stem,)


@pytest.mark.parametrize(
    "name",
    [f"{LAST + 2:04}_create_gap.sql", f"{LAST + 1:04}.sql", "six_create_x.sql", f"{LAST:04}_again.sql"],
)
def test_a_misnamed_migration_is_refused(folder, name):
    (folder / name).write_text("SELECT 1")

    with pytest.raises(ConfigError, match=r"expected the name \d{4}_verb_object\.sql"):
        migrations_in(folder)


def test_a_folder_without_migrations_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no migrations"):
        migrations_in(tmp_path)


def test_a_database_of_another_encoding_is_refused(postgres_server):
    run(
        postgres_server,
        "DROP DATABASE IF EXISTS authz_latin",
        "CREATE DATABASE authz_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
    )
    try:
        with pytest.raises(ConfigError, match="must be UTF8"):
            migrated(url_of(postgres_server, "authz_latin"))
    finally:
        run(postgres_server, "DROP DATABASE authz_latin WITH (FORCE)")


def test_nobody_there_is_one_line_without_the_password():
    with pytest.raises(NotAsked) as not_asked:
        migrated("postgresql://postgres:geheim@127.0.0.1:1/x")

    assert "Connection refused" in str(not_asked.value)
    assert "geheim" not in str(not_asked.value)
    assert "\n" not in str(not_asked.value)


def test_an_ordinary_owner_can_migrate(empty_database_url):
    """No superuser: who may create in this database, where somebody else has made the roles."""
    database = psycopg.conninfo.conninfo_to_dict(empty_database_url)["dbname"]
    run(
        empty_database_url,
        "DROP ROLE IF EXISTS authz_test_owner",
        "CREATE ROLE authz_test_owner LOGIN PASSWORD 'owner'",
        f"GRANT CREATE ON DATABASE {database} TO authz_test_owner",
        "DO $$ BEGIN CREATE ROLE authz_sidecar NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "DO $$ BEGIN CREATE ROLE authz_app NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    separator = "&" if "?" in empty_database_url else "?"
    try:
        as_owner = f"{empty_database_url}{separator}options=-c%20role%3Dauthz_test_owner"

        assert migrated(as_owner).applied == NAMES
        assert rows(empty_database_url, "SELECT json_array_length(authz.facts('{a}', '{b}'))") == [(1,)]
    finally:
        run(empty_database_url, "DROP OWNED BY authz_test_owner CASCADE", "DROP ROLE authz_test_owner")


def test_the_command_says_what_it_did(empty_database_url):
    arguments = ["--database-url", empty_database_url]

    first = CliRunner().invoke(command, arguments, catch_exceptions=False)
    second = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)

    assert first.output.splitlines()[:-1] == [f"applied {name}" for name in NAMES]
    assert first.output.splitlines()[-1].endswith("before: none")
    document = json.loads(second.output)
    assert (document["applied"], document["replaced"]) == ([], document["revision"])


def test_the_command_takes_the_url_from_the_environment_or_says_what_is_missing(empty_database_url):
    given = CliRunner(env={"SIDECAR_DATABASE_URL": empty_database_url}).invoke(
        command, [], catch_exceptions=False
    )
    missing = CliRunner(env={"SIDECAR_DATABASE_URL": ""}).invoke(command, [])

    assert given.exit_code == 0
    assert missing.exit_code == 2
    assert "--database-url" in missing.output
