"""Asks running servers, at `GET /statusz`, whether they serve what was rolled out."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sidecar.errors import ConfigError, NotAsked, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATH = "/statusz"
_ASKED_WITHIN_S = 3.0
_LONGEST = 64 * 1024
_PAUSE_S = 0.25
_SAID_EVERY_S = 30.0
# A server has several workers, and a balancer several servers: one answer is of one of them.
_IN_A_ROW = 8
_PARTS = ("worker", "engine", "database", "authzen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one answer says. *behind* has a line for each part that is not well; empty if it has converged."""

    url: str
    wanted: str
    behind: tuple[str, ...]


@dataclass(slots=True)
class _Watched:
    url: str
    in_a_row: int = 0
    behind: tuple[str, ...] = ("it was not asked yet",)
    unreachable: bool = False


def status_at(url: str, *, revision: str) -> Status:
    """*revision* is the one rolled out. NotAsked where nobody answers so; ConfigError for what is no URL."""
    found = _document_at(url)
    try:
        wanted = str(found["wanted"])
        parts: dict[str, dict[str, Any]] = {name: found[name] for name in _PARTS}
        behind = [
            f"{name}: {part['cause']}" + (f"; {part['do']}" if part["do"] else "")
            for name, part in parts.items()
            if part["cause"] is not None
        ]
        converged = found["converged"] is True
    except (KeyError, TypeError, AttributeError) as error:
        raise NotAsked(f"{url} did not answer as {PATH} of a sidecar does") from error
    if wanted != revision:
        behind.insert(0, f"its files are of revision {wanted[:8]}…: give it the new ones, and reload it")
    if not converged and not behind:
        behind.append("it has not converged yet")
    return Status(url=url, wanted=wanted, behind=tuple(behind))


def wait_until_converged(
    urls: Sequence[str], *, revision: str, within_s: float, say: Callable[[str], None]
) -> dict[str, str]:
    """What is behind, by URL, when *within_s* are over, with an empty text of those that are not reached.

    Empty as soon as each server serves *revision*. *say* is called with a line for each that is behind, at
    once when that changes and every 30 seconds.
    """
    watched = [_Watched(url) for url in dict.fromkeys(urls)]
    ending, said_at = monotonic() + within_s, float("-inf")
    while True:
        for each in watched:
            if each.in_a_row < _IN_A_ROW:
                _ask(each, revision)
        waiting = [each for each in watched if each.in_a_row < _IN_A_ROW]
        if not waiting:
            return {}
        if monotonic() >= ending:
            return {each.url: "" if each.unreachable else "; ".join(each.behind) for each in waiting}
        if monotonic() - said_at >= _SAID_EVERY_S and (behind := [each for each in waiting if each.behind]):
            said_at = monotonic()
            for each in behind:
                say(f"waiting for {each.url}: {'; '.join(each.behind)}")
        sleep(_PAUSE_S)


def _ask(each: _Watched, revision: str) -> None:
    try:
        status = status_at(each.url, revision=revision)
    except NotAsked as error:
        each.in_a_row, each.behind, each.unreachable = 0, (str(error),), True
        return
    each.behind, each.unreachable = status.behind, False
    each.in_a_row = 0 if status.behind else each.in_a_row + 1


def _document_at(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        detail = f"{url!r} is no URL of a sidecar, as http://HOST:8080"
        raise ConfigError(detail, problems=(Problem(pointer="--status", detail=detail),))
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = parts.path if parts.path.endswith(PATH) else parts.path.rstrip("/") + PATH
    try:
        connection = kind(parts.hostname, parts.port, timeout=_ASKED_WITHIN_S)
        try:
            connection.request("GET", path, headers={"Connection": "close", "Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read(_LONGEST)
        finally:
            connection.close()
    except (OSError, HTTPException, ssl.SSLError, ValueError) as error:
        raise NotAsked(f"{url} is not reached: {error}") from error
    if answer.status != HTTPStatus.OK:
        raise NotAsked(f"{url} answered {answer.status} to GET {path}")
    try:
        found = json.loads(body)
    except ValueError as error:
        raise NotAsked(f"{url} did not answer as {PATH} of a sidecar does: no JSON") from error
    if not isinstance(found, dict):
        raise NotAsked(f"{url} did not answer as {PATH} of a sidecar does: no object")
    return found
