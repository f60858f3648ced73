"""A cache of verdicts in a file from one start to the next, for `sidecar dev`.

The file is private (mode 0600), because anyone who can write it can grant anything. Its first line is the
hash of the rest, which finds damage but not forgery. A file that is not as we write it is ignored.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.engines.verdict import document_of, verdict_from
from sidecar.errors import EngineMisbehaved, RevisionMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.decisions.model import Verdict

_log = logging.getLogger("sidecar")

MIB = 1024 * 1024
_MAX_BYTES = 64 * MIB


def kept_at(path: Path, *, engine: str, revision: str) -> dict[bytes, Verdict]:
    """What `keep` has written for the same *engine* (name and version) and *revision*; else nothing."""
    digest, _, content = _private_bytes(path).partition(b"\n")
    if sha256(content).hexdigest().encode() != digest:
        return {}
    try:
        match json.loads(content):
            case {"format": 1, "engine": by, "revision": of, "verdicts": dict(found)} if (by, of) == (
                engine,
                revision,
            ):
                return {
                    situation.encode(): verdict_from(each, revision=revision)
                    for situation, each in found.items()
                }
    except (ValueError, RecursionError, EngineMisbehaved, RevisionMismatch):
        pass  # the hash is right, so somebody else wrote it
    return {}


def keep(path: Path, verdicts: Mapping[bytes, Verdict], *, engine: str, revision: str) -> None:
    """Write all or nothing, in a private file. A folder that cannot be written is a warning in the log."""
    content = json.dumps(
        {
            "format": 1,
            "engine": engine,
            "revision": revision,
            "verdicts": {situation.decode(): document_of(each) for situation, each in verdicts.items()},
        },
        separators=(",", ":"),
    ).encode()
    fresh = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # its mode is 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(sha256(content).hexdigest().encode() + b"\n" + content)
        Path(fresh).replace(path)
    except OSError as error:
        _log.warning("the verdicts cannot be kept in %s: %s", path, error.strerror)
        if fresh is not None:
            Path(fresh).unlink(missing_ok=True)


def _private_bytes(path: Path) -> bytes:
    """The content of *path* if only we can read and write it; else nothing."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
            if not (stat.S_ISREG(found.st_mode) and private and found.st_size <= _MAX_BYTES):
                return b""
            return file.read(_MAX_BYTES)
    except OSError:
        return b""
