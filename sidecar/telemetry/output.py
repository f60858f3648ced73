"""Standard output, which other processes share: lines are written to it whole, and with a deadline."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from contextlib import suppress
from ctypes import PyDLL, c_char_p, c_int, c_size_t, c_ssize_t, get_errno
from math import inf
from stat import S_ISFIFO, S_ISSOCK
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Up to this size a pipe takes a write as one: lines of several processes do not mix.
PIPE_BUF = 4_096
STDOUT = 1
_NO_DISK = {errno.EINVAL, errno.EROFS, errno.ENOTSUP}  # a pipe, a socket, a terminal
_LOOKED_AFTER_S = 0.1  # how often who waits for a reader looks whether it is to end
_MAKING_ROOM_S = 0.003  # for a reader to make room for more than one write

# Unlike os.write this keeps the interpreter. With a busy thread beside it os.write gets it back only after
# 5 ms, and every write to a pipe is small: 200 a second, where one that cannot block takes microseconds.
_keeping_write = PyDLL(None, use_errno=True).write
_keeping_write.argtypes = (c_int, c_char_p, c_size_t)
_keeping_write.restype = c_ssize_t


class Output:
    """A Sink that other processes share."""

    longest: int | None = PIPE_BUF

    def __init__(self, descriptor: int) -> None:
        """*descriptor* stays the caller's and its flags as they are: other processes share them."""
        self.ends_at = inf  # by monotonic(); from then on nothing waits for a reader
        self._given = descriptor
        mode = _mode(descriptor)
        self._is_pipe = S_ISFIFO(mode)
        self._most = PIPE_BUF if self._is_pipe or S_ISSOCK(mode) else None
        self._own = _opened_again(descriptor) if self._is_pipe else None
        self._room = select.poll()
        self._room.register(descriptor if self._own is None else self._own, select.POLLOUT)

    def write(self, block: bytes, day: str) -> int:  # noqa: ARG002 - of one output all days are alike
        """How many bytes of *block*, lines that each end in a newline, went out: all, unless it failed.

        It waits for a reader until `ends_at`.
        """
        for begin, end in _pieces(block, self._most):
            done = self._written(block[begin:end])
            if done < end - begin:
                return begin + done
        return len(block)

    def write_last(self, block: bytes, day: str) -> int:
        """As `write`, of the last words: where a pipe is full it is made larger, so that they fit."""
        if self._is_pipe:
            with suppress(OSError):  # the system allows no more
                size = fcntl.fcntl(self._given, fcntl.F_GETPIPE_SZ)
                if not self._room.poll(0):
                    fcntl.fcntl(self._given, fcntl.F_SETPIPE_SZ, 2 * size)
        return self.write(block, day)

    def sync(self) -> None:
        """OSError if it is a file and its disk has not got it."""
        try:
            os.fdatasync(self._given)
        except OSError as error:
            if error.errno not in _NO_DISK:
                raise

    def take_back(self, size: int) -> bool:
        """Whether the last *size* bytes are gone again: never, for somebody may have read them."""
        return not size

    def close(self) -> None:
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _written(self, piece: bytes) -> int:
        """How many bytes of *piece* went out."""
        done = 0
        slept = False
        while done < len(piece):
            try:
                if self._own is not None:
                    done += _written_at_once(self._own, piece[done:])
                elif self._has_room():
                    done += os.write(self._given, piece[done:])
                else:
                    break
            except BlockingIOError:
                if monotonic() >= self.ends_at:
                    break
                if slept:
                    self._has_room()
                else:
                    sleep(_MAKING_ROOM_S)
                    slept = True
            except OSError:  # closed, full, or not ours any more: an answer is worth more than its line
                break
        return done

    def _has_room(self) -> bool:
        """Wait until there is room, or an error to be told; False: there was none when `ends_at` came."""
        while True:
            left_s = min(max(self.ends_at - monotonic(), 0), _LOOKED_AFTER_S)
            if self._room.poll(left_s * 1_000):
                return True
            if not left_s:
                return False


def _mode(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_mode
    except OSError:  # not open: each write will say so
        return 0


def _opened_again(pipe: int) -> int | None:
    """*pipe* as an open file of our own, which does not block; None where there is no such thing."""
    try:
        return os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no /proc, another user's pipe, or nobody reads it
        return None


def _pieces(block: bytes, most: int | None) -> Iterator[tuple[int, int]]:
    """Where the pieces of *block* begin and end: lines of at most *most* bytes, or a longer line alone."""
    begin = 0
    while begin < len(block):
        end = len(block)
        if most is not None and end - begin > most:
            end = block.rfind(b"\n", begin, begin + most) + 1 or block.find(b"\n", begin + most) + 1
        yield begin, end
        begin = end


def _written_at_once(descriptor: int, piece: bytes) -> int:
    written = int(_keeping_write(descriptor, piece, len(piece)))
    if written < 0:
        code = get_errno()
        raise OSError(code, os.strerror(code))
    return written
