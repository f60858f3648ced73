"""The documents of the API and the code that they are about, compared."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.problems import PROBLEMS
from sidecar.settings import Settings
from sidecar.telemetry.server_counts import ServerCounts
from tests.api.stage import BACKEND, a_stage
from tests.values import some_facts

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
CONFIGURATION, ERRORS, FLAGS, HTTP, METRICS, PEOPLE = (
    (DOCS / f"{name}.md").read_text()
    for name in ("configuration", "errors", "flags", "http", "metrics", "people")
)
GATEWAYS = (DOCS / "gateways/README.md").read_text()


def sections(text):
    return {part.split("\n", 1)[0]: part for part in text.split("\n## ")[1:]}


def test_every_setting_has_a_section_and_every_section_a_setting():
    described = [name for name in sections(CONFIGURATION) if name.startswith("SIDECAR_")]

    assert described == [f"SIDECAR_{field.name.upper()}" for field in fields(Settings)]


def test_the_defaults_are_those_that_are_described():
    for field in fields(Settings):
        text = sections(CONFIGURATION)[f"SIDECAR_{field.name.upper()}"]
        if field.metadata["required"]:
            assert "Required." in text
        elif isinstance(field.default, bool):
            words = {
                "lane": ("on", "off"),
                "console": ("on", "off"),
                "stripe_livemode": ("true", "false"),
            }.get(field.name, ("yes", "no"))
            assert f"Default `{words[0] if field.default else words[1]}`" in text
            assert field.metadata["parse"](words[0]) is True
        elif isinstance(field.default, int) and field.name != "workers":
            assert f"Default {field.default}" in text
        elif isinstance(field.default, str):
            assert f"Default `{field.default}`" in text
        else:
            assert field.default is not MISSING
            assert "Default" in text


def test_every_problem_has_a_section_with_its_status_and_every_section_a_problem():
    described = {
        name: int(re.findall(r"^(\d{3})\. ", part, re.MULTILINE)[0])
        for name, part in sections(ERRORS).items()
    }

    assert described == {code: status.value for code, (status, _) in PROBLEMS.items()}


def test_every_endpoint_is_described():
    for endpoint in ENDPOINTS:
        last = endpoint.path.rpartition("/")[2]
        if endpoint.audience is Audience.END_USERS:
            assert f"| `{endpoint.method} {endpoint.path}`" in PEOPLE, endpoint.path
        elif endpoint.path.startswith("/ofrep/"):
            assert f"`{endpoint.method} {endpoint.path}`" in FLAGS, endpoint.path
        elif endpoint.for_browsers:
            assert f"`{endpoint.method} {endpoint.path}`" in PEOPLE, endpoint.path
        elif endpoint.name.startswith("gateway_"):
            assert f"`{endpoint.path.replace('{target}', '…')}`" in GATEWAYS, endpoint.path
        else:
            assert endpoint.path in HTTP or f"/{last} -d" in HTTP or f"/{last} \\" in HTTP, endpoint.path


def test_every_metric_is_described():
    described = set(re.findall(r"`(sidecar_\w+)`", METRICS))

    of_workers = {metric.name for metric in a_stage().metrics.registry.collect()}
    of_the_server = {metric.name for metric in ServerCounts().registry.collect()}
    assert {name.removesuffix("_total") for name in described} == of_workers | of_the_server


MEMBERS = {
    ("sam", "solo"): some_facts(role="owner", plan="starter", slug="solo"),
    ("mia", "acme"): some_facts(role="member", plan="team"),
}
ASKED = re.findall(r"/v1/authorize(?: \\\n)?\s+-d ('[^']+')\n```\n```json\n(.*?)```", HTTP, re.DOTALL)


def test_there_are_examples_to_compare():
    assert len(ASKED) == 2


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_an_example_is_answered_as_the_document_says(question, answer):
    [body] = shlex.split(question)
    written = json.loads(answer)

    actual = a_stage(MEMBERS).client.post(
        "/v1/authorize", json=json.loads(body), headers={"Authorization": f"Bearer {BACKEND}"}
    )

    own = {"decision_id", "policy_revision"}
    assert list(actual.json) == list(written)
    assert {name: actual.json[name] for name in actual.json if name not in own} == {
        name: written[name] for name in written if name not in own
    }


def test_the_example_of_the_readme_is_answered_as_it_says():
    readme = (ROOT / "README.md").read_text()
    [(body, answer)] = re.findall(
        r"/v1/authorize .*?-d '([^']+)'\n```\n\n```json\n(.*?)```", readme, re.DOTALL
    )
    written = json.loads(answer)

    actual = a_stage(MEMBERS).client.post(
        "/v1/authorize", json=json.loads(body), headers={"Authorization": f"Bearer {BACKEND}"}
    )

    own = {"decision_id", "policy_revision", "facts"}
    assert list(actual.json) == list(written)
    assert {name: actual.json[name] for name in actual.json if name not in own} == {
        name: written[name] for name in written if name not in own
    }
