"""Reading as an auditor: with the login of SIDECAR_AUDIT_URL, or else saying that there is none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, NotAsked
from sidecar.store.auditing import looking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.store.auditing import Looked


class CannotRead(Exception):
    """*says* why, and what to do, to whoever looks; no login or host is in it."""

    def __init__(self, says: str) -> None:
        super().__init__(says)
        self.says = says


@contextmanager
def as_auditor(audit_url: str | None) -> Iterator[Looked]:
    """CannotRead where no login is set, or it may not, or the database does not answer."""
    if audit_url is None:
        raise CannotRead("Set SIDECAR_AUDIT_URL to a login that has the role authz_audit to see this.")
    try:
        with looking(audit_url) as looked:
            yield looked
    except ConfigError as error:
        raise CannotRead(
            "The login of SIDECAR_AUDIT_URL may not read this, or the database is not migrated:"
            " GRANT authz_audit TO it, or run sidecar migrate."
        ) from error
    except NotAsked as error:
        raise CannotRead("The database does not answer the login of SIDECAR_AUDIT_URL.") from error
