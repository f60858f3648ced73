"""What is around a server: OPA, the identity provider's keys, tokens, addresses, the disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.engines.installed import engine_of, engine_version
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable
from sidecar.identity.callers import callers_in
from sidecar.identity.jwks import NotKeys, answer_at
from sidecar.identity.users import identities_of, key_set_in
from sidecar.serving.addresses import why_not
from sidecar.serving.doctor.check import finding, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.compile import Compiled
    from sidecar.serving.doctor.check import Check
    from sidecar.settings import Settings

_ASKED_WITHIN_S = 2.0
_ALIVE_WITHIN_S = 1.0
_MEBIBYTE = 1024 * 1024
_FULL, _NEARLY_FULL = 100 * _MEBIBYTE, 1024 * _MEBIBYTE
_UNIX = "unix:"


def engine_checks(settings: Settings, compiled: Compiled | None) -> Iterator[Check]:
    if compiled is None:
        yield skipped("engine", "not asked, since the files are not right")
        return
    if settings.engine == "embedded":
        version = engine_version("embedded")
        if version is None:
            yield finding("engine", "embedded, and not installed", "pip install 'policy-sidecar[embedded]'")
        else:
            yield ok("engine", f"embedded {version}")
        return
    try:
        engine = engine_of(settings.engine, compiled, opa_url=settings.opa_url)
        served = engine.served_revision(deadline=monotonic() + _ASKED_WITHIN_S)
    except (EngineUnavailable, ConfigError) as error:
        yield finding("opa", error.detail, "start it, or correct SIDECAR_OPA_URL")
        return
    except EngineMisbehaved as error:
        yield ok("opa", f"reachable at {settings.opa_url}")
        do = "let it poll a sidecar's /bundles/authz.tar.gz, or give it what `sidecar compile -o` writes"
        yield finding("opa bundle", error.detail, do)
        return
    yield ok("opa", f"reachable at {settings.opa_url}")
    yield ok("opa bundle", "loaded")
    if served == compiled.revision:
        yield ok("opa revision", f"{served[:8]}…, as the files say")
    else:
        says = f"{served[:8]}… is answered by, and the files are {compiled.revision[:8]}…"
        do = "reload the sidecar whose bundle it polls, or give it a new one by `sidecar compile -o`"
        yield finding("opa revision", says, do)


def tokens_checks(settings: Settings) -> Iterator[Check]:
    if settings.tokens is None:
        yield ok("tokens", "no file: whoever reaches loopback may ask questions, and nothing else")
        return
    try:
        callers = callers_in(settings.tokens).known
    except ConfigError as error:
        for problem in error.problems:
            yield finding("tokens", f"{problem.pointer}: {problem.detail}", "correct the line")
        return
    if settings.tokens.stat().st_mode & 0o022:
        do = f"chmod go-w {settings.tokens}"
        yield finding(
            "tokens", f"{settings.tokens}: others may write it, and so make tokens of their own", do
        )
    else:
        yield ok("tokens", f"{len(callers)} in {settings.tokens}")


def users_checks(settings: Settings) -> Iterator[Check]:
    name = "jwks"
    if settings.jwt_keys is None:
        yield skipped(name, "SIDECAR_JWT_KEYS is not set: there are no end users")
        return
    try:
        identities = identities_of(settings)
    except ConfigError as error:
        for problem in error.problems:
            yield finding(name, problem.detail, "correct the file that SIDECAR_JWT_KEYS names")
        return
    if identities is None or identities.keys_at is None:
        yield ok(name, "the file of keys is right")
        return
    try:
        keys = key_set_in(answer_at(settings.jwt_keys, within_s=_ASKED_WITHIN_S))
    except NotKeys as error:
        do = "is SIDECAR_JWT_KEYS the provider's address of its JWK set, and does this machine reach it?"
        yield finding(name, f"{identities.keys_at}: {error}", do)
    else:
        yield ok(name, f"{sum(map(len, keys.values()))} keys at {identities.keys_at}")


def ports_checks(settings: Settings) -> Iterator[Check]:
    """An address that is taken is fine if a sidecar answers there: it may be the one that is asked about."""
    ours = False
    for address in settings.http_bind:
        why = why_not(address)
        if why is None:
            yield ok("port", f"{address} is free")
        elif _is_a_sidecar(address):
            ours = True
            yield ok("port", f"{address} is a sidecar's, which answers")
        else:
            yield finding("port", f"{address}: {why.lower()}", "stop what is there, or change SIDECAR_BIND")
    for address in settings.grpc_bind:
        why = why_not(address)
        if why is None or ours:
            yield ok("port", f"grpc://{address} is {'free' if why is None else 'taken, beside a sidecar'}")
        else:
            says = f"grpc://{address}: {why.lower()}"
            yield finding("port", says, "stop what is there, or change SIDECAR_BIND")


def disk_checks(settings: Settings) -> Iterator[Check]:
    folders = {"temporary files": Path(tempfile.gettempdir())}
    if settings.log_dir is not None:
        folders["SIDECAR_LOG_DIR"] = settings.log_dir
    for what, folder in folders.items():
        there = next((each for each in (folder, *folder.parents) if each.is_dir()), folder)
        try:
            free, has_names = shutil.disk_usage(there).free, os.statvfs(there)
        except OSError as error:
            yield finding("disk", f"{what}, {folder}: {error.strerror}", "make the folder, or name another")
            continue
        says = f"{what}, {folder}: {free // _MEBIBYTE:,} MiB free"
        if not os.access(there, os.W_OK | os.X_OK):
            yield finding(
                "disk", f"{what}, {there}: this login may not write there", f"chown or chmod {there}"
            )
        elif free < _FULL or (has_names.f_files and not has_names.f_favail):
            yield finding("disk", says, "make room: `sidecar tidy` deletes old logs")
        elif free < _NEARLY_FULL:
            yield warning("disk", says, "make room soon: `sidecar tidy` deletes old logs")
        else:
            yield ok("disk", says)


def _is_a_sidecar(address: str) -> bool:
    connection = HTTPConnection("localhost", timeout=_ALIVE_WITHIN_S)
    try:
        connection.sock = _connected(address)
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        body = json.loads(connection.getresponse().read(1_000))
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(body, dict) and body.get("alive") is True


def _connected(address: str) -> socket.socket:
    if address.startswith(_UNIX):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_ALIVE_WITHIN_S)
        connection.connect(address.removeprefix(_UNIX))
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_ALIVE_WITHIN_S)
