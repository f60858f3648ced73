"""`sidecar types`: the names of plans.yaml as types. TypeScript is compiled in tests/typescript."""

from __future__ import annotations

import runpy
import subprocess
import sys
from typing import Never, get_args

import pytest

from sidecar.catalog.check import check_plans
from sidecar.catalog.unions import python, typescript
from sidecar.settings import shipped
from tests.cli.test_help import sidecar

SMALL = b"""
version: 1
currency: EUR
default_plan: free
roles: {user: {title: User}}
plans: {free: {title: Free, price: 0}}
actions: {a.b: {role: user}}
"""


def the_types(option, *more, **settings):
    said = sidecar("types", option, *more, **settings)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def test_python_gets_a_literal_of_every_kind_of_name(tmp_path):
    (tmp_path / "plans_types.py").write_text(the_types("--py", "--plans", str(shipped("plans.yaml"))))
    names = runpy.run_path(str(tmp_path / "plans_types.py"))

    assert get_args(names["Role"]) == ("member", "admin", "owner")
    assert get_args(names["Plan"]) == ("starter", "pro", "team")
    assert get_args(names["Meter"]) == ("minutes", "members", "scenarios")
    assert "video_avatar" in get_args(names["Feature"])
    assert {"roleplay.start_with_avatar", "billing.manage"} < set(get_args(names["Action"]))
    assert not [action for action in get_args(names["Action"]) if ":" in action]


def test_a_typo_in_python_does_not_pass_mypy(tmp_path):
    (tmp_path / "plans_types.py").write_text(the_types("--py", "--plans", str(shipped("plans.yaml"))))
    (tmp_path / "good.py").write_text('from plans_types import Role\nrole: Role = "owner"\n')
    (tmp_path / "typo.py").write_text('from plans_types import Role\nrole: Role = "onwer"\n')
    command = [sys.executable, "-m", "mypy", "--no-incremental", "good.py", "typo.py"]
    checked = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    ).stdout

    assert "typo.py:2" in checked
    assert "good.py" not in checked


def test_a_kind_without_names_has_no_value(tmp_path):
    catalog = check_plans(SMALL, source="plans.yaml").catalog
    assert catalog is not None
    (tmp_path / "plans_types.py").write_text(python(catalog))

    assert runpy.run_path(str(tmp_path / "plans_types.py"))["Feature"] is Never
    assert "export type Meter = never;\n" in typescript(catalog)


@pytest.mark.parametrize("options", [[], ["--ts", "--py"]], ids=["none", "both"])
def test_one_language_is_named(options):
    said = sidecar("types", *options)

    assert (said.returncode, said.stdout) == (2, "")
    assert "--ts or --py" in said.stderr


def test_a_catalog_with_mistakes_has_no_types(tmp_path):
    (tmp_path / "plans.yaml").write_text("version: 2\n")
    said = sidecar("types", "--ts", cwd=tmp_path)

    assert (said.returncode, said.stdout) == (78, "")
    assert "plans.yaml" in said.stderr
