"""Child processes that end with this one: PostgreSQL, OPA and the server of `sidecar dev`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str | Path],
    *,
    dies_by: signal.Signals = signal.SIGTERM,
    output: int | None = None,
    environ: Mapping[str, str] | None = None,
    as_user: tuple[int, int] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C reaches us alone; *output* takes what it prints.

    On Linux the kernel sends it *dies_by* when the thread that started it is gone, kill -9 included: start it
    from the main thread. *as_user* is the uid and gid that it runs as.
    """
    return subprocess.Popen(  # noqa: S603 - our own commands
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        env=None if environ is None else dict(environ),
        start_new_session=True,
        preexec_fn=bound_to_us(dies_by),  # noqa: PLW1509 - one system call, and no other threads yet
        user=as_user[0] if as_user else None,
        group=as_user[1] if as_user else None,
        extra_groups=[] if as_user else None,
    )


def end(process: subprocess.Popen[bytes], *signals: tuple[signal.Signals, float]) -> None:
    """Send each signal and wait its seconds, until *process* is gone; at last kill it."""
    for number, patience_s in signals:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()


def bound_to_us(number: signal.Signals) -> Callable[[], None]:
    """What a child calls right after the fork, so that the kernel sends it *number* when this thread is gone.

    It does nothing on other systems than Linux.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: the child may not take locks
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # already gone, and the signal with it
            os._exit(1)

    return bind
