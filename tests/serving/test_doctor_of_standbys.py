"""`sidecar doctor` where several servers are named, as docs/operations/failover.md has it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from sidecar.rego.load import compiled_at
from sidecar.serving.doctor.database import database_checks
from sidecar.settings import Settings, shipped
from sidecar.store.migrate import migrate
from tests.store.standby import a_pair

pytestmark = pytest.mark.postgres

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="module")
def pair():
    with a_pair() as pair:
        migrate(pair.primary, catalog=COMPILED.catalog, revision=COMPILED.revision)
        pair.catch_up()
        yield pair


def checked(*urls, more=""):
    """{name: state} with the hosts of *urls* in this order."""
    hosts = ",".join(quote(str(conninfo_to_dict(each)["host"]), safe="") for each in urls)
    url = f"postgresql://postgres@/postgres?host={hosts}{more}"
    settings = Settings.from_environ(
        {"SIDECAR_DATABASE_URL": url, "SIDECAR_PLANS": str(shipped("plans.yaml"))}
    )
    return {each.name: each.state for each in database_checks(settings, COMPILED)}


def test_the_primary_is_found_whichever_stands_first(pair):
    for urls in ((pair.standby, pair.primary), (pair.primary, pair.standby)):
        found = checked(*urls)

        assert found["database primary"] == found["database catalog"] == "ok"
        assert "finding" not in found.values()


def test_what_the_url_itself_asks_for_is_looked_for_first(pair):
    assert checked(pair.primary, more="&target_session_attrs=prefer-standby")["database primary"] == "ok"
    found = checked(pair.primary, pair.standby, more="&target_session_attrs=any")
    assert found["database primary"] == "ok"


def test_a_standby_alone_is_a_finding(pair):
    found = checked(pair.standby)

    assert [name for name, state in found.items() if state == "finding"] == ["database primary"]
