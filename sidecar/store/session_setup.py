"""What a session has to begin with: role, timeouts, isolation, search path. A pooler may drop it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from sidecar.store.session import Lost

if TYPE_CHECKING:
    from sidecar.store.connection_options import ConnectionOptions, Pooler

ROLE = "authz_sidecar"
MOST_STATEMENT_TIMEOUT_MS = 5_000  # of a login that all pools share
_ISOLATION = "read committed"
_READ = b"""
SELECT json_build_object(
    'login', session_user,
    'role', current_user,
    'statement_timeout', extract(epoch FROM current_setting('statement_timeout')::interval) * 1000,
    'lock_timeout', extract(epoch FROM current_setting('lock_timeout')::interval) * 1000,
    'isolation', current_setting('default_transaction_isolation'),
    'schemas', current_schemas(true),
    'in_recovery', pg_is_in_recovery(),
    'read_only', current_setting('transaction_read_only')
)
"""


class WrongSession(Lost):
    """Whoever is connected to let us in, and the session is not as it has to be."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("the session is not as it has to be: " + "; ".join(faults), cause="wrong_session")
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSetup:
    """Of one pool of connections. A *lock_timeout_ms* of 0 is none."""

    pooler: Pooler
    statement_timeout_ms: int
    lock_timeout_ms: int

    @classmethod
    def of(
        cls, options: ConnectionOptions, *, statement_timeout_s: float, lock_timeout_s: float
    ) -> SessionSetup:
        return cls(
            pooler=options.pooler,
            statement_timeout_ms=ceil(statement_timeout_s * 1000),
            lock_timeout_ms=ceil(lock_timeout_s * 1000),
        )

    @property
    def startup_options(self) -> str:
        """What libpq says as it connects; a pooler would refuse or forget it."""
        if self.pooler != "off":
            return ""
        settings = ((name, value.replace(" ", r"\ ")) for name, value in self._settings())
        return " ".join(f"-c {name}={value}" for name, value in settings)

    @property
    def first_statements(self) -> bytes:
        """What is sent on each new connection. The last result has one value, for `verify`."""
        if self.pooler != "session":
            return _READ
        # DEALLOCATE: who had the server's session before may have left statements of the same names.
        sets = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in self._settings())
        return b"DEALLOCATE ALL; SELECT " + sets.encode() + b";" + _READ

    def verify(self, answer: bytes | None, *, takes_writes: bool) -> None:
        """Lost, with every fault in words, if *answer* to `first_statements` is not what has to be."""
        found = json.loads(answer or b"{}")
        if takes_writes and (found["in_recovery"] or found["read_only"] != "off"):
            raise Lost("the server takes no writes: " + _why_read_only(found), cause="database_read_only")
        if faults := self.faults(found):
            raise WrongSession(faults)

    def faults(self, found: dict[str, Any]) -> list[str]:
        """Each in one line, with what to do."""
        faults = []
        if found["role"] != ROLE:
            faults.append(f"its role is {found['role']}, not {ROLE}: {self._advice(found, 'role', ROLE)}")
        if found["isolation"] != _ISOLATION:
            advice = self._advice(found, "default_transaction_isolation", _ISOLATION)
            faults.append(f"default_transaction_isolation is {found['isolation']}: {advice}")
        for name, wanted_ms, most_ms in (
            ("statement_timeout", self.statement_timeout_ms, MOST_STATEMENT_TIMEOUT_MS),
            ("lock_timeout", self.lock_timeout_ms, found["statement_timeout"]),
        ):
            is_right = (
                0 < found[name] <= most_ms if self.pooler == "transaction" else found[name] == wanted_ms
            )
            if not is_right:
                advice = self._advice(found, name, "5s" if name == "statement_timeout" else "1s")
                faults.append(f"{name} is {found[name]:g} ms: {advice}")
        first = next((each for each in found["schemas"] if not each.startswith("pg_temp")), "")
        if first != "pg_catalog":
            advice = f"ALTER ROLE {found['login']} RESET search_path"
            faults.append(f'its search_path has "{first}" before pg_catalog: {advice}')
        return faults

    def _settings(self) -> tuple[tuple[str, str], ...]:
        return (
            ("role", ROLE),  # even a superuser's session then has only the sidecar's rights
            ("statement_timeout", str(self.statement_timeout_ms)),
            ("lock_timeout", str(self.lock_timeout_ms)),
            ("default_transaction_isolation", _ISOLATION),
        )

    def _advice(self, found: dict[str, Any], name: str, value: str) -> str:
        if self.pooler == "transaction":
            return f"ALTER ROLE {found['login']} SET {name} = '{value}'"
        return "if a pooler stands between, set SIDECAR_DATABASE_POOLER"


def _why_read_only(found: dict[str, Any]) -> str:
    return "server is in hot standby mode" if found["in_recovery"] else "session is read-only"
