"""The direction of dependency, as a table: what each room may import of ours. Table and tree are compared."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sidecar"

VALUES = {"errors", "model", "taking", "membership", "reasons", "ids", "timings"}
CORE = VALUES | {
    "ports",
    "situation",
    "quota",
    "messages",
    "routes",
    "authorizer",
    "effects",
    "decider",
    "acting",
    "people",
    "invitations",
    "administration",
}
MAY_IMPORT = {
    "errors": set(),
    "reasons": set(),
    "ids": set(),
    "timings": set(),
    "model": {"catalog", "timings"},
    "taking": {"model"},
    "membership": {"model"},
    "ports": {"model", "taking", "membership"},
    "situation": {"model", "catalog"},
    "quota": {"errors", "model", "taking", "catalog"},
    "messages": {"model", "catalog"},
    "routes": {"errors", "catalog"},
    "authorizer": VALUES | {"ports", "situation", "quota", "messages", "catalog"},
    "effects": VALUES | {"ports", "quota", "authorizer", "catalog"},
    "decider": VALUES | {"authorizer", "effects"},
    "acting": VALUES | {"ports", "quota", "authorizer"},
    "people": VALUES | {"ports", "acting", "authorizer"},
    "invitations": VALUES | {"ports", "acting", "quota"},
    "administration": {"errors", "catalog"},
    "settings": {"errors"},
    "sources": {"errors", "settings", "catalog"},
    "catalog": {"errors"},
    "engines": VALUES | {"ports", "catalog", "children", "sockets"},
    "store": VALUES | {"ports", "administration", "catalog", "settings", "children"},
    "audit": CORE | {"catalog"},
    "web": CORE | {"settings", "catalog", "engines", "store", "audit", "ratelimit"},
    "serving": CORE | {"settings", "catalog", "engines", "store", "audit", "web"},
    "guard": {"sockets", "ratelimit"},
    "children": set(),
    "sockets": set(),
    "ratelimit": set(),
    "cli": CORE
    | {"settings", "sources", "catalog", "engines", "store", "audit", "web", "serving", "children"},
    "__main__": {"cli"},
}
STANDARD_LIBRARY_ONLY = CORE | {"audit", "settings"}
FORBIDDEN_IN_THE_CORE = {"os", "socket", "subprocess", "urllib", "http.client", "logging", "asyncio"}


def room_of(module: str) -> str:
    """`sidecar.catalog.read` is in the room `catalog`; `sidecar.errors` is its own room."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= (
                {f"sidecar.{alias.name}" for alias in node.names}
                if node.module == "sidecar"
                else {node.module or ""}
            )
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_room_is_in_the_table_and_every_entry_is_a_room():
    rooms = {room_of(name_of(path)) for path in modules()} - {"__init__"}

    assert rooms | {"reasons"} == set(MAY_IMPORT) | {"reasons"}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_its_room_may(path):
    room = room_of(name_of(path))
    ours = {room_of(name) for name in imports_of(path) if name.startswith("sidecar.")} - {room, "__init__"}

    assert ours - MAY_IMPORT.get(room, set()) == set()


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(name_of(path)) in STANDARD_LIBRARY_ONLY], ids=name_of
)
def test_the_core_needs_no_third_party(path):
    foreign = {name.split(".")[0] for name in imports_of(path)} - {"sidecar"} - set(sys.stdlib_module_names)

    assert foreign == set()


@pytest.mark.parametrize(
    "path", [path for path in modules() if name_of(path).startswith("sidecar.guard")], ids=name_of
)
def test_a_backend_needs_no_third_party_but_its_own_framework(path):
    frameworks = {"sidecar.guard.flask_guard": {"flask"}, "sidecar.guard.asgi": {"starlette", "anyio"}}
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
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = [*project["dependencies"], *extras["embedded"], *extras["grpc"]]
    reasons = (ROOT / "docs/decisions/0006-choose-each-dependency.md").read_text()

    missing = [name for name in names if name.split(">")[0].split("[")[0] not in reasons]

    assert missing == []


def test_every_decision_has_a_number_of_its_own():
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("*.md")]

    assert sorted(set(numbers)) == sorted(numbers)
