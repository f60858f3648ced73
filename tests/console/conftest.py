from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.cli.migrate import files_of
from sidecar.identity.callers import token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.browser import a_chromium
from tests.console.people import ADMIN, AUDITOR, BACKEND, SECRET, Visitor
from tests.examples.trainer_web import WEB
from tests.node import installed
from tests.postgres_server import a_database
from tests.serving.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browser import Page
    from tests.serving.serving import Sidecar


@pytest.fixture(scope="package")
def database(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A superuser's URL of a database with the demo world, published with its files."""
    for url in a_database(postgres_server, template=migrated_template):
        plans, policies = shipped("plans.yaml"), shipped("policies")
        compiled = compiled_at(plans, policies)
        files = files_of(plans, compiled)
        migrate(url, catalog=compiled.catalog, revision=compiled.revision, files=files)
        yield url


@pytest.fixture(scope="package")
def sidecar(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """With a console, on loopback, that all tests of this folder look at."""
    folder: Path = tmp_path_factory.mktemp("console")
    secret, tokens = folder / "secret", folder / "tokens"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    lines = [
        ("admin", ["admin"], ADMIN),
        ("auditor", ["audit"], AUDITOR),
        ("backend", ["authorize"], BACKEND),
    ]
    tokens.write_text("".join(f"{token_line(*line)}\n" for line in lines))
    settings: dict[str, Any] = {
        "database_url": database,
        "audit_url": database,
        "engine": "embedded",
        "tokens": tokens,
        "console": "on",
        "console_secret": secret,
        "log_dir": folder / "decisions",
        "workers": 1,
        "deadline_ms": 2_000,
    }
    with serving(folder, **settings) as sidecar:
        sidecar.headers = {"Authorization": f"Bearer {BACKEND}"}
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        yield sidecar


@pytest.fixture(scope="package")
def chromium() -> Iterator[Callable[[str], Page]]:
    with a_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="package")
def axe() -> str:
    """axe-core itself, as the example's tests have it."""
    return (installed(WEB) / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture
def visitor(sidecar: Sidecar, chromium: Callable[[str], Page]) -> Iterator[Visitor]:
    """Somebody who has not signed in; what holds for all pages is checked at the end."""
    page = chromium(f"http://127.0.0.1:{sidecar.port}/console")
    visitor = Visitor(page.page, sidecar.port)
    yield visitor
    assert visitor.errors == []
    visitor.page.context.close()


@pytest.fixture
def auditor(visitor: Visitor) -> Visitor:
    """Who has signed in."""
    visitor.has_signed_in()
    return visitor
