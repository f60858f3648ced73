"""The order of the rooms: what each of them may import of ours, and who may import a third party."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sidecar"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BANNED = PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]

# A room imports only what stands before it; of its own tier only what WITHIN_A_TIER names.
TIERS = (
    {"errors", "processors", "settings", "text"},
    {"catalog"},
    {"rego", "decisions"},
    {"quota"},
    {"workspaces"},
    {"audit", "engines", "store", "identity", "telemetry", "local"},
    {"api"},
    {"reports"},
    {"console"},
    {"serving"},
    {"cli"},
    {"__main__"},
)
WITHIN_A_TIER = {"settings": {"errors", "processors", "text"}, "text": {"errors"}, "local": {"engines"}}
MODULES_WITHIN_A_TIER = {"telemetry": {"sidecar.audit.chain"}}  # which alone of another room
ALONE = "guard"  # is copied into a backend: it imports nothing of ours, and nothing of ours imports it
CORE = {"decisions", "quota", "workspaces"}
STANDARD_LIBRARY_ONLY = CORE | {"audit", "settings", "errors"}
FORBIDDEN_IN_THE_CORE = {"os", "socket", "subprocess", "urllib", "http.client", "logging", "asyncio"}


def room_of(module: str) -> str:
    """`sidecar.catalog.read` is in the room `catalog`; `sidecar.errors` is its own room."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def imports_of(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in NAMES else node.module or "")
    return frozenset(found)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in modules()}


def rooms_before(room: str) -> set[str]:
    tier = next(number for number, rooms in enumerate(TIERS) if room in rooms)
    return set[str]().union(*TIERS[:tier]) | WITHIN_A_TIER.get(room, set())


def test_every_room_stands_in_one_tier_and_every_tier_has_rooms_that_are_there():
    rooms = [room_of(name_of(path)) for path in modules()]

    assert sorted([*(room for tier in TIERS for room in tier), ALONE]) == sorted(set(rooms) - {"__init__"})


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_stands_before_its_room(path):
    room = room_of(name_of(path))
    named = imports_of(path) - MODULES_WITHIN_A_TIER.get(room, set())
    ours = {room_of(name) for name in named if name.startswith("sidecar.")} - {room, "__init__"}

    assert ours - (set() if room in {ALONE, "__init__"} else rooms_before(room)) == set()


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_a_room_says_what_it_is_for_and_what_it_must_not_know(path):
    says = ast.get_docstring(ast.parse(path.read_text())) or ""

    assert says.count(". ") + says.count(".\n") >= 1, f"{path} needs two sentences"


def test_no_modules_import_each_other_in_a_circle():
    imports = {name_of(path): imports_of(path) & NAMES for path in modules()}

    TopologicalSorter(imports).prepare()  # CycleError, which names the circle


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(name_of(path)) in STANDARD_LIBRARY_ONLY], ids=name_of
)
def test_the_core_needs_no_third_party(path):
    foreign = {name.split(".")[0] for name in imports_of(path)} - {"sidecar"} - set(sys.stdlib_module_names)

    assert foreign == set()


def test_the_core_loads_no_third_party_through_others():
    core = [name_of(path) for path in modules() if room_of(name_of(path)) in CORE]
    program = f"import sys; sys.path.append({str(ROOT)!r}); import {', '.join(core)}"

    # -I ignores PYTHONPATH, -S leaves out site-packages.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], check=False, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("third_party", [name for name, ban in BANNED.items() if "sidecar/" in ban["msg"]])
def test_the_message_of_a_ban_names_all_who_may_and_nobody_else(third_party):
    named = re.findall(r"sidecar/(?:\w+/)*(?:\w+\.py)?", BANNED[third_party]["msg"])
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(name.split(".")[0] == third_party for name in imports_of(path))
    }

    assert {path for path in importers if not path.startswith(tuple(named))} == set()
    for owner in named:
        assert any(path.startswith(owner) for path in importers) or third_party in (ROOT / owner).read_text()


@pytest.mark.parametrize(
    "path", [path for path in modules() if name_of(path).startswith("sidecar.guard")], ids=name_of
)
def test_a_backend_needs_no_third_party_but_its_own_framework(path):
    frameworks = {
        "sidecar.guard.flask_guard": {"flask"},
        "sidecar.guard.asgi": {"starlette", "anyio"},
        "sidecar.guard.declared": {"yaml"},  # in a backend's tests
    }
    foreign = {name.split(".")[0] for name in imports_of(path)} - {"sidecar"} - set(sys.stdlib_module_names)

    assert foreign == frameworks.get(name_of(path), set())


@pytest.mark.parametrize("path", [path for path in modules() if room_of(name_of(path)) in CORE], ids=name_of)
def test_the_core_does_no_input_or_output(path):
    assert imports_of(path) & FORBIDDEN_IN_THE_CORE == set()


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(name_of(path)) in CORE | {"store"}], ids=name_of
)
def test_where_in_a_request_something_is_wrong_is_known_to_the_edge_alone(path):
    """The core and the stores name a field: a Problem of theirs is about the configuration."""
    tree = ast.parse(path.read_text())
    names = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    assert "Problem" not in names or "ConfigError" in names


def test_every_dependency_has_its_reason_written_down():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    names = {name for extra in extras.keys() - {"test"} for name in extras[extra]} - {
        "policy-sidecar[server]"
    }
    reasons = (ROOT / "docs/decisions/0006-choose-each-dependency.md").read_text()

    missing = [name for name in names if name.split(">")[0].split("[")[0] not in reasons]

    assert project["dependencies"] == []
    assert missing == []


def test_every_decision_has_a_number_of_its_own():
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("*.md")]

    assert sorted(set(numbers)) == sorted(numbers)
