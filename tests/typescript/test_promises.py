"""What the npm package promises, in every runtime and with every version of React that it is for."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any, cast

import pytest

from sidecar.cli.dev import JWT_SECRET, TOKEN
from tests.guard.test_client import ALWAYS_THERE, LIES
from tests.guard.values import a_grant
from tests.identity.provider import a_token
from tests.node import installed, passed, program, run
from tests.typescript.packages import built, copied_into

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def environ(sidecar, tmp_path) -> Mapping[str, str]:
    grant, wrong = a_grant(), cast("list[dict[str, Any]]", LIES)
    # JSON of JavaScript's has one kind of number: 200.0 is 200.
    lies = [grant | lie for lie in wrong if lie != {"status": 200.0}]
    lies += [{name: value for name, value in grant.items() if name != missing} for missing in ALWAYS_THERE]
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"grant": grant, "lies": lies}))
    return {
        "SIDECAR_URL": f"http://127.0.0.1:{sidecar.port}",
        "SIDECAR_TOKEN": TOKEN,
        "ANSWERS": str(answers),
        "OLIVIA": a_token(JWT_SECRET, sub="olivia", email="olivia@example.com"),
    }


@pytest.mark.parametrize("runtime", ["node", "deno", "bun"])
def test_the_client_keeps_its_promises(runtime, environ):
    folder = built()
    binaries = installed(folder / "test/runtimes") / "node_modules/.bin"
    commands: dict[str, list[str | Path]] = {
        "node": [program("node"), "--test"],
        "deno": [binaries / "deno", "test", "--allow-all", "--no-check"],
        "bun": [binaries / "bun", "test"],
    }
    promises = (folder / "test/client.test.mjs").read_text().count("\ntest(")
    said = run(*commands[runtime], "./test/client.test.mjs", cwd=folder, **environ)

    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
    # Node's "# pass 29", Deno's "ok | 29 passed", Bun's " 29 pass": a runtime that finds no test passes too.
    assert re.search(rf"# pass {promises}\b|\b{promises} pass(ed)?\b", said.stdout + said.stderr), said.stdout


def test_guards_keep_their_promises_in_hono_and_express():
    passed(program("node"), "--test", "test/guards.test.mjs", cwd=built())


def test_the_components_keep_their_promises_in_react_19(environ):
    passed(
        program("node"), "--test", "test/react.test.mjs", "test/react-server.test.mjs", cwd=built(), **environ
    )


def test_the_components_keep_their_promises_in_react_18(environ):
    """In a folder of its own, since a package finds the React that is installed beside it."""
    package = built()
    folder = installed(package / "test/react-18")
    copied_into(folder)
    for name in ("dom.mjs", "react.test.mjs", "react-server.test.mjs"):
        shutil.copy(package / "test" / name, folder / "node_modules" / name)
    tests = [f"node_modules/{name}" for name in ("react.test.mjs", "react-server.test.mjs")]
    version = passed(program("node"), "-p", "require('react').version", cwd=folder)

    assert version.startswith("18.")
    passed(program("node"), "--test", *tests, cwd=folder, **environ)
