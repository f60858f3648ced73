"""`sidecar audit diff`, as somebody types it: of files, commits and kept revisions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from sidecar.cli import main
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.publish import Files
from sidecar.store.world import load
from tests.postgres_server import DEMO_WORLD, a_database, run

SAMPLE = """\
from ID… (plans.yaml of DATE) to ID…: 504 questions, 12 answered otherwise

lost    analytics.view           pro: member, admin, owner        200 → 402 → team      plans.yaml:35
lost    members.remove           admin on every plan              200 → 403 owner       plans.yaml:50
dearer  analytics.view           starter: every role              402 → pro, now team
reason  members.remove           member on every plan             403, now needs owner  plans.yaml:50
limit   starter minutes          100 → 60                                               plans.yaml:30

now, of 4 workspaces and 6 people
lost    analytics.view           1 workspace, 1 person            piano: pia
lost    members.remove           1 workspace, 1 person            acme: adam
dearer  analytics.view           2 workspaces, 2 people           solo: sam; zoe: zoe
reason  members.remove           1 workspace, 1 person            acme: mia
over    starter minutes 60       1 workspace                      solo: 97 used, 37 over
"""


def edited(text):
    for before, after in (
        ("[video_avatar, live_coaching, analytics]", "[video_avatar, live_coaching]"),
        ("[team_sessions, team_analytics]", "[team_sessions, team_analytics, analytics]"),
        ("members.remove: {role: admin}", "members.remove: {role: owner}"),
        ("{minutes: 100,", "{minutes: 60,"),
    ):
        assert before in text
        text = text.replace(before, after)
    return text


@pytest.fixture(name="folder")
def a_repository_with_a_change_that_is_not_committed(tmp_path):
    shutil.copy(shipped("plans.yaml"), tmp_path)
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    git = ["git", "-c", "user.name=dev", "-c", "user.email=dev@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Sell it"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, timeout=30)
    (tmp_path / "plans.yaml").write_text(edited((tmp_path / "plans.yaml").read_text()))
    return tmp_path


@pytest.fixture(name="diff")
def the_command(folder, monkeypatch, capfd):
    def run_(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sidecar", "audit", "diff", "--engine", "embedded", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run_


@pytest.fixture(name="auditor_url", scope="module")
def a_login_of_authz_audit(postgres_server, migrated_template, tmp_path_factory):
    databases = a_database(postgres_server, template=migrated_template)
    url = next(databases)
    world = tmp_path_factory.mktemp("world") / "world.yaml"
    solo = "plan: starter, owner: sam}"
    text = DEMO_WORLD.read_text()
    assert solo in text
    world.write_text(text.replace(solo, "plan: starter, owner: sam, usage: {minutes: 97}}"))
    load(url, world)
    run(url, "CREATE ROLE diff_auditor LOGIN PASSWORD 'x'", "GRANT authz_audit TO diff_auditor")
    yield re.sub(r"//[^@/]*@", "//diff_auditor:x@", url)
    run(url, "DROP ROLE diff_auditor")
    next(databases, None)


def test_the_sample_is_told_word_for_word_for_the_demo_world(diff, auditor_url):
    code, out, err = diff("git:HEAD", "plans.yaml", "--database-url", auditor_url)

    told = re.sub(r"\b[0-9a-f]{8}…", "ID…", re.sub(r"\d{4}-\d\d-\d\d", "DATE", out))
    assert (code, told, err) == (0, SAMPLE, "")


def test_json_has_the_fields_of_the_contract(diff, auditor_url):
    report = json.loads(diff("git:HEAD", ".", "--json", "--database-url", auditor_url, "--limit", "1")[1])

    assert (report["questions"], report["changed"], len(report["changes"])) == (504, 12, 12)
    assert report["made"]["login"] == "diff_auditor"
    assert report["changes"][1] == {
        "kind": "lost",
        "action": "members.remove",
        "role": "admin",
        "plan": "starter",
        "status": "active",
        "override": "none",
        "from": {
            "allow": True,
            "http_status": 200,
            "reason": "granted",
            "upgrade": [],
            "detail": None,
            "needs": {},
        },
        "to": {
            "allow": False,
            "http_status": 403,
            "reason": "role_insufficient",
            "upgrade": [],
            "detail": None,
            "needs": {"roles": ["owner"]},
        },
        "line": 50,
        "place": "plans.yaml:50",
    }
    assert report["limits"] == [{"plan": "starter", "meter": "minutes", "from": 100, "to": 60, "line": 30}]
    live = report["live"]
    assert (live["workspaces"], live["people"], live["gone"]) == (4, 6, [])
    dearer = next(each for each in live["changes"] if each["kind"] == "dearer")
    assert dearer == {
        "kind": "dearer",
        "action": "analytics.view",
        "workspaces": 2,
        "people": 2,
        "who": [{"workspace": "solo", "users": ["sam"]}],
    }
    assert live["over"] == [
        {
            "plan": "starter",
            "meter": "minutes",
            "limit": 60,
            "workspaces": 1,
            "who": [{"workspace": "solo", "used": 97, "over": 37}],
        }
    ]
    for kind in ("prices", "routes", "titles", "not_compared"):
        assert report[kind] == []


def test_workspaces_on_a_plan_that_is_gone_are_listed(diff, folder, auditor_url):
    text = (folder / "plans.yaml").read_text()
    (folder / "plans.yaml").write_text(
        text.replace("  pro:\n", "  gold:\n").replace("extends: pro", "extends: gold")
    )

    code, out, _ = diff("git:HEAD", "plans.yaml", "--database-url", auditor_url)

    assert code == 0
    assert re.search(r"^gone +plan pro +piano$", out, re.MULTILINE)
    assert re.search(r"^gone +plan pro$", out, re.MULTILINE)
    assert re.search(r"^new +plan gold$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--fail-on", "gain"], 0),
        (["--fail-on", "gain", "--fail-on", "limit"], 1),
    ],
)
def test_the_exit_code_is_by_fail_on_alone(diff, options, code):
    assert diff("git:HEAD", "plans.yaml", *options)[0] == code


def test_a_revision_that_the_database_has_kept_is_compared_and_told_as_a_matrix(
    diff, monkeypatch, capfd, fresh_database_url
):
    plans, old = shipped("plans.yaml"), compiled_at(shipped("plans.yaml"), shipped("policies"))
    files = Files(plans=plans.read_bytes(), bundle=bundle(old), version="1")
    migrate(fresh_database_url, catalog=old.catalog, revision=old.revision, files=files)

    report = json.loads(diff(old.revision, "plans.yaml", "--database-url", fresh_database_url, "--json")[1])
    words = ["audit", "matrix", "--revision", old.revision, "--database-url", fresh_database_url, "--json"]
    monkeypatch.setattr(sys, "argv", ["sidecar", *words, "--engine", "embedded"])
    with pytest.raises(SystemExit):
        main()
    matrix = json.loads(capfd.readouterr().out)

    assert (report["changed"], report["not_compared"]) == (12, [])
    assert report["from"]["catalog"] == matrix["made"]["catalog"]
    assert matrix["rows"][0]["plans_line"] == 45
    assert fresh_database_url not in json.dumps(matrix)


def test_two_sides_alike_are_told_as_such(diff, folder):
    (folder / "plans.yaml").write_text("# new\n" + (folder / "plans.yaml").read_text())

    code, out, _ = diff(".", "plans.yaml", "--fail-on", "any", "--format", "md")

    assert code == 0
    assert "no question is answered otherwise" in out


def test_a_kept_revision_is_compared_from_its_bundle(diff, folder):
    old = compiled_at(shipped("plans.yaml"), shipped("policies"))
    (folder / "kept").mkdir()
    (folder / "kept" / f"{old.revision}.tar.gz").write_bytes(bundle(old))

    report = json.loads(diff(old.revision, "plans.yaml", "--archive", "kept", "--json")[1])

    assert (report["changed"], report["prices"]) == (12, [])
    assert report["from"] == {"revision": old.revision, "catalog": None}
    assert [each["file"] for each in report["not_compared"]] == [f"{old.revision}.tar.gz"]


@pytest.mark.parametrize(
    ("old", "options", "code", "says"),
    [
        ("git:gone", [], 78, "git:gone: there is no such commit"),
        ("git:--help", [], 78, "there is no such commit"),
        ("gone.yaml", [], 78, "gone.yaml"),
        ("0" * 32, [], 78, "is not kept without --archive or --database-url"),
        ("0" * 32, ["--archive", "."], 78, "cannot be read"),
        (".", ["--database-url", "postgresql://nobody@127.0.0.1:1/none"], 69, "PostgreSQL"),
        (".", ["--fail-on", "some"], 2, "'some'"),
    ],
)
def test_bad_input_is_told_and_prints_no_report(diff, old, options, code, says):
    ended, out, err = diff(old, "plans.yaml", *options)

    assert (ended, out) == (code, "")
    assert says in err
