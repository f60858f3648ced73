"""`sidecar test`, as somebody types it in a project of their own."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from sidecar.cli import main
from sidecar.settings import shipped
from tests.servers import opa_binary

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
WRONG = STORIES.replace("[pro, team]", "[team]").replace(
    "allow: true, status: 200", "allow: true, status: 403"
)


@pytest.fixture(name="folder")
def a_project(tmp_path):
    shutil.copy(shipped("plans.yaml"), tmp_path)
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    (tmp_path / "tests/decisions").mkdir(parents=True)
    (tmp_path / "tests/decisions/cases.yaml").write_text(STORIES)
    return tmp_path


@pytest.fixture(name="sidecar")
def the_command_line(folder, monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sidecar", "test", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


@pytest.mark.parametrize("engine", [pytest.param("opa", marks=pytest.mark.opa), "embedded"])
def test_stories_that_are_answered_as_they_want_are_counted(sidecar, engine):
    if engine == "opa":
        opa_binary()

    assert sidecar("--engine", engine) == (0, "2 stories asked, 2 answered as wanted\n", "")


def test_others_are_shown_with_what_they_want_and_what_the_answer_is(sidecar, folder):
    (folder / "tests/decisions/cases.yaml").write_text(WRONG)

    assert sidecar() == (
        1,
        (
            "tests/decisions/cases.yaml:2:3: a pro may start with an avatar\n"
            "  - status: 403\n"
            "  + status: 200\n"
            "tests/decisions/cases.yaml:7:3: a starter workspace that is full is told what would help\n"
            '  - upgrade: ["team"]\n'
            '  + upgrade: ["pro", "team"]\n'
            "- is what the story wants, + what the answer is\n"
            "2 stories asked, 0 answered as wanted\n"
        ),
        "",
    )


def test_problems_of_one_file_do_not_keep_the_others_from_being_asked(sidecar, folder):
    (folder / "tests/decisions/odd.yml").write_text(STORIES.replace("usage:", "used:"))
    (folder / "tests/decisions/more").mkdir()
    (folder / "tests/decisions/more/wrong.yaml").write_text(WRONG)

    code, output, errors = sidecar()

    assert (code, errors) == (1, "")
    assert output.splitlines()[0] == (
        'tests/decisions/odd.yml:9:39: facts of story 2 has no field "used";'
        ' did you mean "usage"? (unknown_field)'
    )
    assert output.splitlines()[-1] == "4 stories asked, 2 answered as wanted"


def test_a_program_reads_the_same_as_json(sidecar, folder):
    (folder / "tests/decisions/cases.yaml").write_text(WRONG)
    (folder / "tests/decisions/odd.yaml").write_text("[]")

    code, output, _ = sidecar("--json")
    document = json.loads(output)

    assert code == 1
    assert [(each["source"], each["code"]) for each in document["problems"]] == [
        ("tests/decisions/odd.yaml", "empty")
    ]
    assert document["stories"][0] == {
        "source": "tests/decisions/cases.yaml",
        "line": 2,
        "column": 3,
        "story": "a pro may start with an avatar",
        "passed": False,
        "differences": [{"field": "status", "wanted": 403, "got": 200}],
    }


def test_whole_files_can_be_named(sidecar, folder):
    (folder / "mine.txt").write_text(STORIES)

    assert sidecar("mine.txt", "tests/decisions")[1] == "4 stories asked, 4 answered as wanted\n"


def test_an_amount_of_what_the_action_does_not_take_is_told(sidecar, folder):
    (folder / "tests/decisions/cases.yaml").write_text(
        STORIES.replace("avatar}", "avatar, amounts: {minutes: 5}}")
    )

    assert '  + answer: the action "roleplay.start_with_avatar" does not take "minutes"' in sidecar()[1]


def test_policies_that_give_no_verdict_are_no_denial(sidecar, folder):
    rule = folder / "policies/authz/decision.rego"
    rule.write_text(rule.read_text().replace("count(denials) == 0", "count(denials) == 1"))
    code, output, _ = sidecar()

    assert code == 1
    assert (
        "data.authz.decision is undefined: are policies and data complete? (policy_engine_misbehaved)"
        in output
    )


def test_context_that_no_policy_declares_is_warned_of(sidecar, folder):
    (folder / "tests/decisions/cases.yaml").write_text(
        STORIES.replace("start_with_avatar}", "start_with_avatar, context: {country: FR}}")
    )
    warning = (
        'tests/decisions/cases.yaml:2:3: warning: no policy declares the context field "country",'
        " so this story is asked without it (undeclared_case_context)"
    )

    assert sidecar() == (0, f"{warning}\n2 stories asked, 2 answered as wanted\n", "")
    assert [each["code"] for each in json.loads(sidecar("--json")[1])["warnings"]] == [
        "undeclared_case_context"
    ]
    about = "# METADATA\n# custom:\n#   context: [country]\npackage custom\n"
    (folder / "policies/custom/about.rego").write_text(about)
    assert sidecar()[1] == "2 stories asked, 2 answered as wanted\n"


@pytest.mark.parametrize("opa", [True, False])
def test_policies_that_do_not_build_are_refused_in_one_line(sidecar, folder, monkeypatch, opa):
    if not opa:
        monkeypatch.setattr("sidecar.engines.building.opa_binary", lambda: None)
    (folder / "policies/custom/x.rego").write_text('package custom\n\ndenials contains "x" if {\n')
    code, output, errors = sidecar()

    assert (code, output) == (78, "")
    assert errors.startswith("policies/custom/x.rego:")
    assert len(errors.splitlines()) == 1


def test_a_rule_of_ones_own_is_tested_like_this(sidecar, folder):
    rule = folder / "policies/authz/decision.rego"
    rule.write_text(rule.read_text().replace("context: []", "context: [country]"))
    (folder / "tests/decisions/cases.yaml").write_text(
        "- story: no recording from where we may not keep it\n"
        "  question: {action: recording.start, context: {country: XA}}\n"
        "  facts: {role: member, plan: team}\n"
        "  want: {allow: false, status: 403, reason: denied_by_policy, detail: recording_embargo}\n"
    )

    assert sidecar()[:2] == (0, "1 story asked, 1 answered as wanted\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot be read: no such file or directory\n"),
        (["policies/custom"], "policies/custom: no *.yaml in this folder: nothing would be asked\n"),
        (["--plans", "nowhere.yaml"], "nowhere.yaml: cannot be read: no such file or directory\n"),
        (["--policies", "nowhere"], "nowhere: cannot be read: there is no such folder\n"),
    ],
)
def test_what_is_missing_is_exit_code_78(sidecar, arguments, says):
    assert sidecar(*arguments) == (78, "", says)


def test_a_catalog_with_mistakes_is_exit_code_78(sidecar, folder):
    plans = folder / "plans.yaml"
    plans.write_text(plans.read_text().replace("extends: starter", "extends: startr"))
    code, output, errors = sidecar()

    assert (code, output) == (78, "")
    assert errors.startswith('plans.yaml:33:14: plan "pro" extends "startr", which does not exist')


def test_an_unknown_option_is_exit_code_2(sidecar):
    assert sidecar("--none")[0] == 2


def test_without_an_opa_it_says_so(sidecar, monkeypatch):
    monkeypatch.setattr("sidecar.local.opa.opa_binary", lambda: None)

    assert sidecar("--engine", "opa") == (
        69,
        "",
        (
            "sidecar: there is no opa on the PATH or in ~/.cache/opa-bin: install it,"
            " or leave --engine at embedded\n"
        ),
    )


def test_an_opa_that_does_not_start_is_told_in_its_own_words(sidecar, monkeypatch, tmp_path):
    broken = tmp_path / "opa"
    broken.write_text("#!/bin/sh\necho no such flag\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sidecar.local.opa.opa_binary", lambda: broken)

    assert sidecar("--engine", "opa") == (69, "", "sidecar: opa ended with exit code 7: no such flag\n")


def test_without_the_extra_the_embedded_engine_is_said_to_be_missing(sidecar, monkeypatch):
    monkeypatch.setitem(sys.modules, "sidecar.engines.embedded", None)

    assert sidecar() == (
        78,
        "",
        (
            "sidecar: the embedded engine is not installed:"
            " pip install 'policy-sidecar[embedded]', or take OPA\n"
        ),
    )
