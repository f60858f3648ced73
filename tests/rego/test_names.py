"""Names in policies that nobody declares are found in whatever form they are written, and others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.decisions.cells import STATUSES as STATUSES_IN_CELLS
from sidecar.rego.context import context_fields_in, waiting_in
from sidecar.rego.declared import STATUSES, declared_by
from sidecar.rego.lint import INPUT_FIELDS
from sidecar.rego.names import unknown_names_in
from sidecar.rego.program import program_of
from tests.catalog.files import ROOT
from tests.values import the_catalog

if TYPE_CHECKING:
    from sidecar.catalog.finding import Finding

# A rule of package custom, and of its one mistake the code, the place and what it suggests.
MISTAKES = [
    ('denials contains "x" if input.plan == "prr"', "unknown_name", "3:39", "pro"),
    ('denials contains "x" if "prr" == input.plan', "unknown_name", "3:25", "pro"),
    ('denials contains "x" if input.plan != "prr"', "unknown_name", "3:39", "pro"),
    ('denials contains "x" if input.plan in {"pro", "tam"}', "unknown_name", "3:47", "team"),
    (
        'denials contains "x" if input.action in ["recording.strt",\n "platform.use"]',
        "unknown_name",
        "3:42",
        "recording.start",
    ),
    (
        'denials contains "x" if input.action in {"a": "recording.strt"}',
        "unknown_name",
        "3:47",
        "recording.start",
    ),
    ('denials contains "x" if input["role"] == "ownr"', "unknown_name", "3:42", "owner"),
    ('denials contains "x" if input.plan == _p\n_p := "prr"', "unknown_name", "4:7", "pro"),
    ('denials contains "x" if input.plan in _p\n_p := {"prr", "pro"}', "unknown_name", "4:8", "pro"),
    (
        'denials contains "x" if input.plan in _p\n_p contains "prr"\n_p contains "pro"',
        "unknown_name",
        "4:13",
        "pro",
    ),
    (
        'denials contains "x" if _p[input.plan]\n_p := {"prr": true, "pro": true}',
        "unknown_name",
        "4:8",
        "pro",
    ),
    ('denials contains "x" if _p[input.plan]\n_p := {"prr", "pro"}', "unknown_name", "4:8", "pro"),
    (
        'denials contains "x" if object.get(_p, input.plan, false)\n_p := {"prr": true, "pro": true}',
        "unknown_name",
        "4:8",
        "pro",
    ),
    ('denials contains "x" if object.get(input, "plan", "") == "prr"', "unknown_name", "3:58", "pro"),
    (
        'denials contains "x" if object.get(input, ["overrides","features","sso"], false)',
        "unknown_name",
        "3:67",
        None,
    ),
    (
        'denials contains "x" if {\n a := input.action\n a == "recording.strt"\n}',
        "unknown_name",
        "5:7",
        "recording.start",
    ),
    (
        'denials contains "x" if {\n a := "recording.strt"\n a == input.action\n}',
        "unknown_name",
        "4:7",
        "recording.start",
    ),
    (
        'denials contains "x" if {\n some a in {"recording.strt"}\n a == input.action\n}',
        "unknown_name",
        "4:13",
        "recording.start",
    ),
    (
        'denials contains "x" if {\n some p in input.room.fits_in\n p == "prr"\n}',
        "unknown_name",
        "5:7",
        "pro",
    ),
    ('denials contains "x" if "prr" in input.room.fits_in', "unknown_name", "3:25", "pro"),
    ('denials contains "x" if input.room.fits_in[_] == "prr"', "unknown_name", "3:50", "pro"),
    ('denials contains "x" if {\n some i\n input.room.fits_in[i] == "prr"\n}', "unknown_name", "5:27", "pro"),
    ('denials contains "x" if every p in input.room.fits_in { p != "prr" }', "unknown_name", "3:62", "pro"),
    ('denials contains "x" if _is("prr")\n_is(p) if input.plan == p', "unknown_name", "3:29", "pro"),
    ('denials contains "x" if _is(input.plan)\n_is(p) if p == "prr"', "unknown_name", "4:16", "pro"),
    ('denials contains "x" if _is(input.plan)\n_is("prr")', "unknown_name", "4:5", "pro"),
    ('denials contains "x" if _is(input.plan, "prr")\n_is(a, b) if a == b', "unknown_name", "3:41", "pro"),
    (
        'denials contains "x" if _cheap(input.plan)\n_cheap(p) if p in {"startr"}',
        "unknown_name",
        "4:20",
        "starter",
    ),
    (
        'denials contains "x" if _t == 1\n_t := 1 if input.plan == "pro" else := 2 if input.plan == "prr"',
        "unknown_name",
        "4:59",
        "pro",
    ),
    ('denials contains "x" if count([1 | input.plan == "prr"]) > 0', "unknown_name", "3:50", "pro"),
    (
        'denials contains "x" if [input.action, input.plan] == ["recording.start", "prr"]',
        "unknown_name",
        "3:75",
        "pro",
    ),
    (
        'denials contains "x" if [input.action, input.plan] in {["recording.start", "prr"]}',
        "unknown_name",
        "3:76",
        "pro",
    ),
    (
        'denials contains "x" if {\n some r in _r\n r.plan == input.plan\n}\n_r := [{"plan": "prr"}]',
        "unknown_name",
        "7:17",
        "pro",
    ),
    ('denials contains "x" if {input.plan} == {"prr"}', "unknown_name", "3:42", "pro"),
    ('denials contains "x" if count({input.plan} & {"prr"}) > 0', "unknown_name", "3:47", "pro"),
    ('denials contains "x" if count({input.plan} - {"prr"}) == 0', "unknown_name", "3:47", "pro"),
    ('denials contains "x" if input.plan in ({"prr"} | {"pro"})', "unknown_name", "3:41", "pro"),
    ('denials contains "x" if input.overrides.features.sso', "unknown_name", "3:50", None),
    ('denials contains "x" if input.overrides.features["sso"] == true', "unknown_name", "3:50", None),
    ('denials contains "x" if "sso" in object.keys(input.overrides.features)', "unknown_name", "3:25", None),
    ('denials contains "x" if input.overrides.features == {"sso": true}', "unknown_name", "3:54", None),
    ('denials contains "x" if input.overrides == {"features": {"sso": true}}', "unknown_name", "3:58", None),
    ('import input.overrides.features as f\ndenials contains "x" if f.sso', "unknown_name", "4:27", None),
    ('import input.plan as plan\ndenials contains "x" if plan == "prr"', "unknown_name", "4:33", "pro"),
    (
        'import data.authz.plans\ndenials contains "x" if plans.plans.prr.price > 1',
        "unknown_name",
        "4:37",
        "pro",
    ),
    (
        'import data.authz.plans as catalog\ndenials contains "x" if catalog.plns[input.plan].price > 1',
        "unknown_data",
        "4:33",
        "plans",
    ),
    ('denials contains "x" if data.authz.plans.plans[input.plan].prize > 1', "unknown_data", "3:60", "price"),
    (
        'denials contains "x" if data.authz.plans.plans[input.plan].limits.minuts > 1',
        "unknown_data",
        "3:67",
        "minutes",
    ),
    (
        'denials contains "x" if data.authz.plans.actions["recording.strt"].feature',
        "unknown_data",
        "3:50",
        "recording.start",
    ),
    (
        'denials contains "x" if "sso" in data.authz.plans.plans[input.plan].features',
        "unknown_name",
        "3:25",
        None,
    ),
    ('denials contains "x" if data.authz.plans["plns"]', "unknown_data", "3:42", "plans"),
    ('denials contains "x" if _c.plns\n_c := data.authz.plans', "unknown_data", "3:28", "plans"),
    (
        'denials contains "x" if {\n c := data.authz.plans.plans\n c["prr"].price == 1\n}',
        "unknown_name",
        "5:4",
        "pro",
    ),
    ('denials contains "x" if "prr" in data.authz.plans.by_price', "unknown_name", "3:25", "pro"),
    (
        'denials contains "x" if {\n some p in data.authz.plans.by_price\n p == "prr"\n}',
        "unknown_name",
        "5:7",
        "pro",
    ),
    (
        'denials contains "x" if {\n some p, _ in data.authz.plans.plans\n p == "prr"\n}',
        "unknown_name",
        "5:7",
        "pro",
    ),
    (
        'denials contains "x" if {\n data.authz.plans.plans[p].price > 1\n p == "prr"\n}',
        "unknown_name",
        "5:7",
        "pro",
    ),
    (
        'denials contains "x" if data.authz.plans.actions[input.action].taks.minutes == 1',
        "unknown_data",
        "3:64",
        "takes",
    ),
    (
        'denials contains "x" if data.authz.plans.actions[input.action].takes.minuts == 1',
        "unknown_data",
        "3:70",
        "minutes",
    ),
    ('denials contains "x" if data.custom.hlp', "unknown_data", "3:37", None),
    ('import data.custom.lib\ndenials contains "x" if lib.hlp', "unknown_data", "3:1", None),
    ('denials contains "x" if input.context.country == "x"', "undeclared_context", "3:39", None),
    ('denials contains "x" if input.context["mfa"] == true', "undeclared_context", "3:39", None),
    (
        'denials contains "x" if object.get(input.context, "mfa", false) == false',
        "undeclared_context",
        "3:51",
        None,
    ),
    ('import input.context as ctx\ndenials contains "x" if ctx.mfa', "undeclared_context", "4:29", None),
    ('denials contains "x" if {\n c := input.context\n c.mfa == true\n}', "undeclared_context", "5:4", None),
    (
        'denials contains "x" if not _mfa\n_mfa if input.context.mfa == true',
        "undeclared_context",
        "4:23",
        None,
    ),
    (
        'denials contains "x" if object.get(input, ["context", "mfa"], false) == false',
        "undeclared_context",
        "3:55",
        None,
    ),
    ('denials contains "x" if "mfa" in object.keys(input.context)', "undeclared_context", "3:25", None),
    ('denials contains "x" if input.plan == `prr`', "unknown_name", "3:39", "pro"),
    (
        'denials contains "x" if startswith(input.action, "recordng.")',
        "unknown_name",
        "3:50",
        "recording.start",
    ),
    ('denials contains "x" if input.status == "activ"', "unknown_name", "3:41", "active"),
    ('denials contains "x" if input.status in {"trial"}', "unknown_name", "3:42", None),
    ('denials contains "x" if input.room.fitsin == []', "unknown_input", "3:36", "fits_in"),
    ('denials contains "x" if input["plann"] == "pro"', "unknown_input", "3:31", "plan"),
    (
        'denials contains "x" if _limit[input.plan] == 2\n_limit["prr"] := 2\n_limit["pro"] := 3',
        "unknown_name",
        "4:8",
        "pro",
    ),
    ('denials contains "x" if input.plan == "Pro"', "unknown_name", "3:39", "pro"),
    ('denials contains "x" if input.plan == "pro "', "unknown_name", "3:39", "pro"),
    (
        'denials contains "x" if "ownr" in data.authz.plans.actions[input.action].roles',
        "unknown_name",
        "3:25",
        "owner",
    ),
    (
        'denials contains code if {\n some code, plans in {"x": ["prr"]}\n input.plan in plans\n}',
        "unknown_name",
        "4:29",
        "pro",
    ),
    (
        'denials contains code if {\n some code in _codes[input.plan]\n}\n_codes := {"prr": ["a"]}',
        "unknown_name",
        "6:12",
        "pro",
    ),
    (
        'denials contains "x" if {"a": input.action, "p": input.plan} == {"a": "platform.use", "p": "prr"}',
        "unknown_name",
        "3:92",
        "pro",
    ),
    (
        'denials contains "x" if {\n [a, "prr"] = [input.action, input.plan]\n a == "platform.use"\n}',
        "unknown_name",
        "4:6",
        "pro",
    ),
]
SEVERAL = """
denials contains "x" if input.plan in {"pro", "prr", "starter", "strter"}
denials contains "x" if input.role == "ownr"
"""


def found_in(text: str, **more: str) -> list[Finding]:
    texts = {"custom/x.rego": f"package custom\n\n{text}\n"}
    texts |= {f"{path.replace('_', '/')}.rego": module for path, module in more.items()}
    program = program_of(texts)
    declared = declared_by(the_catalog(), context=context_fields_in(texts))
    waiting = waiting_in(program.modules, texts)
    return unknown_names_in(program, texts, declared=declared, waiting=waiting, folder="policies")


@pytest.mark.parametrize(("rule", "code", "place", "suggestion"), MISTAKES)
def test_a_name_that_nobody_declares_is_found_where_it_stands(rule, code, place, suggestion):
    [finding] = found_in(rule)

    assert (finding.code, f"{finding.line}:{finding.column}", finding.suggestion) == (code, place, suggestion)
    assert finding.source == "policies/custom/x.rego"


def test_all_of_them_are_found_in_order():
    assert [(each.line, each.suggestion) for each in found_in(SEVERAL)] == [
        (4, "pro"),
        (4, "starter"),
        (5, "owner"),
    ]


def test_a_rule_of_authz_that_is_not_there_is_found():
    authz = (ROOT / "policies/authz/denials.rego").read_text()

    assert found_in("a if data.authz.denials", authz_denials=authz) == []
    [finding] = found_in("a if data.authz.denial", authz_denials=authz)
    assert (finding.code, finding.suggestion) == ("unknown_data", "denials")


def test_a_helper_is_found_where_it_is():
    helper = 'package custom.lib\n\nis_dear(plan) if plan == "team"\n'
    rule = 'import data.custom.lib\n\ndenials contains "x" if lib.{}(input.plan)'

    assert found_in(rule.format("is_dear"), custom_lib_x=helper) == []
    [finding] = found_in(rule.format("is_deer"), custom_lib_x=helper)
    assert (finding.code, finding.suggestion) == ("unknown_data", "is_dear")
    [finding] = found_in(rule.format("is_dear"), custom_lib_x=helper.replace("team", "taem"))
    assert (finding.source, finding.suggestion) == ("policies/custom/lib/x.rego", "team")


def test_a_field_of_the_context_is_known_once_it_is_declared():
    rule = 'denials contains "x" if not _mfa\n\n_mfa if input.context.mfa == true'
    declares = "# METADATA\n# custom:\n#   context: [mfa]\npackage custom\n"

    assert [each.code for each in found_in(rule)] == ["undeclared_context"]
    assert found_in(rule, custom_about=declares) == []
    [finding] = found_in(rule, custom_about=declares.replace("mfa", "mfb"))
    assert finding.suggestion == "mfb"


def test_a_rule_may_wait_for_a_field_and_another_rule_does_not():
    waits = '# METADATA\n# custom:\n#   off_until_declared: [mfa]\ndenials contains "x" if input.context.mfa'

    assert found_in(waits) == []
    assert [each.line for each in found_in(f'{waits}\n\ndenials contains "y" if input.context.mfa')] == [8]
    assert [each.code for each in found_in(waits.replace("context.mfa", "context.mfb"))] == [
        "undeclared_context"
    ]


def test_a_name_in_a_table_that_stands_for_all_others_is_no_mistake():
    table = '_most := {"starter": 1, "default": 2}\n\n'

    assert found_in(f'{table}a if object.get(_most, input.plan, _most["default"]) == 2') == []
    [finding] = found_in(f"{table}a if object.get(_most, input.plan, 0) == 2")
    assert (finding.line, finding.code) == (3, "unknown_name")


def test_what_a_function_is_called_with_in_two_places_is_not_mixed():
    rules = '_is(one, other) if one == other\n\na if _is(input.plan, "pro")\n\nb if _is(input.role, "owner")'

    assert found_in(rules) == []
    assert [each.suggestion for each in found_in(rules.replace('"owner"', '"ownr"'))] == ["owner"]


def test_the_shipped_policies_have_none_for_the_shipped_catalog():
    texts = {
        path.relative_to(ROOT / "policies").as_posix(): path.read_text()
        for path in (ROOT / "policies").rglob("*.rego")
        if not path.name.endswith("_test.rego")
    }
    program = program_of(texts)
    declared = declared_by(the_catalog(), context=frozenset())
    waiting = waiting_in(program.modules, texts)

    assert unknown_names_in(program, texts, declared=declared, waiting=waiting, folder="policies") == []


def test_the_statuses_and_fields_are_those_of_a_situation():
    assert STATUSES == STATUSES_IN_CELLS
    assert [each.code for field in INPUT_FIELDS for each in found_in(f'a if input["{field}"]')] == []
