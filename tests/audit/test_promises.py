"""Promises: each form holds, is broken and is vacuous; the counterexample is the smallest there is."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest

from sidecar.audit.asked import Asked, asked_of, size_of
from sidecar.audit.built_in import RULES_CAN_DENY, built_in
from sidecar.audit.promises import promises_of
from sidecar.audit.proof import DENIALS, OwnRules, proven
from sidecar.catalog.build import built
from sidecar.catalog.catalog import Cell, Choice, Invariant, Ladder, Separate
from sidecar.cli.audit.asking import engine_for
from sidecar.decisions.cells import cells
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.installed import embedded_engine
from sidecar.engines.verdict import ENTRYPOINT
from sidecar.errors import ConfigError
from sidecar.rego.compile import compiled, policy_data
from sidecar.rego.heads import Denials
from sidecar.rego.load import compiled_at, modules_at
from sidecar.rego.own_rules import codes_by_context
from sidecar.settings import shipped
from tests.audit.faults import faults
from tests.audit.reference import verdict_about
from tests.catalog.files import check
from tests.catalogs import a_catalog_at_random, plans_with_many_cells
from tests.servers import opa_binary

SHIPPED = compiled_at(shipped("plans.yaml"), shipped("policies"))
PLANS = """
version: 1
currency: EUR
default_plan: free
roles:
  member: {}
  auditor: {}
  owner: {includes: [member, auditor]}
features: {export: {}, chat: {}}
meters: {calls: {kind: counter, per: day}, idle: {kind: level}}
plans:
  free: {price: 0, features: [chat], limits: {calls: 5, idle: 3}}
  plus: {price: 5, features: [export, chat], limits: {calls: 50, idle: 2}}
  odd: {price: 9, features: [export], limits: {calls: 1, idle: 2}}
actions:
  read: {role: member}
  look: {roles: [auditor]}
  pay: {role: owner, while_suspended: true}
  export: {role: member, feature: export}
  call: {role: member, takes: {calls: 1}}
  chat: {role: member, feature: chat}
