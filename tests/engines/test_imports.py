"""What an engine needs is imported with that engine alone, and in an order that loses no memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sidecar.engines.installed import engine_of, engine_version, import_first
from sidecar.engines.opa import OpaEngine
from sidecar.errors import ConfigError

_IMPORTED = """
import json, sys
from sidecar.rego.load import compiled_at
from sidecar.engines.installed import engine_of, import_first
from sidecar.settings import shipped
import_first(sys.argv[1])
import sidecar.serving.assembly, sidecar.serving.master, sidecar.serving.worker
engine_of(
    sys.argv[1], compiled_at(shipped("plans.yaml"), shipped("policies")), opa_url="http://127.0.0.1:1"
)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

# What brings libstdc++ with it, and what else a server loads; an extra may be missing.
_LATE = """
import importlib
for name in ("grpc", "google._upb._message", "opa_client.opa", "psycopg", "jwt", "msgspec", "uvloop"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass
"""
_GROWTH = """
import json
from sidecar.decisions.cells import cells
from sidecar.rego.load import compiled_at
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.settings import shipped
from sidecar.decisions.situation import input_document

compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
engine = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
situation = input_document(list(cells(compiled.catalog))[1000])

def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4

def ask(numbers):
    for number in numbers:
        given = json.dumps({**situation, "context": {"ip": f"10.0.{number}.1", "n": number}}).encode()
        engine.verdict(given, deadline=float("inf"))
        if not number % 10:
            engine.served_revision(deadline=float("inf"))

ask(range(500))
before = resident_kib()
ask(range(1_000, 3_000))
print(resident_kib() - before)
"""
_FEW_KIB = 1_024  # half a KiB a question; the other way round it is 147


def printed_by(script: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_with_opa_nothing_of_the_embedded_engine_is_imported():
    imported = json.loads(printed_by(_IMPORTED, "opa"))

    assert {"opa_client", "regopy"} & set(imported) == {"opa_client"}


def test_with_the_embedded_engine_nothing_of_opa_is_imported():
    imported = json.loads(printed_by(_IMPORTED, "embedded"))

    assert {"opa_client", "aiohttp", "regopy"} & set(imported) == {"regopy"}


def test_nothing_in_cpp_is_loaded_before_the_engine_may_be():
    """By `sidecar serve` and by the server of `sidecar dev`: libstdc++ must find regopy there."""
    script = (
        "import sys; from sidecar.cli import dev, serve; mapped = open('/proc/self/maps').read();"
        " print(any(name in mapped for name in ('libstdc++', 'librego')))"
    )

    assert printed_by(script).strip() == "False"


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_command_that_serves_imports_the_embedded_engine_before_the_server(command, monkeypatch):
    script = f"""
import sys
from sidecar import cli
from sidecar.cli import {command}
from sidecar.engines import installed

class Stop(Exception): ...

def first(engine):
    assert engine == "embedded"
    assert not [name for name in sys.modules if name.startswith("sidecar.serving.assembly")]
    assert not [name for name in sys.modules if name.partition(".")[0] in ("grpc", "opa_client", "uvloop")]
    raise Stop

{command}.import_first = first
sys.argv[1:] = ["secret"] if "{command}" == "dev" else []
try:
    dev.serve() if "{command}" == "dev" else serve.command(args=[], standalone_mode=False)
except Stop:
    print("first")
"""
    monkeypatch.setenv("SIDECAR_ENGINE", "embedded")
    monkeypatch.setenv("SIDECAR_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("SIDECAR_PLANS", "/nowhere/plans.yaml")  # so that it would not serve

    assert printed_by(script).strip() == "first"


def test_questions_leave_no_memory_behind_when_the_engine_is_imported_first():
    script = f'from sidecar.engines.installed import import_first\nimport_first("embedded")\n{_LATE}{_GROWTH}'

    assert int(printed_by(script)) < _FEW_KIB


def test_the_engine_of_a_name_is_that_engine(compiled):
    embedded, opa = (engine_of(name, compiled, opa_url="http://127.0.0.1:1") for name in ("embedded", "opa"))

    assert (embedded.name, embedded.revision) == ("embedded", compiled.revision)
    assert isinstance(opa, OpaEngine)
    assert opa.revision == compiled.revision


def test_an_engine_in_this_process_has_a_version():
    assert engine_version("embedded") == f"embedded {sys.modules['regopy'].__version__}"
    assert engine_version("opa") is None


def test_an_engine_that_is_not_installed_is_a_configuration_error(monkeypatch, compiled):
    monkeypatch.setitem(sys.modules, "sidecar.engines.embedded", None)

    import_first("opa")
    for ask in (import_first, engine_version, lambda name: engine_of(name, compiled, opa_url="")):
        with pytest.raises(ConfigError, match="the embedded engine is not installed: pip install"):
            ask("embedded")
