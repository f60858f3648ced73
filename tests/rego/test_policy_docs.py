"""docs/reasons.md and docs/policies.md say what policies, engines and commands do."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import jsonschema
import pytest
import yaml

from sidecar.audit.cases import CASE, cases_in
from sidecar.audit.runner import CaseRunner
from sidecar.catalog.shape import Record
from sidecar.cli.test import command
from sidecar.decisions.cells import cells
from sidecar.decisions.model import Situation
from sidecar.decisions.reasons import REASONS
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.verdict import verdict_from
from sidecar.rego.compile import compiled
from sidecar.rego.lint import INPUT_FIELDS, problems_in
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.test_docs import FENCE, ROOT
from tests.values import FAR_AWAY

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
REASONS_DOC = (ROOT / "docs/reasons.md").read_text()
POLICIES_DOC = (ROOT / "docs/policies.md").read_text()
EXAMPLES = FENCE.findall(POLICIES_DOC)
SITUATION, VERDICT = (text for language, text in EXAMPLES if language == "json")
[CASES] = (text for language, text in EXAMPLES if language == "yaml")
RULE = next(text for language, text in EXAMPLES if language == "rego")
DENIES_EVERYBODY = 'package custom\n\ndenials contains "closed" if input.role\n'


def engine_of(custom: dict[str, str] | None = None) -> EmbeddedEngine:
    """The shipped policies, and what stands in *custom*."""
    result = compiled(COMPILED.catalog, {**COMPILED.modules, **(custom or {})})
    return EmbeddedEngine(result.modules, result.data, revision=result.revision)


def rows_of(document: str, *, columns: int) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in document.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if len(row) == columns]


def test_every_reason_has_its_heading_and_every_heading_is_a_reason_in_their_order():
    assert re.findall(r"^## (.*)$", REASONS_DOC, re.MULTILINE) == list(REASONS)


def test_the_registry_has_every_reason_with_its_statuses_and_whether_waiting_helps():
    _, *rows = rows_of(REASONS_DOC, columns=4)
    registered = {row[0]: row for row in rows}

    assert list(registered) == [f"[`{reason}`](#{reason})" for reason in REASONS]
    for (_, status, who, waiting), (reason, statuses) in zip(rows, REASONS.items(), strict=True):
        assert {int(each) for each in status.split(", ")} == statuses
        assert (waiting == "with 429") == (429 in statuses)
        assert bool(who) == bool(waiting) == (reason != "granted")


def test_policies_name_these_reasons_in_this_order_and_no_other():
    text = "\n".join(COMPILED.modules[path] for path in sorted(COMPILED.modules) if path.startswith("authz/"))
    [precedence] = re.findall(r"^_precedence := \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)

    assert re.findall(r'"(\w+)"', precedence) == list(REASONS)[:-1]
    denials = re.findall(r'^denials contains "(\w+)"', text, re.MULTILINE)
    assert list(dict.fromkeys(denials)) == list(REASONS)[:-1]
    assert re.findall(r'"reason": "(\w+)"', text) == ["granted"]


def test_every_reason_comes_with_each_of_its_statuses_in_some_cell_and_no_other_does():
    engines = [engine_of(), engine_of({"custom/closed.rego": DENIES_EVERYBODY})]
    verdicts = [
        engine.verdict(situation_bytes(cell), deadline=FAR_AWAY)
        for engine in engines
        for cell in cells(COMPILED.catalog)
    ]

    assert {(verdict.reason, verdict.status) for verdict in verdicts} == {
        (reason, status) for reason, statuses in REASONS.items() for status in statuses
    }


def test_the_situation_is_one_and_gets_the_verdict_that_stands_below_it():
    jsonschema.validate(json.loads(SITUATION), json.loads((ROOT / "schemas/input.json").read_text()))
    wanted = verdict_from(json.loads(VERDICT), revision="dev")

    verdict = engine_of().verdict(SITUATION.encode(), deadline=FAR_AWAY)

    assert replace(verdict, revision="dev") == wanted


def test_every_field_of_a_situation_has_its_row():
    table = POLICIES_DOC.partition("## What a policy sees")[2].partition("\n## ")[0]
    named = {field for row in rows_of(table, columns=2)[1:] for field in re.findall(r"`(\w+)`", row[0])}

    assert named == INPUT_FIELDS


def test_the_rule_of_ones_own_does_what_it_says():
    module = {"custom/rules.rego": RULE}
    engine = engine_of(module)

    def deletes(plan: str, role: str = "owner") -> tuple[str, str | None]:
        situation = Situation(action="workspace.delete", role=role, plan=plan, status="active")
        verdict = engine.verdict(situation_bytes(situation), deadline=FAR_AWAY)
        return verdict.reason, verdict.detail

    assert problems_in(module, folder="policies") == []
    assert deletes("team") == ("denied_by_policy", "ask_sales")
    assert deletes("pro") == ("granted", None)
    assert deletes("team", role="admin") == ("role_insufficient", None)


def test_the_embargo_is_switched_on_where_it_says():
    assert "`context: [country]`" in POLICIES_DOC
    assert COMPILED.modules["authz/decision.rego"].count("#   context: []\n") == 1
    assert COMPILED.context_fields == frozenset()


def test_the_decision_cases_are_answered_as_they_want():
    file = cases_in(CASES.encode(), source="docs/policies.md", catalog=COMPILED.catalog)
    runner = CaseRunner(engine_of(), compiled=COMPILED)

    assert file.problems == ()
    assert len(file.cases) == len(yaml.safe_load(CASES)) > 1
    assert [runner.differences(case, deadline=FAR_AWAY) for case in file.cases] == [[]] * len(file.cases)


def test_every_field_of_a_case_has_its_row():
    table = POLICIES_DOC.partition("## Decision cases")[2]
    rows = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows_of(table, columns=2)[1:]}

    assert rows.keys() == CASE.fields.keys()
    for name, field in CASE.fields.items():
        known = set(field.shape.fields) if isinstance(field.shape, Record) else set()
        assert rows[name] - {"features", "limits"} == known, name


@pytest.mark.parametrize(
    "option", [option for each in command.params for option in each.opts if "-" in option]
)
def test_every_option_of_sidecar_test_is_named(option):
    assert f"`{option}" in POLICIES_DOC.partition("## Decision cases")[2]
