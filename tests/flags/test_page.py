"""The page of docs/flags.md in a real Chromium: it never draws a workspace with the flags of another one.

The React SDK, the web provider and the sidecar are the real ones; a proxy between them goes away.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep

import pytest

from sidecar.cli.dev import JWT_SECRET
from tests.browser import a_chromium
from tests.flags.document import Document, with_packages
from tests.identity.provider import a_token
from tests.node import passed, program, tool
from tests.serving.demo import the_demo
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

POLL_MS, RETRY_MS = 200, 100
STRICT = (
    *("--strict", "--noUncheckedIndexedAccess", "--skipLibCheck", "--noEmit"),
    *("--jsx", "react-jsx", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"),
)
SAM = a_token(JWT_SECRET, sub="sam", email="sam@example.com")
WAITING = "One moment …"
STARTER, PRO = "Plan starter, 100 minutes a month.", "Plan pro, 500 minutes a month."

# What is on the page is read after each change of it, and in each frame. Each answer of the sidecar takes
# another while, so that later questions are answered first.
WATCHED = """
window.seen = [];
const look = () => {
  const select = document.querySelector("select");
  if (select === null) return;
  const status = document.querySelector("[role=status]")?.textContent ?? "";
  const drawn = [select.selectedOptions[0].text, status, document.querySelector("button") !== null];
  drawn.push([...document.querySelectorAll("p")].some((each) => each.textContent.startsWith("Avatars come")));
  const last = window.seen.at(-1);
  if (JSON.stringify(last) !== JSON.stringify(drawn)) window.seen.push(drawn);
};
new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
const frames = () => { look(); requestAnimationFrame(frames); };
frames();
const real = window.fetch;
const later = () => new Promise((done) => setTimeout(done, Math.random() * 120));
window.fetch = async (...asked) => {
  await later();
  const answer = await real(...asked);
  await later();
  return answer;
};
"""
SWITCHED = """async ([times, atMostMs]) => {
  const select = document.querySelector("select");
  const setter = Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, "value").set;
  for (let time = 0; time < times; time++) {
    setter.call(select, select.options[(select.selectedIndex + 1) % select.options.length].value);
    select.dispatchEvent(new Event("change", { bubbles: true }));
    if (time % 3 !== 0) await new Promise((done) => setTimeout(done, Math.random() * atMostMs));
  }
}"""


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_packages(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def origin(folder):
    """Of what the page is built to."""
    handler = partial(Files, directory=folder / "dist")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def sidecar(database_url, origin, tmp_path_factory):
    with the_demo(tmp_path_factory.mktemp("sidecar"), database_url, cors_origins=origin) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def proxy(sidecar):
    with Proxy(f"postgresql://x@127.0.0.1:{sidecar.port}/x") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def built(folder, proxy):
    """The document, once its page is written, checked and built."""
    document = Document({"8080": proxy.port, "30_000": POLL_MS, "5_000": RETRY_MS})
    document.write(folder)
    node = program("node")
    passed(node, tool("typescript") / "bin/tsc", *STRICT, "WorkspaceFlags.tsx", "main.tsx", cwd=folder)
    passed(node, tool("vite") / "bin/vite.js", "build", cwd=folder)
    return document


@pytest.fixture(scope="module")
def studio(built, sidecar):
    """The id of the workspace that the document's reader has made."""
    script = built.shell("npx vite")
    token, _, script = script.partition("studio=")
    assert JWT_SECRET in token
    script, _, started = script.partition("npx vite")
    assert "#token=$token" in started
    done = subprocess.run(
        ["bash", "-euc", f"studio={script}\necho; echo $studio"],
        env=os.environ | {"token": SAM},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    *_, studio = done.stdout.split()
    assert sidecar.request("GET", f"/v1/workspaces/{studio}")[1]["plan"] == "pro"
    return studio


@pytest.fixture(scope="module")
def chromium():
    with a_chromium() as chromium:
        yield chromium


@pytest.fixture
def page(chromium, origin, proxy, studio):
    """Sam's, with Solo on the plan starter and Studio on the plan pro."""
    assert studio
    if proxy.refuses:
        proxy.accept()
    page = chromium(origin).page  # the origin's first page is of nobody: it stays empty
    page.add_init_script(WATCHED)
    page.goto(f"{origin}/?sam#token={SAM}")
    page.get_by_text(STARTER).wait_for()
    yield page
    assert mixed(page) == []
    assert page.evaluate("Object.keys(localStorage)") == []
    page.close()


def mixed(page):
    """What was drawn of one workspace that is another's."""
    return [
        drawn
        for drawn in page.evaluate("window.seen")
        if drawn not in (["Solo", WAITING, False, False], ["Studio", WAITING, False, False])
        and drawn not in (["Solo", STARTER, False, True], ["Studio", PRO, True, False])
    ]


def switch(page, workspace):
    page.get_by_label("Workspace").select_option(label=workspace)


@pytest.mark.long
def test_a_page_that_switches_faster_than_it_is_answered_shows_no_other_workspaces_flags(page):
    page.evaluate(SWITCHED, [61, 60])
    page.get_by_text(PRO).wait_for()
    for _ in range(4):
        switch(page, "Solo")
        switch(page, "Studio")
    page.get_by_text(PRO).wait_for()
    assert page.get_by_role("button", name="Start with an avatar").is_visible()
    page.evaluate(SWITCHED, [1, 0])
    page.get_by_text(STARTER).wait_for()
    assert page.get_by_text("Avatars come with pro or team.").is_visible()
    sleep(4 * POLL_MS / 1_000)

    drawn = page.evaluate("window.seen")
    assert len(drawn) > 20
    assert {workspace for workspace, *_ in drawn} == {"Solo", "Studio"}


def test_in_an_outage_a_workspace_keeps_its_own_flags_and_another_has_the_defaults(page, proxy):
    switch(page, "Studio")
    page.get_by_text(PRO).wait_for()

    proxy.refuse()
    sleep(3 * POLL_MS / 1_000)
    kept = page.get_by_text(PRO).is_visible()
    shown = []
    for workspace in ("Solo", "Studio", "Solo", "Studio"):
        switch(page, workspace)
        sleep(3 * RETRY_MS / 1_000)
        shown.append(page.get_by_role("status").text_content())
    proxy.accept()
    page.get_by_text(PRO).wait_for()  # nobody has touched the page

    assert kept
    assert shown == [WAITING] * 4


def test_a_sidecar_that_hangs_is_as_one_that_is_away(page, proxy):
    proxy.silent = True
    switch(page, "Studio")
    sleep(3 * POLL_MS / 1_000)
    hung = page.get_by_role("status").text_content()
    switch(page, "Solo")
    switch(page, "Studio")
    proxy.silent = False
    proxy.cut()
    page.get_by_text(PRO).wait_for()

    assert hung == WAITING


def test_a_plan_that_is_bought_is_shown_by_the_next_poll(page, sidecar, studio):
    switch(page, "Studio")
    page.get_by_text(PRO).wait_for()
    try:
        sidecar.request("PUT", f"/v1/workspaces/{studio}/plan", {"plan": "team"})
        page.get_by_text("Plan team, 1000 minutes a month.").wait_for()
    finally:
        sidecar.request("PUT", f"/v1/workspaces/{studio}/plan", {"plan": "pro"})
    page.get_by_text(PRO).wait_for()
    page.evaluate("window.seen = window.seen.filter(([, status]) => !status.includes('team'))")
