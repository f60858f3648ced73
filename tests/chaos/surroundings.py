"""What is around the processes: a disk and the clock. Each can be broken without rights to do so.

A library that is preloaded does it (surroundings.c); docs/decisions/0076 says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecar.local.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("surroundings.c")


class Surroundings:
    """In *folder*, which each process may read. A process is in them that has the variables."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = _built(folder)
        self._clock = folder / "clock"
        folder.chmod(0o755)

    def variables(self, *, disk: Path) -> list[str]:
        """*disk*: the folder whose disk can be full."""
        return [f"LD_PRELOAD={self._library}", f"FULL_DISK={disk}", f"FULL_DISK_WHILE={self._full(disk)}"]

    def all_variables(self, *, disk: Path) -> list[str]:
        """Of one whose clock may jump, too."""
        return [*self.variables(disk=disk), f"CLOCK={self._clock}"]

    @contextmanager
    def full(self, disk: Path) -> Iterator[None]:
        flag = self._full(disk)
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()

    @contextmanager
    def clock_ahead(self, seconds: int) -> Iterator[None]:
        """The time of day jumps, and back; how time passes stays as it is."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock)
        try:
            yield
        finally:
            self._clock.unlink()

    def _full(self, disk: Path) -> Path:
        return self._folder / f"full-{disk.name}"


class SurroundedPostgres(EmbeddedPostgres):
    """A server of its own *folder*, which is the disk that can be full."""

    def __init__(self, folder: Path, around: Surroundings) -> None:
        super().__init__(folder)
        self._variables = around.variables(disk=folder)

    def _run(self, command: list[str | Path], *, output: int) -> subprocess.Popen[bytes]:
        return super()._run([_path_of("env"), *self._variables, *command], output=output)


def _built(folder: Path) -> Path:
    """Skips the test where there is no compiler; with --require-servers a skip is a failure."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    library = folder / "surroundings.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    library.chmod(0o755)
    return library


def _path_of(command: str) -> str:
    found = shutil.which(command)
    assert found is not None, os.environ.get("PATH")
    return found
