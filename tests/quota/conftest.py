from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.memo import MemoisedEngine
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.postgres_server import a_database, run, url_of
from tests.quota.place import PLANS, Place, Rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = "authz_quota_template"


@pytest.fixture(scope="session")
def rules() -> Rules:
    return rules_of(PLANS)


def rules_of(plans: Path) -> Rules:
    """Every verdict is known, so that threads need no engine of their own."""
    compiled = compiled_at(plans, shipped("policies"))
    engine = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    policy = MemoisedEngine(engine, cells=map(situation_bytes, cells(compiled.catalog)))
    policy.know(engine.verdicts(policy.unknown, deadline=time.monotonic() + 60))
    return Rules(catalog=compiled.catalog, policy=policy, revision=compiled.revision)


@pytest.fixture(scope="session")
def quota_template(postgres_server: str, rules: Rules) -> Iterator[str]:
    run(
        postgres_server,
        f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)",
        f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 ENCODING 'UTF8'",
    )
    migrate(url_of(postgres_server, TEMPLATE), catalog=rules.catalog, revision=rules.revision)
    yield TEMPLATE
    run(postgres_server, f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture(scope="module")
def quota_url(postgres_server: str, quota_template: str) -> Iterator[str]:
    """A superuser's URL of a database of this module's own, with the catalog of plans.yaml here."""
    yield from a_database(postgres_server, template=quota_template)


@pytest.fixture(scope="module")
def place_of_module(quota_url: str, rules: Rules) -> Iterator[Place]:
    place = Place(quota_url, rules)
    yield place
    place.close()


@pytest.fixture
def place(place_of_module: Place) -> Iterator[Place]:
    """Whatever a test does there: afterwards each counter is the sum of its ledger."""
    yield place_of_module
    assert place_of_module.miscounts() == []


@pytest.fixture
def own(postgres_server: str, quota_template: str, rules: Rules) -> Iterator[Place]:
    """A place of this test's own, so that all that is wrong in it is this test's doing."""
    for url in a_database(postgres_server, template=quota_template):
        place = Place(url, rules, connections=16)
        yield place
        place.close()
