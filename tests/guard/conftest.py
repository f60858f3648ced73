from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.serving.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.serving import Sidecar


@pytest.fixture(scope="module")
def real_sidecar(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The whole product, with the demo world; it listens at `sidecar.sock` in its folder too."""
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    folder: Path = tmp_path_factory.mktemp("sidecar")
    with serving(
        folder,
        also_at=folder / "sidecar.sock",
        database_url=database_url,
        engine="embedded",
        workers=1,
        deadline_ms=5_000,
    ) as sidecar:
        if not sidecar.until(sidecar.is_ready, within_s=60):
            raise AssertionError(f"not ready:\n{sidecar.said}")
        yield sidecar
