"""The seed's four stories at the page of examples/roleplay-web, in a real Chromium and by keyboard alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

import pytest

from tests.browser import a_chromium
from tests.examples.trainer_web import WEB, Person, a_trainer, installed_once
from tests.node import passed, program
from tests.node import run as run_command
from tests.postgres_server import run
from tests.servers import free_port
from tests.test_architecture import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.browser import Page

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

WITHOUT_A_WORKSPACE = {"/api/sign-in", "/workspaces", "/plans"}  # for which there is none yet, or any
_direct = build_opener(ProxyHandler({}))


@pytest.fixture(scope="module")
def chromium():
    with a_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def trainer(chromium: object, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Nothing is started where there is no *chromium*."""
    with a_trainer(tmp_path_factory.mktemp("dev"), database_url) as address:
        yield address
    run(database_url, "DROP OWNED BY roleplay_web CASCADE", "DROP ROLE roleplay_web")


@pytest.fixture
def somebody(trainer: str, chromium: Callable[[str], Page]) -> Iterator[Callable[[], Person]]:
    """People at the page, who have not signed in. What holds for all that they do is checked at the end."""
    people = []

    def opened() -> Person:
        people.append(Person(chromium(trainer)))
        return people[-1]

    yield opened
    for person in people:
        assert person.errors == []
        for path, workspace in person.asked:
            assert path in WITHOUT_A_WORKSPACE or re.fullmatch(r"[0-9a-f-]{36}", workspace or ""), path
            named = re.match(r"/workspaces/([^/]+)", path)
            assert named is None or named[1] == workspace
        person.page.close()


def add_scenario(person: Person, title: str) -> None:
    person.write("New scenario", title)
    person.press_key("Enter")
    person.reads(f"“{title}” was added.")
    person.scenario(title).wait_for()


def start(person: Person, title: str, button: str = "Start") -> None:
    person.press(button, within=person.scenario(title))


def test_a_new_user_signs_up_and_owns_a_workspace_on_starter(somebody):
    anna = somebody()
    anna.is_accessible()
    anna.sign_up("anna")

    anna.page.get_by_text("You are owner, on the plan starter.").wait_for()
    assert anna.workspaces == ["anna"]
    anna.is_accessible()


def test_a_invites_b_who_joins_and_both_work_on_the_same_scenarios(somebody, tmp_path):
    anna, ben = somebody(), somebody()
    anna.sign_up("nora")
    add_scenario(anna, "Cold call")
    anna.write("Invite by e-mail", "ben@example.com")
    anna.press_key("Enter")
    assert anna.is_offered() == ["Team €299 / month"]
    anna.press("Choose Team", within=anna.dialog)
    anna.reads("The plan is team now.")
    anna.press("Invite")
    anna.reads("Send ben@example.com this link: ")

    ben.opens(anna.status.rpartition(": ")[2])
    ben.page.get_by_text("You are invited.").wait_for()
    ben.write("Name", "ben")
    ben.press_key("Enter")
    ben.reads("Welcome to nora.")
    assert sorted(ben.workspaces) == ["ben", "nora"]
    ben.page.get_by_text("You are member, on the plan team.").wait_for()
    start(ben, "Cold call")
    ben.reads("“Cold call” has started.")
    add_scenario(ben, "Price talk")
    ben.is_accessible()
    ben.is_shown_in_the_readme("switcher", tmp_path)

    anna.page.reload()
    anna.scenario("Cold call").get_by_text("plays: 1, last by ben").wait_for()
    start(anna, "Price talk")
    anna.scenario("Price talk").get_by_text("plays: 1, last by nora").wait_for()

    ben.switch_to("ben")
    ben.page.get_by_text("You are owner, on the plan starter.").wait_for()
    ben.page.wait_for_load_state("networkidle")
    assert ben.scenario("Cold call").count() == 0
    ben.page.reload()
    ben.page.get_by_role("heading", level=1, name="ben").wait_for()  # it is kept
    ben.switch_to("nora")
    ben.scenario("Price talk").wait_for()
    assert {"/api/scenarios", "/invitations/accept"} <= {path for path, _ in ben.asked}


def test_a_asks_for_bs_workspace_and_is_told_nothing(somebody, trainer):
    anna, bob = somebody(), somebody()
    bob.sign_up("bob")
    add_scenario(bob, "Secret pitch")
    link = bob.element("link", "Link to here").evaluate("e => e.href")
    anna.sign_up("anna-abroad")
    anna.opens(link)
    anna.reads("The user is not a member of this workspace.")

    assert anna.page.get_by_role("heading", level=1).inner_text() == "anna-abroad"
    assert not re.search("bob|Secret pitch", anna.page.content())
    ours, nowhere = link.rpartition("=")[2], str(uuid4())
    session = json.loads(anna.page.evaluate("sessionStorage.getItem('roleplay-web.session')"))
    for method, url, body in every_route(trainer, session["sidecar"]):
        answers = [
            answer(
                method,
                url.replace("ID", workspace),
                body,
                Authorization=f"Bearer {session['token']}",
                X_Workspace_Id=workspace,
            )
            for workspace in (ours, nowhere)
        ]

        assert [status for status, _ in answers] == [403, 403], url
        told = [{name: value for name, value in each.items() if name != "decision_id"} for _, each in answers]
        assert told[0] == told[1]
        assert told[0]["code"] == "not_a_member"
        assert not re.search("bob|Secret pitch", json.dumps(told))


