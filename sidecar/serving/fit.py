"""Whether the database fits a catalog: it has the meters, and no plan is in use that the catalog lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.errors import DatabaseNotMigrated, DependencyError
from sidecar.serving.causes import cause_of

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Catalog
    from sidecar.store.postgres import PostgresFacts


class CatalogFit:
    """Of one worker. The database is asked until it fits once, and never again: migrations only add."""

    def __init__(self, store: PostgresFacts, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self.fits = False

    def require(self, *, deadline: float) -> None:
        """DatabaseNotMigrated while it does not fit; other DependencyErrors while it cannot be asked."""
        if self.fits:
            return
        if missing := self._store.missing(self._catalog, deadline=deadline):
            raise DatabaseNotMigrated("; ".join(missing))
        self.fits = True

    def why_not(self, *, deadline: float) -> str | None:
        """What `require` would raise, in one line; None if the database fits."""
        try:
            self.require(deadline=deadline)
        except DatabaseNotMigrated as error:
            return f"{error.detail} ({error.code})"
        except DependencyError as error:
            cause = cause_of(error)
            return f"the database cannot be asked whether it fits: {cause.detail} ({cause.code})"
        return None
