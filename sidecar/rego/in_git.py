"""A catalog and policies as they are in a commit: read from git's objects, nothing is checked out."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from sidecar.errors import ConfigError, NotAsked

_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """*modules* maps paths inside `policies` to Rego, without tests; empty where the commit has none."""

    plans: bytes
    modules: dict[str, str]
    at: datetime


def committed(ref: str, /) -> Committed:
    """./plans.yaml and ./policies of *ref*, as seen from this folder.

    ConfigError if there is no such commit, or no catalog in it; NotAsked where git does not run.
    """
    commit = (
        _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").decode().strip()
    )
    if not commit:
        raise ConfigError(f"git:{ref}: there is no such commit in this folder's repository")
    listed = _git("ls-tree", "-r", "-z", "--name-only", commit, "--", "plans.yaml", "policies").decode()
    names = [name for name in listed.split("\0") if name]
    if "plans.yaml" not in names:
        raise ConfigError(f"git:{ref}: it has no plans.yaml in this folder")
    modules = {}
    for name in names:
        if name.endswith(".rego") and not name.endswith("_test.rego"):
            path = PurePosixPath(name).relative_to("policies").as_posix()
            try:
                modules[path] = _git("cat-file", "blob", f"{commit}:./{name}").decode()
            except UnicodeDecodeError as error:
                raise ConfigError(f"git:{ref}: {name} is not UTF-8") from error
    return Committed(
        plans=_git("cat-file", "blob", f"{commit}:./plans.yaml"),
        modules=modules,
        at=datetime.fromtimestamp(int(_git("show", "-s", "--format=%ct", commit)), tz=UTC),
    )


def _git(*words: str) -> bytes:
    """What git prints; nothing for a name that it does not know."""
    binary = shutil.which("git")
    if binary is None:
        raise NotAsked("git:REF needs git, which is not on the PATH")
    try:
        run = subprocess.run(  # noqa: S603 - no shell; a ref cannot be an option
            [binary, *words], capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAsked(f"git {words[0]} did not end: {error}") from error
    if run.returncode and not (words[0] == "rev-parse" and not run.stderr):
        said = run.stderr.decode(errors="replace").strip()
        raise ConfigError(f"git {words[0]}: {said or f'exit code {run.returncode}'}")
    return run.stdout
