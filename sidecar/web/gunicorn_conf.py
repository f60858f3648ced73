"""The server: gunicorn, with what it needs to lose no request and to let nobody in by a header.

The master loads the files and checks them; its workers inherit what it has loaded, so all of a generation
decide by one revision, one that dies included. A reload (SIGHUP) makes a second generation beside the first
and ends the first only when the second is ready; files that are wrong, or an engine that does not follow,
leave the first in service.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import struct
import tempfile
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped] # it ships none
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped] # it ships none
from gunicorn.http.wsgi import Response, create  # type: ignore[import-untyped] # it ships none
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped] # it ships none

from sidecar.errors import ConfigError, Problem
from sidecar.settings import GRPC

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.settings import Settings
    from sidecar.web.worker import Loaded

_KEEP_ALIVE_S = 75
_PATIENCE_AT_START_S = 2.0  # then a worker accepts, if only to say that it is not ready
_PATIENCE_AT_RELOAD_S = 60.0  # the old generation serves meanwhile
_RECEIVE_WITHIN_S = 10
_BACKLOG = 2_048
_LONGEST_LINE = 8_190
_MOST_HEADERS = 50
_TICK_S = 0.1
_LARGEST_AT_ONCE = 4_096
_CHECK = re.compile(
    rb"POST /v1/authorize HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*?content-length: *([0-9]{1,4})(?:\r|$)", re.IGNORECASE
)


def serve(settings: Settings) -> None:
    """Run until a signal ends it. ConfigError, before anything listens, with every problem of the files."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sidecar-"))
        stack.callback(_remove, folder, ours=os.getpid())
        for address in settings.grpc_bind:
            stack.enter_context(_kept(address))
        (folder / "metrics").mkdir()
        # prometheus_client decides when it is imported whether workers count together.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        _Server(settings, folder).run()


def _remove(folder: Path, *, ours: int) -> None:
    if os.getpid() == ours:  # a worker that ends comes by here too, and the others still need it
        shutil.rmtree(folder, ignore_errors=True)


