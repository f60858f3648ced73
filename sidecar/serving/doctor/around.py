"""What is around a server: the identity provider's keys, tokens, addresses, the disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError
from sidecar.identity.callers import callers_in
from sidecar.identity.jwks import NotKeys, answer_at
from sidecar.identity.users import identities_of, key_set_in
from sidecar.serving.addresses import why_not
from sidecar.serving.doctor.check import finding, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.serving.doctor.check import Check
    from sidecar.settings import Settings

_ASKED_WITHIN_S = 2.0
_ALIVE_WITHIN_S = 1.0
_MEBIBYTE = 1024 * 1024
_FULL, _NEARLY_FULL = 100 * _MEBIBYTE, 1024 * _MEBIBYTE
_UNIX = "unix:"


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
        room = "`sidecar tidy` deletes old logs" if folder == settings.log_dir else "delete what nobody needs"
        if not os.access(there, os.W_OK | os.X_OK):
            yield finding(
                "disk", f"{what}, {there}: this login may not write there", f"chown or chmod {there}"
            )
        elif free < _FULL or (has_names.f_files and not has_names.f_favail):
            yield finding("disk", says, f"make room: {room}")
        elif free < _NEARLY_FULL:
            yield warning("disk", says, f"make room soon: {room}")
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
