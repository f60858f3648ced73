"""Facts on an auditor's connection are those that the sidecar reads."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from sidecar.catalog.check import check_plans
from sidecar.errors import FactsMisread
from sidecar.settings import shipped
from sidecar.store.audited_facts import AuditedFacts
from sidecar.store.auditing import looking
from sidecar.store.migrate import migrate
from sidecar.store.names import Names
from sidecar.store.postgres import PostgresFacts
from tests.postgres_server import rows, run
from tests.values import FAR_AWAY, the_catalog

MEMBERS = [("adam", "acme"), ("sam", "solo"), ("sam", "acme"), ("nobody", "nowhere")]


def known(facts):
    """Without what differs from one read to the next."""
    return facts and replace(facts, at=None, token=None)


@pytest.mark.parametrize("renamed", [False, True])
def test_facts_members_and_what_is_to_come_are_the_same(fresh_database_url, renamed):
    url, catalog = fresh_database_url, the_catalog()
    run(url, "SELECT authz.set_overrides('solo', '{\"analytics\": true}', '{\"minutes\": 7}', NULL, NULL)")
    if renamed:
        text = shipped("plans.yaml").read_text()
        text = text.replace("  starter:\n", "  basic:\n    renamed_from: starter\n").replace(
            "extends: starter", "extends: basic"
        )
        text = text.replace("default_plan: starter", "default_plan: basic").replace(
            "plan: starter", "plan: basic"
        )
        checked = check_plans(text.encode(), source="plans.yaml")
        assert checked.catalog, checked
        migrate(url, catalog=checked.catalog, revision="next")
    assert rows(url, "SELECT plan_tier FROM authz.workspaces WHERE slug = 'solo'") == [
        ("basic" if renamed else "starter",)
    ]
    store = PostgresFacts(url, catalog=catalog, pool_size=1, names=Names("dev"))
    store.open()
    solo = UUID(str(rows(url, "SELECT id FROM authz.workspaces WHERE slug = 'solo'")[0][0]))
    needed = {solo: ("minutes", "members")}

    with looking(url) as looked:
        audited = AuditedFacts(looked.connection, catalog=catalog, revision="dev")
        facts = audited.facts(MEMBERS, deadline=FAR_AWAY)

        assert [*map(known, facts)] == [*map(known, store.facts(MEMBERS, deadline=FAR_AWAY))]
        assert [each and each.plan for each in facts] == ["team", "starter", None, None]
        for slug in ("acme", "nowhere"):
            mine = audited.members_of(slug, after=None, limit=2, deadline=FAR_AWAY)
            theirs = store.members_of(slug, after=None, limit=2, deadline=FAR_AWAY)
            assert (mine.members, known(mine.facts)) == (theirs.members, known(theirs.facts))
        assert audited.to_come(needed, deadline=FAR_AWAY).keys() == {solo}
        assert (
            audited.to_come(needed, deadline=FAR_AWAY)[solo]["minutes"].override
            == store.to_come(needed, deadline=FAR_AWAY)[solo]["minutes"].override
        )
        with pytest.raises(FactsMisread, match="not for the people"):
            audited.workspaces_of("sam", after=None, limit=1, deadline=FAR_AWAY)
    store.close()
