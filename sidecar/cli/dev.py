"""`sidecar dev`: the whole product on this machine, with nothing installed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sidecar.api.cors import ANY_PORT
from sidecar.cli import plans_option, policies_option
from sidecar.cli.migrate import files_of
from sidecar.cli.sources import plans_or_shipped, policies_or_shipped
from sidecar.engines.building import refuse_unbuilt
from sidecar.engines.installed import import_first
from sidecar.errors import ConfigError, Interrupted
from sidecar.identity.callers import SCOPES, token_line
from sidecar.local.children import end, start
from sidecar.local.examples import examples
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.load import compiled_at
from sidecar.settings import PREFIX, Settings, shipped
from sidecar.store.migrate import migrate
from sidecar.store.world import load, members_in

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from sidecar.catalog.catalog import Catalog
    from sidecar.rego.compile import Compiled
    from sidecar.store.publish import Files

HOST = "127.0.0.1"
# Everybody may know them: nobody else can reach this server.
TOKEN = "dev-token"  # noqa: S105
JWT_SECRET = "dev-secret-dev-secret-dev-secret-32"  # noqa: S105
JWT_AUDIENCE = "authenticated"
CORS_ORIGINS = tuple(f"http://{host}{ANY_PORT}" for host in ("localhost", "127.0.0.1"))
_SERVE = "from sidecar.cli import main, dev; main(dev.serve)"
SCENARIOS = ("certification", "todo", "search", "gateway", "idp")
_WITH_A_TOKEN = "certification"  # noqa: S105 - whose suite also tests that a wrong one is refused
_READY_WITHIN_S = 60.0
_POLL_S = 0.05
_CODE_BYTES = 24
_GRACE_S = 10.0


class _Stopped(BaseException):
    """A signal asks this process to end."""


@click.command(name="dev")
@click.option("--port", type=click.IntRange(1, 65_535), default=8080, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".sidecar/dev"),
    show_default=True,
    help="Where the database lives; a second start finds what the first has left.",
)
@plans_option(demo=True)
@policies_option()
@click.option("--world", type=click.Path(path_type=Path), help="A world file to load instead of the demo.")
@click.option("--engine", type=click.Choice(["embedded", "opa"]), default="embedded", show_default=True)
@click.option(
    "--authzen-policy",
    type=click.Path(path_type=Path),
    help="A folder with another domain's policy, which AuthZEN's endpoints then serve instead of ours.",
)
@click.option(
    "--authzen-scenario",
    type=click.Choice(SCENARIOS),
    help="A policy of AuthZEN's own scenarios, for a conformance run. `certification` asks for the dev token;"
    " the others also serve who shows none.",
)
@click.option("--database-url", help="A server of your own (a superuser's URL) instead of the embedded one.")
def command(  # noqa: PLR0913, PLR0917 - click gives each option
    port: int,
    data_dir: Path,
    plans: Path | None,
    policies: Path | None,
    world: Path | None,
    engine: str,
    authzen_policy: Path | None,
    authzen_scenario: str | None,
    database_url: str | None,
) -> None:
    """Run the whole product on 127.0.0.1: PostgreSQL, policies, demo data and the server. Ctrl-C ends it."""
    plans = plans_or_shipped(plans)
    policies = policies_or_shipped(policies, plans=plans)
    if authzen_scenario is not None:
        if authzen_policy is not None:
            raise click.UsageError("--authzen-policy and --authzen-scenario exclude each other")
        authzen_policy = _scenario(authzen_scenario)
    compiled = compiled_at(plans, policies)
    refuse_unbuilt(compiled, policies, by_embedded=engine == "embedded")
    authzen = authzen_policy_at(authzen_policy) if authzen_policy else None
    _refuse_taken(port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with ExitStack() as running:
            if database_url is None:
                database_url = _database(running, data_dir)
            _prepare(database_url, data_dir, compiled, world, files=files_of(plans, compiled))
            environ = {
                "DATABASE_URL": database_url,
                "BIND": f"{HOST}:{port}",
                "TOKENS": str(_tokens_file(data_dir)),
                "ENGINE": engine,
                "PLANS": str(plans),
                "POLICIES": str(policies),
                "WORKERS": "1",
                "THREADS": "8",
                # A laptop may swap: rather slow than 503.
                "DEADLINE_MS": "2000",
                "CONSOLE": "on",
                "AUDIT_URL": database_url,
                "LOG_DIR": str(data_dir / "decisions"),
                "STRIPE_LIVEMODE": "false",
                "STRIPE_SECRETS": os.environ.get(f"{PREFIX}STRIPE_SECRETS", ""),  # of `stripe listen`
            }
            if authzen_policy is not None:
                environ["AUTHZEN_POLICY"] = str(authzen_policy)
            is_open = authzen_scenario not in {None, _WITH_A_TOKEN}
            if is_open:
                environ["AUTHZEN_ANONYMOUS"] = "yes"
            if engine == "opa":
                from sidecar.local.opa import local_opa  # noqa: PLC0415 - only OPA's users wait for it

                environ["OPA_URL"] = running.enter_context(local_opa(compiled, authzen))
            once = data_dir / "console-once"
            code = secrets.token_urlsafe(_CODE_BYTES)
            _write_privately(once, f"{code}\n")
            arguments = (_secret_file(data_dir), data_dir / "verdicts", once)
            server = running.enter_context(_server(environ, *arguments))
            _wait_until_ready(server, port)
            if authzen_policy is not None:
                who = "anybody without a token" if is_open else f"whoever has the token {TOKEN}"
                _say(f"AuthZEN: http://{HOST}:{port}/access/v1/… answers {who} by {authzen_policy}.")
            _print_examples(port, data_dir, database_url=database_url, catalog=compiled.catalog)
            _say(f"Look at it, signed in once: http://{HOST}:{port}/console/sign-in?once={code}")
            status = server.wait()
        raise Interrupted(f"the server ended by itself, with exit code {status}; its last lines say why")
    except _Stopped:
        _say("stopped; the data are kept")


def serve() -> None:
    """The child's main function: production's server, but anyone with our secret can sign end users' tokens.

    Settings with keys and without an issuer, or with origins of any port, are made only here: no variable can
    express them, so that production cannot be this trusting by mistake.
    """
    settings = replace(
        Settings.from_environ(os.environ),
        jwt_keys=f"hs256:{sys.argv[1]}",
        jwt_audience=JWT_AUDIENCE,
        cors_origins=CORS_ORIGINS,
    )
    import_first(settings.engine)
    from sidecar.serving.master import serve as serve_it  # noqa: PLC0415 - as `sidecar serve`

    serve_it(settings, kept=Path(sys.argv[2]), once=Path(sys.argv[3]))


def _stop(_: int, __: object) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the stop
    raise _Stopped


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _scenario(name: str) -> Path:
    folder = shipped("tests") / "authzen" / name
    if not folder.is_dir():
        raise Interrupted(
            f"{folder} is not there: the scenarios are among the project's tests, which an installed package"
            " does not have. Run it in a checkout, or give a folder of your own to --authzen-policy"
        )
    return folder


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Interrupted(
                f"port {port} cannot be had: {error.strerror}; choose another with --port"
            ) from error


def _database(running: ExitStack, data_dir: Path) -> str:
    with suppress(OSError):  # a folder that cannot be entered; a clear error follows
        if not (data_dir / "postgres" / "cluster").exists():
            _say("making a database, once …")
    return running.enter_context(EmbeddedPostgres(data_dir / "postgres")).url


def _prepare(
    database_url: str, data_dir: Path, compiled: Compiled, world: Path | None, *, files: Files
) -> None:
    migrated = migrate(database_url, catalog=compiled.catalog, revision=compiled.revision, files=files)
    for warning in migrated.warnings:
        _say(f"warning: {warning}")
    _write_privately(data_dir / "database.url", f"{database_url}\n")
    file = world or shipped("worlds") / "demo.yaml"
    # Only once: the next start must not undo a user's changes.
    marker, mark = data_dir / "world.loaded", _digest_of(file)
    if migrated.replaced is None or not marker.exists() or marker.read_text() != mark:
        try:
            load(database_url, file)
        except ConfigError:
            if world is not None:
                raise
            _say(
                "the demo world does not fit these plans: no workspace is loaded; name your own with --world"
            )
        else:
            marker.write_text(mark)


def _digest_of(world: Path) -> str:
    try:
        return hashlib.sha256(world.read_bytes()).hexdigest()
    except OSError as error:
        raise Interrupted(f"{world} cannot be read: {error.strerror}") from error


def _tokens_file(data_dir: Path) -> Path:
    path = data_dir / "tokens"
    _write_privately(path, token_line("dev", SCOPES, TOKEN) + "\n")
    return path


def _secret_file(data_dir: Path) -> Path:
    path = data_dir / "jwt-secret"
    _write_privately(path, f"{JWT_SECRET}\n")
    return path.resolve()


def _write_privately(path: Path, text: str) -> None:
    """Write all or nothing, in a private file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(fresh).replace(path)
    except OSError as error:
        raise Interrupted(f"{path} cannot be written: {error.strerror}; choose another --data-dir") from error


