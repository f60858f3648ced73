"""One rule about many situations, by a run of `opa eval`: no server, for a command that asks once."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import EngineMisbehaved, NotAsked
from sidecar.rego.bundle import bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.rego.compile import Compiled


def documents_by_opa(
    compiled: Compiled, rule: str, situations: Sequence[bytes], *, opa: Path, deadline: float
) -> list[object]:
    """What *rule* is in each situation, in order; EngineMisbehaved, as a value, where it is nothing.

    The first error ends the list: what is behind it is not asked. NotAsked if OPA does not run in time.
    """
    with tempfile.TemporaryDirectory(prefix="sidecar-eval-") as folder:
        path = Path(folder, "authz.tar.gz")
        path.write_bytes(bundle(compiled))
        return _found(rule, situations, opa=opa, path=path, deadline=deadline)[0]


def _found(
    rule: str, situations: Sequence[bytes], *, opa: Path, path: Path, deadline: float
) -> tuple[list[object], bool]:
    """And whether all were asked. An error ends the query: then the half that has it is asked."""
    try:
        return _asked(rule, situations, opa=opa, path=path, deadline=deadline), True
    except EngineMisbehaved as error:
        if len(situations) == 1:
            return [error], False
    half = len(situations) // 2
    found, all_asked = _found(rule, situations[:half], opa=opa, path=path, deadline=deadline)
    if all_asked:
        rest, all_asked = _found(rule, situations[half:], opa=opa, path=path, deadline=deadline)
        found += rest
    return found, all_asked


def _asked(rule: str, situations: Sequence[bytes], *, opa: Path, path: Path, deadline: float) -> list[object]:
    """EngineMisbehaved if *rule* is in error in one of them."""
    query = (
        f"{{position: found | some position, situation in input; found := {rule} with input as situation}}"
    )
    command = [str(opa), "eval", "--bundle", str(path), "--stdin-input", "--format=json", query]
    try:
        run = subprocess.run(  # noqa: S603 - our own OPA, no shell
            command,
            input=b"[" + b",".join(situations) + b"]",
            capture_output=True,
            check=False,
            timeout=max(deadline - monotonic(), 0.01),
        )
    except OSError as error:
        raise NotAsked(f"{opa} does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NotAsked(f"{opa} eval did not end in time") from error
    try:
        answer = json.loads(run.stdout)
    except ValueError as error:
        said = (run.stderr or run.stdout).decode(errors="replace").strip().splitlines()
        raise NotAsked(f"{opa} eval: {(said or ['it said nothing'])[-1]}") from error
    match answer:
        case {"result": [{"expressions": [{"value": dict(found)}]}]}:
            return [
                found.get(str(position), EngineMisbehaved(f"{rule} is undefined"))
                for position in range(len(situations))
            ]
        case {"errors": [{"message": str(why), "location": {"file": str(file), "row": int(row)}}, *_]}:
            raise EngineMisbehaved(f"{why} ({file.rpartition(':')[2].lstrip('/')}:{row})")
        case {"errors": [{"message": str(why)}, *_]}:
            raise EngineMisbehaved(why)
        case _:
            pass
    raise NotAsked(f"{opa} eval did not answer as it does")
