"""What a decision log says of itself: the lines of its own, and the name of who writes them."""

from __future__ import annotations

import os
import re
import socket
from datetime import UTC, datetime
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING

from sidecar.text.encoding import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

_SKIPS_TOLD_S = 1.0
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_HOST = 63


def own_line(kind: str, says: Mapping[str, object]) -> bytes:
    return encoded({"v": 1, "kind": kind, "at": datetime.now(UTC), **says})[:-1]


def _now() -> str:
    text: str = decoded(encoded(datetime.now(UTC)))
    return text


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def host_name() -> str:
    return _NOT_IN_A_NAME.sub("_", socket.gethostname())[:_LONGEST_HOST] or "host"


def writer_name() -> str:
    """Of this process: host, start in milliseconds in base 36, and process id."""
    left, digits = int(time() * 1_000), ""
    while left:
        left, digit = divmod(left, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"{host_name()}-{digits}-{os.getpid()}"


class Missing:
    """Counts the lines that are not there, from any thread, and makes the lines that tell of them."""

    def __init__(self) -> None:
        self.dropped_at = 0.0  # the last one, on the monotonic clock
        self._lock = Lock()
        self._dropped = self._skipped = 0
        self._dropped_since = self._skipped_since = ""
        self._skips_from = 0.0

    def drop(self, lines: int, *, since: str = "") -> None:
        with self._lock:
            if not self._dropped:
                self._dropped_since = since or _now()
            self._dropped += lines
            self.dropped_at = monotonic()

    def skip(self) -> None:
        with self._lock:
            if not self._skipped:
                self._skipped_since, self._skips_from = _now(), monotonic()
            self._skipped += 1

    def told_in_s(self) -> float | None:
        """When the next line is due about what was left out; None: nothing was."""
        return self._skips_from + _SKIPS_TOLD_S - monotonic() if self._skipped else None

    def lines(self, *, at_the_end: bool) -> list[bytes]:
        """Those that are due; *at_the_end* all."""
        made = []
        with self._lock:
            if self._dropped:
                made.append(own_line("dropped", {"count": self._dropped, "since": self._dropped_since}))
                self._dropped = 0
            if self._skipped and (at_the_end or monotonic() >= self._skips_from + _SKIPS_TOLD_S):
                says = {"what": "check-grants", "count": self._skipped, "since": self._skipped_since}
                made.append(own_line("skipped", says))
                self._skipped = 0
        return made

    def unwritten(self, text: bytes) -> tuple[list[bytes], int, bool]:
        """Of sealed lines that are not out: those to be sealed anew, how many others, whether a day begins.

        What they tell of dropped lines is counted again.
        """
        own, others, begins_day = [], 0, False
        for line in text.splitlines():
            document = decoded(line)
            match document.get("kind"):
                case "begin" | "skipped":
                    own.append(line.rpartition(b',"writer":')[0])
                case "day":
                    begins_day = True
                case "dropped":
                    self.drop(document["count"], since=document["since"])
                case _:
                    others += 1
        return own, others, begins_day
