"""What SQL answers is what the policies answer: every cell, laid into the database and asked both ways."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest

from sidecar.decisions.cells import STATUSES
from sidecar.decisions.model import Room
from sidecar.decisions.situation import situation_bytes, situation_of
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.postgres import PostgresFacts
from tests.postgres_server import rows, run
from tests.values import FAR_AWAY, a_question

pytestmark = pytest.mark.postgres

OVERRIDES = ("none", "on", "off", "on_but_expired", "off_but_expired")
UNDECLARED_PLAN, UNDECLARED_ROLE, UNDECLARED_FEATURE = "gold", "janitor", "telepathy"
LAY_CELL = """
    WITH w AS (
        INSERT INTO authz.workspaces (slug, name, plan_tier, status)
        VALUES (%s, 'a cell', %s, %s) RETURNING id
    ), people AS (
        INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
        SELECT w.id, role, role FROM w, unnest(%s::text[]) AS role
    ), overridden AS (
        INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, expires_at)
        SELECT w.id, 'feature', feature, %s, %s::timestamptz FROM w, unnest(%s::text[]) AS feature
    )
    SELECT id FROM w
"""

FOR_EACH = "FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS q (a, b, n) ORDER BY n"


@pytest.fixture(scope="module")
def compiled():
    return compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="module")
def verdicts(compiled, database_url):
    """For each (user, workspace, action) the verdict of the policies on the facts that the sidecar reads."""
    engine = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    store = PostgresFacts(database_url, catalog=compiled.catalog, pool_size=1)
    store.open()

    actions = compiled.catalog.actions
    everywhere = Room(fits_in=tuple(sorted(compiled.catalog.plans)), waiting_helps=False)

    @cache
    def verdict(situation):
        return engine.verdict(situation, deadline=FAR_AWAY)

    def of(questions):
        facts = store.facts([(user, workspace) for user, workspace, _ in questions], deadline=FAR_AWAY)
        return [
            verdict(
                situation_bytes(
                    situation_of(
                        a_question(action, user=user, workspace=workspace),
                        known,
                        catalog=compiled.catalog,
                        room=everywhere if action in actions and actions[action].takes else None,
                        context_fields=frozenset(),
                    )
                )
            )
            for (user, workspace, action), known in zip(questions, facts, strict=True)
        ]

    yield of
    store.close()


@pytest.fixture(scope="module")
def cells(compiled, database_url):
    """(slug, id, plan, status, override): one workspace each, in it one user for each role, named for it."""
    # A plan of another revision than the tables': no constraint would let it in.
    run(database_url, "ALTER TABLE authz.workspaces DROP CONSTRAINT workspaces_plan_tier_fkey")
    roles = [*compiled.catalog.roles, UNDECLARED_ROLE]
    features = [*compiled.catalog.features, UNDECLARED_FEATURE]
    laid = []
    for plan, status, override in product([*compiled.catalog.plans, UNDECLARED_PLAN], STATUSES, OVERRIDES):
        slug = f"{plan}-{status}-{override}".replace("_", "-")
        [(id_,)] = rows(
            database_url,
            LAY_CELL,
            slug,
            plan,
            status,
            roles,
            override.startswith("on"),
            "2020-01-01" if override.endswith("expired") else None,
            [] if override == "none" else features,
        )
        laid.append((slug, id_, plan, status, override))
    return laid


def answers(url, function, questions):
    """One answer for each pair of arguments."""
    asked = f"SELECT authz.{function} {FOR_EACH}"
    arguments = map(list, zip(*questions, strict=True))
    return [answer for (answer,) in rows(url, asked, *arguments)]


def test_has_feature_access_is_what_a_member_is_granted(compiled, cells, verdicts, database_url):
    features = [*compiled.catalog.features, UNDECLARED_FEATURE]
    asked = [(str(id_), feature) for _, id_, *_ in cells for feature in features]

    found = answers(database_url, "has_feature_access(q.a::uuid, q.b)", asked)

    for role in compiled.catalog.roles:
        granted = verdicts([(role, id_, f"feature:{feature}") for id_, feature in asked])
        assert found == [verdict.allow for verdict in granted]
    assert {True, False} == set(found)


def test_what_a_suspended_workspace_and_an_undeclared_plan_mean(cells, database_url):
    """No feature while it is suspended; of a plan that is not declared only what an override gives."""
    asked = [(str(id_), "analytics") for _, id_, *_ in cells]
    found = answers(database_url, "has_feature_access(q.a::uuid, q.b)", asked)

    having = {cell[2:] for cell, has in zip(cells, found, strict=True) if has}
    assert having == {
        *product(["pro", "team"], ["active"], set(OVERRIDES) - {"off"}),
        *product(["starter", UNDECLARED_PLAN], ["active"], ["on"]),
    }


def test_is_workspace_member_is_whom_the_policies_do_not_call_a_stranger(
    compiled, cells, verdicts, database_url
):
    users = [*compiled.catalog.roles, UNDECLARED_ROLE, "stranger"]
    asked = [(user, str(id_)) for _, id_, *_ in cells for user in users]

    found = answers(database_url, "is_workspace_member(q.a, q.b::uuid)", asked)

    known = verdicts([(user, id_, "platform.use") for user, id_ in asked])
    assert found == [verdict.reason != "not_a_member" for verdict in known]
    assert sum(found) == len(cells) * len(compiled.catalog.roles)


def test_get_workspace_role_is_the_role_that_the_policies_see(compiled, cells, verdicts, database_url):
    """A role may what those that it includes may: `role:<r>` is granted for each of them, and no other."""
    roles = compiled.catalog.roles
    users = [*roles, UNDECLARED_ROLE, "stranger"]
    asked = [(user, str(id_)) for _, id_, _, status, _ in cells if status == "active" for user in users]

    found = answers(database_url, "get_workspace_role(q.a, q.b::uuid)", asked)

    for action in roles:
        granted = verdicts([(user, id_, f"role:{action}") for user, id_ in asked])
        assert [verdict.allow for verdict in granted] == [
            role is not None and action in {role, *roles[role].includes} for role in found
        ]


def test_get_user_workspaces_lists_where_they_are_a_member_suspended_or_not(compiled, cells, database_url):
    listed = "SELECT slug, role, plan_tier, status FROM authz.get_user_workspaces(%s)"
    for role in compiled.catalog.roles:
        expected = [(slug, role, plan, status) for slug, _, plan, status, _ in sorted(cells)]
        assert rows(database_url, listed, role) == expected

    assert rows(database_url, listed, UNDECLARED_ROLE) == []