@contextmanager
def _server(
    environ: dict[str, str], jwt_secret: Path, verdicts: Path, once: Path
) -> Iterator[subprocess.Popen[bytes]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    settings = {PREFIX + name: value for name, value in environ.items()}
    process = start([sys.executable, "-c", _SERVE, jwt_secret, verdicts, once], environ={**clean, **settings})
    try:
        yield process
    finally:
        end(process, (signal.SIGTERM, _GRACE_S + 2))


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise Interrupted(
                f"the server did not start (exit code {server.returncode}); its last lines say why"
            )
        if _ask(port, "GET", "/readyz")[0] == 200:  # noqa: PLR2004 - OK
            return
        time.sleep(_POLL_S)
    raise Interrupted(
        f"the server is not ready after {_READY_WITHIN_S:.0f} seconds: see http://{HOST}:{port}/readyz"
    )


def _ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request(method, path, body, headers if body else {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, HTTPException, ValueError):
        return 0, {}
    finally:
        connection.close()


def _question(user: str, workspace: str, action: str) -> str:
    return json.dumps({"user": user, "workspace": workspace, "action": action})


def _print_examples(port: int, data_dir: Path, *, database_url: str, catalog: Catalog) -> None:
    """Shows what the server really answers."""
    lines = [
        "",
        f"The sidecar answers on http://{HOST}:{port}, with the token {TOKEN}.",
        f"Its database is the one in {data_dir}/database.url.",
        "Try:",
    ]

    def ask(user: str, workspace: str, action: str) -> dict[str, Any]:
        return _ask(port, "POST", "/v1/authorize", _question(user, workspace, action))[1]

    for each in examples(
        ask, members=members_in(database_url), actions=catalog.declared_actions or tuple(catalog.actions)
    ):
        question, answer = _question(each.user, each.workspace, each.action), each.answer
        shown = {name: answer.get(name) for name in ("allow", "status", "reason", "message")}
        if "upgrade" in answer:
            shown["upgrade"] = answer["upgrade"]
        lines += [
            "",
            f"  # {each.says}",
            f"  curl -s http://{HOST}:{port}/v1/authorize -H 'Authorization: Bearer {TOKEN}' \\",
            f"    -H 'Content-Type: application/json' -d '{question}'",
            f"  → {json.dumps(shown, ensure_ascii=False)}",
        ]
    lines += ["", "Ctrl-C ends it; the data are kept. Each question is a line of JSON below.", ""]
    for line in lines:
        _say(line)
