"""`sidecar check`, `compile` and `schema`, as somebody types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from sidecar.catalog.schema import schema_file
from sidecar.cli import main
from sidecar.decisions.cells import cells
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.beside import authzen_beside
from sidecar.rego.bundle import served_bundle
from sidecar.rego.compile import data_file
from sidecar.rego.load import compiled_at
from tests import servers
from tests.catalog.files import ROOT, SHIPPED, SMALL
from tests.values import the_catalog


@pytest.fixture(name="folder")
def a_folder_with_a_catalog_and_a_policy(tmp_path):
    (tmp_path / "plans.yaml").write_text(SMALL)
    shutil.copytree(
        ROOT / "policies", tmp_path / "policies", ignore=shutil.ignore_patterns("plans", "custom")
    )
    (tmp_path / "policies/custom").mkdir()
    (tmp_path / "policies/custom/rules.rego").write_text(
        'package custom\n\ndenials contains "closed" if input.role\n'
    )
    return tmp_path


@pytest.fixture(name="sidecar")
def the_command_line(monkeypatch, capsys):
    def run(*arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["sidecar", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


def test_it_is_a_program():
    command = [sys.executable, "-m", "sidecar", "check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("plans.yaml: ")


def test_nothing_is_said_of_what_is_sound_but_how_many_cells_it_has(sidecar, folder):
    assert sidecar("check", cwd=folder) == (0, "plans.yaml: 18 cells\n", "")


def test_the_shipped_files_are_sound(sidecar):
    count = sum(1 for _ in cells(the_catalog()))

    assert sidecar("check", cwd=ROOT) == (0, f"plans.yaml: {count} cells\n", "")


LADDERS = """version: 1
currency: EUR
default_plan: p0
roles: {a: , b: , c: }
meters: {x: {kind: counter, per: month}, y: {kind: level}, z: {kind: counter, per: day}}
actions: {spend: {role: a, takes: {x: 1, y: 1, z: 1}}}
plans:
"""


def test_a_catalog_with_more_cells_than_a_worker_remembers_is_warned_of(sidecar, folder):
    plans = [
        f"  p{n}: {{price: {n}, limits: {{x: {n + 1}, y: {1 + n * 7 % 18}, z: {18 - n}}}}}\n"
        for n in range(18)
    ]
    (folder / "plans.yaml").write_text(LADDERS + "".join(plans))

    code, output, errors = sidecar("check", cwd=folder)

    *_, warning, count = output.splitlines()
    number = int(count.split()[1])
    assert (code, errors) == (0, "")
    assert number > 50_000
    assert warning.startswith(f"plans.yaml:1:1: warning: {number} cells, and a worker remembers 50000 ")
    assert 'action "spend" has the most cells' in warning
    assert warning.endswith("(many_cells)")


def test_a_catalog_can_be_checked_where_there_are_no_policies(sidecar, tmp_path):
    (tmp_path / "other.yaml").write_text(SMALL)

    assert sidecar("check", "--plans", "other.yaml", cwd=tmp_path) == (0, "other.yaml: 18 cells\n", "")


def test_every_problem_is_a_line_and_the_exit_code_is_1(sidecar, folder):
    (folder / "plans.yaml").write_text(SMALL.replace("EUR", "euro") + "  pro: {extends: fre, price: 1}\n")
    (folder / "policies/custom/rules.rego").write_text("package custom\n\na if time.now_ns() > 1\n")

    code, output, errors = sidecar("check", cwd=folder)

    assert (code, errors) == (1, "")
    assert [line.split(" ")[0] for line in output.splitlines()] == [
        "plans.yaml:2:11:",
        "plans.yaml:7:18:",
        "policies/custom/rules.rego:3:6:",
    ]


def test_a_warning_is_a_line_and_the_exit_code_is_0(sidecar, folder):
    (folder / "plans.yaml").write_text(SMALL + "features: {sso: }\n")

    code, output, errors = sidecar("check", cwd=folder)

    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        'plans.yaml:7:12: warning: no action needs the feature "sso" (unused_feature)',
        "plans.yaml: 43 cells",
    ]


def test_a_program_reads_the_same_as_json(sidecar, folder):
    (folder / "plans.yaml").write_text(SMALL + "  pro: {extends: fre, price: 1}\n")

    code, output, _ = sidecar("check", "--json", cwd=folder)

    assert (code, json.loads(output)) == (
        1,
        {
            "problems": [
                {
                    "source": "plans.yaml",
                    "line": 7,
                    "column": 18,
                    "code": "unknown_plan",
                    "message": 'plan "pro" extends "fre", which does not exist',
                    "suggestion": "free",
                }
            ],
            "warnings": [],
            "cells": None,
        },
    )
    (folder / "plans.yaml").write_text(SMALL)
    assert json.loads(sidecar("check", "--json", cwd=folder)[1]) == {
        "problems": [],
        "warnings": [],
        "cells": 18,
    }


def test_the_cells_can_be_left_out_and_that_is_said(sidecar, folder):
    assert sidecar("check", "--quick", cwd=folder) == (
        0,
        (
            "policies:1:1: warning: --quick: the policies were not asked about the cells (not_checked)\n"
            "plans.yaml: 18 cells\n"
        ),
        "",
    )


@pytest.mark.parametrize("command", ["check", "compile"])
def test_a_missing_file_is_exit_code_78(sidecar, command, folder):
    assert sidecar(command, "--plans", "none.yaml", cwd=folder) == (
        78,
        "",
        "none.yaml: cannot be read: no such file or directory\n",
    )
    assert sidecar(command, "--policies", "none", cwd=folder) == (
        78,
        "",
        "none: cannot be read: there is no such folder\n",
    )


@pytest.mark.parametrize("command", ["check", "compile", "schema"])
def test_an_unknown_option_is_exit_code_2(sidecar, command, folder):
    assert sidecar(command, "--none", cwd=folder)[0] == 2


def test_compile_writes_the_data_and_prints_the_revision(sidecar, folder):
    code, output, errors = sidecar("compile", cwd=folder)
    result = compiled_at(folder / "plans.yaml", folder / "policies")

    assert (code, output, errors) == (0, f"{result.revision}\n", "")
    assert (folder / "policies/authz/plans/data.json").read_bytes() == data_file(result.catalog)
    assert [path.name for path in (folder / "policies/authz/plans").iterdir()] == ["data.json"]


def test_compile_writes_a_bundle(sidecar, folder):
    code, _, _ = sidecar("compile", "-o", "out/bundle.tar.gz", cwd=folder)

    assert code == 0
    assert (folder / "out/bundle.tar.gz").read_bytes() == served_bundle(
        compiled_at(folder / "plans.yaml", folder / "policies")
    )


def test_a_bundle_keeps_what_it_answered_by_before_for_another_domain_too(sidecar, folder):
    domain, bundle = folder / "domain", folder / "bundle.tar.gz"
    domain.mkdir()
    policies = []
    for rule in ("true", "false", "false"):
        (domain / "policy.rego").write_text(f"package authzen\n\ndecision := {rule}\n")
        policies.append(authzen_policy_at(domain))
        assert sidecar("compile", "-o", bundle.name, "--authzen-policy", "domain", cwd=folder)[0] == 0
    compiled = compiled_at(folder / "plans.yaml", folder / "policies")

    assert bundle.read_bytes() == served_bundle(compiled, policies[-1], before=[authzen_beside(policies[0])])


def test_where_there_is_nothing_the_shipped_files_become_a_bundle_and_stay_as_they_are(
    sidecar, tmp_path, monkeypatch
):
    ours = tmp_path / "ours"
    shutil.copytree(ROOT / "policies", ours / "policies")
    (ours / "policies/authz/plans/data.json").unlink()
    for module in ("sidecar.cli.compile", "sidecar.cli.sources"):
        monkeypatch.setattr(f"{module}.shipped", lambda name: ours / name)
    shutil.copy(SHIPPED, ours)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    code, output, errors = sidecar("compile", "-o", "bundle.tar.gz", cwd=elsewhere)

    revision = compiled_at(SHIPPED, ROOT / "policies").revision
    said = f"sidecar: no ./plans.yaml here: the shipped demo is used, {ours / 'plans.yaml'}\n"
    assert (code, output, errors) == (0, f"{revision}\n", said)
    assert [path.name for path in elsewhere.iterdir()] == ["bundle.tar.gz"]
    assert not (ours / "policies/authz/plans/data.json").exists()


def test_compile_refuses_what_check_refuses(sidecar, folder):
    (folder / "plans.yaml").write_text(SMALL.replace("EUR", "euro"))

    code, output, errors = sidecar("compile", cwd=folder)

    assert (code, output) == (78, "")
    assert errors.startswith("plans.yaml:2:11: currency")
    assert not (folder / "policies/authz/plans").exists()


BROKEN = {
    "syntax": ('denials contains "x" if {\n\tinput.role ==\n}', "policies/custom/rules.rego:5:1: "),
    "no if": ('denials contains "x" {\n\tinput.role\n}', "policies/custom/rules.rego:3:22: "),
    "unsafe": ('denials contains "x" if not _a\n\n_a if y == 1', "policies/custom/rules.rego:5:7: "),
    "recursion": ('denials contains "x" if _a\n\n_a if _a', "policies/custom/rules.rego:5:1: "),
    "unread": ("_a := 1, 2", "policies/custom/rules.rego:3:8: "),
}


@pytest.mark.parametrize(("rule", "place"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("command", ["check", "compile"])
def test_without_opa_what_does_not_build_is_refused_in_one_line(
    sidecar, folder, monkeypatch, command, rule, place
):
    for module in ("sidecar.cli.checking", "sidecar.engines.building"):
        monkeypatch.setattr(f"{module}.opa_binary", lambda: None)
    (folder / "policies/custom/rules.rego").write_text(f"package custom\n\n{rule}\n")

    code, output, errors = sidecar(command, cwd=folder)

    first = (output if command == "check" else errors).splitlines()[0]
    assert code == (1 if command == "check" else 78)
    assert first.startswith(place)
    assert first.endswith("(does_not_build)")
    assert not (folder / "policies/authz/plans").exists()


@pytest.mark.opa
def test_with_opa_no_bundle_is_written_that_it_cannot_load(sidecar, folder):
    servers.opa_binary()
    (folder / "policies/custom/rules.rego").write_text(
        "package custom\n\na := data.custom.b\n\nb := data.custom.a\n"
    )

    code, output, errors = sidecar("compile", "-o", "bundle.tar.gz", cwd=folder)

    assert (code, output) == (78, "")
    assert errors.splitlines()[0].endswith("(rego_recursion_error)")
    assert not (folder / "bundle.tar.gz").exists()


def test_what_is_only_untidy_compiles(sidecar, folder):
    rule = folder / "policies/custom/rules.rego"
    rule.write_text("package custom\n\nimport data.authz.plans\n\na := 1\n")

    assert sidecar("compile", cwd=folder)[0] == 0


def test_compile_tells_where_it_cannot_write(sidecar, folder):
    (folder / "taken").write_text("")

    assert sidecar("compile", "-o", "taken/bundle.tar.gz", cwd=folder) == (
        78,
        "",
        "taken/bundle.tar.gz: cannot be written: file exists\n",
    )


def test_the_schema_is_printed(sidecar, folder):
    assert sidecar("schema", cwd=folder) == (0, schema_file(), "")


def test_compiling_the_shipped_catalog_changes_nothing(sidecar, tmp_path):
    before = (ROOT / "policies/authz/plans/data.json").read_bytes()
    target = tmp_path / "policies"
    target.mkdir()

    assert sidecar("compile", "--plans", str(SHIPPED), "--policies", str(target), cwd=tmp_path)[0] == 0
    assert (target / "authz/plans/data.json").read_bytes() == before
