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
READ = b"""
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

    def __init__(self, faults: list[Fault]) -> None:
        says = "the session is not as it has to be: " + "; ".join(map(str, faults))
        super().__init__(says, cause="wrong_session")
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Of one *setting* of a session: how it is, and the statement or setting that helps."""

    setting: str
    says: str
    do: str

    def __str__(self) -> str:
        return f"{self.says}: {self.do}"


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
            return READ
        # DEALLOCATE: who had the server's session before may have left statements of the same names.
        sets = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in self._settings())
        return b"DEALLOCATE ALL; SELECT " + sets.encode() + b";" + READ

    def verify(self, answer: bytes | None, *, takes_writes: bool) -> None:
        """Lost, with every fault in words, if *answer* to `first_statements` is not what has to be."""
        found = json.loads(answer or b"{}")
        if takes_writes and (found["in_recovery"] or found["read_only"] != "off"):
            raise Lost("the server takes no writes: " + _why_read_only(found), cause="database_read_only")
        if faults := self.faults(found):
            raise WrongSession(faults)

    def faults(self, found: dict[str, Any]) -> list[Fault]:
        """Of what `first_statements` found: a fault for each setting that is wrong."""
        faults = []
        if found["role"] != ROLE:
            faults.append(self._fault(found, "role", f"its role is {found['role']}, not {ROLE}", ROLE))
        if found["isolation"] != _ISOLATION:
            name = "default_transaction_isolation"
            faults.append(self._fault(found, name, f"{name} is {found['isolation']}", _ISOLATION))
        for name, wanted_ms, most_ms, advised in (
            ("statement_timeout", self.statement_timeout_ms, MOST_STATEMENT_TIMEOUT_MS, "5s"),
            (
                "lock_timeout",
                self.lock_timeout_ms,
                found["statement_timeout"] or MOST_STATEMENT_TIMEOUT_MS,
                "1s",
            ),
        ):
            is_right = (
                0 < found[name] <= most_ms if self.pooler == "transaction" else found[name] == wanted_ms
            )
            if not is_right:
                faults.append(self._fault(found, name, f"{name} is {found[name]:g} ms", advised))
        first = next((each for each in found["schemas"] if not each.startswith("pg_temp")), "")
        if first != "pg_catalog":
            says = f'its search_path has "{first}" before pg_catalog'
            do = f"ALTER ROLE {found['login']} RESET search_path"
            faults.append(Fault(setting="search_path", says=says, do=do))
        return faults

    def _settings(self) -> tuple[tuple[str, str], ...]:
        return (
            ("role", ROLE),  # even a superuser's session then has only the sidecar's rights
            ("statement_timeout", str(self.statement_timeout_ms)),
            ("lock_timeout", str(self.lock_timeout_ms)),
            ("default_transaction_isolation", _ISOLATION),
        )

    def _fault(self, found: dict[str, Any], setting: str, says: str, advised: str) -> Fault:
        do = "if a pooler stands between, set SIDECAR_DATABASE_POOLER"
        if self.pooler == "transaction":
            do = f"ALTER ROLE {found['login']} SET {setting} = '{advised}'"
        return Fault(setting=setting, says=says, do=do)


def _why_read_only(found: dict[str, Any]) -> str:
    return "server is in hot standby mode" if found["in_recovery"] else "session is read-only"
