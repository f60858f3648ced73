"""How hard tests try, and what they share: `.ci/run` runs long ones too, and tries oftener at random."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

THOROUGH = os.environ.get("TEST_EFFORT") == "thorough"
_VERDICTS = "TEST_VERDICTS"


def tries(thorough: int, *, usual: int) -> int:
    """How many random tries, examples or rounds: *usual* in `make test`, *thorough* in `.ci/run`."""
    return thorough if THOROUGH else usual


def share_verdicts() -> Path | None:
    """A folder of this run for what embedded engines have learnt; None if another process has made it.

    The test processes and the sidecars that they start find it by the environment.
    """
    if _VERDICTS in os.environ:
        return None
    folder = Path(tempfile.mkdtemp(prefix="verdicts-"))
    os.environ[_VERDICTS] = str(folder)
    return folder


def forget_verdicts(folder: Path) -> None:
    os.environ.pop(_VERDICTS, None)
    shutil.rmtree(folder, ignore_errors=True)


def shared_verdicts(revision: str) -> Path:
    """The file for the verdicts of the policies with this *revision*."""
    return Path(os.environ[_VERDICTS]) / revision


def lend_verdicts(data_dir: Path) -> None:
    """A `sidecar dev` that is new in *data_dir* finds what another has learnt, if one has."""
    lent = Path(os.environ[_VERDICTS]) / "dev"
    if lent.exists() and data_dir.parent.is_dir() and not data_dir.exists():
        data_dir.mkdir(mode=0o700)
        shutil.copy(lent, data_dir / "verdicts")


def borrow_verdicts(data_dir: Path) -> None:
    """For the next one, once the one in *data_dir* is ready."""
    lent = Path(os.environ[_VERDICTS]) / "dev"
    if (data_dir / "verdicts").exists() and not lent.exists():
        copy = Path(tempfile.mkdtemp(dir=lent.parent)) / "dev"
        shutil.copy(data_dir / "verdicts", copy)
        copy.replace(lent)
