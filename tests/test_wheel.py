"""`pip install policy-sidecar`: the guard and its client, which need the standard library alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

pytestmark = pytest.mark.slow


def passed(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as a release is, but by what is installed here: without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    passed(sys.executable, "-m", "pip", "wheel", *options, ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` of an environment where that wheel was installed, and what it needs: nothing is to be had."""
    folder = tmp_path_factory.mktemp("backend")
    venv.create(folder, with_pip=False, symlinks=True)
    options = ("--no-index", "--quiet", "--disable-pip-version-check")
    passed(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", *options, wheel)
    return folder / "bin"


def answer_of(program, installed):
    return json.loads(passed(installed / "python", "-I", "-c", dedent(program)))


def test_nothing_else_is_installed_with_it(installed):
    program = """
        import json
        from importlib.metadata import distributions
        print(json.dumps(sorted(each.name for each in distributions())))
    """

    assert answer_of(program, installed) == ["policy-sidecar"]


def test_the_guard_and_its_client_are_there(installed):
    program = """
        import json, sys
        before = set(sys.modules)  # a distribution's Python may have a sitecustomize of its own
        import sidecar.guard
        from sidecar.guard import Client, Unavailable
        from sidecar.guard.testing import FakeSidecar, unguarded

        for url in ("http://127.0.0.1:1", "https://127.0.0.1:1"):
            try:
                Client(url).check("a.b", user="mia", workspace="acme")
            except Unavailable as outage:
                code = outage.code
        fake = FakeSidecar()
        fake.allow("a.b")
        allowed = fake.check("a.b", user="mia", workspace="acme").allowed
        beside = {name.split(".")[0] for name in sys.modules.keys() - before} - set(sys.stdlib_module_names)
        print(json.dumps([code, allowed, sorted(beside)]))
    """

    assert answer_of(program, installed) == ["sidecar_unreachable", True, ["sidecar"]]


def test_what_reads_yaml_says_that_it_needs_the_extra(installed):
    program = """
        import json
        from types import SimpleNamespace
        from sidecar.guard.testing import undeclared

        try:
            undeclared(SimpleNamespace(view_functions={}))
        except ModuleNotFoundError as missing:
            print(json.dumps(str(missing)))
    """

    assert "pip install 'policy-sidecar[test]'" in answer_of(program, installed)


@pytest.mark.parametrize("command", [["sidecar", "serve"], ["python", "-I", "-m", "sidecar", "check"]])
def test_the_command_says_that_it_needs_the_server(installed, command):
    program, *arguments = command
    done = subprocess.run(
        [installed / program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 78
    assert done.stderr == "sidecar: only the guard is installed here: pip install 'policy-sidecar[server]'\n"


def test_its_types_are_told(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert "sidecar/py.typed" in names
    assert "sidecar/shipped/plans.yaml" in names
    assert [name for name in names if name.startswith(("tests/", "clients/")) or "__pycache__" in name] == []


def test_every_other_extra_brings_the_server():
    assert EXTRAS.keys() == {"server", "embedded", "grpc", "stripe", "test"}
    assert [name for name in EXTRAS.keys() - {"server"} if "policy-sidecar[server]" not in EXTRAS[name]] == []
