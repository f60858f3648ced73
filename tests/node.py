"""npm packages for tests, pinned by tests/npm/package-lock.json and kept in a folder of the user's cache.

`python -m tests.node` installs them; a test whose package is not there skips itself, and with
--require-servers that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "npm"
_OLDEST = 20  # of Node
_INSTALLED_WITHIN_S = 600


def folder() -> Path:
    """Of this very lock file: another one has another folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = sha256((FILES / "package-lock.json").read_bytes()).hexdigest()[:16]
    return cache / "policy-sidecar-npm" / digest


def node() -> str:
    """Skips the test where there is none that is new enough."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node: apt-get install nodejs")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if int(said.removeprefix("v").partition(".")[0]) < _OLDEST:
        pytest.skip(f"needs node {_OLDEST} or newer, and it is {said.strip()}")
    return found


def package(name: str) -> Path:
    """The folder of an npm package. Skips the test where it is not installed."""
    found = folder() / "node_modules" / name
    if not (found / "package.json").exists():
        pytest.skip(f"needs the npm package {name}: python -m tests.node")
    return found


def run(script: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One run of *script* of a package by Node, whatever its exit code."""
    return subprocess.run(
        [node(), script, *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "REDOCLY_TELEMETRY": "off", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def main() -> None:
    """Install what the lock file says, unless it is there."""
    wanted = folder()
    if (wanted / "installed").exists():
        return
    shutil.rmtree(wanted, ignore_errors=True)
    wanted.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FILES / name, wanted)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=wanted, check=True, timeout=_INSTALLED_WITHIN_S)
    (wanted / "installed").touch()


if __name__ == "__main__":
    main()
