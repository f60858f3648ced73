"""Secrets in files of their own: long enough, and readable by nobody whom they are not for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.masks import key_in
from sidecar.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS, _EVERYBODY = 0o077, 0o007
_TOO_OPEN = {_OTHERS: "others may read it; chmod 600", _EVERYBODY: "everybody may read it; chmod 640"}


def mask_key_at(file: Path) -> bytes:
    """What the log masks with. ConfigError with every problem of the file."""
    return _secret_at(file, "SIDECAR_LOG_MASK_KEY", least=16, shut_to=_OTHERS)


def console_secret_at(file: Path) -> bytes:
    """What signs the console's cookies; as `mask_key_at`."""
    # A group may share it: Kubernetes mounts secrets so.
    return _secret_at(file, "SIDECAR_CONSOLE_SECRET", least=32, shut_to=_EVERYBODY)


def _secret_at(file: Path, setting: str, *, least: int, shut_to: int) -> bytes:
    faults = []
    try:
        secret, mode = key_in(file.read_bytes()), file.stat().st_mode
    except OSError as error:
        secret, faults = b"", [error.strerror or str(error)]
    else:
        if len(secret) < least:
            faults.append(f"must have {least} bytes or more; openssl rand -hex 32 writes them")
        if mode & shut_to:
            faults.append(_TOO_OPEN[shut_to])
    if faults:
        problems = tuple(Problem(pointer=setting, detail=f"{file}: {fault}") for fault in faults)
        raise ConfigError(f"{setting} names no secret", problems=problems)
    return secret