def _kept(address: str) -> socket.socket:
    """*address* for our workers alone, which share it: no other process, not even one of ours, has it."""
    host, _, port = address.rpartition(":")
    try:
        family, *_, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(place[:2], family=family):
            """Nobody listens there: it would have failed."""
        kept = socket.socket(family)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(place)
    except OSError as error:
        detail = f"cannot listen on {GRPC}{address}: {error.strerror}"
        raise ConfigError(detail, problems=(Problem(pointer="SIDECAR_BIND", detail=detail),)) from error
    return kept


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """What gunicorn runs. *loaded* is what the next worker that is forked inherits."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        from sidecar.web.worker import loaded  # noqa: PLC0415 - counts: after the environment is set

        self.settings = settings
        self.folder = folder
        self.loaded: Loaded = loaded(settings)
        self.patience_s = _PATIENCE_AT_START_S
        self.ready_pipe = os.pipe()
        self.publish_bundle()
        super().__init__()

    def load_config(self) -> None:
        settings = self.settings
        for name, value in {
            "bind": settings.http_bind,
            "workers": settings.workers,
            "threads": settings.threads,
            "worker_class": _Worker,
            "graceful_timeout": settings.grace_s,
            "keepalive": _KEEP_ALIVE_S,
            "backlog": _BACKLOG,
            "preload_app": False,
            # By default SCRIPT_NAME, sent as a header by anybody on loopback, would move every path.
            "forwarder_headers": "",
            "forwarded_allow_ips": "",
            "header_map": "drop",
            "limit_request_line": _LONGEST_LINE,
            "limit_request_fields": _MOST_HEADERS,
            "limit_request_field_size": _LONGEST_LINE,
            "control_socket_disable": True,
            # A Unix socket may do everything: it is its owner's and its group's.
            "umask": 0o007,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "info",
            "logconfig_dict": _LOGGING,
            "proc_name": "sidecar",
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - a heartbeat file; on a disk it can stall
            "post_worker_init": _begin,
            "worker_exit": _end,
            "child_exit": _count_out,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # noqa: ANN401 - a WSGI application
        from sidecar.web.worker import Worker  # noqa: PLC0415 - as above

        self.worker = Worker(
            self.settings,
            self.loaded,
            metrics_folder=self.folder / "metrics",
            newest_bundle=self._bundle.read_bytes,
            speaker=self.folder / "speaker",
        )
        return self.worker.application

    def run(self) -> None:
        _Master(self).run()

    @property
    def _bundle(self) -> Path:
        return self.folder / "bundle.tar.gz"

    def publish_bundle(self) -> None:
        """For workers of every generation: OPA may fetch it from one that decides by an older one."""
        new = self._bundle.with_suffix(".new")
        new.write_bytes(self.loaded.bundle)
        new.replace(self._bundle)


class _Master(Arbiter):  # type: ignore[misc] # gunicorn has no types
    def reload(self) -> None:
        from sidecar.web.fit import why_unfit  # noqa: PLC0415 - as above
        from sidecar.web.worker import loaded  # noqa: PLC0415 - as above

        before = self.app.loaded
        try:
            self.app.loaded = loaded(self.app.settings)
        except ConfigError as error:
            for problem in error.problems:
                self.log.error("%s: %s", problem.pointer, problem.detail)  # noqa: TRY400 - a mistake in a file
            self.log.error("not reloaded: the files as they were stay in force")  # noqa: TRY400 - ditto
            return
        if why := why_unfit(self.app.settings.database_url, self.app.loaded.compiled.catalog):
            self.app.loaded = before
            self.log.error("not reloaded, the old workers go on: %s", why)
            return
        self.app.publish_bundle()
        self.app.patience_s = _PATIENCE_AT_RELOAD_S
        self.app.ready_pipe = os.pipe()
        old = set(self.WORKERS)
        for _ in range(self.num_workers):
            self.spawn_worker()
        new = set(self.WORKERS) - old
        ready = self._are_ready(new)
        self.app.patience_s = _PATIENCE_AT_START_S
        if ready:
            self._end(old, signal.SIGTERM, within_s=self.cfg.graceful_timeout)
            self.log.info("reloaded: revision %s", self.app.loaded.compiled.revision)
        else:
            self._end(new, signal.SIGKILL, within_s=self.cfg.graceful_timeout)
            self.app.loaded = before
            self.app.publish_bundle()
            self.log.error("not reloaded: the new workers were not ready; the old ones go on")

    def _are_ready(self, pids: Iterable[int]) -> bool:
        """Wait for a byte of each, but for no longer than until one has died or a signal is waiting."""
        pids = set(pids)
        ending = monotonic() + _PATIENCE_AT_RELOAD_S
        missing = len(pids)
        while missing and monotonic() < ending and self._undisturbed(pids):
            if select.select([self.app.ready_pipe[0]], [], [], _TICK_S)[0]:
                missing -= len(os.read(self.app.ready_pipe[0], missing))
        return not missing

    def _undisturbed(self, pids: set[int]) -> bool:
        self.reap_workers()
        return pids <= set(self.WORKERS) and self.SIG_QUEUE.empty()

    def _end(self, pids: Iterable[int], how: signal.Signals, *, within_s: float) -> None:
        for pid in pids:
            self.kill_worker(pid, how)
        ending = monotonic() + within_s
        while monotonic() < ending and not set(self.WORKERS).isdisjoint(pids):
            self.reap_workers()
            sleep(_TICK_S)


class _Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's signature
        """When stopping, take what has already connected and close at once.

        gunicorn would leave the listening socket open until the last request is through: who connects
        meanwhile is never accepted, and his request is lost.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        self.app.worker.listen_no_more()
        for listener in self.sockets:
            for _ in range(_BACKLOG):
                if not select.select([listener], [], [], 0)[0]:
                    break
                self.accept(listener)
            listener.close()

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:  # noqa: ANN401 - gunicorn's
        """A check that has arrived whole is answered here and now, without a change of threads.

        The change costs more than the answer. What may wait for somebody (a sender, a counter) gets one.
        """
        if not _is_a_whole_check(client):
            super().on_client_socket_readable(conn, client)
            return
        self.keepalived_conns.remove(conn)
        goes_on = self.handle(conn)
        if goes_on and self.alive and not conn.parser.unreader.buf.getvalue():
            conn.set_timeout()
            self.keepalived_conns.append(conn)
            return
        self.poller.unregister(client)
        done: Future[bool] = Future()
        done.set_result(goes_on)
        self.finish_request(conn, done)

    def handle_request(self, req: Any, conn: Any) -> bool:  # noqa: ANN401 - gunicorn's
        """As gunicorn's without what we have no use for, and with head and body in one write."""
        answer, environ = create(req, conn.sock, conn.client, conn.server, self.cfg)
        answer.__class__ = _Answer
        environ["wsgi.multithread"] = True
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            answer.force_close()
        for part in self.wsgi(environ, answer.start_response):
            answer.write(part)
        answer.close()
        return not answer.should_close()

    def enqueue_req(self, conn: Any) -> None:  # noqa: ANN401 - gunicorn's connection
        if not conn.initialized:
            # The kernel ends a read from who stops sending in the middle: he would hold a thread for good.
            conn.sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _RECEIVE_WITHIN_S, 0)
            )
        super().enqueue_req(conn)


def _is_a_whole_check(client: socket.socket) -> bool:
    """Looks at what has arrived, and leaves it there."""
    try:
        arrived = client.recv(_LARGEST_AT_ONCE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return False
    head, _, body = arrived.partition(b"\r\n\r\n")
    length = _CHECK.match(head)
    return length is not None and len(body) >= int(length[1]) and b'"mode"' not in body


class _Answer(Response):  # type: ignore[misc] # gunicorn has no types
    """A response whose head waits for the body: two writes are two packets, and twice the system calls."""

    headers_sent: bool

    def send_headers(self) -> None:
        if not self.headers_sent:
            head = [
                *self.default_headers(),
                *(f"{name}: {value}\r\n" for name, value in self.headers),
                "\r\n",
            ]
            self.head = "".join(head).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self.sock.sendall(self.head + data)
        self.head = b""

    def close(self) -> None:
        if not self.headers_sent:
            self.send_headers()
        if self.head:  # there was no body
            self._emit_body(b"")


def _begin(worker: _Worker) -> None:
    """Before a worker accepts: it is ready, or its patience is at an end."""
    server: _Server = worker.app
    server.worker.start()
    ending = monotonic() + server.patience_s
    while worker.alive and monotonic() < ending:
        if server.worker.wait_until_warm(_TICK_S):
            server.worker.listen()
            os.write(server.ready_pipe[1], b"+")
            return
        worker.notify()
    server.worker.listen()


def _end(_: _Master, worker: _Worker) -> None:
    if hasattr(worker.app, "worker"):
        worker.app.worker.stop()


def _count_out(master: _Master, worker: _Worker) -> None:
    from sidecar.web.metrics import mark_dead  # noqa: PLC0415 - as above

    mark_dead(worker.pid, folder=master.app.folder / "metrics")


_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s [%(process)d] %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        "sidecar": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
    },
}
