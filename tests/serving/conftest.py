from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.identity.provider import AUDIENCE, ISSUER, SECRET
from tests.serving.scripted_opa import scripted_opa
from tests.serving.serving import policies_that_read_ip, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sidecar.rego.compile import Compiled
    from tests.serving.scripted_opa import ScriptedOpa
    from tests.serving.serving import Sidecar


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    return compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="session")
def policies_with_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ones with a field of context, `ip`: a question with it goes to the engine each time."""
    return policies_that_read_ip(tmp_path_factory.mktemp("policies") / "policies")


@pytest.fixture(scope="module")
def database(database_url: str, compiled: Compiled) -> str:
    """A superuser's URL of a database with the demo world, published with the shipped revision."""
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    return database_url


@pytest.fixture(scope="module")
def opa(compiled: Compiled) -> Iterator[ScriptedOpa]:
    with scripted_opa(compiled.revision) as opa:
        yield opa


@pytest.fixture(scope="module")
def sidecar(database: str, opa: ScriptedOpa, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The whole product, with a real database and the scripted OPA, and every verdict known."""
    folder: Path = tmp_path_factory.mktemp("sidecar")
    # A deadline that no busy test machine misses: that it is kept is tested where it is set.
    with serving(folder, database_url=database, opa_url=opa.url, deadline_ms=5_000) as sidecar:
        if not sidecar.until(sidecar.is_ready, within_s=30):
            raise AssertionError(f"not ready:\n{sidecar.said}")
        yield sidecar


@pytest.fixture(scope="module")
def both(
    database: str, opa: ScriptedOpa, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sidecar, Sidecar]]:
    """The same product twice, with the lane and without."""
    with ExitStack() as stack:
        made = []
        for lane in ("on", "off"):
            folder = tmp_path_factory.mktemp(f"lane-{lane}")
            (folder / "secret").write_text(SECRET)
            sidecar = stack.enter_context(
                serving(
                    folder,
                    also_at=folder / "socket",
                    database_url=database,
                    opa_url=opa.url,
                    deadline_ms=5_000,
                    workers=1,
                    lane=lane,
                    jwt_keys=f"hs256:{folder / 'secret'}",
                    jwt_issuer=ISSUER,
                    jwt_audience=AUDIENCE,
                )
            )
            assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
            made.append(sidecar)
        yield made[0], made[1]
