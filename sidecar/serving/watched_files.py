"""Whether a server's files have changed since they were last taken, and stand still now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sidecar.settings import Settings

    Look = tuple[tuple[str, int, int, int], ...]


class WatchedFiles:
    """*files* are catalogs and folders of policies."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._seen: Look = ()
        self._taken = self._seen = self._look()

    def have_changed(self) -> bool:
        """True once, when two looks after a change have found the same: nobody is writing any more."""
        before, self._seen = self._seen, self._look()
        if self._seen in (self._taken, ()) or self._seen != before:
            return False
        self._taken = self._seen
        return True

    def take(self) -> None:
        """As they are now, by whoever has asked for a reload."""
        self._taken = self._seen = self._look()

    def _look(self) -> Look:
        """As before where a folder cannot be read now: no descriptor is left, for one."""
        try:
            return tuple(sorted(self._stats()))
        except OSError:
            return self._seen

    def _stats(self) -> Iterator[tuple[str, int, int, int]]:
        for file in self._files:
            for path in (file, *(file.rglob("*") if file.is_dir() else ())):
                try:
                    found = path.stat()
                except OSError:  # being replaced: the next look finds it
                    continue
                yield str(path), found.st_ino, found.st_size, found.st_mtime_ns


def files_of(settings: Settings) -> Iterator[Path]:
    """What a reload reads of a policy; those of callers and keys are for SIGHUP."""
    yield from (settings.plans, settings.policies)
    if settings.authzen_policy is not None:
        yield settings.authzen_policy
