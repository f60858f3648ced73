"""By which revisions the console explains where OPA evaluates the policies."""

from __future__ import annotations

from time import monotonic

import pytest

from sidecar.console.engines import Engines
from sidecar.console.reading import CannotRead
from sidecar.decisions.cells import cells
from sidecar.decisions.situation import situation_bytes
from sidecar.rego.beside import beside
from sidecar.rego.bundle import bundle, served_bundle
from sidecar.rego.load import compiled_at
from sidecar.reports.explanation import DENIALS
from sidecar.settings import shipped
from tests.servers import opa_server

pytestmark = pytest.mark.opa


@pytest.fixture(scope="module")
def revisions(tmp_path_factory):
    """(before, now): now the action analytics.view is for owners alone."""
    plans = tmp_path_factory.mktemp("now") / "plans.yaml"
    text = shipped("plans.yaml").read_text()
    plans.write_text(text.replace("analytics.view: {role: member,", "analytics.view: {role: owner,"))
    policies = shipped("policies")
    return compiled_at(shipped("plans.yaml"), policies), compiled_at(plans, policies)


def a_member_views_analytics(compiled):
    return situation_bytes(
        next(
            cell
            for cell in cells(compiled.catalog)
            if (cell.action, cell.role, cell.plan, cell.status)
            == ("analytics.view", "member", "team", "active")
            and not cell.feature_overrides
        )
    )


def told_by(engines, compiled):
    """Whether it is allowed, and which rules deny."""
    engine, situation = engines.of(compiled), a_member_views_analytics(compiled)
    deadline = monotonic() + 10
    [(_, verdict)] = engine.verdicts([situation], deadline=deadline)
    return verdict.allow, engine.document(DENIALS, situation, deadline=deadline)


def test_an_opa_that_has_the_revision_before_explains_by_it_and_by_its_own(revisions):
    before, now = revisions
    with opa_server(served_bundle(now, before=[beside(before)])) as url:
        engines = Engines("opa", opa_url=url, revision=now.revision)

        assert told_by(engines, before) == (True, [])
        assert told_by(engines, now) == (False, ["role_insufficient"])


def test_while_opa_has_only_the_newest_an_older_one_is_refused_in_words(revisions):
    before, now = revisions
    with opa_server(bundle(now)) as url:
        engines = Engines("opa", opa_url=url, revision=now.revision)

        with pytest.raises(CannotRead, match=r"OPA does not have revision .* any more: ask sidecar audit"):
            engines.of(before)
        assert told_by(engines, now) == (False, ["role_insufficient"])
