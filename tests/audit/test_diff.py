"""Two policies are compared by what they answer, by names, and each kind of change is told as what it is."""

from __future__ import annotations

import pytest

from sidecar.audit.answers import Answers
from sidecar.audit.diff import Compared, Side
from sidecar.audit.diff_catalog import CatalogChanges
from sidecar.audit.diff_forms import aligned, lines_of, markdown_lines, not_compared_lines
from sidecar.audit.diff_live import live_of
from sidecar.audit.joined import JoinedNames
from sidecar.catalog.check import check_plans
from sidecar.engines.installed import embedded_engine
from sidecar.rego.compile import compiled
from sidecar.rego.load import modules_at
from sidecar.settings import shipped

PLANS = """
version: 1
currency: EUR
default_plan: free
roles:
  member: {}
  owner: {includes: member}
features:
  export: {}
  share: {}
meters:
  calls: {kind: counter, per: day}
plans:
  free: {price: 0, features: [], limits: {calls: 5}}
  plus: {price: 5, features: [export], limits: {calls: 50}}
  full: {price: 9, features: [export, share], limits: {calls: unlimited}}
actions:
  page.read: {role: member}
  page.pay: {role: owner, while_suspended: true}
  page.export: {role: member, feature: export}
  page.call: {role: member, takes: {calls: 1}}
routes:
  - {method: GET, path: "/w/{workspace}/pages", action: page.read}
"""
QUESTIONS = 6 * 2 * (1 + 1 + 3 + 1)  # plans x roles x statuses x overrides


def side(plans=PLANS, *, rules=None, declared="", bundle=False):
    modules = {path: text for path, text in modules_at(shipped("policies")).items() if "custom/" not in path}
    modules["authz/decision.rego"] = modules["authz/decision.rego"].replace(
        "context: []", f"context: [{declared}]"
    )
    modules |= {f"custom/{name}.rego": f"package custom\n\n{text}\n" for name, text in (rules or {}).items()}
    checked = check_plans(plans.encode(), source="plans.yaml")
    assert checked.catalog is not None, checked.problems
    text = None if bundle else plans.encode()
    return Side(
        compiled=compiled(checked.catalog, modules),
        text=text,
        catalog="c",
        plans="plans.yaml",
        policies="policies",
    )


_KNOWN: dict[str, Answers] = {}


def answers_of(policy):
    """A policy is asked once for all tests."""
    if policy.compiled.revision not in _KNOWN:
        _KNOWN[policy.compiled.revision] = Answers(embedded_engine(policy.compiled))
    return _KNOWN[policy.compiled.revision]


def catalogs_of(old, new):
    return CatalogChanges(old, new, JoinedNames(old.compiled.catalog, new.compiled.catalog))


def compared(old, new):
    both = Compared(old, new, (answers_of(old), answers_of(new)))
    changes = both.changes()
    return both, changes, CatalogChanges(old, new, both.names)


def changed(before, after):
    assert before in PLANS
    return side(PLANS.replace(before, after))


def cells(changes):
    return [(each.kind, each.cell.action, each.cell.role, each.cell.plan) for each in changes]


def lines(old, new):
    both, changes, catalogs = compared(old, new)
    return [" ".join(line.split()) for line in aligned(lines_of(both, changes, catalogs))]


def test_the_same_policies_answer_every_question_alike():
    both, changes, catalogs = compared(side(), side())

    assert (both.questions, changes, bool(catalogs), catalogs.not_compared) == (QUESTIONS, [], False, [])


