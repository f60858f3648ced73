"""Importing the guard costs a backend nothing that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sidecar.guard

SERVERS = {"flask", "werkzeug", "msgspec", "psycopg", "yaml", "requests", "urllib3", "opa_client", "gunicorn"}
SERVERS |= {"prometheus_client", "click", "regopy", "starlette", "fastapi", "anyio", "http.server", "asyncio"}


def loaded_by(statement):
    """The modules that are there after *statement*, in a process of its own."""
    program = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


def _is_of_the_guard(name):
    return name == "sidecar.guard" or name.startswith("sidecar.guard.")


@pytest.mark.parametrize(
    "statement", ["import sidecar.guard", "from sidecar.guard import Client", "import sidecar.guard.testing"]
)
def test_the_client_needs_the_standard_library_alone(statement):
    loaded = loaded_by(f"{statement}\nsidecar = None")

    assert loaded.isdisjoint(SERVERS)
    assert [name for name in loaded if name.startswith("sidecar.") and not _is_of_the_guard(name)] == []


def test_the_first_guard_brings_flask_and_nothing_of_the_servers():
    loaded = loaded_by("from sidecar.guard import require_role")

    assert "flask" in loaded
    assert loaded.isdisjoint(SERVERS - {"flask", "werkzeug", "click", "asyncio", "http.server"})


def test_a_guard_for_starlette_needs_no_flask():
    loaded = loaded_by("import sidecar.guard.asgi")

    assert "starlette" in loaded
    assert loaded.isdisjoint({"flask", "werkzeug", "fastapi", "msgspec", "psycopg"})


def test_every_name_that_is_promised_is_there():
    assert all(getattr(sidecar.guard, name) is not None for name in sidecar.guard.__all__)


def test_a_name_that_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Gaurd'"):
        _ = sidecar.guard.Gaurd
