"""The link of `sidecar dev` that signs in once: its code is in a file, which the first use removes."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def used_up(file: Path | None, code: str) -> bool:
    """Whether *code* is the one in *file*, which nobody has used: who removes the file has the one use."""
    if file is None:
        return False
    try:
        if not hmac.compare_digest(file.read_bytes().strip(), code.encode()):
            return False
        file.unlink()
    except OSError:
        return False
    return True
