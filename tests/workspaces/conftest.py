from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.memo import MemoisedEngine
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.workspaces.stage import a_people_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.compile import Compiled
    from tests.workspaces.stage import Stage


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    return compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="module")
def published_url(database_url: str, compiled: Compiled) -> str:
    """A superuser's URL of a database with the demo world, published with the shipped revision."""
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    return database_url


@pytest.fixture(scope="session")
def policy(compiled: Compiled) -> MemoisedEngine:
    """The shipped policies."""
    embedded = pytest.importorskip("sidecar.engines.embedded", reason="needs the extra `embedded`")
    engine = embedded.EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    return MemoisedEngine(engine, cells=map(situation_bytes, cells(compiled.catalog)))


@pytest.fixture(scope="module")
def stage(database_url: str, policy: MemoisedEngine) -> Iterator[Stage]:
    with a_people_stage(database_url, engine=policy) as stage:
        yield stage
