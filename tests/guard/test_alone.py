"""The guard works without the rest of the sidecar: a backend may copy the folder `guard` and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import sidecar.guard

GUARD = Path(sidecar.guard.__file__).parent
WITH_A_FRAMEWORK = {"asgi", "flask_guard", "declared"}  # tests/test_architecture.py says what they import


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backend")
    shutil.copytree(GUARD, folder / "sidecar" / "guard", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def answer_of(program, folder):
    """What *program* prints as JSON; it can import from *folder* and the standard library alone."""
    start = f"import json, sys; sys.path.append({str(folder)!r})\n"
    done = subprocess.run(
        # -I ignores PYTHONPATH and the working directory, -S leaves out site-packages.
        [sys.executable, "-I", "-S", "-c", start + dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_nothing_else_can_be_imported_there(folder):
    """Otherwise the other tests of this file would prove nothing."""
    names = ["sidecar.errors", "sidecar.decisions", "sidecar.settings", "flask", "msgspec", "requests"]
    program = f"""
        from importlib.util import find_spec
        print(json.dumps([name for name in {names} if find_spec(name)]))
    """

    assert answer_of(program, folder) == []


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in GUARD.glob("*.py")} - WITH_A_FRAMEWORK - {"__init__"})
)
def test_each_module_imports_by_itself(name, folder):
    program = f"""
        import sidecar.guard.{name} as module
        print(json.dumps(module.__file__))
    """

    assert answer_of(program, folder) == str(folder / "sidecar/guard" / f"{name}.py")


def test_the_client_asks_and_an_outage_is_no_answer(folder):
    program = """
        import socket
        from sidecar.guard import Client, Unavailable

        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            client = Client(f"http://127.0.0.1:{nobody.getsockname()[1]}")
            try:
                client.check("recording.start", user="mia", workspace="acme")
            except Unavailable as error:
                print(json.dumps(error.code))
    """

    assert answer_of(program, folder) == "sidecar_unreachable"


def test_the_fake_for_a_backends_tests_decides_and_holds(folder):
    program = """
        from sidecar.guard.limits import limit_fields
        from sidecar.guard.testing import FakeSidecar

        where = {"user": "mia", "workspace": "acme"}
        fake = FakeSidecar()
        fake.allow("recording.start", limits={"minutes": 100})
        with fake.reserve("recording.start", minutes=30, **where) as hold:
            hold.commit(minutes=12)
        decision = fake.check("recording.start", **where)
        print(json.dumps([decision.allowed, dict(limit_fields([decision]))["RateLimit-Policy"]]))
    """

    assert answer_of(program, folder) == [True, '"minutes";q=100']
