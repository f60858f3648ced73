"""The pages Matrix, Policies and Decisions, in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from typing import Any

import pytest

from sidecar.audit.selection import Wanted
from sidecar.cli.migrate import files_of
from sidecar.console.log_tail import newest
from sidecar.identity.callers import token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.console.people import AUDITOR, SECRET, ask, cookie
from tests.servers import free_port
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_the_matrix_says_what_is_sold_and_leads_to_the_lines_that_say_so(auditor, axe, tmp_path):
    auditor.opens("/console/matrix")

    row = auditor.page.get_by_role("row").filter(has_text="team_sessions.start")
    assert (auditor.heading, auditor.page.title()) == ("Matrix", "Matrix · Sidecar console")
    assert row.locator(".pill").all_inner_texts() == ["402 → team"] * 6 + ["yes"] * 3
    assert "Cases assert" in auditor.text
    auditor.is_accessible(axe)
    auditor.fits()
    auditor.is_shown_in_the_docs("matrix", tmp_path)
    row.get_by_role("link", name="plans.yaml").first.click()
    assert "team_sessions.start" in auditor.page.locator(".line:target").inner_text()
    auditor.opens("/console/matrix")
    row.get_by_role("link", name="rule").first.click()
    assert "feature_not_in_plan" in auditor.page.locator(".line:target").inner_text()


def test_the_matrix_is_filtered_and_taken_along_as_csv(sidecar):
    _, _, text = ask(sidecar.port, "GET", "/console/matrix?plan=pro&answer=paid", Cookie=cookie())
    _, headers, table = ask(
        sidecar.port, "GET", "/console/matrix?plan=pro&answer=paid&format=csv", Cookie=cookie()
    )
    _, _, nothing = ask(sidecar.port, "GET", "/console/matrix?action=%3Cb%3E", Cookie=cookie())

    rows = list(csv.DictReader(io.StringIO(table)))
    assert {row["action"] for row in rows} == {"team_analytics.view", "team_sessions.start"}
    assert {(row["plan"], row["http_status"]) for row in rows} == {("pro", "402")}
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"].startswith("attachment; ")
    assert "platform.use" not in text.partition("<table")[2]
    assert ("No cell fits" in nothing, "<b>" in nothing) == (True, False)


def test_policies_show_their_files_and_what_changed_and_for_whom(auditor, axe, database, tmp_path):
    plans, policies = tmp_path / "plans.yaml", tmp_path / "policies"
    shutil.copytree(shipped("policies"), policies)
    shutil.copy(shipped("plans.yaml"), plans)
    changed = plans.read_text().replace("analytics.view: {role: member,", "analytics.view: {role: owner,")
    plans.write_text(changed)
    before = compiled_at(shipped("plans.yaml"), shipped("policies"))
    after = compiled_at(plans, policies)
    migrate(database, catalog=after.catalog, revision=after.revision, files=files_of(plans, after))
    try:
        auditor.opens("/console/policies")
        auditor.page.get_by_role("link", name=f"from {before.revision[:12]}").click()
        text = auditor.text
        assert "What changed from" in text
        assert "analytics.view" in text
        assert "piano" not in text  # pia owns it
        assert "acme" in text
        auditor.is_accessible(axe)
        auditor.fits()
        auditor.is_shown_in_the_docs("policies", tmp_path)
    finally:
        plans, first = shipped("plans.yaml"), before
        migrate(database, catalog=first.catalog, revision=first.revision, files=files_of(plans, first))
    assert auditor.opens("/console/policies?file=authz/denials.rego#L14") == 200
    assert "not_a_member" in auditor.page.locator(".line:target").inner_text()
    assert auditor.page.title() == "Policies: authz/denials.rego · Sidecar console"
    rule = auditor.page.get_by_role("row").filter(has_text="No recordings from where we may not keep them")
    assert 'denials contains "recording_embargo"' in rule.inner_text()
    assert "off_until_declared: [country]" in rule.inner_text()
    rule.get_by_role("link", name="policies/custom/embargo.rego:10").click()
    assert "recording_embargo" in auditor.page.locator(".line:target").inner_text()
    assert auditor.opens("/console/policies?file=../../etc/passwd") == 404
    assert "There is no file ../../etc/passwd" in auditor.text


def test_without_the_policy_engine_the_files_and_what_was_published_are_shown(database, tmp_path):
    (tmp_path / "tokens").write_text(f"{token_line('auditor', ['audit'], AUDITOR)}\n")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o600)
    settings = {
        "database_url": database,
        "audit_url": database,
        "opa_url": f"http://127.0.0.1:{free_port()}",
        "tokens": tmp_path / "tokens",
        "console": "on",
        "console_secret": tmp_path / "secret",
        "workers": 1,
    }
    with serving(tmp_path, **settings) as sidecar:
        status, _, text = ask(sidecar.port, "GET", "/console/policies", Cookie=cookie())
        revision = re.findall(r'<code title="([0-9a-f]+)">', text)[0]
        _, _, compared = ask(
            sidecar.port, "GET", f"/console/policies?old={revision}&new={revision}", Cookie=cookie()
        )

    assert status == 200
    assert "The policy engine does not answer" in text
    assert "No recordings from where we may not keep them" in text
    assert "The policy engine does not answer" in compared
    assert revision in compared


def test_newer_decisions_come_by_themselves_and_each_opens_as_why(auditor, axe, sidecar, tmp_path):
    sidecar.ask(user="sam", workspace="solo", action="analytics.view")
    rows = auditor.page.locator("tbody tr")
    assert sidecar.until(lambda: auditor.opens("/console/decisions") == 200 and rows.count() > 0)
    count = rows.count()
    auditor.is_accessible(axe)
    auditor.fits()
    sidecar.ask(user="<i>nobody</i>", workspace="acme", action="platform.use")
    auditor.page.get_by_role("row").filter(has_text="<i>nobody</i>").wait_for()

    assert rows.count() == count + 1
    assert auditor.page.locator("main i").count() == 0
    auditor.is_shown_in_the_docs("decisions", tmp_path)
    auditor.opens("/console/decisions?user=sam&reason=feature_not_in_plan")
    assert rows.count() >= 1
    auditor.page.get_by_role("link", name="Why?", exact=False).last.click()
    auditor.page.get_by_role("heading", name="sam may not analytics.view in solo").wait_for()
    assert "the same verdict" in auditor.text


def test_without_javascript_a_link_leads_to_newer_ones(sidecar):
    _, _, page = ask(sidecar.port, "GET", "/console/decisions?user=nobody-ever", Cookie=cookie())

    assert 'rel="prev">newer</a>' in page
    assert "No decision fits" in page


def line(at: str, number: int, **more: object) -> str:
    return json.dumps(
        {"v": 1, "kind": "decision", "at": at, "decision_id": str(number), "allow": True} | more
    )


def test_the_newest_decisions_of_all_writers_and_days_are_merged(tmp_path):
    for day, writer, minutes in (
        ("2026-11-28", "a", (1, 3)),
        ("2026-11-28", "b", (2, 4)),
        ("2026-11-29", "a", (5,)),
    ):
        folder = tmp_path / day
        folder.mkdir(exist_ok=True)
        lines = [line(f"{day}T00:0{minute}:00.000000Z", minute, user=writer) for minute in minutes]
        (folder / f"{writer}.jsonl").write_text("\n".join([*lines, '{"being": "written']))

    def found(**more: Any) -> list[str]:
        asked: dict[str, Any] = {"after": "", "before": "", "limit": 10} | more
        return [row["decision_id"] for row in newest(tmp_path, asked.pop("wanted", Wanted()), **asked).rows]

    assert found() == ["5", "4", "3", "2", "1"]
    assert found(limit=2) == ["5", "4"]
    assert found(before="2026-11-28T00:04:00.000000Z") == ["3", "2", "1"]
    assert found(after="2026-11-28T00:03:00.000000Z") == ["5", "4"]
    assert found(wanted=Wanted(user=frozenset({"b"}))) == ["4", "2"]
    assert newest(tmp_path / "none", Wanted(), after="", before="", limit=1).rows == []
