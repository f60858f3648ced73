"""`make bench`: this product, its limit and OPA's own server, side by side; written to RESULTS.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import gateways, world
from benchmarks.in_process import decisions_in_process
from benchmarks.load import Figures, wrk
from sidecar.decisions.cells import cells
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.servers import free_port, opa_binary, opa_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.compile import Compiled

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
CONNECTIONS = (1, 16, 64)
ACTION = "roleplay.start_with_avatar"
QUESTION = '{"user": "u%d-%d", "workspace": "w%d", "action": "' + ACTION + '"}'
SUBJECT = '"subject": {"type": "user", "id": "u%d-%d"}'
RESOURCE = '"resource": {"type": "workspace", "id": "w%d"}'
ASKED = '"action": {"name": "' + ACTION + '"}'
WHO, WHERE = '"subject": {"type": "user"}', '"resource": {"type": "workspace"}'
AUTHZEN = {
    "evaluation": f"{{{SUBJECT}, {ASKED}, {RESOURCE}}}",
    "evaluations": f'{{{SUBJECT}, {ASKED}, {RESOURCE}, "evaluations": [{", ".join(["{}"] * 10)}]}}',
    "search/subject": f"{{{WHO}, {ASKED}, {RESOURCE}}}",
    "search/resource": f"{{{SUBJECT}, {ASKED}, {WHERE}}}",
    "search/action": f"{{{SUBJECT}, {RESOURCE}}}",
}
RIVAL_QUESTION = '{"input": {"user": "u%d-%d", "workspace": "w%d", "action": "' + ACTION + '"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    name: str
    url: str
    body: str
    process: int  # whose children's memory is shown; 0 for none of ours


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def running(command: list[str], environ: dict[str, str], *, ready: str) -> Iterator[int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    process = subprocess.Popen(command, env={**clean, **environ}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(ready, timeout=1):  # noqa: S310 - an address of this machine
                    break
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"{' '.join(command)} ended with {process.returncode}")
                time.sleep(0.1)
        else:
            sys.exit(f"{ready} is not ready after a minute")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@contextmanager
def product(
    engine: str, database_url: str, opa_url: str, *, path: str = "v1/authorize", body: str = QUESTION
) -> Iterator[Contender]:
    port = free_port()
    environ = {
        "SIDECAR_DATABASE_URL": database_url,
        "SIDECAR_BIND": f"127.0.0.1:{port}",
        "SIDECAR_PLANS": str(shipped("plans.yaml")),
        "SIDECAR_ENGINE": engine,
        "SIDECAR_OPA_URL": opa_url,
    }
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sidecar", "serve"]
    with running(command, environ, ready=f"{base}/readyz") as process:
        name = f"this product, engine {engine}" if body == QUESTION else f"AuthZEN, /{path}"
        yield Contender(name=name, url=f"{base}/{path}", body=body, process=process)


def at_gateways(folder: Path, database_url: str, *, seconds: int, workspaces: int) -> list[gateways.Row]:
    port, grpc_port = free_port(), free_port()
    environ = gateways.settings(folder) | {
        "SIDECAR_DATABASE_URL": database_url,
        "SIDECAR_BIND": f"127.0.0.1:{port},grpc://127.0.0.1:{grpc_port}",
        "SIDECAR_PLANS": str(shipped("plans.yaml")),
        "SIDECAR_ENGINE": "embedded",
    }
    ports = {"sidecar": port, "grpc_port": grpc_port}
    found = []
    ready = f"http://127.0.0.1:{port}/readyz"
    with running([sys.executable, "-m", "sidecar", "serve"], environ, ready=ready):
        for row in gateways.rows(folder, **ports, seconds=seconds, workspaces=workspaces):
            say(f"{row.name}, {row.connections} connections: {row.figures.per_second:8.0f} a second")
            found.append(row)
    return found


@contextmanager
def limit() -> Iterator[Contender]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", f"127.0.0.1:{port}", "-w", "2"]
    command += ["-k", "gthread", "--threads", "4", "--log-level", "error", "benchmarks.bare:application"]
    base = f"http://127.0.0.1:{port}"
    with running(command, {}, ready=base) as process:
        yield Contender(name="the bare server, a constant answer", url=base, body=QUESTION, process=process)


@contextmanager
def rival(folder: Path, compiled: Compiled, *, workspaces: int) -> Iterator[Contender]:
    data = folder / "data.json"
    world.write_for_opa(data, compiled.catalog, workspaces=workspaces)
    port = free_port()
    command = [str(opa_binary()), "run", "--server", "--log-level=error", f"--addr=127.0.0.1:{port}"]
    base = f"http://127.0.0.1:{port}"
    with running([*command, str(HERE / "rival.rego"), str(data)], {}, ready=f"{base}/health") as process:
        yield Contender(
            name="OPA's own server, memberships in its memory",
            url=f"{base}/v1/data/rival/answer",
            body=RIVAL_QUESTION,
            process=process,
        )


def memory_mib(process: int) -> float:
    """Of the largest of *process* and its children: what is its own, plus its share of what is shared."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return max(_pss_kib(int(each)) for each in [process, *children]) / 1024


