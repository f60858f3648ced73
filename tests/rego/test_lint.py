"""What policies may be, as this program sees it by itself and as OPA sees it."""

from __future__ import annotations

import json
import re

import pytest

from sidecar.errors import NotAsked
from sidecar.rego.context import context_fields_in
from sidecar.rego.lint import (
    ALLOWED_BUILTINS,
    INPUT_FIELDS,
    opa_binary,
    problems_by_opa,
    problems_in,
)
from sidecar.rego.load import modules_at
from tests import servers
from tests.catalog.files import ROOT


def lines_about(**modules):
    """*modules* are bodies of rules by the folder they stand in."""
    texts = {f"{folder}/x.rego": f"package {folder}\n\n{text}\n" for folder, text in modules.items()}
    return [str(problem) for problem in problems_in(texts, folder="policies")]


def by_opa(tmp_path, **modules):
    for folder, text in modules.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.rego").write_text(f"package {folder}\n\n{text}\n")
    return problems_by_opa(tmp_path, modules_at(tmp_path), opa=servers.opa_binary())


ALLOWED = [
    "a if count([1]) == 1",
    'a := object.get(input, "action", null)',
    "f(x) := x\n\na if f(1) == 1",
    "default f(_) := false\n\nf(x) if x == 1\n\na if f(1)",
    "import data.authz.helper\n\na if helper.f(1)",
    "import data.authz.helper as h\n\na if h.f(1)",
    "a if data.authz.f(1)",
    'a contains "http.send(1)" if true',
    "a contains `time.now_ns()` if true # rand.intn(1)",
    'a if not _x\n\n_x if false\n\nb if input.context.country in {"aq"}\n\nc if every x in [1] { x == 1 }',
    'a := "a \\" http.send(1)"',
    "  f(x) := x\n\n  a if f(1)",
]
REFUSED = [
    ("a if time.now_ns() > 1", "time.now_ns"),
    ('a if http.send({"url": "x"})', "http.send"),
    ("a if rand.intn(1, 2)", "rand.intn"),
    ("a if opa.runtime()", "opa.runtime"),
    ("a := sprintf(`%v`, [1])", "sprintf"),
    ("a := sort([2, 10])", "sort"),
    ("a := max([2, 10])", "max"),
    ('a := object.union({"x": {"y": 1}}, {"x": {"z": 1}})', "object.union"),
    ("a if {\n\tx := 1\nwalk(x, [p, v])\n}", "walk"),
    ('a if startswith("a", trim("b", "c"))', "trim"),
    ("a if time . now_ns() > 1", "time.now_ns"),
    ("f(x) := x\n\na if count.f(1)", "count.f"),
    ("a := [\n  sprintf(1, 2),\n]", "sprintf"),
]


BARE = [
    "a if not _b",
    "a if {\n\tnot _b\n}",
    "a if { not _b; true }",
    "a if not _b # why",
    "a := [1 | not _b]",
]
NOT_BARE = [
    'a if not input.role in {"owner"}',
    "a if not input.role",
    "a if not input",
    "a if not (1 == 2)",
    "a if not(_b)",
    "a if not _b == 1",
    "a if not _b in {1}",
    "a if not _f(1)",
    "a if not _b.c",
    'a if not _b["c"]',
    "a if { not _b.c; true }",
    "a if not data.custom.x",
    "a if not true",
    "a if not every x in [1] { x == 1 }",
]
INPUT = ["action", "role", "plan", "status", "overrides.features.sso", "room.fits_in", "context.country"]


@pytest.mark.parametrize("rule", ALLOWED)
def test_a_policy_may(rule):
    assert lines_about(authz=rule, custom=rule) == []


@pytest.mark.parametrize(("rule", "name"), REFUSED)
def test_a_policy_may_not_call(rule, name):
    (line,) = lines_about(custom=rule)

    assert f" {name} is not among the builtins that policies may call" in line
    assert line.endswith("(builtin_not_allowed)")


def test_a_call_is_reported_where_it_stands():
    (line,) = lines_about(custom="# why\na if time.now_ns() > 1")

    assert line.startswith("policies/custom/x.rego:4:6: ")


