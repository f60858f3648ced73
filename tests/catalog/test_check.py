"""What a sound file becomes, and which problems do not hide or echo one another."""

from __future__ import annotations

import pytest

from sidecar.catalog.catalog import Cell, Choice, Ladder, Separate, Source
from sidecar.catalog.finding import Finding
from sidecar.catalog.invariants import HTTP_STATUSES, REASONS
from sidecar.decisions.reasons import REASONS as ALL_REASONS
from tests.catalog.files import HEAD, SMALL, check, codes_in, sound


def test_the_smallest_catalog_is_a_catalog():
    catalog = sound(SMALL)

    assert list(catalog.roles) == ["member"]
    assert list(catalog.actions) == ["role:member"]
    assert catalog.plans["free"].limits == {}


def test_a_finding_reads_like_a_compilers():
    finding = Finding(
        source="plans.yaml",
        line=31,
        column=7,
        code="unknown_plan",
        message='plan "pro" extends "startr", which does not exist',
        suggestion="starter",
    )

    assert str(finding) == (
        'plans.yaml:31:7: plan "pro" extends "startr", which does not exist;'
        ' did you mean "starter"? (unknown_plan)'
    )
    assert finding.problem.pointer == "plans.yaml:31:7"
    assert str(finding) == f"{finding.problem.pointer}: {finding.problem.detail}"


def test_a_title_is_the_name_with_a_capital_letter_where_there_is_none():
    catalog = sound(SMALL + "features: {video_avatar: , sso: {title: single sign-on}}\n")

    assert catalog.roles["member"].title == "Member"
    assert catalog.features["video_avatar"].title == "Video avatar"
    assert catalog.features["sso"].title == "single sign-on"
    assert catalog.actions["feature:sso"].title == "single sign-on"


def test_roles_stand_least_first_whatever_the_file_says_first():
    catalog = sound(
        f"{HEAD}plans: {{free: {{price: 0}}}}\n"
        "roles: {owner: {includes: [admin, billing]}, admin: {includes: member}, billing: , member: }\n"
        "actions:\n  a: {role: billing}\n  b.c: {role: member}\n  d: {roles: [owner, member]}\n"
    )

    assert list(catalog.roles) == ["billing", "member", "admin", "owner"]
    assert catalog.roles["owner"].includes == {"admin", "billing", "member"}
    assert {name: catalog.actions[name].roles for name in catalog.declared_actions} == {
        "a": ("billing", "owner"),
        "b.c": ("member", "admin", "owner"),
        "d": ("member", "owner"),
    }
    assert catalog.actions["role:admin"].roles == ("admin", "owner")


def test_plans_stand_cheapest_first_and_inherit_what_they_do_not_say():
    catalog = sound(
        f"{HEAD}roles: {{member: }}\nfeatures: {{a: , b: }}\n"
        "meters: {x: {kind: level}, y: {counts: members}}\n"
        "plans:\n"
        "  team: {price: 9, extends: pro, features: [b]}\n"
        "  pro: {price: 5, extends: free, limits: {x: unlimited}, title: Professional}\n"
        "  also: {price: 5, extends: free}\n"
        "  free: {price: 0, features: [a], limits: {x: 0, y: 1000000000000}}\n"
    )

    assert list(catalog.plans) == ["free", "pro", "also", "team"]
    assert catalog.plans["team"].features == {"a", "b"}
    assert catalog.plans["team"].limits == {"x": None, "y": 10**12}
    assert catalog.plans["also"].limits == {"x": 0, "y": 10**12}
    assert catalog.plans["pro"].title == "Professional"


def test_a_meter_that_counts_members_need_not_say_that_it_is_a_level():
    rest = f"{HEAD}roles: {{member: }}\nplans: {{free: {{price: 0, limits: {{seats: 1}}}}}}\nmeters: "

    assert (
        sound(f"{rest}{{seats: {{counts: members}}}}").meters
        == sound(f"{rest}{{seats: {{kind: level, counts: members}}}}").meters
    )