def _pss_kib(process: int) -> int:
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def measured(
    contender: Contender, *, seconds: int, workspaces: int, at: tuple[int, ...] = CONNECTIONS
) -> tuple[dict[int, Figures], float]:
    load = {"seconds": seconds, "body": contender.body, "workspaces": workspaces}
    wrk(contender.url, connections=4, **{**load, "seconds": 2})  # warm
    figures = {}
    for connections in at:
        figures[connections] = wrk(contender.url, connections=connections, **load)
        say(f"  {connections:3} connections: {figures[connections].per_second:8.0f} a second")
    return figures, memory_mib(contender.process)


def machine() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {system}"


def table(rows: dict[str, tuple[dict[int, Figures], float]], reference: str) -> list[str]:
    lines = [
        "| what | connections | answers/s | of OPA's | p50 ms | p99 ms | not 2xx | broken | MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (figures, mib) in rows.items():
        for connections, each in figures.items():
            ratio = each.per_second / rows[reference][0][connections].per_second
            lines.append(
                f"| {name} | {connections} | {each.per_second:,.0f} | {ratio:.2f} | {each.p50_ms:.2f} |"
                f" {each.p99_ms:.2f} | {each.not_2xx} | {each.broken} | {mib:.0f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="of each run")
    parser.add_argument("--workspaces", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    rows = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        say(f"filling {options.workspaces} workspaces with {world.MEMBERS} members each")
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        migrate(database.url, catalog=compiled.catalog, revision=compiled.revision)
        world.fill(database.url, workspaces=options.workspaces)
        opa_url = stack.enter_context(opa_server(bundle(compiled)))

        contenders = [
            lambda: rival(folder, compiled, workspaces=options.workspaces),
            limit,
            lambda: product("opa", database.url, opa_url),
            lambda: product("embedded", database.url, opa_url),
        ]
        for contender in contenders:
            with contender() as each:
                say(each.name)
                rows[each.name] = measured(each, seconds=options.seconds, workspaces=options.workspaces)

        for path, body in AUTHZEN.items():
            about = {"path": f"access/v1/{path}", "body": body}
            with product("embedded", database.url, opa_url, **about) as each:
                say(each.name)
                rows[each.name] = measured(
                    each, seconds=options.seconds, workspaces=options.workspaces, at=(16,)
                )
        asked = at_gateways(folder, database.url, seconds=options.seconds, workspaces=options.workspaces)

    inside = decisions_in_process(compiled)
    size = sum(1 for _ in cells(compiled.catalog))
    lines = [
        "# Results",
        "",
        (
            f"Written by `make bench` on {machine()}; {options.workspaces} workspaces with {world.MEMBERS}"
            f" members each; {options.seconds} seconds a run, wrk with random users of random workspaces on"
            " the same machine. MiB is the largest process of each. Use the ratios."
        ),
        "",
        *table(rows, "OPA's own server, memberships in its memory"),
        "",
        *gateways.table(asked),
        "",
        f"In one process, facts in memory: {inside:,.0f} decisions a second; {size:,} cells in the memo.",
        "",
    ]
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))
    if broken := [
        name
        for name, (figures, _) in rows.items()
        if any(each.not_2xx or each.broken for each in figures.values())
    ] + [row.name for row in asked if row.figures.not_2xx or row.figures.broken]:
        say(f"not every answer was one: {json.dumps(broken)}")


if __name__ == "__main__":
    main()
