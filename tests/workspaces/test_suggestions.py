"""What is suggested instead of a name that is not there, and to whom."""

from __future__ import annotations

import json

import pytest

from tests.api.stage import BACKEND

pytestmark = pytest.mark.postgres

BY_BACKEND = {"Authorization": f"Bearer {BACKEND}"}


@pytest.fixture(scope="module")
def slugs(stage):
    """One is deleted: it is suggested to nobody."""
    for slug in ("near-me", "long-0a1b2c3d", "gone"):
        stage.workspace(slug=slug)
    assert stage.delete("gone-owner", "/workspaces/gone").status_code == 204


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("near-mee", "near-me"),
        ("Near-Me", "near-me"),
        ("naer-me", "near-me"),
        ("zzzzzz", None),
        ("long", "long-0a1b2c3d"),
        ("gon", None),  # gone is deleted
        ("00000000-0000-0000-0000-000000000000", None),
    ],
)
def test_only_an_administrator_is_told_which_workspace_they_may_have_meant(stage, slugs, written, meant):
    path = f"/v1/workspaces/{written}/plan"
    answer = stage.admin(path, {"plan": "pro"})

    assert (answer.status_code, answer.json["code"]) == (404, "unknown_workspace")
    [error] = answer.json["errors"]
    assert (error["pointer"], error.get("suggestion")) == ("/path/workspace", meant)
    backend = stage.client.put(path, json={"plan": "pro"}, headers=BY_BACKEND)
    assert backend.status_code == 403
    assert "errors" not in backend.json
    key = {"workspace": written, "idempotency_key": "k"}
    released = stage.client.post("/v1/usage/release", json=key, headers=BY_BACKEND)
    assert released.status_code == 404
    assert "suggestion" not in json.dumps(released.json)


@pytest.mark.parametrize(
    ("change", "body", "pointer", "meant"),
    [
        ("plan", {"plan": "tem"}, "/plan", "team"),
        ("overrides", {"limits": {"minuets": 1}}, "/limits/minuets", "minutes"),
        ("overrides", {"features": {"analitics": True}}, "/features/analitics", "analytics"),
        ("status", {"status": "suspend"}, "/status", "suspended"),
    ],
)
def test_an_administrator_is_told_which_name_they_may_have_meant(stage, slugs, change, body, pointer, meant):
    answer = stage.admin(f"/v1/workspaces/near-me/{change}", body)

    assert answer.status_code == 400
    [error] = answer.json["errors"]
    assert (error["pointer"], error["suggestion"]) == (pointer, meant)


def test_a_meter_that_is_misspelt_comes_with_the_one_that_is_taken(stage, slugs):
    question = {"user": "near-me-owner", "workspace": "near-me", "action": "recording.start"}
    held = question | {"mode": "reserve", "amounts": {"minutes": 2}}
    reserved = stage.client.post("/v1/authorize", json=held, headers=BY_BACKEND).json["reservation"]["id"]

    for path, body in (
        ("/v1/authorize", question | {"amounts": {"minuets": 1}}),
        (f"/v1/reservations/{reserved}/commit", {"amounts": {"minuets": 1}}),
    ):
        answer = stage.client.post(path, json=body, headers=BY_BACKEND)
        assert (answer.status_code, answer.json["code"]) == (400, "meter_not_taken")
        [error] = answer.json["errors"]
        assert (error["pointer"], error["suggestion"]) == ("/amounts/minuets", "minutes")
    level = {"workspace": "near-me", "meter": "scenaros", "resource": "x"}
    released = stage.client.post("/v1/usage/release", json=level, headers=BY_BACKEND)
    assert (released.status_code, released.json["errors"][0]["suggestion"]) == (400, "scenarios")
