"""The server: gunicorn's master, with what it needs to lose no request and to stay up.

The master loads the files and checks them; its workers inherit what it has loaded, so that all of a
generation decide by one revision, one that replaces a dead one included. A reload (SIGHUP) makes a second
generation beside the first and ends the first only when the second is ready. Whatever goes wrong leaves the
first in service.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import secrets
import select
import signal
import socket
import struct
import sys
from asyncio import run_coroutine_threadsafe
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from pathlib import Path
from queue import Empty
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped] # it ships none
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped] # ditto
from gunicorn.errors import HaltServer  # type: ignore[import-untyped] # ditto

from sidecar.errors import ConfigError, DatabaseNotMigrated
from sidecar.serving.addresses import kept as kept_address
from sidecar.serving.addresses import require_free
from sidecar.serving.run_folder import run_folder
from sidecar.serving.shares import Shares
from sidecar.serving.wanted import want
from sidecar.serving.watched_files import WatchedFiles, files_of
from sidecar.telemetry.stderr import log_to_stderr, logging_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.serving.loaded import Loaded
    from sidecar.serving.worker import Worker
    from sidecar.settings import Settings

_PATIENCE_AT_START_S = 2.0  # then a worker accepts, if only to say that it is not ready
_PATIENCE_AT_RELOAD_S = 300.0  # the old generation serves meanwhile, and OPA asks for bundles when it will
_SAID_EVERY_S = 30.0
_AGAIN_AFTER_S = 5.0  # with SIDECAR_RELOAD=auto, what was refused
_LISTENS_WITHIN_S = 10.0
_BACKLOG = 2_048
_TICK_S = 0.1
_SO_ATTACH_FILTER, _BPF_RETURN = 26, 0x06  # Linux, which Python does not name
_CORRECT_THE_FILES = "correct the files (`sidecar check` says what is wrong with them), then send SIGHUP"
_SEE_THE_LOG = "standard error says why; then send SIGHUP again"
_FITS, _READY, _UNFIT = b"fits\n", b"ready\n", b"unfit: "  # what a new worker tells the master
_MOST_SAID = 4_096
_SECRET_BYTES = 32
_HAS_PROVED_ITSELF_S = 10.0  # a worker that lives so long: that another cannot start is no reason to end all
_OWN_DESCRIPTORS = 64  # of a worker itself: files, pipes, the policy engine
_DESCRIPTORS_OF_A_THREAD = 3  # its connections to the database and to the policy engine
_FEWEST_CONNECTIONS = 16
_INHERITED = frozenset({"GUNICORN_FD", "LISTEN_FDS"})  # sockets of the master before, or of systemd


def serve(settings: Settings, *, kept: Path | None = None, once: Path | None = None) -> None:
    """Run until a signal ends it. ConfigError, before anything listens, with every problem of the files.

    Before they are read, with every address that cannot be had: gunicorn would try for five seconds.

    *kept* is a file that keeps the embedded engine's verdicts from one start to the next. *once* is
    the file with the code of the console's link, which `sidecar dev` alone has.
    """
    log_to_stderr(settings.log_format)
    if _INHERITED.isdisjoint(os.environ):
        require_free(settings.http_bind)
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder())
        for address in settings.grpc_bind:
            stack.enter_context(kept_address(address))
        # prometheus_client decides when it is imported whether workers count together.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        _Server(settings, folder, kept, once).run()


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """What gunicorn runs. *loaded* is what the next worker that is forked inherits."""

    def __init__(self, settings: Settings, folder: Path, kept: Path | None, once: Path | None) -> None:
        self.settings = settings
        self._once = once
        self._console_secret = secrets.token_bytes(_SECRET_BYTES)  # of this master: sessions outlive a reload
        self._kept = kept
        self.folder = folder
        self.draining = folder / "draining"  # while it is there, no worker is ready
        self._make_folder()
        self.loaded: Loaded = self.load_files()
        self.published = self.loaded.bundle
        self.patience_s = _PATIENCE_AT_START_S
        self.ready_pipe: tuple[int, int] | None = None
        self.most_connections = settings.connections
        super().__init__()

    def load_files(self, before: Loaded | None = None) -> Loaded:
        """As they are now, with a bundle by which *before* is answered too."""
        from sidecar.serving.loaded import load  # noqa: PLC0415 - counts: after the environment is set

        return load(self.settings, kept=self._kept, before=before)

    def want(self, loaded: Loaded, *, cause: str | None = None, do: str | None = None) -> None:
        """Tell the workers which revision the files have, and why it did not take over."""
        with suppress(OSError):  # somebody has cleaned the temporary folder
            want(self.folder, loaded.compiled.revision, cause=cause, do=do)

    def load_config(self) -> None:
        from sidecar.serving.worker import Worker  # noqa: PLC0415 - as above

        settings = self.settings
        for name, value in {
            "bind": settings.http_bind,
            "workers": settings.workers,
            "worker_class": Worker,
            "graceful_timeout": settings.grace_s,
            "backlog": _BACKLOG,
            "preload_app": False,
            "asgi_loop": "uvloop",
            "asgi_lifespan": "off",
            "asgi_disconnect_grace_period": 0,
            "control_socket_disable": True,
            # A Unix socket may do everything: it is its owner's and its group's.
            "umask": 0o007,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "info",
            "logconfig_dict": logging_config(settings.log_format),
            "proc_name": "sidecar",
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - a heartbeat file; on a disk it can stall
            "pre_fork": _prepare,
            "post_worker_init": _begin,
            "worker_exit": _end,
            "child_exit": _count_out,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # noqa: ANN401 - the application
        from sidecar.serving.assembly import Parts  # noqa: PLC0415 - as above

        own = self.loaded.bundle
        self.worker = Parts(
            self.settings,
            self.loaded,
            folder=self.folder,
            newest_bundle=lambda: self._published_bundle(own),
            is_draining=self.draining.exists,
            console_secret=self._console_secret,
            once=self._once,
        )
        return self.worker.application

    def run(self) -> None:
        _Master(self).run()

    @property
    def _bundle(self) -> Path:
        return self.folder / "bundle.tar.gz"

    def _published_bundle(self, own: bytes) -> bytes:
        """For workers of every generation: OPA may fetch it from one that decides by an older one."""
        try:
            return self._bundle.read_bytes()
        except OSError:  # somebody has cleaned the temporary folder
            return own

    def _make_folder(self) -> None:
        (self.folder / "metrics").mkdir(parents=True, exist_ok=True)

    def publish(self) -> None:
        """What workers share by files, made anew where somebody has cleaned the temporary folder."""
        self._make_folder()
        new = self._bundle.with_suffix(".new")
        new.write_bytes(self.published)
        new.replace(self._bundle)


@contextmanager
def _no_signal_of_children() -> Iterator[None]:
    """OPA builds the files as our child: its end is no worker's, and a signal that waits ends a reload.

    A worker that ends meanwhile is reaped afterwards, when new ones are waited for.
    """
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


class _Master(Arbiter):  # type: ignore[misc] # gunicorn has no types
    def start(self) -> None:
        from sidecar.telemetry.server_counts import ServerCounts  # noqa: PLC0415 - as above
        from sidecar.telemetry.worker_files import DeadWorkers  # noqa: PLC0415 - ditto

        self.counts = ServerCounts()
        self.shares = Shares()
        self.dead = DeadWorkers(self.app.folder / "metrics")
        self.app.most_connections = self._connections_that_fit()
        self._files = WatchedFiles(files_of(self.app.settings))
        self._refused: Loaded | None = None
        self._again_at = inf
        self._said = ""
        super().start()

    def manage_workers(self) -> None:
        """Once a second, and after each signal."""
        super().manage_workers()
        if self.app.settings.reload != "auto":
            return
        if self._files.have_changed():
            self.log.info("plans or policies have changed: reloading")
            self._reload()
        elif monotonic() >= self._again_at:
            self._reload(self._refused)

    def reload(self) -> None:
        """At SIGHUP."""
        self._files.take()
        self._said = ""
        self._reload()

    def _reload(self, loaded: Loaded | None = None) -> None:
        """*loaded* is what the files said at the last attempt, which the database or OPA did not fit."""
        before, old = self.app.loaded, set(self.WORKERS)
        self._refused, self._again_at = None, inf
        try:
            if loaded is None:
                with _no_signal_of_children():
                    loaded = self.app.load_files(before)
            self.app.loaded = loaded
            self.app.want(self.app.loaded)
            self._take_over(before, old)
        except ConfigError as error:
            for problem in error.problems:
                self.log.error("%s: %s", problem.pointer, problem.detail)  # noqa: TRY400 - a mistake in a file
            self.app.want(before, cause=error.code, do=_CORRECT_THE_FILES)
            self._stay_with(before, old, why="the files as they were stay in force")
        except HaltServer as halt:
            if self.app.settings.reload == "auto":
                self._refused, self._again_at = self.app.loaded, monotonic() + _AGAIN_AFTER_S
            self.app.want(self.app.loaded, **_why_not(halt.reason))
            self._stay_with(before, old, why=f"{halt.reason}; the workers as they were go on")
        except Exception:
            # Whatever it was: gunicorn would end the workers that serve.
            self.log.exception("a reload met a defect, or a machine without memory or descriptors")
            self.app.want(self.app.loaded, cause="not_reloaded", do=_SEE_THE_LOG)
            self._stay_with(before, old, why="the workers as they were go on")
        else:
            self.counts.count_reload(taken=True)
            self._said = ""
            self.log.info("reloaded: revision %s", self.app.loaded.compiled.revision)

    def handle_term(self) -> None:
        """Not ready first, so that nobody new is sent here; only then the listeners close."""
        self._drain(monotonic() + self.app.settings.drain_s)
        super().handle_term()

    def _drain(self, ending: float) -> None:
        with suppress(OSError):
            self.app.draining.touch()
        while self.WORKERS and monotonic() < ending:
            sleep(_TICK_S)
            with suppress(Empty):
                number = self.SIG_QUEUE.get_nowait()
                if number in {signal.SIGINT, signal.SIGQUIT}:
                    self.SIG_QUEUE.put_nowait(number)  # `stop` makes haste then
                    return
            self.reap_workers()

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
        for listener in self.LISTENERS:
            _let_nobody_in(listener.sock)
        super().stop(graceful)

    def spawn_workers(self) -> None:
        """Without gunicorn's pause after each, which the last of many would wait for."""
        self._spawn(self.num_workers - len(self.WORKERS))

    def _spawn(self, count: int) -> None:
        try:
            for _ in range(count):
                self.spawn_worker()
        except OSError as error:  # no memory, no descriptor: the others go on, and the next round tries again
            self.log.error("cannot start a worker: %s", error.strerror)  # noqa: TRY400 - of the machine

    def handle_chld(self) -> None:
        try:
            super().handle_chld()
        except HaltServer as halt:
            if not any(monotonic() - worker.born > _HAS_PROVED_ITSELF_S for worker in self.WORKERS.values()):
                raise
            self.log.error("%s The others go on.", halt.reason)  # noqa: TRY400 - the worker has told why

    handle_cld = handle_chld

    def _take_over(self, before: Loaded, old: set[int]) -> None:
        self.app.patience_s = _PATIENCE_AT_RELOAD_S
        self.app.ready_pipe = os.pipe()
        try:
            for _ in range(self.num_workers):
                self.spawn_worker()
            self._wait_until_ready(set(self.WORKERS) - old, before, old)
        finally:
            self.app.patience_s = _PATIENCE_AT_START_S
            for end in self.app.ready_pipe:
                os.close(end)
            self.app.ready_pipe = None
        self._end(old, signal.SIGTERM, within_s=self.cfg.graceful_timeout)

    def _stay_with(self, before: Loaded, old: set[int], *, why: str) -> None:
        self.app.loaded = before
        self.app.published = before.bundle
        with suppress(HaltServer):
            self._end(set(self.WORKERS) - old, signal.SIGKILL, within_s=self.cfg.graceful_timeout)
        with suppress(OSError):
            self.app.publish()
        self.counts.count_reload(taken=False)
        if why != self._said:
            self.log.error("not reloaded: %s", why)
        if self.app.settings.reload == "auto":  # it tries again, and says the same once
            self._said = why

    def _wait_until_ready(self, pids: set[int], before: Loaded, old: set[int]) -> None:
        """HaltServer unless each says so in time; or at once when one has died, or a signal is waiting.

        Each says first that the database fits the new catalog. Only then OPA may fetch the new bundle.
        """
        began = monotonic()
        said, next_said = b"", _SAID_EVERY_S
        while said.count(_READY) < len(pids):
            if (waited := monotonic() - began) > _PATIENCE_AT_RELOAD_S or not self._undisturbed(pids):
                raise HaltServer("the new workers were not ready")
            if waited >= next_said:
                next_said += _SAID_EVERY_S
                self.log.warning(
                    "the reload waits, %.0f of %.0f s: %s",
                    waited,
                    _PATIENCE_AT_RELOAD_S,
                    f"OPA does not answer by revision {self.app.loaded.compiled.revision} yet"
                    if self.app.settings.engine == "opa"
                    else "the new workers are not ready yet",
                )
            self._replace_dead(before, old)
            if select.select([self.app.ready_pipe[0]], [], [], _TICK_S)[0]:
                said += os.read(self.app.ready_pipe[0], _MOST_SAID)
            if _UNFIT in said and said.endswith(b"\n"):
                raise HaltServer(said.partition(_UNFIT)[2].partition(b"\n")[0].decode())
            if said.count(_FITS) == len(pids) and self.app.published != self.app.loaded.bundle:
                self.app.published = self.app.loaded.bundle
                self.app.publish()

    def _undisturbed(self, pids: set[int]) -> bool:
        """Whether they live and nobody wants anything else. A dead child is no reason to give up."""
        self.reap_workers()
        others = []
        while not self.SIG_QUEUE.empty():
            if (number := self.SIG_QUEUE.get()) != signal.SIGCHLD:
                others.append(number)
        for number in others:
            self.SIG_QUEUE.put(number)
        return pids <= set(self.WORKERS) and not others

    def _replace_dead(self, before: Loaded, old: set[int]) -> None:
        """Those that serve while a reload waits: nobody else looks after them."""
        while len(old & set(self.WORKERS)) < min(len(old), self.num_workers):
            loaded, pipe, patience_s = self.app.loaded, self.app.ready_pipe, self.app.patience_s
            self.app.loaded, self.app.ready_pipe, self.app.patience_s = before, None, _PATIENCE_AT_START_S
            try:
                pid = self.spawn_worker()
            finally:
                self.app.loaded, self.app.ready_pipe, self.app.patience_s = loaded, pipe, patience_s
            old -= old - set(self.WORKERS)
            old.add(pid)

    def _end(self, pids: Iterable[int], how: signal.Signals, *, within_s: float) -> None:
        for pid in pids:
            self.kill_worker(pid, how)
        ending = monotonic() + within_s
        while monotonic() < ending and (ends := set(self.WORKERS).intersection(pids)):
            self.reap_workers()
            self._spawn(self.num_workers - len(set(self.WORKERS) - ends))  # nobody else looks meanwhile
            sleep(_TICK_S)

    def _connections_that_fit(self) -> int:
        """As many as the settings say, or fewer where a process may not open as many files."""
        settings = self.app.settings
        wanted: int = settings.connections
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        if soft == resource.RLIM_INFINITY:
            return wanted
        left: int = soft - _OWN_DESCRIPTORS - _DESCRIPTORS_OF_A_THREAD * settings.threads
        if left < wanted:
            left = max(left, _FEWEST_CONNECTIONS)
            self.log.warning(
                "a worker takes %d connections at most, not %d (SIDECAR_CONNECTIONS):"
                " it may open %d files; raise the limit (ulimit -n)",
                left,
                wanted,
                soft,
            )
        return min(left, wanted)


