"""The npm package of this tree: what it needs installed once, compiled once, for all tests that want it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent.parent / "clients/typescript"
BIN = PACKAGE / "node_modules/.bin"
STRICT = (
    *("--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"),
    *("--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", "--jsx", "react-jsx"),
    *("--types", "node", "--lib", "es2022,dom,dom.iterable,esnext.disposable"),
)
_INSTALLS_WITHIN_S = 300  # once for each package-lock.json
_WITHIN_S = 180  # seconds alone, and a machine may be busy
_NODE = "Node 20 or newer, with npm: https://nodejs.org, or apt-get install nodejs npm"
_NEEDS = {"node": _NODE, "npm": _NODE, "curl": "apt-get install curl"}


def program(name: str) -> str:
    """`node`, `npm` or `curl`. Skips where there is none; with --require-servers a skip is a failure."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: {_NEEDS[name]}")
    return found


def run(
    *command: str | Path, cwd: Path = PACKAGE, within_s: float = _WITHIN_S, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "CI": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def passed(*command: str | Path, **more: object) -> str:
    """What *command* prints; a failure shows all that it said."""
    done = run(*command, **more)  # type: ignore[arg-type] # the options of run
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def installed(folder: Path = PACKAGE) -> Path:
    """*folder*, once `npm ci` has run there for its package-lock.json."""
    npm = program("npm")
    program("node")
    stamp, lock = folder / "node_modules/.stamp", _digest([folder / "package-lock.json"])
    with _alone(folder):
        if not stamp.exists() or stamp.read_text() != lock:
            done = run(npm, "ci", "--no-audit", "--no-fund", cwd=folder, within_s=_INSTALLS_WITHIN_S)
            if done.returncode != 0:
                pytest.skip(f"needs npm's registry, once: npm ci says {done.stderr[-500:]}")
            stamp.write_text(lock)
    return folder


def built() -> Path:
    """The folder of the package, compiled."""
    installed()
    stamp = PACKAGE / "node_modules/.built"
    sources = [*PACKAGE.glob("src/**/*.ts*"), PACKAGE / "tsconfig.json", PACKAGE / "build.mjs"]
    digest = _digest(sorted(sources))
    with _alone(PACKAGE):
        if not stamp.exists() or stamp.read_text() != digest or not (PACKAGE / "dist").exists():
            passed(program("node"), "build.mjs")
            stamp.write_text(digest)
    return PACKAGE


def consumer(folder: Path) -> Path:
    """*folder*, as one where the package and all that its tests need is installed."""
    modules = folder / "node_modules"
    modules.mkdir()
    for each in (built() / "node_modules").iterdir():
        if not each.name.startswith("."):
            (modules / each.name).symlink_to(each)
    (modules / "policy-sidecar").symlink_to(PACKAGE)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def copied_into(folder: Path) -> None:
    """The compiled package into *folder*/node_modules, as npm installs it: beside the React that is there."""
    inside = folder / "node_modules/policy-sidecar"
    shutil.rmtree(inside, ignore_errors=True)
    shutil.copytree(built() / "dist", inside / "dist")
    shutil.copy(PACKAGE / "package.json", inside)


def compiled_by(compiler: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`typescript` is 5.9, `typescript-7` the newest, which is quick enough to check every declaration."""
    manifest = json.loads((PACKAGE / "node_modules" / compiler / "package.json").read_text())
    script = PACKAGE / "node_modules" / compiler / manifest["bin"]["tsc"]
    skips = "true" if compiler == "typescript" else "false"
    return run(program("node"), script, *STRICT, "--skipLibCheck", skips, *options, cwd=cwd)


def _digest(paths: list[Path]) -> str:
    texts = [str(path).encode() + path.read_bytes() for path in paths]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: several test files want the same folder."""
    with (folder / ".lock").open("w") as lock:
        ending = monotonic() + _INSTALLS_WITHIN_S + _WITHIN_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert monotonic() < ending, f"another process has {lock.name} for too long"
                sleep(0.1)
        yield
