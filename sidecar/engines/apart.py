"""The embedded engine in a child process, where policies that could crash or hang are tried first.

A policy that regopy cannot handle may abort the process (SIGABRT, from C++), and an evaluation cannot be
interrupted. The child reads one JSON document from its standard input, a file, and writes one line per
answer, at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.engines.verdict import ENTRYPOINT, verdict_from
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.decisions.model import Verdict
    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled

_PACKAGES = Path(__file__).resolve().parent.parent.parent
# The child imports this package from the same place, and nothing from its working directory.
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from sidecar.engines.apart import answer;"
    " answer(sys.stdin, parent=int(sys.argv[2]))"
)
_PR_SET_PDEATHSIG = 1
_TRIED_WITHIN_S = 10.0
_NOTHING = b"{}"
_SOMETHING = json.dumps(
    {
        "subject": {"type": "user", "id": "alice", "properties": {}},
        "resource": {"type": "document", "id": "1", "properties": {}},
        "action": {"name": "read", "properties": {}},
        "context": {},
    }
).encode()


def verdicts_apart(
    compiled: Compiled, situations: Iterable[bytes], *, deadline: float
) -> Iterator[tuple[bytes, Verdict]]:
    """Each situation with its verdict, as EmbeddedEngine.verdicts, without a risk to this process.

    ConfigError if the policies do not build, or crash the process; EngineUnavailable on a timeout.
    """
    situations = list(situations)
    documents = _documents(compiled, [(ENTRYPOINT, situation) for situation in situations], deadline=deadline)
    for situation, document in zip(situations, documents, strict=True):
        if isinstance(document, EngineMisbehaved):
            raise document
        yield situation, verdict_from(document, revision=compiled.revision)


def documents_apart(
    compiled: Compiled, rule: str, situations: Iterable[bytes], *, deadline: float
) -> Iterator[object]:
    """What *rule* is in each situation, in order; EngineMisbehaved, as a value, where it is nothing.

    ConfigError and EngineUnavailable as verdicts_apart.
    """
    return _documents(compiled, [(rule, situation) for situation in situations], deadline=deadline)


def refuse_if_dangerous(policy: AuthzenPolicy, *, within_s: float = _TRIED_WITHIN_S) -> None:
    """ConfigError if *policy* does not build, crashes the embedded engine's process, or times out."""
    asked = [(rule, given) for rule in policy.rules.values() for given in (_NOTHING, _SOMETHING)]
    try:
        for _ in _documents(policy, asked, deadline=monotonic() + within_s):
            """What it answers, and whether at all, is another matter."""
    except EngineUnavailable as error:
        raise ConfigError(
            f"the embedded engine did not answer by it within {within_s:g} s: make it simpler, or take OPA"
        ) from error


def _documents(
    policies: Compiled | AuthzenPolicy, asked: list[tuple[str, bytes]], *, deadline: float
) -> Iterator[object]:
    """The result of each rule for its input, in order; EngineMisbehaved, as a value, where it failed.

    ConfigError and EngineUnavailable are raised after the documents that came before.
    """
    if not asked:
        return
    request = {
        "modules": dict(policies.modules),
        "data": policies.data.decode(),
        "rules": sorted({rule for rule, _ in asked}),
        "asked": [(rule, given.decode()) for rule, given in asked],
    }
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(request).encode())
        given.seek(0)
        in_time = _ran(given.fileno(), said.fileno(), deadline=deadline)
        said.seek(0)
        lines = said.read().splitlines()
    answered = 0
    for line in lines:
        match _parsed(line):
            case {"document": document}:
                answered += 1
                yield document
            case {"misbehaved": str(why)}:
                answered += 1
                yield EngineMisbehaved(why)
            case {"refused": str(why), "problems": list(where)}:
                problems = tuple(Problem(pointer=pointer, detail=detail) for pointer, detail in where)
                raise ConfigError(why, problems=problems)
            case _:
                break  # the line that it was about to write when it ended
    if answered < len(asked) and not in_time:
        raise EngineUnavailable(f"the embedded engine answered {answered} of {len(asked)} questions in time")
    if answered < len(asked):
        raise ConfigError(
            "these policies end the embedded engine's process: what they say is beyond it; change them, or"
            " take OPA"
        )


def _ran(given: int, said: int, *, deadline: float) -> bool:
    """Whether the child ended by itself. Its exit code does not count: gunicorn's master may have read it."""
    command = [sys.executable, "-P", "-c", _CHILD, str(_PACKAGES), str(os.getpid())]
    child = subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=given, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        child.wait(None if deadline == inf else max(deadline - monotonic(), 0))
    except subprocess.TimeoutExpired:
        return False
    finally:
        child.kill()
        child.wait()
    return True


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(line)
    except ValueError:
        return None


def answer(given: Iterable[str], *, parent: int) -> None:
    """What the child does. On Linux it ends with its *parent*, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        return
    from sidecar.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - regopy is an extra, and for the child

    request = json.loads("".join(given))
    try:
        engine = EmbeddedEngine(
            request["modules"], request["data"].encode(), revision="", rules=tuple(request["rules"])
        )
    except ConfigError as error:
        where = [(problem.pointer, problem.detail) for problem in error.problems]
        _write({"refused": error.detail, "problems": where})
        return
    for rule, situation in request["asked"]:
        try:
            _write({"document": engine.document(rule, situation.encode(), deadline=inf)})
        except EngineMisbehaved as error:
            _write({"misbehaved": error.detail})


def _write(line: dict[str, object]) -> None:
    """Flush at once: a buffer is lost when the process aborts."""
    os.write(1, json.dumps(line).encode() + b"\n")
