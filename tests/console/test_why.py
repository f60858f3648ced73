"""The page Why?, in a real Chromium."""

from __future__ import annotations

from html import unescape
from math import inf

import pytest

from sidecar.audit.cases import cases_in
from sidecar.audit.runner import CaseRunner
from sidecar.engines.installed import embedded_engine
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.console.people import ask, cookie

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_a_denial_is_told_with_facts_rules_and_what_would_change_it(auditor, axe, tmp_path):
    auditor.opens("/console/why")
    for label, text in (("User", "sam"), ("Workspace", "solo"), ("Action", "analytics.view")):
        auditor.page.get_by_label(label, exact=True).fill(text)
    auditor.page.get_by_role("button", name="Ask").click()
    auditor.page.get_by_role("heading", name="sam may not analytics.view in solo").wait_for()

    text = auditor.text
    assert auditor.page.url.endswith("user=sam&workspace=solo&action=analytics.view&amounts=&date=")
    assert auditor.page.title() == "Why? sam may not analytics.view in solo · Sidecar console"
    for said in ("402 feature_not_in_plan", "sam is owner of solo", "denies", "policies/authz/denials.rego:"):
        assert said in text
    assert [each.inner_text() for each in auditor.page.locator(".changes li").all()] == [
        "plan pro, €149 a month",
        "plan team, €299 a month",
        "override analytics on",
    ]
    auditor.is_accessible(axe)
    auditor.fits()
    auditor.is_shown_in_the_docs("why", tmp_path)


@pytest.mark.parametrize(
    "query",
    [
        "user=sam&workspace=solo&action=analytics.view",
        "user=zoe&workspace=acme&action=platform.use",
        "user=mia&workspace=acme&action=members.invite",
        "user=adam&workspace=acme&action=recording.start&amounts=minutes%3D2000",
        "user=sam&workspace=solo&action=roleplay.start",
    ],
)
def test_the_case_that_is_shown_asserts_the_answer(sidecar, query):
    status, _, text = ask(sidecar.port, "GET", f"/console/why?{query}", Cookie=cookie())
    assert status == 200
    case = unescape(text.partition('id="case-text">')[2].partition("</pre>")[0])
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))

    read = cases_in(case.encode(), source="shown.yaml", catalog=compiled.catalog)

    assert read.problems == ()
    [shown] = read.cases
    assert CaseRunner(embedded_engine(compiled), compiled=compiled).differences(shown, deadline=inf) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("user=sam&workspace=nosuch&action=analytics.view", 'there is no "nosuch"'),
        ("user=sam&workspace=solo&action=analytics.vew", 'did you mean "analytics.view"'),
        ("user=sam&workspace=solo&action=recording.start&amounts=five", "write METER=N"),
        ("user=sam&workspace=solo&action=recording.start&amounts=minuts%3D5", "minuts"),
        ("user=sam&workspace=solo&action=recording.start&date=2001-01-01", "before the history begins"),
        ("user=sam&workspace=solo&action=recording.start&date=2999-01-01", "in the future"),
        ("user=sam&workspace=solo&action=recording.start&date=soon", "write 2026-10-01"),
        ("user=sam", "Name a user, a workspace and an action"),
        ("decision=x&day=2001-01-01", "name the day"),
        ("decision=x&day=..", "name the day"),
    ],
)
def test_what_cannot_be_asked_is_told_in_words(sidecar, query, says):
    status, _, text = ask(sidecar.port, "GET", f"/console/why?{query}", Cookie=cookie())

    assert (status, says in unescape(text)) == (400, True)


def test_hostile_parameters_stay_text(auditor):
    auditor.opens("/console/why?user=%3Cscript%3Ealert(1)%3C/script%3E&workspace=solo&action=platform.use")

    assert auditor.page.locator("main script").count() == 0
    assert "<script>alert(1)</script> may not platform.use in solo" in auditor.text
