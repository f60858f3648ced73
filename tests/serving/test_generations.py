"""Which generation serves while the database does not fit the new one, and which line says why."""

from __future__ import annotations

import signal
from time import sleep

import pytest

from sidecar.identity.callers import token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.postgres_server import run
from tests.serving.scripted_opa import scripted_opa
from tests.serving.serving import serving
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

TEXT = shipped("plans.yaml").read_text()
WITH_TOKENS = (
    TEXT.replace("\nplans:", "  tokens: {title: tokens, kind: counter, per: month}\n\nplans:")
    .replace("scenarios: 10}", "scenarios: 10, tokens: 5}")
    .replace("scenarios: unlimited}", "scenarios: unlimited, tokens: 5}")
)
WITHOUT_PRO = TEXT.replace("  pro:\n", "  plus:\n").replace("extends: pro", "extends: plus")
NO_TOKENS = 'meter "tokens" is not in the database: run sidecar migrate'
PRO_IS_HELD = (
    'plan "pro" is held by workspaces and is not in the catalog: put it back, or move them to another'
)
NOT_MIGRATED = "(database_not_migrated)"


@pytest.fixture(name="opa")
def an_opa_of_this_test_s_own(compiled):
    with scripted_opa(compiled.revision) as opa:
        yield opa


@pytest.fixture(name="plans")
def a_catalog_to_be_changed(tmp_path):
    path = tmp_path / "plans.yaml"
    path.write_text(TEXT)
    return path


def published(url, plans):
    compiled = compiled_at(plans, shipped("policies"))
    migrate(url, catalog=compiled.catalog, revision=compiled.revision)
    return compiled.revision


def lines_with(sidecar, text):
    return [line for line in sidecar.said.splitlines() if text in line]


def refused_reload(sidecar, times=1):
    """The line that a SIGHUP ends in, when nothing takes over."""
    sidecar.signal(signal.SIGHUP)
    assert sidecar.until(lambda: len(lines_with(sidecar, "not reloaded")) == times, within_s=20)
    assert len(lines_with(sidecar, NOT_MIGRATED)) <= times
    return lines_with(sidecar, "not reloaded")[-1]


def takes_over(sidecar, opa, revision):
    opa.revision = revision
    sidecar.signal(signal.SIGHUP)
    return sidecar.until(lambda: f"reloaded: revision {revision}" in sidecar.said)


def test_a_new_meter_takes_over_after_migrate_and_not_before(tmp_path, fresh_database_url, plans, opa):
    before = published(fresh_database_url, plans)
    with serving(tmp_path, database_url=fresh_database_url, opa_url=opa.url, plans=plans) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        workers = sidecar.said.count(" ready: revision")
        plans.write_text(WITH_TOKENS)

        line = refused_reload(sidecar)

        assert line.endswith(f"not reloaded: {NO_TOKENS} {NOT_MIGRATED}; the workers as they were go on")
        assert [sidecar.ask()[0] for _ in range(10)] == [200] * 10
        assert sidecar.ask()[1]["policy_revision"] == before
        assert sidecar.said.count(" ready: revision") == workers
        wanted = compiled_at(plans, shipped("policies")).revision
        assert sidecar.until(lambda: sidecar.status()["wanted"] == wanted)
        assert sidecar.until(lambda: sidecar.status()["worker"]["cause"] not in {None, "starting"})
        status = sidecar.status()
        assert (status["worker"]["revision"], status["worker"]["cause"], status["worker"]["do"]) == (
            before,
            "database_not_migrated",
            f"{NO_TOKENS}; then send SIGHUP",
        )
        assert sidecar.request("GET", "/readyz")[0] == 200

        after = published(fresh_database_url, plans)

        assert takes_over(sidecar, opa, after)
        assert sidecar.until(lambda: sidecar.ask()[1].get("policy_revision") == after)
        assert sidecar.until(sidecar.is_ready)


