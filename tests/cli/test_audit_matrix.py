"""`sidecar audit matrix` and `sidecar test --coverage`, as somebody types them in a project of their own."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import stat
import sys
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.settings import shipped

ROOT = Path(__file__).parent.parent.parent
STORIES = """
- story: a pro may start with an avatar
  question: {user: pia, workspace: piano, action: roleplay.start_with_avatar}
  facts: {role: owner, plan: pro}
  want: {allow: true, status: 200, reason: granted}

- story: a starter workspace that is full is told what would help
  question: {user: sam, workspace: solo, action: scenarios.create}
  facts: {role: owner, plan: starter, usage: {scenarios: 10}}
  want: {allow: false, status: 402, reason: quota_exceeded, upgrade: [pro, team]}
"""


@pytest.fixture(name="folder")
def a_project(tmp_path):
    shutil.copy(shipped("plans.yaml"), tmp_path)
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    (tmp_path / "tests/decisions").mkdir(parents=True)
    (tmp_path / "tests/decisions/cases.yaml").write_text(STORIES)
    return tmp_path


@pytest.fixture(name="sidecar")
def the_command_line(folder, monkeypatch, capfd):
    def run(*arguments, at=folder):
        monkeypatch.chdir(at)
        monkeypatch.setattr(sys, "argv", ["sidecar", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture(name="matrix")
def the_matrix_command(sidecar):
    return lambda *arguments, **at: sidecar("audit", "matrix", "--engine", "embedded", *arguments, **at)


def edit(path, before, after):
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_the_committed_matrix_says_what_our_policies_say(matrix):
    assert matrix("--check", "docs/matrix.md", at=ROOT) == (
        0,
        "docs/matrix.md says what the policies say\n",
        "",
    )


def test_a_changed_right_is_found_by_check(matrix, folder):
    assert matrix("--format", "md", "-o", "matrix.md") == (0, "", "")
    assert matrix("--check", "matrix.md")[0] == 0
    edit(folder / "plans.yaml", "members.remove: {role: admin}", "members.remove: {role: owner}")

    code, out, _ = matrix("--check", "matrix.md")

    assert code == 1
    assert [line[:18] for line in out.splitlines() if line[0] in "+-"][2:] == [
        "-| members.remove ",
        "+| members.remove ",
    ]


def test_json_has_the_fields_of_the_contract(matrix, folder):
    code, out, _ = matrix("--json", "--cases", "tests/decisions")
    report = json.loads(out)

    assert code == 0
    assert report["made"]["population"]["cells"] == len(report["rows"]) == 144
    assert report["made"]["engine"].startswith("embedded ")
    rows = {(row["action"], row["role"], row["plan"]): row for row in report["rows"]}
    row = rows["team_analytics.view", "member", "starter"]
    assert row["needs"] == {"roles": ["admin", "owner"]}
    path, _, line = row["rule"].partition(":")
    assert 'denials contains "role_insufficient"' in (folder / path).read_text().splitlines()[int(line) - 1]
    assert row["with_feature_on"]["reason"] == row["with_feature_off"]["reason"] == "role_insufficient"
    assert rows["roleplay.start_with_avatar", "owner", "pro"]["cases"] == ["tests/decisions/cases.yaml:2"]
    full = rows["scenarios.create", "owner", "starter"]["when_full"]
    assert full == {
        "allow": False,
        "http_status": 402,
        "reason": "quota_exceeded",
        "upgrade": ["pro", "team"],
    }


def test_a_rule_of_the_company_is_named_where_it_stands(matrix, folder):
    (folder / "policies/custom/no.rego").write_text(
        'package custom\n\n# no\ndenials contains "no_exports" if input.action == "analytics.view"\n'
    )

    rows = json.loads(matrix("--json")[1])["rows"]

    denied = {row["rule"] for row in rows if row["detail"] == "no_exports"}
    assert denied == {"policies/custom/no.rego:4"}


def test_csv_has_its_making_beside_it(matrix, folder):
    assert matrix("--format", "csv", "-o", "matrix.csv")[0] == 0

    content = (folder / "matrix.csv").read_bytes()
    meta = json.loads((folder / "matrix.csv.meta.json").read_text())
    assert len(list(csv.reader(io.StringIO(content.decode(), newline="")))) == 145
    assert meta["rows"] == 144
    assert meta["sha256"] == hashlib.sha256(content).hexdigest()
    assert meta["made"]["revision"]
    for name in ("matrix.csv", "matrix.csv.meta.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_cases_for_the_rest_are_written_where_the_shell_has_emptied_the_file(sidecar, matrix, folder):
    target = folder / "tests/decisions/matrix.yaml"
    target.touch()

    code, out, err = matrix("--as-cases")
    target.write_text(out)

    assert (code, err) == (0, "")
    assert sidecar("test", "--coverage", "--fail-under", "100")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--check", "gone.md"], 78, "gone.md: cannot be read"),
        (["--cases", "policies"], 2, "there is no *.yaml in policies"),
        (["--context", "mfa=true"], 2, 'no policy declares the field "mfa"'),
        (["--as-cases", "--json"], 2, "--as-cases goes with none of"),
        (["--check", "x", "-o", "y"], 2, "--check goes with none of"),
        (["--revision", "r1"], 2, "--revision needs --database-url or --archive"),
        (["--plans", "gone.yaml"], 78, "gone.yaml"),
    ],
)
def test_bad_input_is_told_and_prints_no_report(matrix, arguments, code, says):
    ended, out, err = matrix(*arguments)

    assert (ended, out) == (code, "")
    assert says in err


def test_a_declared_field_that_is_not_given_is_told(matrix, folder):
    edit(folder / "policies/authz/decision.rego", "context: []", "context: [country, mfa]")

    assert "rules may look at country, mfa: asked without" in matrix()[1]
    given = matrix("--context", 'country="XA"', "--json")[1]
    assert {row["detail"] for row in json.loads(given)["rows"]} == {None, "recording_embargo"}


def test_coverage_counts_cells_and_names_what_no_story_asserts(sidecar):
    code, out, _ = sidecar("test", "--coverage", "--missing")

    assert code == 0
    lines = out.splitlines()
    assert lines[1].startswith("as sold 1 of 144 (1 %) · all situations 2 of ")
    assert lines[1].endswith(" · rules of the company 0 of 1")
    assert lines[2].startswith("asserted by none: platform.use, data.view_own, scenarios.create")
    assert len(lines) == 3 + 143


def test_coverage_below_the_wanted_share_is_exit_code_1(sidecar):
    assert sidecar("test", "--fail-under", "1")[0] == 1
    assert sidecar("test", "--fail-under", "0.5")[0] == 0


def test_coverage_as_json_has_the_fields_of_the_contract(sidecar):
    document = json.loads(sidecar("test", "--coverage", "--json")[1])

    assert document["coverage"]["as_sold"] == {"asserted": 1, "of": 144}
    assert document["coverage"]["custom"] == {"asserted": 0, "of": 1}
    assert document["coverage"]["all"]["asserted"] == 2
    assert len(document["missing"]) == 143
    assert {"action": "platform.use", "role": "member", "plan": "starter"} in document["missing"]
    assert "coverage" not in json.loads(sidecar("test", "--json")[1])
