"""The shipped policies, as OPA's own tools see them."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.catalog.check import check_plans
from sidecar.rego.compile import data_file
from sidecar.settings import shipped
from tests.servers import opa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICIES = shipped("policies")
MODULES = sorted(POLICIES.rglob("*.rego"))
SCHEMA = shipped("schemas") / "input.json"


def id_of(path: Path) -> str:
    return str(path.relative_to(POLICIES))


@pytest.mark.opa
def test_they_pass_their_own_tests_which_cover_them_to_the_last_line():
    run = opa("test", POLICIES, "--coverage", "--threshold=100", "--format=json")

    assert run.returncode == 0, run.stderr + run.stdout
    assert json.loads(run.stdout)["coverage"] == 100


@pytest.mark.opa
def test_their_tests_hold_whatever_the_catalog_names(tmp_path):
    folder = shutil.copytree(POLICIES, tmp_path / "policies")
    smallest = b"version: 1\ncurrency: EUR\ndefault_plan: free\nroles: {boss: }\nplans: {free: {price: 0}}\n"
    catalog = check_plans(smallest, source="plans.yaml").catalog
    assert catalog is not None
    (folder / "authz/plans/data.json").write_bytes(data_file(catalog))

    run = opa("test", folder, "--format=json")

    assert [each["name"] for each in json.loads(run.stdout) if each.get("fail")] == []


@pytest.mark.opa
def test_each_sentence_is_a_test():
    run = opa("test", POLICIES, "--format=json")
    results = json.loads(run.stdout)
    sentences = [sentence for each in results for sentence in each.get("sub_results", {})]

    assert [each["name"] for each in results if each.get("fail")] == []
    assert len(sentences) == len(set(sentences)) > 50


@pytest.mark.opa
def test_they_are_written_as_opa_writes_them():
    run = opa("fmt", "--fail", "--diff", POLICIES)

    assert (run.returncode, run.stdout) == (0, ""), run.stdout


@pytest.mark.opa
def test_they_are_strict_and_look_only_at_what_a_situation_holds():
    run = opa("check", "--strict", "--schema", SCHEMA, POLICIES)

    assert (run.returncode, run.stderr) == (0, "")


def test_plan_data_is_the_only_json_beside_them():
    assert [id_of(path) for path in POLICIES.rglob("*.json")] == ["authz/plans/data.json"]


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_a_package_is_named_for_its_folder_and_tested_beside_itself(path):
    folder = ".".join(path.parent.relative_to(POLICIES).parts)
    package = f"{folder}_test" if path.stem.endswith("_test") else folder

    assert re.findall(r"^package (.*)$", path.read_text(), re.MULTILINE) == [package]
    assert path.with_name(f"{path.stem.removesuffix('_test')}_test.rego") in MODULES


def tree_of(text: str) -> dict[str, Any]:
    run = opa("parse", "--format=json", "/dev/stdin", stdin=text)
    assert run.returncode == 0, run.stderr
    tree: dict[str, Any] = json.loads(run.stdout)
    return tree


def name_of(rule: dict[str, Any]) -> str:
    name: str = rule["head"].get("name") or rule["head"]["ref"][0]["value"]
    return name


@pytest.mark.opa
def test_every_public_rule_says_what_it_is():
    said, public = set(), set()
    for path in MODULES:
        if path.stem.endswith("_test"):
            continue
        text = path.read_text()
        public |= {name_of(rule) for rule in tree_of(text)["rules"] if not name_of(rule).startswith("_")}
        said |= set(re.findall(r"^# METADATA\n(?:#.*\n)+([a-z_]+)", text, re.MULTILINE))

    assert public == {"decision", "denials", "grants"}
    assert public <= said


def negated(node: Any) -> Iterator[Any]:
    """The terms after each `not`, at any depth."""
    if isinstance(node, dict):
        if node.get("negated"):
            yield node["terms"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from negated(inner)


def not_without_a_bare_name(text: str, *, rules: set[str]) -> list[Any]:
    return [
        terms
        for terms in negated(tree_of(text)["rules"])
        if not (isinstance(terms, dict) and terms["type"] == "var" and terms["value"] in rules)
    ]


def plain_rules_of(text: str) -> set[str]:
    """Not the functions: `not f` would be true of no rule at all."""
    return {name_of(rule) for rule in tree_of(text)["rules"] if "args" not in rule["head"]}


@pytest.mark.opa
@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=id_of)
def test_after_not_stands_only_the_bare_name_of_a_rule(folder):
    texts = [path.read_text() for path in sorted(folder.glob("*.rego"))]
    rules = set().union(*map(plain_rules_of, texts))

    assert [wrong for text in texts for wrong in not_without_a_bare_name(text, rules=rules)] == []


@pytest.mark.opa
def test_the_policies_have_some_not_to_look_at():
    trees = [tree_of(path.read_text()) for path in MODULES]

    assert sum(1 for tree in trees for _ in negated(tree)) > 5


@pytest.mark.opa
@pytest.mark.parametrize(
    "rule",
    [
        'a if not input.role in {"owner"}',
        "a if not input.role",
        "a if not b == 1",
        "a if not f(1)",
        "a if not f",
        "a if not nosuch",
        "a := [1 | not input.x]",
        "a := {1 | some x in [1]; not x == 2}",
        "a if every x in [1] { not x == 2 }",
        "a contains 1 if { true; not data.authz.b }",
        "default a := false\n\na := true if not input.x else := false if not b",
    ],
)
def test_anything_else_is_found_wherever_it_stands(rule):
    assert (
        len(not_without_a_bare_name(f"package x\n\n{rule}\n\nb if true\n\nf(x) if x\n", rules={"a", "b"}))
        == 1
    )
