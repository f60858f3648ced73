from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.opa import OpaEngine
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.servers import opa_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.decisions.ports import PolicyEngine
    from sidecar.rego.compile import Compiled


ENGINES = [pytest.param("opa", marks=pytest.mark.opa), "embedded"]


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


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=ENGINES)
def engine_by(request: pytest.FixtureRequest) -> Iterator[Callable[..., PolicyEngine]]:
    """Makes an engine of that kind of what was compiled."""
    with ExitStack() as running:

        def engine(compiled: Compiled, *, revision: str | None = None) -> PolicyEngine:
            revision = revision or compiled.revision
            if request.param == "embedded":
                return EmbeddedEngine(compiled.modules, compiled.data, revision=revision)
            return OpaEngine(running.enter_context(opa_server(bundle(compiled))), revision=revision)

        yield engine


@pytest.fixture
def engine_of(engine_by: Callable[..., PolicyEngine], compiled: Compiled) -> Callable[..., PolicyEngine]:
    """Makes an engine of that kind of other policies: Rego text and a revision."""

    def engine(rego: str, *, revision: str = "r1") -> PolicyEngine:
        return engine_by(replace(compiled, modules={"authz/authz.rego": rego}), revision=revision)

    return engine
