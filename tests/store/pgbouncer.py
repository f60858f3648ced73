"""A real PgBouncer in front of a server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN_S = 10.0


@contextmanager
def a_pgbouncer(
    url: str, *, mode: str, size: int = 2, port: int | None = None, **settings: str
) -> Iterator[str]:
    """In front of the server of *url*, for any login without a password; its URL, without a login."""
    command = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    server = conninfo_to_dict(url)
    port = port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="sidecar-pgbouncer-"))
    try:
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(folder / "users"),
            "pool_mode": mode,
            "default_pool_size": str(size),
            "logfile": str(folder / "log"),
            **settings,
        }
        (folder / "users").write_text('"pooled" ""\n"bare" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host={server['host']} port={server.get('port') or 5432}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        as_user = []
        if os.geteuid() == 0:  # which it refuses to be
            nobody = pwd.getpwnam("nobody")
            for each in (folder, *folder.iterdir()):
                os.chown(each, nobody.pw_uid, nobody.pw_gid)
            as_user = ["-u", "nobody"]
        with subprocess.Popen(
            [command, "-q", *as_user, folder / "ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                database = str(server["dbname"])
                through = f"@127.0.0.1:{port}/{quote(database)}?sslmode=disable"
                _wait_for(f"postgresql://pooled{through}", folder / "log")
                yield through
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, log: Path) -> None:
    deadline = monotonic() + WITHIN_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert monotonic() < deadline, log.read_text() if log.exists() else "PgBouncer did not start"
            sleep(0.02)
        else:
            return
