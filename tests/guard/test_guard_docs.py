"""docs/guard.md says what is true: its code runs, and its list of problems is the one in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import sidecar.guard
from sidecar.guard.problems import PROBLEMS
from sidecar.guard.testing import FakeSidecar

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/guard.md").read_text()


@pytest.fixture
def fake():
    fake = FakeSidecar(role="owner", plan="team", strangers={"zoe"})
    fake.allow("role:member", "role:owner", "role:admin", "analytics.view", "team_analytics.view")
    fake.allow("recording.start", limits={"minutes": 100})
    return fake


@pytest.fixture
def written(fake, monkeypatch):
    """All that the document's code has made, one piece after the other, with the fake for a sidecar."""
    monkeypatch.setattr(sidecar.guard, "Client", lambda *_, **__: fake)
    names: dict[str, object] = {"__name__": "app"}
    for code in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/guard.md", "exec", dont_inherit=True), names)  # noqa: S102 - our own document
    return names


def test_the_flask_application_of_the_document_works(written, fake):
    client, mia = written["app"].test_client(), {"X-User": "mia"}

    assert client.get("/workspaces/acme/analytics", headers=mia).json == {"calls": 42}
    assert client.get("/workspaces/acme/analytics", headers={"X-User": "zoe"}).status_code == 403
    assert client.get("/workspaces/acme/analytics").status_code == 401
    assert client.post("/workspaces/acme/reports", headers=mia).json == {"of": "Acme", "by": "owner"}
    assert client.post("/workspaces/acme/recordings", headers=mia).json == {"minutes": 12}
    taken = client.post("/workspaces/acme/transcripts", headers=mia, json={"minutes": 8})
    assert taken.json == {"left": 80}
    assert taken.headers["RateLimit"] == '"minutes";r=80'
    assert client.post("/workspaces/acme/transcripts", headers=mia, json={}).status_code == 400
    assert fake.used("minutes", workspace="acme") == 20


def test_the_fastapi_application_of_the_document_works(written, fake):
    with TestClient(written["api"], headers={"X-User": "mia"}) as client:
        assert client.post("/workspaces/acme/reports").json() == {"of": "Acme"}
        assert client.post("/workspaces/acme/recordings").json() == {"minutes": 12}
        assert client.post("/workspaces/acme/reports", headers={"X-User": "zoe"}).status_code == 403


def test_the_test_of_the_document_passes(written, monkeypatch):
    monkeypatch.chdir(ROOT)

    written["test_every_view_is_guarded_by_names_that_are_declared"]()


def test_the_problems_of_the_guards_are_those_that_are_described():
    described = {
        code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", TEXT, re.MULTILINE)
    }

    assert described == {code: status.value for status, code, _ in PROBLEMS.values()}


def test_every_method_of_the_client_is_described():
    methods = {name for name in vars(sidecar.guard.Client) if not name.startswith("_")} - {"close"}

    assert methods == {name for name in methods if f"`{name}`" in TEXT}
