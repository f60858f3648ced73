"""Whether the database fits a catalog: it has the meters, and no plan is in use that the catalog lacks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sidecar.errors import DatabaseNotMigrated, DependencyError

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Catalog
    from sidecar.store.postgres import PostgresFacts

_log = logging.getLogger("sidecar")


class CatalogFit:
    """Of one worker. The database is asked until it fits once, and never again: migrations only add."""

    def __init__(self, store: PostgresFacts, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._fits = False
        self._said: str | None = None

    def require(self, *, deadline: float) -> None:
        """DatabaseNotMigrated while it does not fit; other DependencyErrors while it cannot be asked."""
        if self._fits:
            return
        if missing := self._store.missing(self._catalog, deadline=deadline):
            raise DatabaseNotMigrated("; ".join(missing))
        self._fits = True

    def require_aloud(self, *, deadline: float) -> None:
        """As `require`, and each cause is a line of the log, once."""
        try:
            self.require(deadline=deadline)
        except DatabaseNotMigrated as error:
            if error.detail != self._said:
                self._said = error.detail
                _log.warning("not ready: %s (%s)", error.detail, error.code)
            raise

    def why_not(self, *, deadline: float) -> str | None:
        """What `require` would raise, in one line; None if the database fits."""
        try:
            self.require(deadline=deadline)
        except DatabaseNotMigrated as error:
            return f"{error.detail} ({error.code})"
        except DependencyError as error:
            return f"the database cannot be asked whether it fits: {error.detail} ({error.code})"
        return None