def test_a_counter_may_begin_with_the_subscription():
    meter = sound(
        f"{HEAD}roles: {{member: }}\nplans: {{free: {{price: 0, limits: {{calls: 1}}}}}}\n"
        "meters: {calls: {kind: counter, per: month, anchor: subscription}}"
    ).meters["calls"]

    assert (meter.kind, meter.per, meter.anchor) == ("counter", "month", "subscription")


def test_for_every_feature_and_role_there_is_an_action():
    made = sound(SMALL + "features: {sso: }\n").actions

    assert set(made) == {"feature:sso", "role:member"}
    assert (made["feature:sso"].roles, made["feature:sso"].feature) == (("member",), "sso")
    assert (made["role:member"].roles, made["role:member"].feature) == (("member",), None)


def test_a_route_finds_user_and_workspace_where_it_says_or_where_they_mostly_are():
    usual, other = sound(
        SMALL + "actions: {a: {role: member}}\nroutes:\n"
        '  - {method: GET, path: "/{workspace}", action: a}\n'
        '  - {method: GET, path: "/x/", host: api.example.com, action: role:member, mode: consume,'
        " user: {header: X-User}, workspace: {claim: org}}\n"
    ).routes

    assert (usual.user, usual.workspace, usual.mode, usual.host) == (
        Source(kind="claim", name="sub"),
        Source(kind="path", name="workspace"),
        "check",
        None,
    )
    assert (other.user, other.workspace, other.mode, other.host) == (
        Source(kind="header", name="X-User"),
        Source(kind="claim", name="org"),
        "consume",
        "api.example.com",
    )


def test_one_path_may_be_routed_by_method_and_by_host():
    codes = codes_in(
        SMALL + "actions: {a: {role: member}}\nroutes:\n"
        '  - {method: GET, path: "/{workspace}", action: a}\n'
        '  - {method: PUT, path: "/{workspace}", action: a}\n'
        '  - {method: GET, path: "/{workspace}", host: a.example, action: a}\n'
    )

    assert codes == []


def invariant(text, above=""):
    actions = "actions: {a: {role: member}, b: {role: member}}\n"
    (found,) = sound(
        SMALL + f"  pro: {{price: 9}}\n{above}{actions}invariants:\n  - {{title: t, {text}}}\n"
    ).invariants
    return found


def test_an_invariant_names_one_or_several_or_all_but_some():
    found = invariant("always: {action: a, role: [member, stranger], plan: {not: free}, status: [active]}")

    assert (found.form, found.line) == ("always", 10)
    assert found.cell == Cell(
        action=Choice(values=("a",)),
        role=Choice(values=("member", "stranger")),
        plan=Choice(values=("free",), others=True),
        status=Choice(values=("active",)),
    )


def test_whenever_and_then_may_speak_of_the_verdict():
    found = invariant(
        "whenever: {http_status: [402, 429]}, then: {upgrade: some, detail: {not: no_recording}}"
    )

    assert found.cell == Cell(http_status=Choice(values=("402", "429")))
    assert found.then == Cell(
        upgrade=Choice(values=("some",)), detail=Choice(values=("no_recording",), others=True)
    )


@pytest.mark.parametrize(
    "text",
    [
        '{override: "on", room: "no", allow: "no"}',
        "{override: on, room: no, allow: no}",
        "{override: [on], room: [No], allow: [NO]}",
        "{override: true, room: false, allow: false}",
    ],
)
def test_where_a_word_means_yes_or_no_quotes_make_no_difference(text):
    found = invariant(f"whenever: {text}, then: {{reason: granted}}")

    assert found.cell == Cell(
        override=Choice(values=("on",)), room=Choice(values=("no",)), allow=Choice(values=("no",))
    )


def test_elsewhere_such_a_word_is_refused_as_before():
    text = SMALL + "invariants: [{title: t, never: {status: off, override: yes, role: on}}]\n"

    assert codes_in(text) == ["yaml_word"] * 3


@pytest.mark.parametrize(
    ("text", "ladder"),
    [
        ("roles", Ladder(of="roles", order=())),
        ("plans", Ladder(of="plans", order=())),
        ("{plans: [pro, free]}", Ladder(of="plans", order=("pro", "free"))),
    ],
)
def test_a_ladder_goes_by_the_file_or_as_listed(text, ladder):
    assert invariant(f"ladder: {text}").ladder == ladder