def test_a_catalog_without_a_plan_that_is_held_takes_over_when_nobody_holds_it(
    tmp_path, fresh_database_url, plans, opa
):
    before = published(fresh_database_url, plans)
    settings = {"database_url": fresh_database_url, "opa_url": opa.url, "plans": plans, "workers": 1}
    with serving(tmp_path, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        plans.write_text(WITHOUT_PRO)

        assert PRO_IS_HELD in refused_reload(sidecar)
        assert sidecar.ask(user="pia", workspace="piano")[1]["policy_revision"] == before

        run(fresh_database_url, "SELECT authz.set_plan('piano', 'team')")
        after = published(fresh_database_url, plans)

        assert takes_over(sidecar, opa, after)


def test_nothing_takes_over_while_the_database_cannot_be_asked(tmp_path, fresh_database_url, plans, opa):
    before = published(fresh_database_url, plans)
    settings = {"opa_url": opa.url, "plans": plans, "workers": 1}
    with (
        Proxy(fresh_database_url) as proxy,
        serving(tmp_path, database_url=proxy.url, **settings) as sidecar,
    ):
        assert sidecar.until(sidecar.is_ready)
        proxy.refuse()
        try:
            line = refused_reload(sidecar)
        finally:
            proxy.accept()

        assert "the database cannot be asked whether it fits: PostgreSQL cannot be reached" in line
        assert line.endswith("(database_unreachable); the workers as they were go on")
        assert sidecar.until(lambda: sidecar.status()["worker"]["cause"] == "database_unreachable")
        assert sidecar.status()["wanted"] == before
        assert sidecar.until(lambda: sidecar.ask()[0] == 200)
        assert takes_over(sidecar, opa, before)


def database_part(sidecar):
    status, readiness = sidecar.request("GET", "/readyz")
    return status, readiness["database"]


@pytest.mark.parametrize("state", ["never migrated", "without the meter"])
def test_a_cold_start_before_migrate_is_not_ready_and_says_why_once(
    tmp_path, empty_database_url, fresh_database_url, plans, opa, state
):
    url, why = fresh_database_url, NO_TOKENS
    if state == "never migrated":  # the role is there: it belongs to the whole server
        url, why = empty_database_url, "the database is of a version before: run sidecar migrate"
    plans.write_text(WITH_TOKENS)
    opa.revision = compiled_at(plans, shipped("policies")).revision
    with serving(tmp_path, database_url=url, opa_url=opa.url, plans=plans) as sidecar:
        assert sidecar.until(sidecar.is_warm)
        expected = {"ready": False, "revision": None, "code": "database_not_migrated", "why": why}
        for _ in range(6):
            assert sidecar.until(lambda: database_part(sidecar) == (503, expected))
        assert sidecar.request("GET", "/healthz")[0] == 200
        assert sidecar.request("GET", "/readyz?exclude=database")[0] == 503
        [line] = lines_with(sidecar, NOT_MIGRATED)
        assert line.endswith(f"the database: it lacks what is needed {NOT_MIGRATED}; {why}")

        published(url, plans)

        assert sidecar.until(sidecar.is_ready)
        assert sidecar.until(lambda: [sidecar.is_ready() for _ in range(6)] == [True] * 6)


def test_a_cold_start_after_migrate_is_ready_without_a_word(tmp_path, fresh_database_url, plans, opa):
    plans.write_text(WITH_TOKENS)
    opa.revision = published(fresh_database_url, plans)
    with serving(tmp_path, database_url=fresh_database_url, opa_url=opa.url, plans=plans) as sidecar:
        assert sidecar.until(sidecar.is_ready)

        assert lines_with(sidecar, "WARNING") == []


def test_a_changed_price_in_the_database_is_no_reason_not_to_be_ready(
    tmp_path, fresh_database_url, plans, opa
):
    before = published(fresh_database_url, plans)
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("all", ["authorize", "audit"], "t"))
    settings = {"database_url": fresh_database_url, "opa_url": opa.url, "plans": plans, "tokens": tokens}
    with serving(tmp_path, **settings) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(lambda: sidecar.status()["converged"])
        assert sidecar.until(lambda: b"sidecar_converged 1.0" in sidecar.request("GET", "/metrics")[1])
        plans.write_text(TEXT.replace("price: 149", "price: 150"))

        after = published(fresh_database_url, plans)

        assert sidecar.until(lambda: {sidecar.status()["database"]["revision"] for _ in range(8)} == {after})
        database = sidecar.status()["database"]
        assert (database["cause"], "sidecar migrate" in database["do"]) == ("policy_revision_mismatch", True)
        assert sidecar.until(lambda: b"sidecar_converged 0.0" in sidecar.request("GET", "/metrics")[1])
        asked = [(sidecar.request("GET", "/readyz")[0], sidecar.ask()) for _ in range(10)]
        assert {(ready, status) for ready, (status, _) in asked} == {(200, 200)}
        assert {answer["policy_revision"] for _, (_, answer) in asked} == {before}


def test_a_reload_reads_the_catalog_of_the_folder_it_was_started_in(
    tmp_path, fresh_database_url, plans, opa, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(shipped("plans.yaml").parent))
    before = published(fresh_database_url, plans)
    settings = {"database_url": fresh_database_url, "opa_url": opa.url, "workers": 1}
    with serving(tmp_path, cwd=tmp_path, plans=None, **settings) as sidecar:
        assert sidecar.until(lambda: sidecar.ask()[1].get("policy_revision") == before)
        plans.write_text(TEXT.replace("price: 149", "price: 150"))

        after = published(fresh_database_url, plans)

        assert after != before
        assert takes_over(sidecar, opa, after)


def test_with_auto_a_change_is_reloaded_by_itself_once_the_database_has_what_it_needs(
    tmp_path, fresh_database_url, plans, opa
):
    before = published(fresh_database_url, plans)
    settings = {"database_url": fresh_database_url, "opa_url": opa.url, "plans": plans, "workers": 1}
    with serving(tmp_path, reload="auto", **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        plans.write_text("plans: [")

        assert sidecar.until(lambda: len(lines_with(sidecar, "not reloaded")) == 1)
        assert "the files as they were stay in force" in lines_with(sidecar, "not reloaded")[0]
        plans.write_text(WITH_TOKENS)

        assert sidecar.until(lambda: len(lines_with(sidecar, "not reloaded")) == 2)
        assert NO_TOKENS in lines_with(sidecar, "not reloaded")[1]
        sleep(6)  # it has tried once more
        assert len(lines_with(sidecar, "not reloaded")) == 2
        assert (sidecar.ask()[0], sidecar.ask()[1]["policy_revision"]) == (200, before)
        opa.revision = after = published(fresh_database_url, plans)

        assert sidecar.until(lambda: f"reloaded: revision {after}" in sidecar.said)
        assert sidecar.ask()[1]["policy_revision"] == after
        assert sidecar.until(lambda: sidecar.status()["converged"])