@pytest.mark.parametrize("rule", BARE)
def test_not_stands_before_the_bare_name_of_a_rule(rule):
    assert lines_about(custom=f"{rule}\n\n_b if false") == []


@pytest.mark.parametrize("rule", NOT_BARE)
def test_and_before_nothing_else(rule):
    lines = lines_about(custom=f"{rule}\n\n_b if false\n\n_f(x) if x == 1")

    assert [line.rpartition(" ")[2] for line in lines] == ["(not_without_name)"]


@pytest.mark.parametrize("field", INPUT)
def test_a_policy_may_look_at_what_a_situation_holds(field):
    assert lines_about(custom=f"a if input.{field} == 1") == []


@pytest.mark.parametrize("field", ["rol", "user", "workspace", "amounts.minutes", "Role"])
def test_a_policy_that_looks_at_anything_else_would_never_hold(field):
    (line,) = lines_about(custom=f"a if input.{field} == 1")

    assert line.endswith(f"input.{field.split('.')[0]} is never there: this would never hold (unknown_input)")


@pytest.mark.parametrize(
    "rule",
    [
        "a := data",
        'a := data["authzen"]',
        "a if data.authzen.users.adam",
        "import data.authzen.x\n\na if x.f(1)",
        "a := data.system",
    ],
)
def test_a_policy_looks_at_no_other_domain(rule):
    [line] = lines_about(custom=rule)

    assert line.endswith("is not for this policy: write data.authz.… or data.custom.… (unknown_data)")


def test_what_a_situation_holds_is_what_its_schema_says():
    schema = json.loads((ROOT / "schemas/input.json").read_text())

    assert set(schema["properties"]) == INPUT_FIELDS


def test_a_name_in_brackets_hides_no_builtin():
    assert [line.rpartition(" ")[2] for line in lines_about(custom='a if http["send"]({})')] == [
        "(builtin_not_allowed)"
    ]


def test_text_with_values_in_it_hides_no_builtin():
    assert [line.rpartition(" ")[2] for line in lines_about(custom='a := $"{time.now_ns()}"')] == [
        "(builtin_not_allowed)"
    ]


@pytest.mark.parametrize("folder", ["authz", "custom"])
@pytest.mark.parametrize(
    "what",
    ["count as time.now_ns", "input as {}", "data.custom.denials as {1}", "data.authz.plans as {}"],
)
def test_only_tests_may_replace_what_is_known(folder, what):
    (line,) = lines_about(**{folder: f"a if count([1]) == 1 with {what}"})

    assert line.endswith("(with_in_policy)")


def test_what_decides_may_ask_itself_about_another_situation_and_nothing_else_may():
    asks = "a if _b with input.plan as 1 with input.room as _c\n\n_b if input.plan == 1\n\n_c := 1"

    assert lines_about(authz=asks) == []
    assert [line.rpartition(" ")[2] for line in lines_about(custom=asks)] == ["(with_in_policy)"] * 2
    assert [line.rpartition(" ")[2] for line in lines_about(authz="a if _b with input.user as 1")] == [
        "(unknown_input)"
    ]


def test_a_function_is_known_in_its_own_package_alone():
    assert len(lines_about(authz="f(x) := x", custom="a if f(1)")) == 1


def test_a_custom_rule_cannot_join_the_package_that_decides():
    problems = problems_in({"custom/x.rego": "# about\npackage authz\n"}, folder="policies")

    assert "".join(map(str, problems)) == (
        "policies/custom/x.rego:2:1: package authz in the folder custom: expected package custom"
        " (package_not_its_folder)"
    )


@pytest.mark.parametrize("path", ["x.rego", "other/x.rego"])
def test_a_policy_outside_the_roots_would_not_be_loaded(path):
    problems = problems_in({path: "package other\n"}, folder="policies")

    assert [problem.code for problem in problems] == ["outside_the_roots"]


def test_a_file_without_a_package_is_reported():
    problems = problems_in({"authz/x.rego": "a := 1\n"}, folder="policies")

    assert [(problem.line, problem.message) for problem in problems] == [
        (1, "no package in the folder authz: expected package authz")
    ]


