"""Decision cases of one's own: what may stand in them, and every problem of a file at once."""

from __future__ import annotations

import pytest

from sidecar.audit.cases import cases_in
from sidecar.decisions.model import Usage
from tests.values import the_catalog

CATALOG = the_catalog()
WHOLE = """
- story: everything that may be said
  question:
    user: mia
    workspace: solo
    action: recording.start
    amounts: {minutes: 5}
    context: {country: XA, tags: [a, 1, null], since: {year: 2020}}
  facts:
    role: member
    plan: starter
    status: suspended
    overrides: {features: {video_avatar: true}, limits: {minutes: unlimited, scenarios: 5}}
    usage: {minutes: 97}
    reserved: {minutes: 2}
  want:
    allow: false
    status: 403
    reason: denied_by_policy
    upgrade: [pro]
    needs: {roles: [admin, owner], feature: analytics}
    detail: recording_embargo
  message: These very words.
"""
LEAST = """
- story: a stranger
  question: {action: platform.use}
  facts: null
  want: {allow: false, status: 403, reason: not_a_member}
"""


def file_in(text: str):
    return cases_in(text.encode(), source="cases.yaml", catalog=CATALOG)


def lines_about(text: str) -> list[str]:
    return [str(problem) for problem in file_in(text).problems]


def test_all_that_may_be_said_is_understood():
    [case] = file_in(WHOLE).cases

    assert (case.sentence, case.source, case.line) == ("everything that may be said", "cases.yaml", 2)
    assert (case.question.user, case.question.workspace, case.question.mode) == ("mia", "solo", "check")
    assert case.question.context == {"country": "XA", "tags": ["a", 1, None], "since": {"year": 2020}}
    assert case.facts
    assert (case.facts.role, case.facts.plan, case.facts.status) == ("member", "starter", "suspended")
    assert case.facts.feature_overrides == {"video_avatar": True}
    assert case.facts.limit_overrides == {"minutes": None, "scenarios": 5}
    assert {name: (each.used, each.reserved) for name, each in case.facts.usage.items()} == {
        "minutes": (97, 2),
        "members": (0, 0),
        "scenarios": (0, 0),
    }
    assert case.want["needs"] == {"roles": ["admin", "owner"], "feature": "analytics"}
    assert (case.want["upgrade"], case.want["detail"]) == (["pro"], "recording_embargo")
    assert case.message == "These very words."


def test_what_is_not_said_is_nothing():
    [case] = file_in(LEAST).cases

    assert case.facts is None
    assert case.want == {
        "allow": False,
        "status": 403,
        "reason": "not_a_member",
        "upgrade": [],
        "needs": {},
        "detail": None,
    }
    assert (case.question.amounts, case.message) == (None, None)


def test_only_what_comes_back_has_a_reset():
    [case] = file_in(WHOLE).cases

    assert case.facts
    assert case.facts.usage["minutes"].resets_at is not None
    assert case.facts.usage["scenarios"] == Usage(used=0, reserved=0, resets_at=None)


def test_roles_plans_and_actions_may_be_ones_that_nobody_declared():
    text = LEAST.replace("platform.use", "no.such").replace("null", "{role: king, plan: legacy}")

    assert lines_about(text) == []


def test_every_problem_of_a_file_is_found_at_once_and_it_has_no_cases():
    text = """
- story: one thing after another
  question: {action: recording.start, amount: {minutes: 5}}
  facts: {role: member, plans: starter, usage: {minuts: -1}, overrides: {limits: {minutes: many}}}
  want: {allow: no, status: 402, reason: quota_exceded, upgrade: [gold], needs: {roles: [boss]}}
- story: one thing after another
  question: {action: platform.use, mode: consume}
  facts: {}
- tale: of nothing
"""

    assert [(each.line, each.column, each.code) for each in file_in(text).problems] == [
        (3, 39, "unknown_field"),
        (4, 25, "unknown_field"),
        (4, 49, "unknown_meter"),
        (4, 57, "bad_usage"),
        (4, 92, "bad_limit"),
        (5, 17, "yaml_word"),
        (5, 42, "bad_word"),
        (5, 67, "unknown_plan"),
        (5, 90, "unknown_role"),
        (6, 3, "missing_field"),
        (6, 10, "duplicate_story"),
        (7, 36, "unknown_field"),
        (8, 3, "missing_field"),
        (8, 3, "missing_field"),
        *[(9, 3, "missing_field")] * 4,
        (9, 3, "unknown_field"),
    ]
    assert file_in(text).cases == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "cases.yaml:1:1: the file is empty (empty_file)"),
        ("[]", "cases.yaml:1:1: the file is empty: write at least one (empty)"),
        ("story: x", "cases.yaml:1:1: the file: expected a list of stories, got a mapping (wrong_type)"),
        (LEAST.replace("null", "&a null"), "cases.yaml:4:10: the anchor &a: leave it out (yaml_anchor)"),
        (
            LEAST.replace("null", "{role: owner, plan: pro, usage: {minutes: -1}}"),
            (
                'cases.yaml:4:52: usage "minutes" of story 1: expected a whole number from 0 to'
                " 1000000000000, got the number -1 (bad_usage)"
            ),
        ),
        (LEAST + LEAST, 'cases.yaml:7:10: "a stranger" is told twice, first on line 2 (duplicate_story)'),
        (
            LEAST.replace("platform.use}", "platform.use, amounts: {minutes: 0}}"),
            (
                'cases.yaml:3:55: amount "minutes" of story 1: expected a whole number from 1 to'
                " 1000000000000, got the number 0 (bad_number)"
            ),
        ),
    ],
)
def test_a_problem_is_told_where_it_stands(text, line):
    assert lines_about(text)[0] == line
