"""The pages Overview, Workspaces and One workspace, in a real Chromium."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import psycopg
import pytest

from tests.console.people import ADMIN, ask, cookie
from tests.postgres_server import run

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title=1">',
    "W" * 256,
    "\u202eyllaer si siht",
    "in\u200bvisible\u2060",
    "עברית and العربية",
    "{{ 7 * 7 }}{% for x in y %}",
]


@pytest.fixture(scope="module")
def hostile(database):
    """By SQL, since `sidecar load` refuses them: slugs of workspaces, one for each name."""
    slugs = [f"hostile-{number}" for number in range(len(HOSTILE))]
    with psycopg.connect(database, autocommit=True) as connection:
        for slug, name in zip(slugs, HOSTILE, strict=True):
            connection.execute(
                "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, %s, 'team')", (slug, name)
            )
    yield slugs
    run(database, "DELETE FROM authz.workspaces WHERE slug LIKE 'hostile-%'")


@contextmanager
def nobody_reads(database):
    """An outage: whoever asks for workspaces waits beyond their deadline."""
    with psycopg.connect(database) as connection:
        connection.execute("LOCK authz.workspaces IN ACCESS EXCLUSIVE MODE")
        yield


def test_the_overview_says_that_all_parts_are_as_the_files_say(auditor, axe, tmp_path):
    assert auditor.opens("/console/") == 200

    assert (auditor.heading, auditor.page.title()) == ("Overview", "Overview · Sidecar console")
    assert "All parts are as the files say" in auditor.text
    assert auditor.page.locator("tbody time").count() == 4
    assert [each.inner_text() for each in auditor.page.locator("tbody td .pill").all()] == ["fine"] * 4
    auditor.is_accessible(axe)
    auditor.fits()
    auditor.is_shown_in_the_docs("overview", tmp_path)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=ac", ["acme"]),
        ("q=Pia", ["piano"]),
        ("q=mia@example.com", ["acme"]),
        ("q=sam", ["solo"]),
        ("plan=team", ["acme"]),
        ("q=nobody-has-this", []),
        ("q=%00", []),
    ],
)
def test_workspaces_are_found_as_the_api_finds_them(sidecar, query, found):
    _, _, text = ask(sidecar.port, "GET", f"/console/workspaces?{query}", Cookie=cookie())

    assert re.findall(r'<br><span class="quiet"><bdi class="named">([^<]*)</bdi>', text) == found


def test_a_list_of_workspaces_shows_plan_status_people_and_use_in_pages(auditor, axe, database, tmp_path):
    run(
        database,
        "INSERT INTO authz.workspaces (slug, name, plan_tier)"
        " SELECT 'many-' || lpad(n::text, 3, '0'), 'Many ' || n, 'starter' FROM generate_series(1, 45) AS n",
    )
    try:
        auditor.opens("/console/workspaces")
        assert "team" in auditor.page.get_by_role("row").filter(has_text="acme").inner_text()
        assert "3 of 10" in auditor.page.get_by_role("row").filter(has_text="acme").inner_text()
        auditor.is_accessible(axe)
        auditor.fits()
        seen = []
        for _ in range(5):
            seen += [each.inner_text() for each in auditor.page.locator("tbody th .quiet .named").all()]
            following = auditor.page.get_by_role("link", name="Next page")
            if not following.count():
                break
            following.click()
        assert len([slug for slug in seen if slug.startswith("many-")]) == 45
        assert seen == sorted(set(seen))
    finally:
        run(database, "DELETE FROM authz.workspaces WHERE slug LIKE 'many-%'")
    auditor.opens("/console/workspaces")
    auditor.is_shown_in_the_docs("workspaces", tmp_path)


def test_one_workspace_shows_people_meters_overrides_and_who_did_what(auditor, axe, sidecar, tmp_path):
    change = {
        "features": {"team_sessions": False},
        "reason": "a pilot <b>",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    headers = {"Authorization": f"Bearer {ADMIN}"}
    status, _ = sidecar.request("PUT", "/v1/workspaces/acme/overrides", change, headers=headers)
    assert status == 200

    auditor.opens("/console/workspaces/acme")

    text = auditor.text
    assert auditor.heading == "One workspace: Acme"
    assert auditor.page.title() == "One workspace: Acme · Sidecar console"
    for said in (
        "olivia@example.com",
        "a pilot <b>",
        "2099-01-01 00:00:00 UTC",
        "override.set",
        "caller admin",
    ):
        assert said in text
    assert auditor.page.locator("time .local").first.inner_text()
    auditor.is_accessible(axe)
    auditor.fits()
    auditor.is_shown_in_the_docs("workspace", tmp_path)


def test_a_workspace_that_is_not_there_is_told_so(auditor, axe):
    assert auditor.opens("/console/workspaces/no-such") == 404
    assert "Search workspaces" in auditor.text
    auditor.is_accessible(axe)


def test_names_that_anybody_chose_stay_text(auditor, hostile):
    auditor.opens("/console/workspaces?q=hostile-")

    for slug, name in zip(hostile, HOSTILE, strict=True):
        cell = auditor.page.get_by_role("row").filter(has_text=slug).locator("th a .named")
        shown = cell.evaluate("e => [...e.childNodes].map(n => n.className ? '' : n.textContent).join('')")
        assert shown == "".join(each for each in name if each not in "\u202e\u200b\u2060")
    assert "U+202E" in auditor.text
    assert auditor.page.locator("main img, main script").count() == 0
    auditor.fits()
    for slug, name in zip(hostile, HOSTILE, strict=True):
        auditor.opens(f"/console/workspaces/{slug}")
        assert auditor.page.title().startswith(f"One workspace: {name[:2]}".replace("\u202e", "[U+202E]"))
        assert auditor.page.locator("main img, main script").count() == 0
        auditor.fits()


def test_a_database_that_does_not_answer_is_said_and_what_is_known_is_shown(auditor, axe, database):
    with nobody_reads(database):
        assert auditor.opens("/console/workspaces") == 503
        assert auditor.heading == "Workspaces"
        assert "Nothing is lost" in auditor.text
        auditor.is_accessible(axe)
        assert auditor.opens("/console/") == 200
        assert auditor.page.get_by_role("heading", name="What the files declare").is_visible()
    assert auditor.opens("/console/workspaces") == 200


def test_the_keyboard_alone_leads_to_everything_and_the_focus_is_seen(auditor):
    auditor.opens("/console/workspaces")
    places = []
    for _ in range(25):
        auditor.page.keyboard.press("Tab")
        place = auditor.focused()
        if not place:  # the browser's own
            break
        assert not place.endswith(" none"), place
        places.append(place)
    wanted = ["A #main", "A /console/workspaces", "INPUT q", "SELECT plan", "SELECT status"]
    found = [place.rpartition(" ")[0] for place in places]

    assert [each for each in wanted if each not in found] == []
    assert any(place.startswith("A /console/workspaces/") for place in found)


def test_without_javascript_every_page_is_whole(sidecar, chromium):
    browser = chromium(f"http://127.0.0.1:{sidecar.port}/console").page.context.browser
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{sidecar.port}/console/workspaces/acme")
        page.get_by_label("Caller token").fill(ADMIN)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", level=1, name="One workspace").wait_for()
        assert page.locator("time .local").count() == 0
        assert "olivia@example.com" in page.locator("main").inner_text()
        page.get_by_role("link", name="Workspaces").click()
        page.get_by_role("heading", level=1, name="Workspaces").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", level=1, name="Sign in").wait_for()
    finally:
        context.close()


@pytest.mark.long
def test_what_the_console_reads_stands_in_the_decision_log(auditor, sidecar):
    auditor.opens("/console/workspaces/solo")

    def told():
        [file] = (sidecar.folder / "decisions").rglob("*.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return any(
            line.get("caller") == "auditor" and line.get("endpoint") == "get_workspace" for line in lines
        )

    assert sidecar.until(told, within_s=10)
