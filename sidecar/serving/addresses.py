"""Addresses to listen on: whether they can be had, before anything is loaded or started."""

from __future__ import annotations

import socket
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.errors import ConfigError, Problem
from sidecar.settings import GRPC

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNIX = "unix:"
_TAKEN = "Address already in use"
_ANSWERS_WITHIN_S = 1.0


def require_free(addresses: Iterable[str]) -> None:
    """ConfigError with every one of *addresses*, HOST:PORT or unix:/PATH, that cannot be listened on."""
    whys = {address: why_not(address) for address in addresses}
    if problems := tuple(_problem(address, why) for address, why in whys.items() if why):
        raise ConfigError(problems[0].detail, problems=problems)


def kept(address: str) -> socket.socket:
    """*address* for our workers alone, which share it: no other process, not even one of ours, has it."""
    try:
        family, place = _place(address)
        _try(family, place)
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(place)
    except OSError as error:
        problem = _problem(f"{GRPC}{address}", error.strerror or str(error))
        raise ConfigError(problem.detail, problems=(problem,)) from error
    return held


def _problem(address: str, why: str) -> Problem:
    return Problem(pointer="SIDECAR_BIND", detail=f"cannot listen on {address}: {why}")


def why_not(address: str) -> str | None:
    try:
        if address.startswith(_UNIX):
            return _why_not_there(Path(address.removeprefix(_UNIX)))
        _try(*_place(address))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _place(address: str) -> tuple[socket.AddressFamily, Any]:
    host, _, port = address.rpartition(":")
    family, *_, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    return family, place[:2]


def _try(family: socket.AddressFamily, place: Any) -> None:  # noqa: ANN401 - of whichever family
    """OSError if somebody listens there. As the server does it, so that an address that was left is free."""
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
        probe.listen()


def _why_not_there(path: Path) -> str | None:
    """A socket file that nobody listens on is from a server that has ended, and is replaced."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None if path.parent.is_dir() else f"there is no folder {path.parent}"
    if not stat.S_ISSOCK(mode):
        return "there is a file, which is no socket"
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(_ANSWERS_WITHIN_S)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return _TAKEN  # by one that does not accept
        except OSError:
            return None
    return _TAKEN
