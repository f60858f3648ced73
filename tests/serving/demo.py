"""The whole product with the demo world, as `make run` starts it: its tokens, and end users' routes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sidecar.cli.dev import JWT_SECRET, TOKEN
from sidecar.identity.callers import SCOPES, token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.identity.provider import AUDIENCE, ISSUER
from tests.serving.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.serving import Sidecar


@contextmanager
def the_demo(folder: Path, database_url: str, **settings: object) -> Iterator[Sidecar]:
    """*database_url* has the demo world. Requests have the demo's caller token, unless they have another."""
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    (folder / "tokens").write_text(token_line("dev", SCOPES, TOKEN) + "\n")
    (folder / "secret").write_text(JWT_SECRET)
    (folder / "secret").chmod(0o600)
    chosen: dict[str, object] = {
        "engine": "embedded",
        "workers": 1,
        "deadline_ms": 5_000,
        "tokens": folder / "tokens",
        "jwt_keys": f"hs256:{folder / 'secret'}",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
    }
    with serving(folder, database_url=database_url, **chosen | settings) as sidecar:  # type: ignore[arg-type] # settings
        if not sidecar.until(sidecar.is_ready, within_s=60):
            raise AssertionError(f"not ready:\n{sidecar.said}")
        sidecar.headers = {"Authorization": f"Bearer {TOKEN}"}
        yield sidecar
