"""`sidecar audit prove`, as somebody types it in a project of their own."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

from sidecar.cli import main
from sidecar.settings import shipped
from tests.catalogs import plans_with_many_cells
from tests.cli.a_company import audit, company
from tests.servers import opa_binary

__all__ = ["audit", "company"]
STRANGERS = "a stranger is granted nothing and told nothing"
NO_AVATAR = "the starter plan has no video avatar"
OVERRIDDEN = (
    '{"action":"roleplay.start_with_avatar","overrides":{"features":{"video_avatar":true}},"plan":"starter",'
    '"role":"member","room":null,"status":"active"}'
)


@pytest.fixture(name="folder")
def a_project(tmp_path):
    shutil.copy(shipped("plans.yaml"), tmp_path)
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    return tmp_path


@pytest.fixture(name="prove")
def the_command_line(folder, monkeypatch, capfd):
    def run(*arguments, engine="embedded"):
        monkeypatch.chdir(folder)
        named = ["--engine", engine] if engine else []
        monkeypatch.setattr(sys, "argv", ["sidecar", "audit", "prove", *named, *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


def promise(folder, text):
    path = folder / "plans.yaml"
    path.write_text(f"{path.read_text()}  - {{title: mine, {text}}}\n")


@pytest.mark.parametrize("engine", ["embedded", pytest.param("opa", marks=pytest.mark.opa)])
def test_the_shipped_promises_hold(prove, engine):
    if engine == "opa":
        opa_binary()

    code, printed, _ = prove(engine=engine)

    assert code == 0, printed
    assert re.match(rf"revision [0-9a-f]{{32}}: 2,122 situations, all of them asked of {engine} \d", printed)
    lines = [re.sub(r"  +", "  ", line) for line in printed.splitlines()]
    assert "holds  a stranger is granted nothing and told nothing  550 situations  built in" in lines
    assert "holds  only the owner touches billing  33  plans.yaml:69" in lines
    assert printed.endswith("9 of 9 promises hold\n")


def test_a_broken_promise_is_told_with_its_smallest_counterexample_and_where_it_comes_from(prove, folder):
    path = folder / "plans.yaml"
    path.write_text(path.read_text().replace("plan: starter, override: none}", "plan: starter}"))

    code, printed, _ = prove("--only", NO_AVATAR)

    assert code == 1
    assert printed.split("\n\n")[1].replace("policies/", "").splitlines() == [
        f"BROKEN  {NO_AVATAR}  3 of 24 situations  plans.yaml:72",
        "        roleplay.start_with_avatar · member · starter · active · override video_avatar on → granted",
        f"        {OVERRIDDEN}",
        "        plans.yaml:56 the action · plans.yaml:26 the plan · authz/denials.rego:55 the override",
        "        if that is meant, say override: none",
        "0 of 1 promises hold",
    ]


def test_json_has_every_field_of_a_promise(prove, folder):
    promise(folder, "separate: {actions: [members.invite, members.remove], except: owner}")

    code, printed, _ = prove("--only", "mine", "--only", STRANGERS, "--json")

    document = json.loads(printed)
    built_in, mine = document["promises"]
    assert code == 1
    assert list(document) == ["made", "promises"]
    assert document["made"]["population"] == {"situations": 2122, "asked": 614, "promises": 2}
    assert built_in == {
        "title": STRANGERS,
        "form": "builtin",
        "builtin": True,
        "verdict": "holds",
        "code": None,
        "situations": 550,
        "broken": 0,
        "line": None,
        "counterexamples": [],
        "notes": [],
    }
    assert {name: mine[name] for name in ("form", "builtin", "verdict", "code", "line")} == {
        "form": "separate",
        "builtin": False,
        "verdict": "broken",
        "code": "broken_invariant",
        "line": 73,
    }
    invite, remove = mine["counterexamples"]
    assert invite["situation"]["role"] == remove["situation"]["role"] == "admin"
    assert (remove["steps"], remove["places"]) == (0, ["plans.yaml:50 the action", "plans.yaml:26 the plan"])
    assert remove["verdict"]["reason"] == "granted"
    assert set(remove["verdict"]) >= {"allow", "status", "upgrade", "needs", "detail", "charges"}


def test_a_promise_of_nothing_is_a_finding(prove, folder):
    promise(folder, "never: {action: platform.use, override: on}")

    code, printed, _ = prove("--only", "mine")

    assert code == 1
    assert "VACUOUS  mine  0 situations" in printed
    assert "(vacuous_invariant)" in printed


def test_a_title_that_there_is_not_is_misuse(prove):
    code, printed, said = prove("--only", "only the owner touches biling")

    assert (code, printed) == (2, "")
    assert 'did you mean "only the owner touches billing"?' in said


def test_a_bad_promise_is_a_problem_of_the_file(prove, folder):
    promise(folder, "never: {role: ownr}, always: {role: owner}")

    code, printed, said = prove()

    assert (code, printed) == (78, "")
    assert 'plans.yaml:73:33: invariant 5 names the role "ownr", which does not exist; did you' in said
    assert "plans.yaml:73:40: invariant 5 has never and always: keep one of them" in said


def test_more_situations_than_a_proof_asks_are_a_problem_of_the_file(prove, folder):
    (folder / "plans.yaml").write_text(json.dumps(plans_with_many_cells()))

    code, printed, said = prove()

    assert (code, printed) == (78, "")
    assert 'more than 500,000 situations, and a proof asks all of them; action "do"' in said


def test_opa_that_is_not_there_is_no_finding(prove, monkeypatch, folder):
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(folder))

    code, printed, said = prove(engine="opa")

    assert (code, printed) == (69, "")
    assert "there is no opa" in said


def test_what_is_said_of_context_depends_on_who_looks_at_it(prove, folder):
    decision, denials = folder / "policies/authz/decision.rego", folder / "policies/authz/denials.rego"
    decision.write_text(decision.read_text().replace("context: []", "context: [country]"))

    _, printed, _ = prove("--only", NO_AVATAR)
    rule = 'denials contains "not_a_member" if input.context.country == "XC"'
    denials.write_text(f"{denials.read_text()}\n{rule}\n")
    _, other, _ = prove("--only", NO_AVATAR)

    assert "rules may look at country: asked without; never and only hold with them too" in printed
    assert "authz/denials.rego looks at them too, so nothing is said of questions that have them" in other


def test_a_kept_revision_is_proven_by_what_is_built_in(prove, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sidecar", "compile", "-o", "bundle.tar.gz"])
    with pytest.raises(SystemExit):
        main()
    revision = capfd.readouterr().out.split()[-1]
    (folder / "bundle.tar.gz").rename(folder / f"{revision}.tar.gz")

    kept = ["--revision", revision, "--archive", str(folder)]

    code, printed, _ = prove(*kept, "--only", STRANGERS)

    assert code == 0, printed
    assert "as kept, without its invariants" in printed
    assert prove(*kept, "--only", NO_AVATAR)[0] == 2


def test_a_revision_that_the_database_keeps_is_proven_with_its_invariants(audit, company):
    revision = company.publish()
    company.edit("plans.yaml", "billing.manage: {role: owner,", "billing.manage: {role: member,")

    code, printed, said = audit("prove", "--revision", revision)

    assert code == 0, said
    assert "holds  only the owner touches billing" in printed
    assert "plans.yaml:69\n" in printed
    assert audit("prove")[0] == 1
