"""Whether the database fits a catalog: it has the meters, and no plan is in use that the catalog lacks."""

from __future__ import annotations

import fcntl
import logging
import os
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import DatabaseNotMigrated, DependencyError
from sidecar.store.postgres import PostgresFacts

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog

_log = logging.getLogger("sidecar")

_ASKED_WITHIN_S = 5.0  # a reload is not in a hurry: the generation before serves meanwhile


class CatalogFit:
    """Of one worker. The database is asked until it once fitted, and never again: migrations only add.

    *speaker* is a file that the workers of a sidecar share: whichever locks it logs what all of them see.
    """

    def __init__(self, store: PostgresFacts, catalog: Catalog, *, speaker: Path | None = None) -> None:
        self._store = store
        self._catalog = catalog
        self._fits = False
        self._said: str | None = None
        self._lock = Lock()
        self._speaker = speaker
        self._speaker_fd: int | None = None

    def require(self, *, deadline: float) -> None:
        """DatabaseNotMigrated, with each cause once in the log, while it does not fit.

        Other DependencyErrors when the database could not be asked by *deadline*.
        """
        if self._fits:
            return
        try:
            _require(self._store, self._catalog, deadline=deadline)
        except DatabaseNotMigrated as error:
            self._say(error)
            raise
        with self._lock:
            self._fits = True
            self._stop_speaking()

    def _say(self, error: DatabaseNotMigrated) -> None:
        with self._lock:
            if error.detail != self._said and self._speaks():
                self._said = error.detail
                _log.warning("not ready: %s (%s)", error.detail, error.code)

    def _speaks(self) -> bool:
        if self._speaker is None or self._speaker_fd is not None:
            return True
        try:
            fd = os.open(self._speaker, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            return True  # the folder was cleaned away: rather a line too many
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel gives it up when we die
        except OSError:
            os.close(fd)
            return False
        self._speaker_fd = fd
        return True

    def _stop_speaking(self) -> None:
        if self._speaker_fd is not None:
            os.close(self._speaker_fd)
            self._speaker_fd = None


def why_unfit(url: str, catalog: Catalog, *, within_s: float = _ASKED_WITHIN_S) -> str | None:
    """Why no generation may take over with *catalog*, for one line of the log; None where the database fits.

    For a process that forks: it is asked on a connection of its own, which is closed afterwards.
    """
    store = PostgresFacts(url, catalog=catalog, pool_size=1, statement_timeout_s=within_s)
    store.open()
    try:
        _require(store, catalog, deadline=monotonic() + within_s)
    except DatabaseNotMigrated as error:
        return f"{error.detail} ({error.code})"
    except DependencyError as error:
        return f"the database cannot be asked whether it fits: {error.detail} ({error.code})"
    finally:
        store.close()
    return None


def _require(store: PostgresFacts, catalog: Catalog, *, deadline: float) -> None:
    if missing := store.missing(catalog, deadline=deadline):
        raise DatabaseNotMigrated("; ".join(missing))
