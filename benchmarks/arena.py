"""The contenders of a run: each starts when a row first needs it, and lives to the end; one PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

from benchmarks import questions, upsert, world
from benchmarks.grpc_load import check, messages_of
from benchmarks.load import wrk
from benchmarks.measure import Entrant
from benchmarks.processes import ROOT, running
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.bundle import bundle
from sidecar.rego.lint import opa_binary
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.gateways.processes import KINDS, files_of
from tests.servers import free_port, opa_process
from tests.store.standby import a_standby_of

if TYPE_CHECKING:
    from uuid import UUID

    from benchmarks.processes import Running
    from benchmarks.rows import Contender

HERE = Path(__file__).parent
PROCESSES = os.cpu_count() or 1  # of the servers that can be told
SERVE = [sys.executable, "-m", "sidecar", "serve"]
WITHOUT = [sys.executable, "-m", "benchmarks.without"]
_READ_WITHIN_S = 20.0
_MIGRATED_WITHIN_S = 60.0
_WIDE = """
    INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
    SELECT id, 'limit', 'minutes', %(limit)s FROM authz.workspaces WHERE slug = ANY(%(slugs)s)
"""
_IDS = "SELECT id FROM authz.workspaces WHERE slug = ANY(%(slugs)s) ORDER BY slug <> 'w0'"


class Arena:
    """Open it with `with`; entering fills the database, which takes some seconds."""

    def __init__(self, folder: Path, *, workspaces: int, before: Path | None) -> None:
        self.folder, self.workspaces, self._before = folder, workspaces, before
        self.compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
        self._kinds = questions.kinds(workspaces)
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}  # of gRPC, by contender

    def __enter__(self) -> Self:
        for program, package in (("wrk", "wrk"), ("nginx", "nginx")):
            if _found(program) is None:
                sys.exit(f"benchmarks need {program}: apt-get install {package}")
        if opa_binary() is None:
            sys.exit("benchmarks need an opa binary: docs/development.md")
        try:
            self.postgres = self._stack.enter_context(EmbeddedPostgres(self.folder / "postgres"))
            migrate(self.postgres.url, catalog=self.compiled.catalog, revision=self.compiled.revision)
            world.fill(self.postgres.url, workspaces=self.workspaces)
            self._counters = self._prepare_consumes()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entrant(self, contender: Contender, *, connections: int) -> Entrant | None:
        """None: it needs `--before`, which is not given."""
        if contender.server == "upsert":
            workspaces = self._counters[: 1 if contender.asks == "consume one" else None]
            load = partial(upsert.upserts, self.postgres.url, workspaces)
            return Entrant(
                name=contender.name,
                load=lambda seconds: load(seconds=seconds),
                is_its_clients=True,
            )
        if contender.server == "before" and self._before is None:
            return None
        server: Running = getattr(self, contender.server)
        if contender.asks == "grpc":
            load = partial(check, self._ports[contender.server], self._messages, connections=connections)
        else:
            load = partial(wrk, server.port, self.requests(contender.asks), connections=connections)
        return Entrant(
            name=contender.name,
            load=lambda seconds: load(seconds=seconds),
            roots=(server.pid, *self._helpers(contender.server)),
        )

    def settings(self, engine: str, *, port: int) -> dict[str, str]:
        """Of `sidecar serve`, as all rows ask it: over HTTP and, at `--bind`'s second address, gRPC."""
        secret = self.folder / "secret"
        secret.write_text(questions.SECRET)
        return {
            "SIDECAR_DATABASE_URL": self.postgres.url,
            "SIDECAR_BIND": f"127.0.0.1:{port},grpc://127.0.0.1:{free_port()}",
            "SIDECAR_PLANS": str(shipped("plans.yaml")),
            "SIDECAR_ENGINE": engine,
            "SIDECAR_JWT_KEYS": f"hs256:{secret}",
            "SIDECAR_JWT_ISSUER": questions.ISSUER,
            "SIDECAR_JWT_AUDIENCE": questions.AUDIENCE,
            **({"SIDECAR_OPA_URL": self.opa_of_ours[0]} if engine == "opa" else {}),
        }

    @cached_property
    def embedded(self) -> Running:
        return self._sidecar("embedded", engine="embedded")

    @cached_property
    def opa(self) -> Running:
        return self._sidecar("opa", engine="opa")

    @cached_property
    def unsealed(self) -> Running:
        return self._sidecar("unsealed", engine="embedded", command=[*WITHOUT, "seal", "serve"])

    @cached_property
    def unanchored(self) -> Running:
        return self._sidecar("unanchored", engine="embedded", command=[*WITHOUT, "anchors", "serve"])

    @cached_property
    def in_files(self) -> Running:
        return self._sidecar("in_files", engine="embedded", log_dir=self.folder / "in_files")

    @cached_property
    def on_disk(self) -> Running:
        return self._sidecar("on_disk", engine="embedded", log_dir=self.folder / "on_disk", log_sync="wait")

    @cached_property
    def replicated(self) -> Running:
        """It reads a streaming replica on this machine. Asked once it does: the first looks take a moment."""
        replica = self._stack.enter_context(a_standby_of(self.postgres))
        running = self._sidecar("replicated", engine="embedded", facts_urls=replica.url)
        asked = next(iter(self._kinds["authorize"]()))
        until = time.monotonic() + _READ_WITHIN_S
        while b'"lag_ms"' not in _answer(running.port, asked):
            if time.monotonic() > until:
                sys.exit("the replica is not read")
            time.sleep(0.1)
        return running

    @cached_property
    def before(self) -> Running:
        """On a database of its own, which it makes itself: of ours it may know neither schema nor catalog."""
        tree = self._before or ROOT
        postgres = self._stack.enter_context(EmbeddedPostgres(self.folder / "postgres-before"))
        command = [sys.executable, "-m", "sidecar", "migrate", "--database-url", postgres.url]
        subprocess.run([*command, "--plans", "plans.yaml"], cwd=tree, check=True, timeout=_MIGRATED_WITHIN_S)
        world.fill(postgres.url, workspaces=self.workspaces)
        return self._sidecar("before", engine="embedded", tree=tree, database_url=postgres.url)

    @cached_property
    def opa_of_ours(self) -> tuple[str, int]:
        """URL and process of the OPA that `sidecar serve` asks with the engine `opa`."""
        return self._stack.enter_context(opa_process(bundle(self.compiled)))

    @cached_property
    def rival(self) -> Running:
        """OPA's own server, with memberships in its memory and a policy that answers the same question."""
        data = self.folder / "data.json"
        world.write_for_opa(data, self.compiled.catalog, workspaces=self.workspaces)
        port = free_port()
        command = [str(opa_binary()), "run", "--server", "--log-level=error", "--skip-version-check"]
        command += [f"--addr=127.0.0.1:{port}", str(HERE / "rival.rego"), str(data)]
        return self._start(command, port=port, ready="/health")

    @cached_property
    def constant_answer(self) -> Running:
        """The limit: what the lane does if an answer takes no thought. Its body is one of ours."""
        answer = _answer(self.embedded.port, next(iter(self._kinds["authorize"]())))
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.constant", str(port), str(PROCESSES)]
        return self._start(command, port=port, ready="/healthz", stdin=answer)

    @cached_property
    def nginx(self) -> Running:
        """By the file of its document, in front of a backend that only says yes."""
        port, backend = free_port(), free_port()
        [text] = files_of(KINDS["nginx"]).values()
        ports = {"8000": port, "8080": self.embedded.port, "9000": backend}
        text = re.sub(r"\b(8000|8080|9000)\b", lambda found: str(ports[found[0]]), text)
        up = f"server {{ listen 127.0.0.1:{backend}; return 200 ok; }}"
        ready = "location = /_ready { auth_request off; return 204; }"
        text = text.replace("http {\n", f"http {{\n    access_log off;\n    {up}\n", 1)
        text = text.replace(f"listen 127.0.0.1:{port};", f"listen 127.0.0.1:{port};\n        {ready}", 1)
        folder = self.folder / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(text)
        options = f"daemon off; pid nginx.pid; worker_processes {PROCESSES};"
        command = [
            _found("nginx") or "nginx",
            "-p",
            str(folder),
            "-c",
            "nginx.conf",
            "-e",
            "stderr",
            "-g",
            options,
        ]
        return self._start(command, port=port, ready="/_ready")

    def _sidecar(
        self, name: str, *, engine: str, tree: Path = ROOT, command: list[str] = SERVE, **more: object
    ) -> Running:
        """*more* are settings."""
        port = free_port()
        environ = self.settings(engine, port=port)
        environ |= {f"SIDECAR_{setting.upper()}": str(value) for setting, value in more.items()}
        environ["SIDECAR_PLANS"] = str(tree / "plans.yaml")
        self._ports[name] = int(environ["SIDECAR_BIND"].rpartition(":")[2])
        return self._start(command, environ, port=port, tree=tree)

    def _start(self, command: list[str], environ: dict[str, str] | None = None, **options) -> Running:
        return self._stack.enter_context(running(command, environ, **options))

    def _helpers(self, server: str) -> tuple[int, ...]:
        """Other processes whose work is the server's."""
        if server == "opa":
            return (self.opa_of_ours[1],)
        return (self.embedded.pid,) if server == "nginx" else ()

    def requests(self, kind: str) -> Path:
        path = self.folder / f"{kind.replace('/', '-')}.requests"
        if not path.exists():
            questions.write(path, self._kinds[kind]())
        return path

    @cached_property
    def _messages(self) -> list[bytes]:
        return messages_of(questions.checks(self.workspaces))

    def _prepare_consumes(self) -> list[UUID]:
        """Counters that nobody exhausts; the first is the hot one."""
        values = {
            "slugs": [f"w{n}" for n in range(min(questions.COUNTERS, self.workspaces))],
            "limit": upsert.LIMIT,
        }
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            for statement in upsert.TABLES:
                connection.execute(statement.encode())
            connection.execute(_WIDE, values)
            connection.execute("VACUUM ANALYZE")
            return [each for (each,) in connection.execute(_IDS, values)]


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def _answer(port: int, request: bytes) -> bytes:
    """One whole response, as it comes over the wire."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        received = b""
        while True:
            head, blank, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if blank and length and len(body) >= int(length[1]):
                return received
            more = connection.recv(65_536)
            if not more:
                sys.exit(f"no whole answer: {received!r}")
            received += more
