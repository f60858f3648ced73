"""What the workers of a server have said, so that one of them says what all have found."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Said:
    """What was logged of each name: of several workers with one *folder*, one logs each change."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last: dict[str, str] = {}

    def is_new(self, name: str, code: str) -> bool:
        """Whether nobody has said *code* of *name* last; then it counts as said."""
        if self._last.get(name, "") == code:
            return False
        self._last[name] = code
        if self._folder is None:
            return True
        try:
            with (self._folder / f"said-{name}").open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                if file.read() == code:
                    return False
                file.truncate(0)
                file.write(code)
                file.flush()
        except OSError:  # somebody has cleaned the temporary folder: said twice is better than never
            return True
        return True
