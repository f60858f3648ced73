"""`sidecar check` of policies: nothing about legal ones, and each mistake by its code, by both engines."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from sidecar.audit import effects
from sidecar.audit.denials import steps_of
from sidecar.audit.effects import Effects
from sidecar.cli.checking import policies_checked
from sidecar.decisions.cells import cells
from sidecar.decisions.model import Room, Situation
from sidecar.rego.compile import data_file
from sidecar.rego.load import catalog_at
from tests import servers
from tests.catalog.files import ROOT

LEGAL = Path(__file__).parent.parent / "rego" / "legal"
SPOKEN_OF = (
    *("analytics.", "billing.", "members.", "platform.", "recording.", "roleplay.", "workspace."),
    "feature:analytics",
)
PLANS = """version: 1
currency: EUR
default_plan: free
roles: {member: , owner: {includes: member}}
features: {export: }
meters: {minutes: {kind: counter, per: month}}
plans:
  free: {price: 0, limits: {minutes: 10}}
  pro: {price: 9, features: [export], limits: {minutes: 50}}
actions:
  documents.read: {role: member}
  documents.export: {role: member, feature: export}
  documents.record: {role: member, takes: {minutes: 1}}
  documents.delete: {role: owner}
"""
DECLARES = "# METADATA\n# scope: package\n# custom:\n#   context: [mfa, age]\n"
HEAD = "package custom\n\n"
DELETES = 'input.action == "documents.delete"'
NO_VERDICT = {
    "a number": f"denials contains 1 if {DELETES}",
    "a number beside a text": f'denials contains 1 if {DELETES}\n\ndenials contains "x" if {DELETES}',
    "an empty text": f'denials contains "" if {DELETES}',
    "an object": f'denials contains {{"code": "x"}} if {DELETES}',
    "an array": f'denials contains ["x"] if {DELETES}',
    "null": f"denials contains null if {DELETES}",
    "a number from a table": 'denials contains _codes[input.plan] if true\n\n_codes := {"free": 1, "pro": 2}',
    "two values at once": (
        f'_code := "a" if {DELETES}\n\n_code := "b" if input.role == "owner"\n\n'
        "denials contains _code if true"
    ),
    "no set": 'denials := {"x": true} if input.action == "documents.delete"',
}
NEVER_DENIES = {
    "a contradiction": 'denials contains "x" if {\n\tinput.plan == "free"\n\tinput.plan == "pro"\n}',
    "a number that none has": 'denials contains "x" if data.authz.plans.plans[input.plan].price > 100',
    "a feature of another action": (
        f'denials contains "x" if {{\n\t{DELETES}\n\tinput.overrides.features.export == true\n}}'
    ),
    "a text and a number": 'denials contains "x" if data.authz.plans.plans[input.plan].price == "9"',
    "a rule beside one of the same code": (
        f'denials contains "x" if {DELETES}\n\n'
        f'denials contains "x" if {{\n\t{DELETES}\n\tis_array(input.room)\n}}'
    ),
    "a code in a variable": 'denials contains code if {\n\tcode := "x"\n\tis_number(input.plan)\n}',
    "a helper that never holds": 'denials contains "x" if {\n\t_odd\n}\n\n_odd if input.role == 1',
    "a condition with every": (
        'denials contains "x" if {\n\tinput.plan == "pro"\n'
        '\tevery plan in ["free", "pro"] { plan == input.plan }\n}'
    ),
}
ABSENT = {
    "compared": 'denials contains "x" if input.context.mfa == false',
    "in a helper": 'denials contains "x" if _weak\n\n_weak if input.context.mfa != true',
    "in a function": 'denials contains "x" if _young(input.context.age)\n\n_young(age) if age < 18',
    "of any type": 'denials contains "x" if not _known\n\n_known if input.context.mfa',
    "not false": 'denials contains "x" if not _known\n\n_known if input.context.mfa != false',
}
PRESENT = {
    "true alone": 'denials contains "x" if not _strong\n\n_strong if input.context.mfa == true',
    "a number alone": (
        'denials contains "x" if not _adult\n\n'
        "_adult if {\n\tis_number(input.context.age)\n\tinput.context.age >= 18\n}"
    ),
}


@pytest.fixture(name="engine", params=[pytest.param("opa", marks=pytest.mark.opa), "embedded"])
def the_engine_that_is_there(request, monkeypatch):
    if request.param == "opa":
        servers.opa_binary()
    else:
        for module in ("sidecar.cli.checking", "sidecar.engines.building"):
            monkeypatch.setattr(f"{module}.opa_binary", lambda: None)
    return request.param


@pytest.fixture(name="folder")
def a_folder_of_policies(tmp_path):
    (tmp_path / "plans.yaml").write_text(PLANS)
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    catalog = catalog_at(tmp_path / "plans.yaml")
    (tmp_path / "policies/authz/plans/data.json").write_bytes(data_file(catalog))
    return tmp_path / "policies"


def found_in(folder, *, plans=None, quick=False):
    """All but that types were not checked."""
    plans = plans or folder.parent / "plans.yaml"
    found = policies_checked(folder, catalog_at(plans), plans=plans, quick=quick)
    assert all(each.severity == "error" for each in found.problems)
    return [each for each in (*found.problems, *found.warnings) if each.code != "not_checked"]


def is_asked(cell):
    """Of an action that the legal policies speak of."""
    return cell.action is not None and cell.action.startswith(SPOKEN_OF)


def codes_with(folder, text, *, head=HEAD):
    (folder / "custom/x.rego").write_text(f"{head}{text}\n")
    return [each.code for each in found_in(folder)]


def test_legal_policies_have_no_findings(engine, tmp_path, monkeypatch):
    if engine == "embedded":  # much slower: it is asked of what they speak of
        monkeypatch.setattr(effects, "cells", lambda catalog: filter(is_asked, cells(catalog)))
    folder = shutil.copytree(ROOT / "policies", tmp_path / "policies")
    shutil.copytree(LEGAL, folder / "custom", dirs_exist_ok=True)

    assert list(map(str, found_in(folder, plans=ROOT / "plans.yaml"))) == []


def test_the_shipped_policies_have_none_and_it_does_not_take_long(engine):
    begun = sum(os.times()[:4])  # of the engine's processes too

    assert found_in(ROOT / "policies", plans=ROOT / "plans.yaml") == []
    assert sum(os.times()[:4]) - begun < (1.5 if engine == "opa" else 3)


@pytest.mark.parametrize("rule", NO_VERDICT.values(), ids=NO_VERDICT)
def test_a_rule_that_leaves_a_cell_without_a_verdict_is_found(folder, rule):
    if rule.startswith("denials :="):
        (folder / "custom/embargo.rego").unlink()

    assert codes_with(folder, rule) == ["no_verdict"]


def test_rules_that_never_deny_are_found_and_those_that_do_are_not(engine, folder):
    for number, rule in enumerate(NEVER_DENIES.values()):
        (folder / f"custom/x{number}.rego").write_text(HEAD + rule.replace("_odd", f"_odd{number}") + "\n")
    found = found_in(folder)

    assert {each.code for each in found} == {"never_denies"}
    assert [each.source for each in found] == [
        f"{folder}/custom/x{number}.rego" for number in range(len(NEVER_DENIES))
    ]


def test_denials_that_a_missing_context_switches_off_are_warned_of(engine, folder):
    (folder / "custom/about.rego").write_text(f"{DECLARES}package custom\n")
    for number, rule in enumerate([*ABSENT.values(), *PRESENT.values()]):
        (folder / f"custom/x{number}.rego").write_text(
            HEAD + re.sub(r"(_weak|_young|_known|_strong|_adult)", rf"\1_{number}", rule) + "\n"
        )
    found = found_in(folder)

    assert {(each.code, each.severity) for each in found} == {("absent_context", "warning")}
    assert [each.source for each in found] == [
        f"{folder}/custom/x{number}.rego" for number in range(len(ABSENT))
    ]


def test_a_set_or_a_list_of_denials_denies_too(folder):
    (folder / "custom/embargo.rego").unlink()
    rule = 'denials := ["x", "y"] if input.action == "documents.delete" else := {"z"} if input.plan == 1'
    (folder / "custom/x.rego").write_text(f"{HEAD}{rule}\n")

    assert [(each.code, each.message.split()[0]) for each in found_in(folder)] == [("never_denies", '"z"')]


def test_the_smallest_situation_without_a_verdict_is_told(folder):
    (folder / "custom/x.rego").write_text(f"{HEAD}denials contains 1 if input.role\n")
    [finding] = found_in(folder)

    assert (finding.source, finding.line) == (f"{folder}/custom/x.rego", 3)
    assert finding.message == (
        "the code of a denial is 1, not a text: no verdict about"
        ' {"action":"documents.read","overrides":{"features":{}},"plan":"free","role":"member","room":null,'
        '"status":"active"}'
    )


def test_a_verdict_that_nobody_can_tell_the_file_of_is_said_of_the_folder(folder):
    for path in (folder / "authz").glob("*.rego"):
        path.unlink()
    no_verdict, changed = found_in(folder)

    assert (no_verdict.code, no_verdict.source, no_verdict.line) == ("no_verdict", str(folder), 1)
    assert changed.code == "authz_changed"


def test_a_changed_rule_of_ours_is_warned_of_with_the_cells_that_it_changes(folder):
    (folder / "authz/zz.rego").write_text('package authz\n\n_role_suffices if input.role == "member"\n')
    [finding] = found_in(folder)

    assert (finding.code, finding.severity, finding.source) == ("authz_changed", "warning", f"{folder}/authz")
    assert finding.message.startswith("not as shipped: authz/zz.rego; that changes ")
    assert int(finding.message.split(" changes ")[1].split()[0]) > 0


def test_one_that_only_reads_otherwise_changes_no_cell(folder):
    rule = folder / "authz/upgrade.rego"
    rule.write_text(f"{rule.read_text()}\n# a comment\n")
    [finding] = found_in(folder)

    assert finding.message.startswith("not as shipped: authz/upgrade.rego; that changes 0 of ")


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        ("custom/data.json", '{"embargoed": ["XA"]}', "data_not_loaded"),
        ("custom/lib/data.yaml", "a: 1", "data_not_loaded"),
        ("authz/more.yml", "a: 1", "data_not_loaded"),
        ("data.json", "{}", "data_not_loaded"),
        ("authz/plans/data.json", "{}", "stale_data"),
        ("authz/plans/data.json", "{", "stale_data"),
        ("custom/README.md", "words", None),
    ],
)
def test_what_opas_commands_would_read_otherwise_is_found(folder, path, text, code):
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(text)

    assert [(each.code, each.source, each.line) for each in found_in(folder, quick=True)] == (
        [(code, f"{folder}/{path}", 1)] if code else []
    )


def test_data_that_is_not_what_the_catalog_compiles_to_is_stale(folder):
    plans = folder.parent / "plans.yaml"
    plans.write_text(PLANS.replace("documents.delete: {role: owner}", "documents.delete: {role: member}"))

    assert [each.code for each in found_in(folder, quick=True)] == ["stale_data"]
    (folder / "authz/plans/data.json").unlink()
    assert found_in(folder, quick=True) == []


def test_the_shipped_folder_is_not_stale_for_another_catalog(folder):
    assert found_in(ROOT / "policies", plans=folder.parent / "plans.yaml", quick=True) == []


def test_without_the_cells_nothing_is_evaluated_and_that_is_said(folder, monkeypatch):
    def never(*_args, **_more):
        raise AssertionError("the cells were asked")

    monkeypatch.setattr(Effects, "of_denials", never)
    plans = folder.parent / "plans.yaml"
    found = policies_checked(folder, catalog_at(plans), plans=plans, quick=True)

    assert [(each.code, each.message) for each in found.warnings][-1] == (
        "not_checked",
        "--quick: the policies were not asked about the cells",
    )


def test_without_opa_it_is_said_that_types_were_not_checked(folder, monkeypatch):
    monkeypatch.setattr("sidecar.cli.checking.opa_binary", lambda: None)
    plans = folder.parent / "plans.yaml"

    found = policies_checked(folder, catalog_at(plans), plans=plans, quick=False)
    assert [(each.source, each.line, each.code) for each in found.warnings] == [
        (str(folder), 1, "not_checked")
    ]
    found = policies_checked(folder, None, plans=plans, quick=False)
    assert [each.message for each in found.warnings] == [
        "policies were not built, since the catalog has problems"
    ]
    monkeypatch.setattr("sidecar.cli.checking.has_embedded", lambda: False)
    found = policies_checked(folder, catalog_at(plans), plans=plans, quick=False)
    assert [each.message for each in found.warnings] == [
        "policies were built by no engine: install OPA, or policy-sidecar[embedded]"
    ]


def test_a_situation_is_the_further_the_more_of_it_is_not_as_sold():
    sold = Situation(action="a", role="r", plan="p", status="active")
    full = Room(fits_in=("q",), waiting_helps=False)

    assert steps_of(sold) == 0
    assert steps_of(Situation(action="a", role=None, plan=None, status=None)) == 1
    assert steps_of(Situation(action="a", role="r", plan="p", status="suspended", room=full)) == 2
    assert (
        steps_of(Situation(action="a", role="r", plan="p", status="active", feature_overrides={"f": True}))
        == 1
    )