METADATA = "package authz\n\n# METADATA\n# title: what is decided\n# entrypoint: true\n{}decision := 1\n"


@pytest.mark.parametrize(
    ("comment", "fields"),
    [
        ("# custom:\n#   context: [country, device]\n", {"country", "device"}),
        ("# custom:\n#   context: []\n", set()),
        ("# custom:\n#   context:\n#     - country\n", {"country"}),
        ("# custom:\n#   other: 1\n", set()),
        ("", set()),
    ],
)
def test_context_is_declared_with_the_entrypoint(comment, fields):
    modules = {"authz/decision.rego": METADATA.format(comment)}

    assert problems_in(modules, folder="policies") == []
    assert context_fields_in(modules) == fields


def test_context_is_declared_by_the_deciding_package_alone():
    modules = {"custom/x.rego": METADATA.format("# custom:\n#   context: [country]\n")}

    assert context_fields_in(modules) == set()


ABOUT = "# METADATA\n# title: ours\n{}# custom:\n#   context: [mfa]\npackage {}\n"


@pytest.mark.parametrize(
    ("path", "text", "fields"),
    [
        ("custom/x.rego", ABOUT.format("", "custom"), {"mfa"}),
        ("custom/x.rego", ABOUT.format("# scope: package\n", "custom"), {"mfa"}),
        ("custom/x.rego", f"# a licence\n\n{ABOUT.format('', 'custom')}\nimport rego.v1\n", {"mfa"}),
        ("custom/x.rego", ABOUT.format("# scope: subpackages\n", "custom"), set()),
        ("custom/x.rego", ABOUT.format("# scope: rule\n", "custom"), set()),
        ("custom/lib/x.rego", ABOUT.format("", "custom.lib"), set()),
        ("custom/x.rego", "package custom\n\n# METADATA\n# custom:\n#   context: [mfa]\na := 1\n", set()),
    ],
)
def test_context_may_be_declared_by_package_custom_too(path, text, fields):
    decision = METADATA.format("# custom:\n#   context: [country]\n")

    assert context_fields_in({path: text, "authz/decision.rego": decision}) == {"country"} | fields
    assert problems_in({path: text}, folder="policies") == []


def test_context_of_package_custom_that_is_no_list_of_names_is_reported():
    text = ABOUT.format("", "custom").replace("[mfa]", "mfa")

    assert [(each.line, each.code) for each in problems_in({"custom/x.rego": text}, folder="policies")] == [
        (4, "bad_context")
    ]


def test_context_without_an_entrypoint_is_not_declared():
    text = METADATA.format("# custom:\n#   context: [country]\n").replace("# entrypoint: true\n", "")

    assert context_fields_in({"authz/x.rego": text}) == set()
    assert (
        context_fields_in({"authz/x.rego": text.replace("# custom", "# entrypoint: false\n# custom")})
        == set()
    )


@pytest.mark.parametrize("value", ["country", "[1]", "{a: b}", ""])
def test_context_that_is_no_list_of_names_is_reported(value):
    modules = {"authz/decision.rego": METADATA.format(f"# custom:\n#   context: {value}\n")}

    assert [(problem.line, problem.code) for problem in problems_in(modules, folder="policies")] == [
        (7, "bad_context")
    ]


def test_metadata_that_is_no_yaml_is_reported_where_it_stands():
    modules = {"authz/decision.rego": METADATA.format("# custom: [\n")}

    assert [(problem.line, problem.code) for problem in problems_in(modules, folder="policies")] == [
        (7, "yaml_syntax")
    ]


@pytest.mark.opa
@pytest.mark.parametrize("rule", [rule for rule in ALLOWED if "data." not in rule])
def test_opa_agrees_that_a_policy_may(rule, tmp_path):
    assert by_opa(tmp_path, custom=rule) == []


@pytest.mark.opa
@pytest.mark.parametrize(
    "rule", [*(rule for rule, _ in REFUSED), 'a if http["send"]({})', 'a := $"{time.now_ns()}"']
)
def test_opa_agrees_that_a_policy_may_not(rule, tmp_path):
    assert by_opa(tmp_path, custom=rule) != []


