"""Which catalog and which policies each command takes, asked of the real commands."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.cli.sources import own_plans, own_policies, policies_or_shipped
from sidecar.errors import ConfigError
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.postgres_server import rows

ROOT = Path(__file__).parent.parent.parent
SAYS_SO = f"sidecar: no ./plans.yaml here: the shipped demo is used, {shipped('plans.yaml')}\n"
URL = "postgresql://nobody@127.0.0.1:1/nothing"  # no command comes so far as to ask it
CASES = """
- story: a pro may start with an avatar
  question: {user: pia, workspace: piano, action: roleplay.start_with_avatar}
  facts: {role: owner, plan: pro}
  want: {allow: true, status: 200, reason: granted}
"""
# Each fails by the catalog that it has read, and says which file that was.
COMMANDS = {
    "check": ["check"],
    "compile": ["compile"],
    "test": ["test", "cases.yaml"],
    "dev": ["dev", "--data-dir", "data"],
    "migrate": ["migrate"],
    "serve": ["serve"],
}
OF_PRODUCTION = ["migrate", "serve"]


def sidecar(*arguments, cwd, **variables):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    given = {f"SIDECAR_{name.upper()}": str(value) for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *map(str, arguments)],
        cwd=cwd,
        env=inherited | {"PYTHONPATH": str(ROOT), "SIDECAR_DATABASE_URL": URL} | given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def broken_plans(path):
    path.write_text("version: 1\ncurrency: euro\n")
    return path


@pytest.fixture(name="folder")
def an_empty_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_the_option_goes_before_the_variable_and_both_before_what_is_here(command, folder, tmp_path):
    by_option, by_variable = broken_plans(tmp_path / "option.yaml"), broken_plans(tmp_path / "variable.yaml")
    broken_plans(folder / "plans.yaml")

    def read_by(*options, **variables):
        run = sidecar(*COMMANDS[command], *options, cwd=folder, **variables)
        assert run.returncode in {1, 78}
        return {line.split(":")[0] for line in (run.stdout + run.stderr).splitlines()}

    assert read_by("--plans", by_option, plans=by_variable) == {str(by_option)}
    assert read_by(plans=by_variable) == {str(by_variable)}
    assert read_by(plans=" ") == {"plans.yaml"}
    assert read_by() == {"plans.yaml"}


@pytest.mark.parametrize("command", OF_PRODUCTION)
def test_production_never_takes_the_demo_by_itself(command, folder):
    run = sidecar(command, cwd=folder)

    [line] = run.stderr.splitlines()
    assert (run.returncode, run.stdout) == (78, "")
    assert line == (
        "SIDECAR_PLANS: is required: there is no ./plans.yaml here, so name your catalog with --plans or in"
        f" this variable; the shipped demo is taken only by its name, {shipped('plans.yaml')}"
    )


def test_serve_says_what_else_is_wrong_at_the_same_time(folder):
    run = sidecar("serve", cwd=folder, workers=0)

    assert [line.split(":")[0] for line in run.stderr.splitlines()] == ["SIDECAR_PLANS", "SIDECAR_WORKERS"]


@pytest.mark.parametrize("command", ["check", "compile"])
def test_others_take_the_demo_and_say_so(command, folder):
    run = sidecar(command, cwd=folder)

    assert (run.returncode, run.stderr) == (0, SAYS_SO)
    assert list(folder.iterdir()) == []


def test_decision_cases_are_asked_of_the_demo_where_there_is_nothing_else(folder):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    (folder / "cases.yaml").write_text(CASES)

    run = sidecar("test", "cases.yaml", cwd=folder)

    assert (run.returncode, run.stdout, run.stderr) == (0, "1 story asked, 1 answered as wanted\n", SAYS_SO)


def test_dev_takes_the_demo_and_says_so(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends
        run = sidecar("dev", "--port", taken.getsockname()[1], cwd=folder)

    assert run.returncode == 1
    assert run.stderr.startswith(f"{SAYS_SO}sidecar: port")


def test_an_empty_option_is_a_mistake_and_not_nothing(folder):
    shutil.copy(shipped("plans.yaml"), folder)

    run = sidecar("migrate", "--plans", "", cwd=folder)

    assert run.returncode == 2
    assert "expected a path, got nothing" in run.stderr


def test_a_link_to_nowhere_is_not_taken_for_nothing(folder):
    (folder / "plans.yaml").symlink_to("gone.yaml")

    run = sidecar("check", cwd=folder)

    assert (run.returncode, run.stderr) == (78, "plans.yaml: cannot be read: no such file or directory\n")


@pytest.mark.postgres
def test_migrate_publishes_the_catalog_of_the_folder_by_its_own_rules(empty_database_url, folder):
    plans = folder / "plans.yaml"
    plans.write_text(shipped("plans.yaml").read_text().replace("price: 149", "price: 150"))
    rules = shutil.copytree(shipped("policies"), folder / "policies") / "custom/embargo.rego"
    rules.write_text(rules.read_text() + "\ndenials contains 1 if false\n")

    run = sidecar("migrate", cwd=folder, database_url=empty_database_url)

    [(published,)] = rows(empty_database_url, "SELECT revision FROM authz.catalog")
    assert (run.returncode, run.stderr) == (0, "")
    assert published == compiled_at(plans, folder / "policies").revision
    assert published != compiled_at(plans, shipped("policies")).revision


@pytest.mark.postgres
@pytest.mark.parametrize("command", ["recount", "tidy"])
def test_what_needs_no_catalog_looks_for_none(database_url, folder, command):
    run = sidecar(command, cwd=folder, database_url=database_url, plans="nowhere.yaml")

    assert (run.returncode, run.stderr) == (0, "")


def rego_in(folder):
    (folder / "custom").mkdir(parents=True)
    (folder / "custom/rules.rego").write_text("package custom\n\ndenials contains 1 if false\n")
    return folder


def test_policies_are_the_named_ones_else_those_here_else_those_beside_the_catalog(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(folder)
    elsewhere = tmp_path / "elsewhere"
    plans, beside = elsewhere / "plans.yaml", rego_in(elsewhere / "policies")

    assert own_policies(tmp_path / "named", plans=plans) == tmp_path / "named"
    assert own_policies(None, plans=plans) == beside
    assert own_policies(None, plans=Path("plans.yaml")) is None
    assert policies_or_shipped(None, plans=Path("plans.yaml")) == shipped("policies")

    rego_in(folder / "policies")

    assert own_policies(None, plans=plans) == Path("policies")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_takes_the_policies_beside_the_catalog(command, folder, tmp_path):
    shutil.copy(shipped("plans.yaml"), tmp_path)
    (folder / "cases.yaml").write_text(CASES)
    broken = rego_in(tmp_path / "policies") / "custom/rules.rego"
    broken.write_text("package custom\n\ndenials contains 1 if time.now_ns() > 1\n")

    run = sidecar(*COMMANDS[command], cwd=folder, plans=tmp_path / "plans.yaml")

    assert run.returncode in {1, 78}
    assert str(broken) in run.stdout + run.stderr


def test_a_folder_of_other_policies_is_none_of_ours(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "policies").mkdir()
    (folder / "policies/returns.pdf").write_text("30 days")

    assert own_policies(None, plans=Path("plans.yaml")) is None


def test_policies_that_cannot_be_read_are_not_passed_over(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "policies").symlink_to("policies")

    with pytest.raises(ConfigError, match="policies cannot be read"):
        own_policies(None, plans=Path("plans.yaml"))


def test_the_shipped_policies_beside_the_shipped_catalog_are_not_ones_own(folder, monkeypatch):
    monkeypatch.chdir(folder)

    assert own_plans(None) is None
    assert own_policies(None, plans=shipped("plans.yaml")) is None
