"""The decision log of `sidecar dev`: in its folder, and on standard output for whoever watches."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sidecar.telemetry.output import STDOUT, Output

if TYPE_CHECKING:
    from sidecar.telemetry.log_folder import LogFolder


class Printed:
    """A Sink: *folder*, whose lines are printed too. The folder counts; a printed line may get lost."""

    longest: int | None = None

    def __init__(self, folder: LogFolder) -> None:
        self.ends_at = inf
        self._folder = folder
        self._output = Output(STDOUT)
        self._output.ends_at = 0.0  # nobody waits for a terminal that does not read

    def write(self, block: bytes, day: str) -> int:
        done = self._folder.write(block, day)
        self._output.write(block[:done], day)
        return done

    def write_last(self, block: bytes, day: str) -> int:
        done = self._folder.write_last(block, day)
        self._output.write_last(block[:done], day)
        return done

    def sync(self) -> None:
        self._folder.sync()

    def take_back(self, size: int) -> bool:
        return self._folder.take_back(size)

    def close(self) -> None:
        self._folder.close()
        self._output.close()
