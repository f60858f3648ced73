"""docs/authzen.md says what is true: its examples are answered so, its policy is one, its codes are all."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sidecar.cli.dev import SCENARIOS
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.rego.authzen import authzen_policy_at, findings_at
from tests.api.authzen_server import SCENARIOS as FOLDER
from tests.api.stage import BACKEND, a_stage
from tests.values import FAR_AWAY, some_facts

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs/authzen.md").read_text()
ASKED = re.findall(r"^access ([a-z/]+) -d ('[^']+')\n```\n```json\n(.*?)```", DOCS, re.MULTILINE | re.DOTALL)
MEMBERS = {
    ("sam", "solo"): some_facts(role="owner", plan="starter", slug="solo"),
    ("adam", "acme"): some_facts(role="admin"),
    ("olivia", "acme"): some_facts(role="owner"),
}


def test_there_are_examples_to_compare():
    assert [path for path, _, _ in ASKED] == ["evaluation", "search/subject"]


@pytest.mark.parametrize(("path", "question", "answer"), ASKED)
def test_an_example_is_answered_as_the_document_says(path, question, answer):
    written = json.loads(answer)
    [body] = shlex.split(question)

    came = (
        a_stage(MEMBERS)
        .client.post(
            f"/access/v1/{path}", json=json.loads(body), headers={"Authorization": f"Bearer {BACKEND}"}
        )
        .json
    )

    for document in (came, written):
        document.get("context", {}).update(decision_id="…", policy_revision="…")
    assert came == written
    assert [*came, *came.get("context", {})] == [*written, *written.get("context", {})]


def test_the_policy_in_it_is_one(tmp_path):
    [rego] = re.findall(r"```rego\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "policy.rego").write_text(rego)
    (tmp_path / "owners.json").write_text('{"owners": {"1": "ann", "2": "ben"}}')
    policy = authzen_policy_at(tmp_path)
    engine = EmbeddedEngine(policy.modules, policy.data, revision="x", rules=(*policy.rules.values(),))

    def answer(rule, **given):
        document = engine.document(policy.rules[rule], json.dumps(given).encode(), deadline=FAR_AWAY)
        assert isinstance(document, dict)
        return document["answer"]

    asked = {"subject": {"id": "ann"}, "action": {"name": "read"}}
    assert answer("decision", **asked, resource={"id": "1"}) is True
    assert answer("decision", **asked, resource={"id": "2"}) is False
    assert answer("resources") == [{"type": "record", "id": "1"}, {"type": "record", "id": "2"}]


def test_every_code_of_the_check_is_there():
    source = (ROOT / "sidecar/rego/authzen.py").read_text()
    codes = set(re.findall(r'"(no_\w+|data_\w+)"', source))

    assert set(re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE)) == codes


def test_every_scenario_is_named_and_has_a_policy():
    assert all(f"`{name}`" in DOCS or f"-scenario {name}" in DOCS for name in SCENARIOS)
    assert [findings_at(FOLDER / name) for name in SCENARIOS] == [[]] * len(SCENARIOS)