def test_duties_are_apart_but_for_some_roles():
    found = invariant("separate: {actions: [a, b], except: member}").separate

    assert found == Separate(actions=("a", "b"), exempt=("member",))


def test_the_reasons_and_statuses_that_a_promise_may_name_are_those_there_are():
    assert tuple(REASONS) == tuple(ALL_REASONS)
    assert set(HTTP_STATUSES) == set().union(*ALL_REASONS.values())


@pytest.mark.parametrize(
    "name", ["can-view-page-history", "java-sdk", "view_analytics", "a.b.c", "issue.create"]
)
def test_an_action_may_be_called(name):
    assert name in sound(f"{SMALL}actions:\n  {name}: {{role: member}}\n").actions


def test_a_bad_plan_does_not_hide_a_bad_action():
    assert codes_in(SMALL + "  pro: 5\nactions:\n  a: {role: nobody}\n") == ["wrong_type", "unknown_role"]


def test_an_anchor_does_not_hide_what_stands_behind_it():
    assert codes_in(SMALL + "  pro: &pro {price: free}\n") == ["yaml_anchor", "bad_price"]


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace("roles:", "role:") + "actions: {a: {role: boss}}\n",
        SMALL.replace("plans:", "plan:"),
        SMALL + "feature: {video: }\nactions: {a: {role: member, feature: video}}\n",
        SMALL + "meter: {calls: }\nactions: {a: {role: member, takes: {calls: 1}}}\n",
        SMALL + "action: {a: {role: member}}\ninvariants: [{title: t, never: {action: a}}]\n",
    ],
)
def test_a_misspelt_section_is_one_problem(text):
    assert codes_in(text) == ["unknown_field"]


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "features: 5\nactions: {a: {role: member, feature: video}}\n",
        SMALL + "features: 5\ninvariants: [{title: t, never: {action: feature:video}}]\n",
        SMALL + "meters: 5\nactions: {a: {role: member, takes: {calls: 1}}}\n",
        SMALL + "actions: 5\ninvariants: [{title: t, never: {action: a}}]\n",
    ],
)
def test_a_broken_section_is_one_problem(text):
    assert codes_in(text) == ["wrong_type"]


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "  Pro: {price: 1}\ninvariants: [{title: t, never: {plan: Pro}}]\n",
        SMALL + "  Pro: {price: 1}\ninvariants: [{title: t, never: {plan: pro}}]\n",
    ],
)
def test_a_refused_name_is_refused_once(text):
    assert codes_in(text) == ["bad_name"]


def test_there_are_no_warnings_about_what_is_broken():
    found = check(SMALL + "features: {unused: }\nactions: {a: {role: nobody}}\n")

    assert (found.catalog, found.warnings) == (None, ())
    assert [problem.code for problem in found.problems] == ["unknown_role"]


@pytest.mark.parametrize(("sold", "codes"), [("true", ["loses_limit"]), ("false", [])])
def test_a_plan_that_is_not_sold_is_compared_with_none(sold, codes):
    plans = "".join(
        f"  {name}: {{price: {price}, limits: {{calls: {limit}}}{more}}}\n"
        for name, price, limit, more in (("old", 5, 9, f", sold: {sold}"), ("pro", 10, 8, ""))
    )
    text = f"{HEAD}roles: {{member: }}\nmeters: {{calls: {{kind: level}}}}\nplans:\n"

    found = check(f"{text}  free: {{price: 0, limits: {{calls: 1}}}}\n{plans}")

    assert [warning.code for warning in found.warnings] == codes


def test_after_many_misspelt_names_no_more_are_guessed():
    actions = "".join(f"  a{number}: {{role: membr}}\n" for number in range(400))

    problems = check(f"{SMALL}actions:\n{actions}").problems

    assert len(problems) == 400
    assert 100 <= len([problem for problem in problems if problem.suggestion == "member"]) < 400


def test_a_name_of_great_length_is_not_guessed():
    (problem,) = check(f"{SMALL}actions: {{a: {{role: {'m' * 10_000}}}}}\n").problems

    assert (problem.code, problem.suggestion) == ("unknown_role", None)
    assert len(problem.message) < 200
