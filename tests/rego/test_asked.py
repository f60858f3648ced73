"""What no verdict depends on is found, and what no engine could evaluate."""

from __future__ import annotations

import pytest

from sidecar.rego.reading import reading_of
from sidecar.rego.syntax.tree import Text
from tests import servers
from tests.catalog.files import ROOT
from tests.values import the_catalog

AUTHZ = {
    f"authz/{path.name}": path.read_text()
    for path in (ROOT / "policies/authz").glob("*.rego")
    if not path.name.endswith("_test.rego")
}
DENIES = 'denials contains "x" if input.plan == "pro"'
NOT_ASKED = [
    'denial contains "x" if input.plan == "pro"',
    'deny contains "x" if input.plan == "pro"',
    'denails contains "x" if input.plan == "pro"',
    'grants contains "x" if input.plan == "pro"',
    'Denials contains "x" if input.plan == "pro"',
    'deny if input.plan == "pro"',
    'deny := "x" if input.plan == "pro"',
    'denial["x"] := true if input.plan == "pro"',
    'allow if input.plan == "pro"',
    '_blocked contains "x"\n\ncollected if count(_blocked) > 0',
    'twice contains "x" if twice_over\n\ntwice_over if input.plan == "pro"',
]
ASKED = [
    '_plans contains "pro"\n\ndenials contains "x" if input.plan in _plans',
    '_plans contains "pro"\n\n_is(plan) if plan in _plans\n\ndenials contains "x" if _is(input.plan)',
    '_codes contains "a" if input.plan == "pro"\n\ndenials contains code if some code in _codes',
    'unused := 1\n\ndenials contains "x" if input.plan == "pro"',
]
UNBUILDABLE = [
    ('denials contains "x" if _a\n\n_a if _b\n\n_b if _a', [5, 7]),
    ('_f(x) := _f(x)\n\ndenials contains "x" if _f(1)', [3]),
    ('denials contains "x" if count(denials) > 0', [3]),
    ('denials contains "x" if not _a\n\n_a if y == 1', [5]),
    ('denials contains "x" if input.plan == plan', [3]),
    ("denials contains code if input.plan", [3]),
    ('denials contains "x" if {\n\tsome x\n\tx == 1\n}', [5]),
    ('denials contains "x" if [y | input.plan] == []', [3]),
    ('denials contains "x" if input.plan\n\ndenials := {"y"} if input.role', [5]),
    ('_a := 1\n\n_a(x) := x\n\ndenials contains "x" if _a == 1', [5]),
    ("a(x) := x\n\na(x, y) := x + y", [5]),
]


def codes_of(text, *, tests=None, **more):
    texts = {**AUTHZ, "custom/x.rego": f"package custom\n\n{text}\n"}
    texts |= {f"{path.replace('_', '/')}.rego": module for path, module in more.items()}
    return [
        (each.source.removeprefix("policies/"), each.line, each.code)
        for each in reading_of(texts, tests or {}, folder="policies").names(the_catalog())
    ]


def unbuildable(text):
    texts = {**AUTHZ, "custom/x.rego": f"package custom\n\n{text}\n"}
    found = reading_of(texts, {}, folder="policies").unbuildable()
    return [each for each in found if each.source == "policies/custom/x.rego"]


@pytest.mark.parametrize("rule", NOT_ASKED)
def test_a_rule_that_looks_like_a_denial_and_that_nobody_asks_is_found(rule):
    assert codes_of(rule) == [("custom/x.rego", 3, "not_asked")]


@pytest.mark.parametrize("rule", ASKED)
def test_what_denials_depend_on_is_asked(rule):
    assert codes_of(rule) == []


def test_what_is_called_like_a_denial_in_a_package_below_is_not_asked_either():
    below = 'package custom.geo\n\ndeny contains "x" if input.plan == "pro"\n'

    assert codes_of("", custom_geo_x=below) == [("custom/geo/x.rego", 3, "not_asked")]
    used = "import data.custom.geo\n\ndenials contains code if some code in geo.deny"
    assert codes_of(used, custom_geo_x=below) == []
    assert codes_of("", custom_geo_x=below.replace("deny contains", "is_dear contains")) == []
    assert codes_of("", custom_geo_x="package custom.geo\n\ndenied(plan) if plan\n") == []


def test_denials_of_a_package_below_are_not_asked_unless_ours_refer_to_them():
    below = f"package custom.geo\n\n{DENIES}\n"

    assert codes_of("", custom_geo_x=below) == [("custom/geo/x.rego", 3, "not_asked")]
    assert codes_of("denials contains code if some code in data.custom.geo.denials", custom_geo_x=below) == []


def test_denials_in_a_file_of_tests_are_not_loaded():
    tests = {"custom/geo_test.rego": f"package custom\n\n{DENIES}\n"}

    assert codes_of(DENIES, tests=tests) == [("custom/geo_test.rego", 3, "not_asked")]
    assert codes_of(DENIES, tests={"custom/x_test.rego": "package custom_test\n\ntest_a if true\n"}) == []


@pytest.mark.parametrize(("rule", "lines"), UNBUILDABLE)
def test_what_no_engine_could_evaluate_is_found_without_one(rule, lines):
    found = unbuildable(rule)

    assert [each.line for each in found] == lines
    assert {each.code for each in found} == {"does_not_build"}


@pytest.mark.opa
@pytest.mark.parametrize(("rule", "lines"), UNBUILDABLE)
def test_opa_refuses_the_same(rule, lines, tmp_path):
    (tmp_path / "x.rego").write_text(f"package custom\n\n{rule}\n")

    assert lines
    assert servers.opa("check", tmp_path / "x.rego").returncode != 0


def test_two_files_with_metadata_of_one_package_do_not_build():
    texts = {
        f"custom/{name}.rego": f"# METADATA\n# title: {name}\npackage custom\n\n_{name} := 1\n"
        for name in ("a", "b")
    }
    found = reading_of(texts, {}, folder="policies").unbuildable()

    assert [(each.source, each.line, each.code) for each in found] == [
        ("policies/custom/b.rego", 3, "does_not_build")
    ]


def test_the_context_that_a_rule_looks_at_is_known_through_its_helpers():
    texts = {
        "custom/x.rego": (
            "package custom\n\nimport data.custom.lib\n\n"
            'denials contains "a" if lib.is_weak(input.context.mfa)\n\n'
            'denials contains "b" if not _known\n\n_known if lib.country\n\n'
            'denials contains "c" if count(input.context) > 0\n\n'
            'denials contains "d" if input.plan == "pro"\n'
        ),
        "custom/lib/x.rego": (
            "package custom.lib\n\nis_weak(mfa) if mfa == false\n\ncountry := input.context.country\n"
        ),
    }
    reading = reading_of(texts, {}, folder="policies")
    looks = {
        written.rule.element.value: reading.depends.context_of(written.rule)
        for written in reading.program.rules["custom", "denials"]
        if isinstance(written.rule.element, Text)
    }

    assert looks == {"a": {"mfa"}, "b": {"country"}, "c": {""}, "d": set()}
