"""`sidecar audit matrix`: each row is the authorizer's own answer, and every change of a right is noticed."""

from __future__ import annotations

import csv
import io
import json
import re
from math import inf

import pytest

from sidecar.audit.answers import Answers
from sidecar.audit.cases import cases_in
from sidecar.audit.coverage import Coverage
from sidecar.audit.forms import csv_text
from sidecar.audit.made import Made
from sidecar.audit.matrix import COLUMNS, matrix_of
from sidecar.audit.matrix_cases import cases_text
from sidecar.audit.matrix_forms import MADE_BY, html_text, markdown_lines, text_lines
from sidecar.audit.runner import CaseRunner
from sidecar.catalog.check import check_plans
from sidecar.catalog.places import Places
from sidecar.decisions.authorizer import Authorizer
from sidecar.engines.installed import embedded_engine
from sidecar.rego.compile import compiled
from sidecar.rego.load import compiled_at, modules_at
from sidecar.settings import shipped
from tests.fakes import FactsInMemory
from tests.values import a_question, some_facts

PLANS = shipped("plans.yaml").read_text()
COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
SMALL = """
version: 1
currency: EUR
default_plan: free
roles:
  member: {}
  owner: {includes: member}
features: {export: {}}
meters: {calls: {kind: counter, per: day}}
plans:
  free: {title: Free, price: 0, limits: {calls: 5}}
  plus:
    extends: free
    price: 5
    features: [export]
    limits: {calls: 50}
actions:
  page.read: {role: member}
  page.pay: {role: owner, while_suspended: true}
  page.export: {role: member, feature: export}
  page.call: {role: member, takes: {calls: 1}}
"""
MADE = Made(by="policy-sidecar 0", command="sidecar audit matrix", at="2026-11-28T09:00:00Z")


def rows_of(policies, *, cases=None, context=None):
    return matrix_of(
        policies,
        Answers(embedded_engine(policies)),
        rule_of=lambda cell, verdict: f"{cell.action}/{verdict.reason}",
        plans_line_of=Places(PLANS.encode()).action,
        cases=cases or {},
        context=context or {},
    )


def changed(plans, *, rule=None, declared=""):
    modules = dict(modules_at(shipped("policies")))
    if rule:
        modules["custom/rule.rego"] = f"package custom\n\n{rule}\n"
    modules["authz/decision.rego"] = modules["authz/decision.rego"].replace(
        "context: []", f"context: [{declared}]"
    )
    catalog = check_plans(plans.encode(), source="plans.yaml").catalog
    assert catalog is not None
    return compiled(catalog, modules)


@pytest.fixture(name="rows", scope="module")
def the_shipped_matrix():
    return rows_of(COMPILED)


def asked(policy, action, **said):
    authorizer = Authorizer(
        catalog=COMPILED.catalog,
        context_fields=frozenset(),
        policy=policy,
        facts=FactsInMemory({("u", "acme"): some_facts(**said)}),
    )
    return authorizer.decide(a_question(action, user="u"), deadline=inf).verdict


def test_each_row_is_the_answer_of_the_authorizer_cell_by_cell(rows):
    policy = embedded_engine(COMPILED)
    assert len(rows) == 144

    for row in rows:
        cell, feature = row.cell, COMPILED.catalog.actions[row.cell.action].feature
        plan = COMPILED.catalog.plans[cell.plan]
        full = {meter: plan.limits[meter] or 0 for meter in row.takes}

        def answer(policy=policy, cell=cell, **said):
            return asked(policy, cell.action, role=cell.role, plan=cell.plan, **said)

        assert row.verdict == answer()
        assert row.suspended == answer(status="suspended")
        assert row.on == (answer(feature_overrides={feature: True}) if feature else None)
        assert row.off == (answer(feature_overrides={feature: False}) if feature else None)
        assert row.when_full == (answer(usage=full) if row.takes else None)


def test_a_plan_without_any_of_a_meter_is_asked_with_a_limit_of_its_own():
    none = changed(
        PLANS.replace("{minutes: 100, members: 1, scenarios: 10}", "{minutes: 0, members: 1, scenarios: 10}")
    )

    (row,) = [
        row
        for row in rows_of(none)
        if (row.cell.action, row.cell.role, row.cell.plan) == ("recording.start", "owner", "starter")
    ]

    assert row.verdict.allow
    assert row.limits == {"minutes": 0}
    assert row.when_full is not None
    assert row.when_full.upgrade == ("pro", "team")


