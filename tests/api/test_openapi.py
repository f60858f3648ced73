from __future__ import annotations

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.openapi import document
from tests.api.stage import BACKEND, OPS, a_stage
from tests.values import some_facts

OPENAPI = document(ENDPOINTS)
ROOT = Path(__file__).parent.parent.parent


def schema_of(name):
    return {**OPENAPI["components"]["schemas"][name], "components": OPENAPI["components"]}


def check(value, name):
    jsonschema.Draft202012Validator(
        schema_of(name), format_checker=jsonschema.FormatChecker(["uuid"])
    ).validate(value)


def test_every_endpoint_is_described():
    described = {
        (method.upper(), path) for path, operations in OPENAPI["paths"].items() for method in operations
    }

    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


def test_the_license_is_the_one_of_the_project_and_its_text_is_at_the_root():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [text] = [(ROOT / name).read_text() for name in project["license-files"]]

    assert OPENAPI["info"]["license"]["identifier"] == project["license"] == "Apache-2.0"
    assert OPENAPI["info"]["license"]["name"] == "Apache License 2.0"
    assert " ".join(text.split()[:5]) == "Apache License Version 2.0, January"
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_reference_leads_somewhere():
    text = str(OPENAPI)

    names = set(re.findall(r"#/components/schemas/(\w+)", text))

    assert names - set(OPENAPI["components"]["schemas"]) == set()
    assert set(OPENAPI["components"]["schemas"]) - names == set()


def test_every_schema_is_one():
    for schema in OPENAPI["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for endpoint in ENDPOINTS:
        if endpoint.body:
            jsonschema.Draft202012Validator.check_schema(endpoint.body.schema)


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "platform.use"},
        {"action": "recording.start"},
        {"action": "recording.start", "amounts": {"minutes": 5}},
        {"action": "analytics.view"},
        {"action": "billing.manage"},
        {"action": "no.such"},
        {"action": "platform.use", "user": "zoe"},
    ],
)
@pytest.mark.parametrize("usage", [0, 97, 120])
def test_answers_are_as_described(fields, usage):
    stage = a_stage({("sam", "solo"): some_facts(role="member", plan="starter", usage={"minutes": usage})})
    headers = {"Authorization": f"Bearer {BACKEND}"}

    one = stage.client.post(
        "/v1/authorize", json={"user": "sam", "workspace": "solo"} | fields, headers=headers
    )
    two = stage.client.post(
        "/v1/authorize/batch",
        json={"defaults": {"user": "sam", "workspace": "solo"}, "questions": [fields, {}]},
        headers=headers,
    )
    three = stage.client.get("/v1/workspaces/solo/entitlements?user=sam", headers=headers)
    four = stage.client.get("/v1/users/sam/workspaces", headers=headers)
    five = stage.client.put(
        "/v1/workspaces/solo/plan", json={"plan": "pro"}, headers={"Authorization": f"Bearer {OPS}"}
    )

    check(one.json, "Decision")
    check(two.json, "Answers")
    check(three.json, "Entitlements")
    check(four.json, "Workspaces")
    check(five.json, "Changed")
    check(stage.client.get("/healthz").json, "Alive")
    check(stage.client.get("/nowhere").json, "Problem")