def test_a_comment_in_policies_changes_nothing():
    old = side(rules={"x": 'denials contains "x" if input.context.mfa == false'})
    new = side(rules={"x": '# why\ndenials contains "x" if input.context.mfa == false # how'})
    _, changes, catalogs = compared(old, new)

    assert old.compiled.revision != new.compiled.revision
    assert (changes, bool(catalogs), catalogs.not_compared) == ([], False, [])


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            "page.read: {role: member}",
            "page.read: {role: owner}",
            ["lost page.read member on every plan 200 → 403 owner plans.yaml:18"],
        ),
        (
            "page.pay: {role: owner, while",
            "page.pay: {role: member, while",
            ["gained page.pay member on every plan (also suspended) 403 → 200 plans.yaml:19"],
        ),
        (
            ", while_suspended: true",
            "",
            [
                "lost page.pay owner on every plan (suspended) 200 → 403 workspace_suspended plans.yaml:19",
                "reason page.pay member on every plan (suspended) 403, now workspace_suspended plans.yaml:19",
            ],
        ),
        (
            "plus: {price: 5, features: [export]",
            "plus: {price: 5, features: []",
            [
                "lost page.export plus: member, owner 200 → 402 → full plans.yaml:15",
                "dearer page.export free: every role 402 → plus, now full",
            ],
        ),
        (
            "plus: {price: 5",
            "plus: {price: 4",
            [
                "cheaper page.export free: every role 402 → plus, 5 → 4",
                "price plus 5 EUR → 4 EUR plans.yaml:15",
            ],
        ),
        ("calls: 50}", "calls: unlimited}", ["limit plus calls 50 → unlimited plans.yaml:15"]),
        (
            "action: page.read}",
            "action: page.pay}",
            ["route GET /w/{workspace}/pages page.read → page.pay plans.yaml:23"],
        ),
        (
            "action: page.read}",
            "action: page.read, user: {header: X-User}}",
            ["route GET /w/{workspace}/pages page.read, user claim sub → header X-User plans.yaml:23"],
        ),
        ("plus: {price", "plus: {title: Extra, price", ["title plan plus Plus → Extra"]),
        (
            "takes: {calls: 1}",
            "takes: {calls: 2}",
            ["other page.call takes {'calls': 1} → {'calls': 2} plans.yaml:21"],
        ),
        ("default_plan: free", "default_plan: plus", ["other default_plan free → plus plans.yaml:4"]),
    ],
)
def test_each_kind_of_change_is_told_with_its_line(before, after, told):
    assert lines(side(), changed(before, after)) == told


def test_a_rule_of_the_company_is_told_with_its_own_line():
    new = side(
        rules={
            "x": 'denials contains "no_free" if {\n\tinput.plan == "free"\n\tinput.action == "page.read"\n}'
        }
    )

    assert lines(side(), new) == [
        "lost page.read free: member, owner 200 → 403 no_free policies/custom/x.rego:3"
    ]


def test_what_is_renamed_is_one():
    new = (
        PLANS.replace("member: {}", "reader: {renamed_from: member}")
        .replace("includes: member", "includes: reader")
        .replace("role: member", "role: reader")
        .replace("  plus: {", "  extra: {renamed_from: plus, ")
        .replace("  export: {}", "  download: {renamed_from: export}")
        .replace("features: [export", "features: [download")
        .replace(
            "page.export: {role: reader, feature: export",
            "page.download: {renamed_from: page.export, role: reader, feature: download",
        )
        .replace("  calls: {kind", "  uses: {renamed_from: calls, kind")
        .replace("limits: {calls", "limits: {uses")
        .replace("takes: {calls", "takes: {uses")
    )

    for old, other in ((side(), side(new)), (side(new), side())):
        both, changes, catalogs = compared(old, other)
        assert (both.questions, changes) == (QUESTIONS, [])
        assert not catalogs


def test_what_only_one_side_has_is_told_and_asked():
    new = side(
        PLANS.replace("  page.read: {role: member}\n", "  page.print: {role: member}\n").replace(
            "action: page.read", "action: page.print"
        )
    )
    _, changes, catalogs = compared(side(), new)

    assert catalogs.document["only_one_side"] == {
        "roles": [],
        "plans": [],
        "actions": ["page.print", "page.read"],
        "features": [],
        "meters": [],
    }
    assert catalogs.document["only_in"]["from"]["actions"] == ["page.read"]
    kinds = {(each.kind, each.cell.action) for each in changes if each.cell.status == "active"}
    assert kinds == {("gained", "page.print"), ("lost", "page.read")}
    assert changes[-1].new.reason == "unknown_action"


def test_a_feature_that_is_swapped_is_asked_by_todays_overrides():
    new = changed(
        "page.export: {role: member, feature: export}", "page.export: {role: member, feature: share}"
    )
    _, changes, _ = compared(side(), new)

    on = [each.cell.plan for each in changes if each.cell.override == "on" and each.cell.status == "active"]
    assert set(on) == {"free", "plus"}  # an override of export opens it no more


def test_rules_about_context_are_not_compared_and_named():
    mfa = {"mfa": 'denials contains "no_mfa" if input.context.mfa == false'}
    listed = {"list": '_trusted := {"XA"}'}
    other = {"list": '_trusted := {"XB"}'}
    both = {"mfa": 'denials contains "x" if input.context.country in _trusted'}

    def told(old, new):
        return not_compared_lines(catalogs_of(old, new))

    assert told(side(), side(rules=mfa)) == ["custom/mfa.rego is new and looks at context: not compared"]
    assert told(side(rules=mfa), side()) == ["custom/mfa.rego is gone and looked at context: not compared"]
    assert told(side(rules=both | listed), side(rules=both | other)) == [
        "custom/list.rego has changed and looks at context: not compared"
    ]
    assert told(side(rules=mfa), side(rules=mfa, declared="mfa")) == [
        "custom/mfa.rego looks at context, of which other fields are declared now: not compared"
    ]
    assert told(side(), side(rules={"x": 'denials contains "x" if input.role == "none"'})) == []


def test_a_side_without_its_file_says_what_it_does_not_know():
    catalogs = catalogs_of(side(bundle=True), changed("plus: {price", "plus: {title: Extra, price"))

    assert (catalogs.titles, catalogs.routes) == ([], [])
    assert catalogs.not_compared == [
        {"file": "plans.yaml", "why": "is a bundle, which has no titles and routes"}
    ]


def test_markdown_holds_what_text_holds():
    both, changes, catalogs = compared(side(), changed("calls: 50}", "calls: 40}"))
    text = markdown_lines("from a to b", lines_of(both, changes, catalogs), None, ["note"])

    assert text[0] == "### from a to b"
    assert "| limit | plus calls | 50 → 40 |  | plans.yaml:15 |" in text
    assert text[-1] == "- note"


class Population:
    """Two workspaces on plus, one on a plan that is not declared any more, with and without members."""

    def __init__(self):
        self.rows = [
            ("plus", "active", "member", (), ("member", "owner"), 1, 2, ("a",)),
            ("plus", "active", "owner", (), ("member", "owner"), 1, 1, ("a",)),
            ("plus", "active", "owner", (), ("owner",), 1, 1, ("d",)),
            ("free", "active", "owner", (("export", True),), ("owner",), 1, 1, ("b",)),
            ("old", "active", "owner", (), ("owner",), 1, 1, ("c",)),
        ]
        self.members = [
            ("a", "member", "max"),
            ("a", "member", "mia"),
            ("a", "owner", "ola"),
            ("b", "owner", "bea"),
            ("c", "owner", "cem"),
            ("d", "owner", "dan"),
        ]

    def audience(self, *, at_most):
        assert at_most == 2
        return self.rows

    def people(self, workspaces, /, *, at_most):
        assert at_most == 2
        return [each for each in self.members if each[0] in workspaces]

    def not_on(self, plans, /):
        return [each for each in [("c", "old"), ("empty", "old"), ("a", "plus")] if each[1] not in plans]

    def over(self, limits, /):
        return [
            ("a", plan, meter, limit, 70)
            for plan, meters in limits.items()
            for meter, limit in meters.items()
        ]


def test_who_is_concerned_is_counted_once_and_named_up_to_the_limit():
    new = side(
        PLANS.replace("plus: {price: 5, features: [export]", "plus: {price: 5, features: []").replace(
            "full: {price: 9, features: [export, share]", "full: {price: 9, features: [share]"
        )
    )
    both, _, _ = compared(side(), new)

    live = live_of(both, Population(), lowered=[("plus", "calls", 40)], limit=2)

    assert (live.workspaces, live.people) == (4, 6)
    (lost, reason) = live.changes
    assert (lost.kind, lost.action, lost.workspaces, lost.people) == ("lost", "page.export", 2, 4)
    assert lost.who == (("a", ("max", "mia")),)
    assert (reason.kind, reason.who) == ("dearer", (("c", ("cem",)),))
    assert [(each.plan, each.limit, each.workspaces, each.who) for each in live.over] == [
        ("plus", 40, 1, (("a", 70, 30),))
    ]
    assert live.gone == (("c", "old"), ("empty", "old"))