def test_a_row_as_json_has_the_columns_in_order(rows):
    document = rows[0].document

    assert tuple(document) == COLUMNS
    assert document["plans_line"] == 45
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("page.read: {role: member}", "page.read: {role: owner}"),
        ("page.read: {role: member}", "page.read: {role: member, feature: export}"),
        ("features: [export]", "features: []"),
        ("while_suspended: true", "while_suspended: false"),
        ("limits: {calls: 50}", "limits: {calls: 51}"),
        ("takes: {calls: 1}", "takes: {calls: 2}"),
        ("page.export: {role: member, feature: export}", "page.export: {role: owner, feature: export}"),
        ("price: 5", "price: 5\n    sold: false"),
    ],
)
def test_a_change_of_a_right_in_the_catalog_changes_the_markdown(small, before, after):
    assert before in SMALL

    assert table_of(changed(SMALL.replace(before, after))) != small


@pytest.mark.parametrize(
    "rule",
    [
        'denials contains "x" if input.role == "owner"',
        'denials contains "x" if {\n\tinput.plan == "plus"\n\tinput.action == "page.read"\n}',
        'denials contains "x" if {\n\tinput.status == "suspended"\n\tinput.plan == "plus"\n}',
        'denials contains "x" if input.overrides.features.export == true',
    ],
)
def test_a_rule_of_the_company_that_takes_a_right_changes_the_markdown(small, rule):
    assert table_of(changed(SMALL, rule=rule)) != small


def test_what_is_no_right_changes_nothing_but_how_the_markdown_was_made(small):
    commented = SMALL.replace("plans:", "plans: # two\n", 1).replace("title: Free", "title: Gratis")

    assert table_of(changed(commented, rule="# nothing")) == small


def table_of(policies):
    lines = markdown_lines(rows_of(policies), policies.catalog, MADE)
    return [line for line in lines if not line.startswith(MADE_BY)]


@pytest.fixture(name="small", scope="module")
def the_table_of_the_small_catalog():
    return table_of(changed(SMALL))


def test_roles_that_are_no_ladder_are_named():
    other = changed(
        SMALL.replace("{includes: member}", "{}")
        .replace("page.read: {role: m", "page.read: {roles: [owner, m")
        .replace("member}\n  page.pay", "member]}\n  page.pay")
    )

    (line,) = [
        line for line in text_lines(rows_of(other), other.catalog, asserted=False) if "page.read" in line
    ]

    assert re.split(r"  +", line) == ["page.read", "member, owner", "member, owner", "\N{EN DASH}"]


def test_context_is_asked_with_what_is_given():
    other = changed(SMALL, rule='denials contains "no_mfa" if input.context.mfa == false', declared="mfa")
    without, given = rows_of(other), rows_of(other, context={"mfa": False})

    assert [row.verdict.detail for row in given] == [
        "no_mfa" if row.verdict.allow else None for row in without
    ]


def test_html_names_each_answer_and_holds_no_markup_of_a_catalog(rows):
    page = html_text(rows, COMPILED.catalog, MADE, plans_file="<b>.yaml")

    assert page.count("<td class=") == 144
    assert "<b>" not in page
    assert "402 → pro" in page
    assert "no, role_insufficient" in page


def test_a_case_is_written_for_each_cell_without_one_and_all_of_them_pass(rows):
    stated = [row for row in rows if row.cell.action != "platform.use"]
    text = cases_text(stated, COMPILED.catalog)
    found = cases_in(text.encode(), source="matrix.yaml", catalog=COMPILED.catalog)
    runner = CaseRunner(embedded_engine(COMPILED), compiled=COMPILED)

    assert found.problems == ()
    assert [case for case in found.cases if runner.differences(case, deadline=inf)] == []
    missing = Coverage(found.cases, COMPILED).missing
    assert {cell.action for cell in missing} == {"platform.use"}
    assert len(missing) == 9


def test_names_that_yaml_reads_as_something_else_are_quoted_in_cases():
    other = changed(SMALL.replace("page.read:", '"on":'))
    text = cases_text(rows_of(other), other.catalog)

    assert 'question: {action: "on"}' in text
    assert cases_in(text.encode(), source="matrix.yaml", catalog=other.catalog).problems == ()


def test_csv_has_a_row_a_cell(rows):
    text = csv_text(COLUMNS, [list(row.document.values()) for row in rows])
    read = list(csv.DictReader(io.StringIO(text, newline="")))

    assert len(read) == 144
    assert json.loads(read[-1]["limits"]) == {"minutes": 1000}
    assert json.loads(read[-1]["when_full"])["http_status"] == 429
