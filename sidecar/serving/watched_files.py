"""Whether files have changed since they were last taken, and stand still now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sidecar.settings import Settings

    Look = tuple[tuple[str, tuple[int, ...]], ...]


class WatchedFiles:
    """*files* may be folders, with all in them. *taken* is another one after each change."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._seen: Look = ()
        self.taken = self._seen = self._look()

    def have_changed(self) -> bool:
        """True once, when two looks after a change have found the same: nobody is writing any more."""
        before, self._seen = self._seen, self._look()
        if self._seen == self.taken or self._seen != before:
            return False
        self.taken = self._seen
        return True

    def take(self) -> None:
        """As they are now, by whoever has asked for a reload."""
        self.taken = self._seen = self._look()

    def _look(self) -> Look:
        """As before where a folder cannot be read now: no descriptor is left, for one."""
        try:
            return tuple(sorted(self._stats()))
        except OSError:
            return self._seen

    def _stats(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Links are followed: Kubernetes swaps them."""
        for file in self._files:
            for path in (file, *(file.rglob("*") if file.is_dir() else ())):
                try:
                    found = path.stat()
                except OSError:  # being replaced: the next look finds it
                    continue
                yield (
                    str(path),
                    (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns),
                )


def files_of(settings: Settings) -> Iterator[Path]:
    """What a reload reads of a policy; those of callers and keys are for SIGHUP."""
    yield from (settings.plans, settings.policies)
    if settings.authzen_policy is not None:
        yield settings.authzen_policy
