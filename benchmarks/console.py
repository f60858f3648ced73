"""How long the pages of the console take, warm, of the demo world and of the benchmark's own."""

from __future__ import annotations

import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING

import psycopg

from benchmarks import world
from benchmarks.arena import SERVE
from benchmarks.audits import published
from benchmarks.bars import Bar
from benchmarks.processes import running
from sidecar.identity.callers import token_line
from sidecar.settings import shipped
from sidecar.store.world import load
from tests.console.people import AUDITOR, SECRET, ask, cookie
from tests.postgres_server import url_of
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena

PAGES = {
    "Overview": "/console/",
    "Workspaces": "/console/workspaces",
    "Workspaces, a search": "/console/workspaces?q={workspace}",
    "One workspace": "/console/workspaces/{workspace}",
    "Why?": "/console/why?user={user}&workspace={workspace}&action=analytics.view",
    "Matrix": "/console/matrix",
    "Policies": "/console/policies",
    "Decisions": "/console/decisions",
}
_WARM, _TIMES, _OK = 3, 40, 200


def costs(arena: Arena) -> Iterator[tuple[str, float, Bar]]:
    """p95 of each page, from the request to the last byte."""
    demo, large = (_published(arena, name) for name in ("console_demo", "console_large"))
    load(demo, shipped("worlds") / "demo.yaml")
    world.fill(large, workspaces=arena.workspaces)
    for of, url, names, at_most in (
        ("the demo world", demo, {"workspace": "solo", "user": "sam"}, 100),
        (f"{arena.workspaces:,} workspaces", large, {"workspace": "w77", "user": "u77-0"}, 300),
    ):
        bar = Bar(figure="p95_ms", at_most=at_most)
        for page, p95_ms in _of(arena, url, names):
            yield f"console: {page}, {of}", p95_ms, bar


def _published(arena: Arena, name: str) -> str:
    published(arena, name)
    return url_of(arena.postgres.url, name)


def _of(arena: Arena, url: str, names: dict[str, str]) -> Iterator[tuple[str, float]]:
    folder, port = arena.folder / str(psycopg.conninfo.conninfo_to_dict(url)["dbname"]), free_port()
    folder.mkdir()
    secret, tokens = folder / "secret", folder / "tokens"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    tokens.write_text(f"{token_line('auditor', ['audit'], AUDITOR)}\n")
    settings = arena.settings("embedded", port=port) | {
        "SIDECAR_DATABASE_URL": url,
        "SIDECAR_AUDIT_URL": url,
        "SIDECAR_TOKENS": str(tokens),
        "SIDECAR_CONSOLE": "on",
        "SIDECAR_CONSOLE_SECRET": str(secret),
        "SIDECAR_LOG_DIR": str(folder / "decisions"),
        "SIDECAR_WORKERS": "1",
    }
    with running(SERVE, settings, port=port):
        for page, path in PAGES.items():
            yield page, _p95_ms(port, path.format(**names))


def _p95_ms(port: int, path: str) -> float:
    signed_in, took = cookie(), []
    for number in range(_WARM + _TIMES):
        began = perf_counter()
        status, _, _ = ask(port, "GET", path, Cookie=signed_in)
        if status != _OK:
            sys.exit(f"{path} was answered {status}")
        if number >= _WARM:
            took.append((perf_counter() - began) * 1_000)
    return statistics.quantiles(took, n=20)[-1]