@pytest.mark.opa
def test_what_opa_finds_has_a_place_and_a_code(tmp_path):
    (problem,) = by_opa(tmp_path, custom="a if time.now_ns() > 1")

    assert str(problem) == f"{tmp_path}/custom/x.rego:3:6: undefined function time.now_ns (rego_type_error)"


@pytest.mark.opa
@pytest.mark.parametrize("place", ['["rol"]', '["overrides"].feature', ".overrides.feature"])
def test_opa_knows_what_a_situation_holds(place, tmp_path):
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/x.rego").write_text(f"package custom\n\na if input{place} == 1\n")
    schema = ROOT / "schemas/input.json"
    found = problems_by_opa(tmp_path, modules_at(tmp_path), opa=servers.opa_binary(), schema=schema)

    assert [problem.code for problem in found] == ["rego_type_error"]


@pytest.mark.opa
def test_every_allowed_builtin_is_one_of_opas(tmp_path):
    arity = {"array.concat": 2, "endswith": 2, "object.get": 3, "startswith": 2}
    rules = [
        f"a{number} := {name}({', '.join(['input.x'] * arity.get(name, 1))})"
        for number, name in enumerate(sorted(ALLOWED_BUILTINS))
    ]

    assert by_opa(tmp_path, custom="\n\n".join(rules)) == []


@pytest.mark.opa
def test_the_shipped_policies_are_sound():
    folder = ROOT / "policies"
    modules = modules_at(folder)

    assert problems_in(modules, folder="policies") == []
    assert problems_by_opa(folder, modules, opa=servers.opa_binary()) == []


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_where_there_is_no_policy_opa_is_not_asked(tmp_path):
    assert problems_by_opa(tmp_path, {}, opa=tmp_path) == []


def test_an_opa_that_does_not_run_is_told(tmp_path):
    with pytest.raises(NotAsked, match=r"does not run: Permission denied"):
        problems_by_opa(tmp_path, {"x.rego": ""}, opa=tmp_path)


def test_an_opa_that_hangs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.rego.lint._OPA_TIMEOUT_S", 0.05)

    with pytest.raises(NotAsked, match=r"opa capabilities did not end within 0\.05 s"):
        problems_by_opa(tmp_path, {"x.rego": ""}, opa=script(tmp_path / "opa", "exec sleep 5"))


def test_an_opa_that_fails_without_a_list_is_told(tmp_path):
    answer = (
        'if [ "$1" = capabilities ]; then echo \'{"builtins": []}\'; else echo "disk full" >&2; exit 2; fi'
    )

    with pytest.raises(NotAsked, match="opa check: disk full"):
        problems_by_opa(tmp_path, {"x.rego": ""}, opa=script(tmp_path / "opa", answer))


def test_an_error_of_opa_without_a_place_is_one_of_the_folder(tmp_path):
    answer = (
        'if [ "$1" = capabilities ]; then echo \'{"builtins": []}\';'
        ' else echo \'{"errors": [{"message": "no such\\\\nthing"}]}\' >&2; exit 1; fi'
    )
    (problem,) = problems_by_opa(tmp_path, {"x.rego": ""}, opa=script(tmp_path / "opa", answer))

    assert str(problem) == f"{tmp_path}:1:1: no such thing (rego_error)"


def test_opa_is_looked_for_on_the_path_and_then_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert opa_binary() is None
    for folder in (tmp_path / ".cache/opa-bin", tmp_path / "bin"):
        folder.mkdir(parents=True)
        script(folder / "opa", "exit 0")

        assert opa_binary() == folder / "opa"


def test_a_user_without_a_home_has_no_opa_there(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("pathlib.Path.home", homeless)

    assert opa_binary() is None


def test_the_docs_list_the_builtins_that_are_allowed():
    last = (ROOT / "docs/plans.md").read_text().rpartition("may call only")[2]

    assert set(re.findall(r"`([a-z._]+)`", last)) == ALLOWED_BUILTINS
