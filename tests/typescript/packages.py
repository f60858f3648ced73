"""The npm package of this tree: compiled once, for all tests that want it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.node import alone, digest, installed, passed, program, run

if TYPE_CHECKING:
    import subprocess

PACKAGE = Path(__file__).parent.parent.parent / "clients/typescript"
BIN = PACKAGE / "node_modules/.bin"
STRICT = (
    *("--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"),
    *("--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", "--jsx", "react-jsx"),
    *("--types", "node", "--lib", "es2022,dom,dom.iterable,esnext.disposable"),
)


def built() -> Path:
    """The folder of the package, compiled."""
    installed(PACKAGE)
    stamp = PACKAGE / "node_modules/.built"
    sources = [*PACKAGE.glob("src/**/*.ts*"), PACKAGE / "tsconfig.json", PACKAGE / "build.mjs"]
    now = digest(sorted(sources))
    with alone(PACKAGE):
        if not stamp.exists() or stamp.read_text() != now or not (PACKAGE / "dist").exists():
            passed(program("node"), "build.mjs", cwd=PACKAGE)
            stamp.write_text(now)
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
