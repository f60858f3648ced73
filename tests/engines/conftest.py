from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.audit.cells import cells
from sidecar.catalog.compile import bundle
from sidecar.catalog.load import compiled_at
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.opa import OpaEngine
from sidecar.settings import shipped
from sidecar.situation import situation_bytes
from tests.servers import opa_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.catalog.compile import Compiled


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    return compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="session")
def all_cells(compiled: Compiled) -> list[bytes]:
    return [situation_bytes(situation) for situation in cells(compiled.catalog)]


@pytest.fixture(scope="session")
def opa_url(compiled: Compiled) -> Iterator[str]:
    with opa_server(bundle(compiled)) as url:
        yield url


@pytest.fixture(scope="session")
def embedded(compiled: Compiled) -> EmbeddedEngine:
    return EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)


@pytest.fixture
def opa(compiled: Compiled, opa_url: str) -> OpaEngine:
    return OpaEngine(opa_url, revision=compiled.revision)