def _why_not(reason: str) -> dict[str, str]:
    """The cause that ends *reason*, in brackets, with what to do; of its text only what anybody may read."""
    cause = re.search(r"\((\w+)\)$", reason)
    if cause is None:
        return {"cause": "not_reloaded", "do": _SEE_THE_LOG}
    is_told = cause[1] == DatabaseNotMigrated.code
    do = f"{reason[: cause.start()].strip()}; then send SIGHUP" if is_told else _SEE_THE_LOG
    return {"cause": cause[1], "do": do}


def _let_nobody_in(listener: socket.socket) -> None:
    """Drop every packet to *listener*, whose connections so far can still be accepted.

    Else somebody could connect between a worker's last look and its close, and be reset. A dropped attempt is
    repeated by its kernel after a second, and then refused.
    """
    if sys.platform == "linux" and listener.family != socket.AF_UNIX:
        program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
        with suppress(OSError):
            listener.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program))
            )


def _prepare(master: _Master, worker: Worker) -> None:
    """Before a worker is forked: it finds its files, and shares the memory of what lives for good."""
    worker.born = monotonic()
    worker.share = master.shares.new(each.share for each in master.WORKERS.values())
    master.app.publish()
    gc.freeze()


def _begin(worker: Worker) -> None:
    """Before a worker accepts: it is ready, or its patience is at an end.

    The loop runs meanwhile, since it drives the connections to the database.
    """
    server: _Server = worker.app
    server.worker.open(worker.loop)
    begun = worker.loop.create_future()

    def begin() -> None:
        error: BaseException | None = None
        try:
            _begin_while_the_loop_runs(worker, server)
        except BaseException as caught:  # noqa: BLE001 - raised where it is waited for
            error = caught
        worker.loop.call_soon_threadsafe(begun.set_result, error)

    Thread(target=begin, name="begin", daemon=True).start()
    if (error := worker.loop.run_until_complete(begun)) is not None:
        raise error


def _begin_while_the_loop_runs(worker: Worker, server: _Server) -> None:
    if server.ready_pipe is not None:
        why = server.worker.why_unfit()
        os.write(server.ready_pipe[1], _FITS if why is None else _UNFIT + why.encode() + b"\n")
    server.worker.start()
    ending = monotonic() + server.patience_s
    while worker.alive and monotonic() < ending and not server.worker.wait_until_begun(_TICK_S):
        worker.notify()
    listening = run_coroutine_threadsafe(server.worker.listen(), worker.loop)
    listening.result(_LISTENS_WITHIN_S)  # first: then the generation before may end
    if server.ready_pipe is not None and server.worker.wait_until_begun(0):
        os.write(server.ready_pipe[1], _READY)


def _end(_: _Master, worker: Worker) -> None:
    if hasattr(worker.app, "worker"):
        worker.app.worker.stop()


def _count_out(master: _Master, worker: Worker) -> None:
    master.counts.count_exit()
    worker.share.take_no_more()  # they could not, if they were killed
    master.dead.bury(worker.pid)
