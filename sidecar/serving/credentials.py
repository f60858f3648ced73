"""Credentials in files, read anew when they change: no reload, and no moment without them.

docs/decisions/0061 says why each worker looks by itself.
"""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError
from sidecar.identity.callers import callers_in
from sidecar.identity.users import key_file_of, key_set_at
from sidecar.serving.said import Said
from sidecar.serving.secret_files import mask_key_at
from sidecar.serving.watched_files import WatchedFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.api.service import Service
    from sidecar.settings import Settings

_EVERY_S = 1.0
_log = logging.getLogger("sidecar")


class _Followed:
    """*read* reads *path* and puts what it says in force, whole; ConfigError, and nothing is changed."""

    def __init__(self, name: str, path: Path, read: Callable[[], None]) -> None:
        self._name = name
        self._path = path
        self._read = read
        self._file = WatchedFiles([path])

    def look(self, said: Said, *, at_start: bool = False) -> None:
        if at_start:
            self._file.take()
        elif not self._file.have_changed():
            return
        try:
            self._read()
        except ConfigError as error:
            why = "; ".join(f"{each.pointer}: {each.detail}" for each in error.problems) or error.detail
            if said.is_new(self._name, f"{self._file.taken} {why}"):
                _log.error("%s: what was read before stays in force: %s", self._name, why)
        else:
            if not at_start and said.is_new(self._name, f"{self._file.taken}"):
                _log.info("%s was read anew: %s", self._name, self._path)


class Credentials:
    """Of one worker: what its *service* knows callers and users by, and masks with."""

    def __init__(self, settings: Settings, service: Service, *, shared: Path | None = None) -> None:
        """*shared* is a folder of all workers of a server, so that one of them says what all have found."""
        self._stopping = Event()
        self._said = Said(shared)
        self._followed: list[_Followed] = []
        callers, identities, masks = service.callers, service.identities, service.masks
        if (tokens := settings.tokens) is not None:
            self._follow("SIDECAR_TOKENS", tokens, lambda: callers.replace(callers_in(tokens)))
        keys, file = settings.jwt_keys, key_file_of(settings.jwt_keys)
        if keys is not None and file is not None and identities is not None:
            self._follow("SIDECAR_JWT_KEYS", file, lambda: identities.replace_keys(key_set_at(keys)))
        if (mask_key := settings.log_mask_key) is not None and masks is not None:
            self._follow("SIDECAR_LOG_MASK_KEY", mask_key, lambda: masks.replace_key(mask_key_at(mask_key)))

    def start(self) -> None:
        """In the worker, before it serves: one that replaces another inherits what was read long ago."""
        for each in self._followed:
            each.look(self._said, at_start=True)
        if self._followed:
            Thread(target=self._run, name="credentials", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def look(self) -> None:
        for each in self._followed:
            each.look(self._said)

    def _follow(self, name: str, path: Path, read: Callable[[], None]) -> None:
        self._followed.append(_Followed(name, path, read))

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self.look()
