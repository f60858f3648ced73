"""Node, and npm packages for tests: `npm ci` runs once in a folder, for its package-lock.json.

A test whose program or registry is not there skips itself, and with --require-servers that is a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOOLS = Path(__file__).parent / "npm"  # linters of /openapi.json, OpenFeature's SDKs
_WITHIN_S = 180  # seconds alone, and a machine may be busy
_INSTALLED_WITHIN_S = 600
_OLDEST = 20  # of Node
_NODE = f"Node {_OLDEST} or newer, with npm: https://nodejs.org, or apt-get install nodejs npm"
_NEEDS = {"node": _NODE, "npm": _NODE, "curl": "apt-get install curl"}


@cache
def program(name: str) -> str:
    """`node`, `npm` or `curl`. Skips the test where there is none, or no Node that is new enough."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: {_NEEDS[name]}")
    if name == "node":
        version = passed(found, "--version", cwd=TOOLS).strip()
        if int(version.removeprefix("v").partition(".")[0]) < _OLDEST:
            pytest.skip(f"needs {_NODE}; it is {version}")
    return found


def run(
    *command: str | Path, cwd: Path, within_s: float = _WITHIN_S, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "CI": "1", "REDOCLY_TELEMETRY": "off"} | environ,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def passed(*command: str | Path, cwd: Path, within_s: float = _WITHIN_S, **environ: str) -> str:
    """What *command* prints; a failure shows all that it said."""
    done = run(*command, cwd=cwd, within_s=within_s, **environ)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def installed(folder: Path) -> Path:
    """*folder*, once `npm ci` has run there for its package-lock.json."""
    npm = program("npm")
    program("node")
    stamp, lock = folder / "node_modules/.stamp", digest([folder / "package-lock.json"])
    with alone(folder):
        if not stamp.exists() or stamp.read_text() != lock:
            command = (npm, "ci", "--no-audit", "--no-fund", "--loglevel=error")
            done = run(*command, cwd=folder, within_s=_INSTALLED_WITHIN_S)
            if done.returncode != 0:
                pytest.skip(f"needs npm's registry, once: npm ci says {done.stderr[-500:]}")
            stamp.write_text(lock)
    return folder


def tool(name: str) -> Path:
    """The folder of a package of tests/npm."""
    return installed(TOOLS) / "node_modules" / name


def digest(paths: Iterable[Path]) -> str:
    texts = [str(path).encode() + path.read_bytes() for path in paths]
    return sha256(b"\0".join(texts)).hexdigest()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time: several test files want the same folder."""
    with (folder / ".lock").open("w") as lock:
        ending = monotonic() + _INSTALLED_WITHIN_S + _WITHIN_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert monotonic() < ending, f"another process has {lock.name} for too long"
                sleep(0.1)
        yield
