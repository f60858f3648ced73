"""An engine that was used before a fork serves on both sides of it; each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The parent has evaluated in its main thread and in two that have ended, as a server's master may have.
_SCRIPT = """
import os, signal, sys, threading
from sidecar.decisions.cells import cells
from sidecar.rego.load import compiled_at
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.settings import shipped
from sidecar.decisions.situation import situation_bytes

compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
situations = [situation_bytes(each) for each in cells(compiled.catalog)][::7]

def made():
    return EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)

def answers(engine, into=None):
    found = [repr(verdict) for _, verdict in engine.verdicts(situations, deadline=float("inf"))]
    if into is not None:
        into.append(found)
    return found

def on_threads(engine):
    found = []
    threads = [threading.Thread(target=answers, args=(engine, found)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found

engine = made()
before = engine._loaded()
expected = answers(engine)
on_threads(engine)
ways = {
    "in the main thread": lambda: [answers(engine)],
    "on threads": lambda: on_threads(engine),
    "by an engine made in the child": lambda: [answers(made())],
    "by one made anew": lambda: [] if engine._loaded()[0] is before[0] else [expected],
}
for _ in range(3):
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if (found := ways[sys.argv[1]]()) and all(each == expected for each in found) else 9)
    print(os.waitpid(child, 0)[1])
assert answers(engine) == expected
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "way",
    ["in the main thread", "on threads", "by an engine made in the child", "by one made anew"],
)
def test_a_forked_process_is_answered(way):
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, way], capture_output=True, text=True, timeout=200, check=False
    )

    assert (run.stdout.split(), run.stderr) == (["0"] * 3, "")