"""


def asked_about(catalog):
    return [
        Asked(number, cell, verdict_about(cell, catalog=catalog, revision="r"))
        for number, cell in enumerate(cells(catalog))
    ]


def catalog_with(text, plans=PLANS):
    found = check(f"{plans}invariants:\n  - {{title: t, {text}}}\n")
    assert found.catalog is not None, found.problems
    return found.catalog


ASKED = asked_about(catalog_with("never: {role: stranger}"))


def outcome_of(text):
    (promise,) = promises_of(catalog_with(text))
    found = promise.outcome(ASKED)
    spoken = [each for each in ASKED if promise.speaks_of(each.situation)]
    assert promise.outcome(spoken) == found  # so `--only` may leave out the others
    return found


@pytest.mark.parametrize(
    "text",
    [
        "never: {action: export, plan: free, override: none}",
        "never: {role: [stranger, undeclared]}",
        "never: {plan: undeclared, action: call}",
        "never: {action: read, status: {not: active}}",
        "never: {action: call, room: no}",
        "never: {action: pay, role: {not: owner}}",
        "always: {action: read, role: {not: auditor}}",
        "always: {action: export, plan: {not: free}, role: [member, owner]}",
        "always: {action: pay, role: owner, status: [active, suspended]}",
        "always: {action: export, plan: free, override: on, role: member}",
        "only: {action: pay, role: owner}",
        "only: {action: [read, pay], role: {not: auditor}}",
        "only: {action: look, role: auditor, status: active}",
        "whenever: {http_status: 402}, then: {reason: [feature_not_in_plan, quota_exceeded], upgrade: some}",
        "whenever: {upgrade: plus}, then: {http_status: 402, plan: {not: plus}}",
        "whenever: {needs: roles}, then: {reason: role_insufficient, upgrade: none}",
        "whenever: {needs: feature}, then: {allow: false, reason: feature_not_in_plan}",
        "whenever: {allow: true}, then: {role: {not: [stranger, undeclared]}, reason: granted, needs: none}",
        "whenever: {http_status: 429}, then: {room: no}",
        "separate: {actions: [look, pay]}",
        "separate: {actions: [read, pay, export], except: [owner, member]}",
        "ladder: {roles: [member, owner]}",
        "ladder: {plans: [odd, plus]}",
    ],
)
def test_a_promise_that_is_kept_holds(text):
    found = outcome_of(text)

    assert (found.found, found.broken, found.counterexamples) == ("holds", 0, ())
    assert found.situations > 0


@pytest.mark.parametrize(
    ("text", "broken", "counterexample"),
    [
        ("never: {action: export, plan: free}", 2, "export member free active on"),
        ("never: {action: pay, plan: {not: undeclared}, role: owner}", 6, "pay owner free active"),
        ("never: {action: read, plan: undeclared}", 2, "read member None active"),
        ("always: {action: export, role: member}", 1, "export member free active"),
        ("always: {action: read}", 3, "read auditor free active"),
        ("always: {role: owner, action: [look, read]}", 3, "look owner free active"),
        ("always: {action: read, role: [owner, undeclared]}", 3, "read None free active"),
        ("only: {action: read, role: owner}", 4, "read member free active"),
        ("only: {action: look, role: member}", 4, "look auditor free active"),
        ("only: {action: look, role: owner, plan: free}", 1, "look auditor free active"),
        ("whenever: {http_status: 402}, then: {upgrade: odd}", None, "chat member odd active"),
        ("whenever: {action: export}, then: {allow: yes}", None, "export member free active"),
        (
            "whenever: {allow: no, role: member}, then: {upgrade: [plus, odd]}",
            None,
            "look member free active",
        ),
    ],
)
def test_a_promise_that_is_not_kept_is_broken_by_the_smallest_counterexample(text, broken, counterexample):
    found = outcome_of(text)
    (cell,) = found.counterexamples
    situation = cell.situation
    words = [situation.action, situation.role, situation.plan, situation.status]
    words += ["on" if on else "off" for on in situation.feature_overrides.values()]

    assert found.found == "broken"
    assert " ".join(map(str, words)).startswith(counterexample)
    assert broken in (None, found.broken)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("separate: {actions: [read, export]}", [("read", "member"), ("export", "member")]),
        ("separate: {actions: [pay, look, read], except: member}", [("read", "owner"), ("pay", "owner")]),
        ("ladder: roles", [("look", "auditor"), ("look", "owner")]),
        ("ladder: {roles: [owner, member]}", [("pay", "owner"), ("pay", "member")]),
    ],
)
def test_what_does_not_go_together_is_shown_by_two_cells(text, pair):
    found = outcome_of(text)

    assert found.found == "broken"
    assert [(each.situation.action, each.situation.role) for each in found.counterexamples] == pair


def test_on_a_ladder_of_plans_no_right_is_lost_and_no_limit_falls():
    found = outcome_of("ladder: plans")

    assert found.found == "broken"
    assert [each.situation.plan for each in found.counterexamples] == ["plus", "odd"]
    assert {each.situation.action for each in found.counterexamples} == {"chat"}
    assert found.notes == ("idle: 3 on free, and 2 on plus", "calls: 50 on plus, and 1 on odd")


def test_a_limit_that_no_action_takes_may_not_fall_either():
    found = outcome_of("ladder: {plans: [free, plus]}")

    assert (found.found, found.broken, found.counterexamples) == ("broken", 1, ())


@pytest.mark.parametrize(
    "text",
    [
        "never: {action: read, override: on}",
        "never: {role: stranger, plan: free}",
        "always: {action: read, room: no}",
        "always: {action: export, role: {not: [member, auditor, owner]}}",
        "only: {action: read, role: owner, room: no}",
        "whenever: {detail: no_such_rule}, then: {allow: false}",
        "whenever: {upgrade: [none, plus]}, then: {allow: false}",
        "whenever: {allow: yes, http_status: 402}, then: {allow: yes}",
        "separate: {actions: [read, pay], except: [member, auditor, owner]}",
    ],
)
def test_a_promise_that_speaks_of_no_cell_is_vacuous(text):
    assert outcome_of(text).found == "vacuous"


def test_a_ladder_without_steps_is_vacuous():
    alone = PLANS.replace("{includes: [member, auditor]}", "{}").replace("price: 5", "price: 0")
    for of in ("roles", "plans"):
        plans = alone.replace("price: 9", "price: 0")
        (promise,) = promises_of(catalog_with(f"ladder: {of}", plans))

        assert promise.outcome(ASKED).found == "vacuous"


def test_where_only_what_is_not_sold_breaks_a_promise_it_says_how_to_leave_that_out():
    assert outcome_of("never: {action: export, plan: free}").notes == (
        "if that is meant, say override: none",
    )
    assert outcome_of("never: {action: export}").notes == ()


def label(name, situation):
    nobodys = "undeclared" if situation.status else "stranger"
    if name == "override":
        return {(): "none", (True,): "on", (False,): "off"}[tuple(situation.feature_overrides.values())]
    if name == "room":
        return "no" if situation.room and situation.plan not in situation.room.fits_in else "yes"
    value = getattr(situation, name)
    return nobodys if value is None and name in {"role", "plan"} else value


def steps_of(each):
    s = each.situation
    if s.status is None:
        return 1 + (s.action is None)
    undeclared = [s.action, s.role, s.plan].count(None)
    return undeclared + (s.status == "suspended") + (label("room", s) == "no") + len(s.feature_overrides)


def is_in(cell, each, *, but=()):
    chosen = {name: getattr(cell, name) for name in ("action", "role", "plan", "status", "override", "room")}
    return all(
        (label(name, each.situation) in choice.values) != choice.others
        for name, choice in chosen.items()
        if choice is not None and name not in but
    )


def breaches(invariant, asked):
    """Each cell or pair of cells that breaks it, by the words of docs/plans.md."""
    cell = invariant.cell
    match invariant.form:
        case "never":
            return [(each,) for each in asked if is_in(cell, each) and each.granted]
        case "always":
            return [(each,) for each in asked if is_in(cell, each) and not each.granted]
        case "only":
            of_role = Cell(role=cell.role)
            scope = [each for each in asked if is_in(cell, each, but=["role"]) or is_strangers(cell, each)]
            theirs = [each for each in scope if is_in(of_role, each)]
            rest = [each for each in scope if each not in theirs and each.granted]
            return [(each,) for each in (rest or (theirs if not any(map(may, theirs)) else []))]
        case "whenever":
            return [
                (e,) for e in asked if is_in(cell, e) and e.verdict.reason not in invariant.then.reason.values
            ]
        case "separate":
            granted = [each for each in asked if each.granted and each.situation.role]
            return [
                (one, other)
                for one, other in combinations(granted, 2)
                if {one.situation.action, other.situation.action} == {*invariant.separate.actions}
                and label("plan", one.situation) == label("plan", other.situation)
                and one.situation.role == other.situation.role
                and one.situation.role not in invariant.separate.exempt
            ]
        case _:
            one_of, (low, high) = invariant.ladder.of.removesuffix("s"), invariant.ladder.order
            lower = [each for each in asked if label(one_of, each.situation) == low and each.granted]
            higher = [each for each in asked if label(one_of, each.situation) == high and not each.granted]
            return [(a, b) for a in lower for b in higher if rung_aside(a, one_of) == rung_aside(b, one_of)]


def may(each):
    return each.granted


def is_strangers(cell, each):
    return each.situation.status is None and each.situation.action in cell.action.values


def numbers_of(cells):
    return {each.number for each in cells}


def rung_aside(each, one_of):
    s = each.situation
    found = {name: getattr(s, name) for name in ("action", "role", "plan", "status", "feature_overrides")}
    room = s.room and (s.room.fits_in if one_of == "plan" else (s.room.fits_in, s.room.waiting_helps))
    return {**found, one_of: None, "room": room}


def an_invariant_at_random(catalog, random):
    def some(names, least=1):
        return tuple(random.sample(sorted(names), random.randint(least, 2)))

    def chance(names):
        return Choice(values=some(names)) if random.random() < 0.5 else None

    form = random.choice(["never", "always", "only", "whenever", "separate", "ladder"])
    actions = catalog.declared_actions
    cell = Cell(
        action=Choice(values=some(actions)),
        role=Choice(values=some([*catalog.roles, "undeclared"])),
        plan=chance([*catalog.plans, "undeclared"]),
        status=chance(["active", "suspended"]),
        override=chance(["none", "on", "off"]),
        room=chance(["yes", "no"]),
    )
    if form == "always":  # all of it said: what is absent is tested above
        cell = replace(cell, plan=cell.plan or Choice(values=tuple(catalog.plans)))
        cell = replace(cell, status=cell.status or Choice(values=("active",)))
        cell = replace(cell, override=cell.override or Choice(values=("none",)))
        cell = replace(cell, room=cell.room or Choice(values=("yes",)))
    ladder = random.choice([("roles", catalog.roles), ("plans", catalog.plans)])
    apart = Separate(actions=some(actions, 2), exempt=some(catalog.roles)[:1])
    return Invariant(
        title="t",
        form=form,
        cell=cell,
        then=Cell(reason=Choice(values=some(["granted", "role_insufficient", "quota_exceeded"]))),
        separate=apart if form == "separate" else None,
        ladder=Ladder(of=ladder[0], order=some(ladder[1], 2)) if form == "ladder" else None,
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_counterexample_is_the_smallest_that_brute_force_finds(seed):
    random = Random(seed)  # noqa: S311 - the same every time
    catalog = a_catalog_at_random(random)
    asked = [each for each in asked_about(catalog) if not (each.situation.action or "").startswith("role:")]
    for _ in range(15):
        invariant = an_invariant_at_random(catalog, random)
        (promise,) = promises_of(replace(catalog, invariants=(invariant,)))

        found, wanted = promise.outcome(asked), breaches(invariant, asked)

        if wanted:
            assert found.found == "broken"
            assert numbers_of(found.counterexamples) in map(numbers_of, wanted)
            least = min(sum(map(steps_of, each)) for each in wanted)
            assert sum(each.steps for each in found.counterexamples) == least
        else:
            assert found.found in {"holds", "vacuous"} or found.notes  # a limit that no cell shows


# --- what is built in


def verdicts_of(promises, asked):
    return {each.title: each.outcome(asked).found for each in promises}


def test_what_is_built_in_holds_of_the_shipped_catalog():
    asked = asked_about(SHIPPED.catalog)

    assert set(verdicts_of(built_in(SHIPPED.catalog), asked).values()) == {"holds"}


@pytest.mark.parametrize(
    ("promise", "of", "says"),
    [
        (0, {"role": None, "status": "active"}, {"upgrade": ("pro",)}),
        (0, {"role": None, "status": None}, {"allow": True, "reason": "granted"}),
        (0, {"role": None, "status": None}, {"reason": "role_insufficient"}),
        (1, {"role": "owner"}, {"status": 402, "upgrade": ()}),
        (1, {"role": "owner"}, {"status": 403, "upgrade": ("pro",)}),
        (1, {"role": "member", "action": "billing.manage"}, {"status": 402, "upgrade": ("pro",)}),
        (3, {"role": "owner", "status": "suspended", "action": "platform.use"}, {"allow": True}),
        (3, {"role": "owner", "status": "suspended", "action": None}, {"allow": True}),
    ],
)
def test_one_verdict_that_breaks_what_is_built_in_is_found(promise, of, says):
    asked = asked_about(SHIPPED.catalog)
    at = next(
        number
        for number, each in enumerate(asked)
        if all(getattr(each.situation, name) == value for name, value in of.items())
    )
    asked[at] = replace(asked[at], verdict=replace(asked[at].verdict, **says))

    found = built_in(SHIPPED.catalog)[promise].outcome(asked)

    assert (found.found, found.broken, found.counterexamples) == ("broken", 1, (asked[at],))


def test_a_cell_without_a_verdict_breaks_no_promise_but_always_and_that_there_is_one():
    asked = [replace(each, verdict=None) for each in asked_about(SHIPPED.catalog)]

    built = [each.outcome(asked).found for each in built_in(SHIPPED.catalog)]
    stated = {each.title: each.outcome(asked).found for each in promises_of(SHIPPED.catalog)}

    assert built == ["holds", "holds", "broken", "holds"]
    assert stated["an owner can always pay"] == "broken"
    assert stated["the starter plan has no video avatar"] == "holds"


def policies_with(rule):
    modules = {**modules_at(shipped("policies")), "custom/own.rego": f"package custom\n\n{rule}\n"}
    return compiled(catalog_with("only: {action: pay, role: owner}"), modules)


def proof_of(policies, *, only=None):
    rules = OwnRules(places=Denials(policies.modules).own, by_context=codes_by_context(policies.modules))
    engine = embedded_engine(policies, rules=(ENTRYPOINT, DENIALS))
    return proven(policies.catalog, engine, rules=rules, only=only)


def test_a_rule_of_the_company_that_denies_nothing_is_found_and_one_that_is_never_told_is_not():
    policies = policies_with(
        'denials contains "a_first" if input.action == "read"\n\n'
        'denials contains "b_second" if input.action == "read"\n\n'
        'denials contains "c_never" if input.action == "raed"\n\n'
        'denials contains "d_unknown" if _far\n\n_far if input.context.country == "XC"\n'
    )

    (found,) = proof_of(policies, only={RULES_CAN_DENY}).outcomes

    assert (found.found, found.broken) == ("broken", 1)
    assert found.notes == (
        'custom/own.rego:7 "c_never" denies in none of 796 situations',
        "not looked at, since they look at context: d_unknown, recording_embargo",
    )


@pytest.mark.parametrize("engine", ["embedded", pytest.param("opa", marks=pytest.mark.opa)])
def test_an_answer_that_is_no_verdict_is_found_and_the_others_are_still_asked(engine):
    if engine == "opa":
        opa_binary()
    policies = policies_with('denials contains 1 if input.action == "read"')

    with engine_for(policies, engine, rules=(ENTRYPOINT, DENIALS)) as (asked, _):
        found = proven(policies.catalog, asked, rules=OwnRules())

    outcomes = {each.title: each for each in found.outcomes}
    broken = outcomes["every situation has a verdict"]
    assert (broken.found, broken.counterexamples[0].situation.action) == ("broken", "read")
    assert 0 < broken.broken < 33
    assert outcomes["t"].found == "holds"


def test_too_many_cells_are_refused_and_no_part_of_them_is_asked():
    catalog = built(plans_with_many_cells())

    with pytest.raises(ConfigError, match=r'more than 500,000 situations.*; action "do" has the most'):
        size_of(catalog)


# --- faults of the data that a promise is about

PROMISES = promises_of(SHIPPED.catalog)
ABOUT_BILLING = [
    fault
    for fault in faults(SHIPPED.modules, policy_data(SHIPPED.catalog, revision=SHIPPED.revision))
    if "billing.manage" in fault.names
]
DELETES = "only the owner deletes a workspace"
NO_AVATAR = "the starter plan has no video avatar"
AGAINST_A_PROMISE = {  # faults of other data, as tests/audit/faults.py says what they are
    "plans/actions/workspace.delete/roles — admin may": DELETES,
    "plans/actions/workspace.delete/roles — member may": DELETES,
    "plans/actions/workspace.delete/roles/0 — removed": DELETES,
    "plans/actions/workspace.delete — removed": DELETES,
    "plans/actions/roleplay.start_with_avatar/feature — asks for none": NO_AVATAR,
    "plans/plans/starter/features — has video_avatar": NO_AVATAR,
    "plans/roles/2 — removed": "an owner can always pay",
}


def broken_by(fault):
    """The titles of the shipped promises that the fault breaks; only what they speak of is asked."""
    data = json.dumps({"authz": {"plans": fault.plans}}).encode()
    engine = EmbeddedEngine(fault.modules, data, revision=SHIPPED.revision)
    asked = asked_of(
        engine, SHIPPED.catalog, which=lambda cell: any(each.speaks_of(cell) for each in PROMISES)
    )
    return {each.title for each in PROMISES if each.outcome(asked).found == "broken"}


@pytest.mark.parametrize("fault", ABOUT_BILLING, ids=lambda fault: fault.what)
def test_every_seeded_fault_in_data_about_billing_breaks_a_promise(fault):
    assert broken_by(fault)


def test_every_seeded_fault_in_data_that_a_promise_speaks_of_breaks_it():
    found = {
        fault.what: broken_by(fault)
        for fault in faults(SHIPPED.modules, policy_data(SHIPPED.catalog, revision=SHIPPED.revision))
        if fault.what in AGAINST_A_PROMISE
    }

    assert found.keys() == AGAINST_A_PROMISE.keys()
    assert {what for what, title in AGAINST_A_PROMISE.items() if title not in found[what]} == set()