def every_route(trainer: str, sidecar: str) -> list[tuple[str, str, object]]:
    """Method, URL and body, of the backend and of what the page asks the sidecar about a workspace."""
    source = (WEB / "server/app.ts").read_text()
    own = re.findall(r'app\.(get|post|put|delete)\("(/api/[^"]+)", require', source)
    assert len(own) == 6
    scenario = re.compile(r":id\{[^}]*\}")
    return [
        *((method.upper(), trainer + scenario.sub("some-id", path), {}) for method, path in own),
        ("GET", f"{sidecar}/workspaces/ID/entitlements", None),
        ("POST", f"{sidecar}/workspaces/ID/invite", {"email": "x@example.com", "role": "member"}),
    ]


def test_a_starter_gets_the_upgrade_dialog_the_plan_changes_and_it_starts(somebody, tmp_path):
    carl = somebody()
    carl.sign_up("carl")
    add_scenario(carl, "Cold call")
    start(carl, "Cold call", "Start with an avatar")
    carl.dialog.get_by_text("The Starter plan does not include Video avatar; Pro and Team do.").wait_for()
    carl.is_accessible()
    carl.is_shown_in_the_readme("dialog", tmp_path)
    carl.press_key("Escape")
    carl.dialog.wait_for(state="detached")

    assert carl.page.evaluate("document.activeElement.textContent") == "Start with an avatar"
    carl.press_key("Enter")
    carl.press("Choose Pro", within=carl.dialog)
    carl.reads("The plan is pro now.")
    carl.page.get_by_text("You are owner, on the plan pro.").wait_for()
    start(carl, "Cold call", "Start with an avatar")
    carl.reads("“Cold call” has started with an avatar.")
    carl.press("Start a team session")
    assert carl.is_offered() == ["Team €299 / month"]


def test_a_team_user_starts_a_team_session(somebody):
    mia = somebody()
    mia.press("mia")
    mia.page.get_by_text("You are member, on the plan team.").wait_for()
    mia.press("Start a team session")

    mia.reads("The team session has started.")
    mia.press("Sign out")
    mia.page.get_by_role("heading", level=1, name="Roleplay trainer").wait_for()


def answer(method: str, url: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """A str is sent as it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    data = None if body is None else text.encode()
    request = Request(url, data, {"Content-Type": "application/json"} | named, method=method)  # noqa: S310 - http
    try:
        with _direct.open(request, timeout=20) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/sign-in", {"name": "An na"}, 400),
        ("/api/sign-in", {"name": ["anna"]}, 400),
        ("/api/sign-in", {}, 400),
        ("/api/sign-in", "null", 400),
        ("/api/sign-in", "{", 400),
        ("/api/scenarios", {"title": ""}, 400),
        ("/api/scenarios", {"title": "x" * 201}, 400),
        ("/api/scenarios", {"title": "a\0b"}, 400),
        ("/api/scenarios/some-id/roleplays", None, 404),
        ("/api/checkout", {"plan": "platinum"}, 400),
        ("/api/checkout", {"plan": 7}, 400),
    ],
)
def test_what_is_not_right_is_said_and_changes_nothing(trainer, path, body, status):
    _, session = answer("POST", f"{trainer}/api/sign-in", {"name": "sam"})
    headers = {"Authorization": f"Bearer {session['token']}", "X_Workspace_Id": "solo"}
    has = answer("GET", f"{session['sidecar']}/workspaces/solo", **headers)
    got, problem = answer("POST", trainer + path, body, **headers)

    assert (got, problem["status"]) == (status, status)
    assert problem["title"]
    assert answer("GET", f"{session['sidecar']}/workspaces/solo", **headers) == has


def test_who_has_no_good_token_has_not_signed_in(trainer):
    for token in ("", "Bearer ", "Bearer x.y.z", "Basic c2Ft"):
        assert answer("GET", f"{trainer}/api/scenarios", Authorization=token, X_Workspace_Id="solo")[0] == 401


def test_a_scenario_that_is_denied_or_not_right_takes_no_place(trainer):
    _, session = answer("POST", f"{trainer}/api/sign-in", {"name": "dora"})
    headers = {"Authorization": f"Bearer {session['token']}"}
    [home] = answer("GET", f"{session['sidecar']}/workspaces", **headers)[1]["workspaces"]
    headers["X_Workspace_Id"] = home["id"]
    statuses = [
        answer("POST", f"{trainer}/api/scenarios", {"title": title}, **headers)[0]
        for title in ["", *map(str, range(12))]
    ]

    assert statuses == [400, *[201] * 10, 402, 402]
    assert len(answer("GET", f"{trainer}/api/scenarios", **headers)[1]["scenarios"]) == 10


def test_without_a_sidecar_it_says_what_to_start(trainer, tmp_path):
    sidecar = f"http://127.0.0.1:{free_port()}"
    command = [program("node"), WEB / "dist/server/main.js", "--sidecar", sidecar, "--data", tmp_path]
    done = run_command(*command, cwd=ROOT)

    assert done.returncode == 1
    assert f"no sidecar on {sidecar}" in done.stderr
    assert "start `make run` first" in done.stderr


def test_its_types_hold_and_the_names_are_those_of_plans_yaml():
    installed_once()
    passed(program("node"), WEB / "node_modules/typescript/bin/tsc", cwd=WEB)
    written = subprocess.run(
        [sys.executable, "-m", "sidecar", "types", "--ts", "--plans", ROOT / "plans.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert (WEB / "catalog.ts").read_text() == written


def test_its_readme_has_each_file_in_a_line():
    listed = passed("git", "ls-files", "--cached", "--others", "--exclude-standard", ".", cwd=WEB).split()
    rows = re.findall(r"^\| `([\w/.*-]+)` \| \S", (WEB / "README.md").read_text(), re.MULTILINE)

    assert sorted(rows) == sorted(
        {re.sub(r"^screenshots/.*", "screenshots/", each) for each in listed} - {"README.md"}
    )
