from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.serving.demo import the_demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.serving import Sidecar


@pytest.fixture(scope="module")
def sidecar(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with the_demo(tmp_path_factory.mktemp("sidecar"), database_url) as sidecar:
        yield sidecar
