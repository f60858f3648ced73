"""Credentials in files, read anew when they change: no reload, and no moment without them.

docs/decisions/0061 says why each worker looks by itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError
from sidecar.identity.callers import callers_in
from sidecar.identity.users import key_file_of, key_set_at
from sidecar.serving.loaded import mask_key_at
from sidecar.serving.said import Said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.api.service import Service
    from sidecar.settings import Settings

_EVERY_S = 1.0
_log = logging.getLogger("sidecar")
_Signature = tuple[int, ...] | None


@dataclass(slots=True)
class _Followed:
    """*take* reads *path* and puts what it says in force, whole; ConfigError, and nothing is changed.

    *seen* is what the file was when it was read last; *changed* what it was at the last look since.
    """

    name: str
    path: Path
    take: Callable[[], None]
    seen: _Signature = None
    changed: _Signature = None

    def look(self, said: Said, *, at_start: bool = False) -> None:
        signature = signature_of(self.path)
        if not at_start:
            before, self.changed = self.changed, signature
            # Somebody may be writing it: it is read as soon as it has been the same at two looks.
            if signature == self.seen or signature != before:
                return
        self.seen = self.changed = signature
        try:
            self.take()
        except ConfigError as error:
            why = "; ".join(f"{each.pointer}: {each.detail}" for each in error.problems) or error.detail
            if said.is_new(self.name, f"{signature} {why}"):
                _log.error("%s: what was read before stays in force: %s", self.name, why)
        else:
            if not at_start and said.is_new(self.name, f"{signature}"):
                _log.info("%s was read anew: %s", self.name, self.path)


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

    def _follow(self, name: str, path: Path, take: Callable[[], None]) -> None:
        self._followed.append(_Followed(name, path, take))

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self.look()


def signature_of(path: Path) -> _Signature:
    """Another one whenever the file was written or replaced. Links are followed: Kubernetes swaps them."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev
