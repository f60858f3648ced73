"""Policy data and revision: the same bytes for the same meaning, on any machine."""

from __future__ import annotations

import json

import pytest

from sidecar.catalog.canonical import canonical_text
from sidecar.rego.compile import compiled
from sidecar.rego.load import compiled_at
from tests.catalog.files import MODULES, RULE, SHIPPED, sound

TEXT = SHIPPED.read_text()


def revision_of(text=TEXT, modules=None):
    return compiled(sound(text), MODULES if modules is None else modules).revision


def test_what_policies_may_see_of_the_context_is_declared_in_their_metadata():
    assert compiled(sound(TEXT), MODULES).context_fields == {"country", "device"}


def test_the_data_holds_the_plans_with_the_revision():
    result = compiled(sound(TEXT), MODULES)

    assert json.loads(result.data)["authz"]["plans"]["revision"] == result.revision
    assert json.loads(result.data)["authz"]["plans"]["by_price"] == ["starter", "pro", "team"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("minutes: 100,", "minutes: 101,"),
        ("per: month", "per: day"),
        ("kind: counter, per: month", "kind: level"),
        ("price: 149", "price: 148"),
        ("currency: EUR", "currency: USD"),
        ("default_plan: starter", "default_plan: pro"),
        ("members.remove: {role: admin}", "members.remove: {role: owner}"),
        ("billing.manage: {role: owner, while_suspended: true}", "billing.manage: {role: owner}"),
        ("feature: analytics}", "feature: team_analytics}"),
        ("takes: {minutes: 1}", "takes: {minutes: 2}"),
        ("title: Starter\n", "title: Beginner\n"),
        ("{title: Video avatar}", "{title: Avatar on video}"),
        ("{title: minutes, kind", "{title: minutes of calls, kind"),
        ("action: analytics.view}\n", "action: team_analytics.view}\n"),
        ("/avatar-roleplays", "/avatars"),
        ("  admin: {title: Admin, includes: member}\n", "  admin: {includes: member}\n"),
        ("  analytics: {title: Analytics}\n", "  analytics: {title: Analytics}\n  unused: {title: Later}\n"),
    ],
)
def test_what_changes_the_meaning_changes_the_revision(old, new):
    assert old in TEXT
    assert revision_of(TEXT.replace(old, new)) != revision_of()


@pytest.mark.parametrize(
    "modules",
    [
        MODULES | {"authz/decision.rego": RULE + "\n"},
        MODULES | {"authz/other.rego": "package authz\n"},
        {"authz/decision.rego": RULE},
        {"authz/renamed.rego": RULE, "custom/rules.rego": MODULES["custom/rules.rego"]},
    ],
)
def test_another_policy_is_another_revision(modules):
    assert revision_of(modules=modules) != revision_of()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1\n", "# a comment\n\nversion: 1\n"),
        ("title: Starter\n", "title: 'Starter' # a comment\n"),
        ("minutes: 100, members: 1,", "members: 1, minutes: 100,"),
        ("{title: only the owner touches billing, only", "{title: billing is the owner's, only"),
        ("{action: workspace.delete, role: owner}}", "{action: workspace.delete, role: [owner, admin]}}"),
    ],
)
def test_what_changes_no_meaning_leaves_the_revision(old, new):
    assert old in TEXT
    assert revision_of(TEXT.replace(old, new)) == revision_of()


def test_a_section_that_nobody_knows_yet_is_covered_too():
    """Whatever the file says is hashed as it was read, and not what was made of it."""
    file = {"version": 1, "billing": {"pro": {"price": "price_1"}}}

    assert canonical_text(file) != canonical_text({"version": 1})
    assert canonical_text(file) != canonical_text({**file, "billing": {"pro": {"price": "price_2"}}})
    assert canonical_text(file) == canonical_text({**file, "invariants": [{"title": "x"}]})


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"plans": {"a": {}, "b": {}}}, {"plans": {"b": {}, "a": {}}}),
        (
            {"actions": {"go": {"takes": {"a": 1, "b": 1}}}},
            {"actions": {"go": {"takes": {"b": 1, "a": 1}}}},
        ),
    ],
)
def test_an_order_that_answers_depend_on_is_part_of_the_revision(first, then):
    assert canonical_text(first) != canonical_text(then)


def test_the_revision_is_hexadecimal_digits():
    assert len(revision_of()) == 32
    assert set(revision_of()) <= set("0123456789abcdef")


def test_tests_of_policies_are_not_compiled(tmp_path):
    for path, text in (MODULES | {"authz/decision_test.rego": "package authz_test\n"}).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    assert compiled_at(SHIPPED, tmp_path).modules == MODULES
