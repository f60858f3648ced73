"""examples/roleplay-web as `make example-web` starts it beside `sidecar dev`, and people at its page.

Each has a Chromium of their own, and a keyboard and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.node import installed
from tests.servers import free_port
from tests.test_architecture import ROOT
from tests.typescript.packages import PACKAGE, built, copied_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browser import Page

WEB = ROOT / "examples/roleplay-web"
SHOTS = WEB / "screenshots"
SIZE = {"width": 720, "height": 440}  # of a screenshot
SCHEMES = ("light", "dark")
_WRITES_SHOTS = os.environ.get("TEST_SCREENSHOTS") == "write"  # those of the README anew
_STARTS_WITHIN_S = 90  # on a busy machine
_MOST_TABS = 40
_FOCUS = "e => e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none'"
_VIOLATIONS = """async () => (await axe.run()).violations.map(
  ({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(" ")}`)"""


def installed_once() -> None:
    """All that make would install and compile. Skips where there is no Node, npm or registry."""
    built()
    installed(WEB)
    copied_into(WEB)


def make(*words: str) -> list[str]:
    """The command; what `installed_once` has seen to is not done again: other tests use it just now."""
    if shutil.which("make") is None:
        pytest.skip("needs make: apt-get install make")
    kept = [PACKAGE / "dist/index.js", WEB / "node_modules/.stamp"]
    return ["make", *(f"--old-file={path.relative_to(ROOT)}" for path in kept), *words]


@contextmanager
def a_process(command: list[str], log: Path, *, until: str) -> Iterator[re.Match[str]]:
    """Once it has printed what matches *until*; at the end it is stopped, with its children."""
    unset = ("SIDECAR_", "MAKE", "MFLAGS")  # `make test` has begun this
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ending = monotonic() + _STARTS_WITHIN_S
        while (found := re.search(until, log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert monotonic() < ending, log.read_text()
            sleep(0.05)
        yield found
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


@contextmanager
def a_trainer(folder: Path, database_url: str) -> Iterator[str]:
    """Its address, beside a sidecar with the demo world whose data are in *folder*."""
    installed_once()
    port = free_port()
    dev = [sys.executable, "-m", "sidecar", "dev", "--port", str(port), "--data-dir", str(folder)]
    dev += ["--database-url", database_url]
    web = make("example-web", f"PORT={port}", f"DATA={folder}")
    with (
        a_process(dev, folder / "dev.log", until="Ctrl-C ends it"),
        a_process(web, folder / "web.log", until=r"is on (http://127\.0\.0\.1:\d+)") as printed,
    ):
        yield printed[1]


class Person:
    """*asked*: path and X-Workspace-Id of each request of their page's scripts, in order."""

    def __init__(self, page: Page) -> None:
        self.page: Any = page.page
        self.asked: list[tuple[str, str | None]] = []
        self.errors: list[str] = []
        self.page.set_viewport_size(SIZE)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if request.resource_type == "fetch" and request.method != "OPTIONS":
            self.asked.append((urlsplit(request.url).path, request.headers.get("x-workspace-id")))

    def sign_up(self, name: str) -> None:
        self.write("Name", name)
        self.press_key("Enter")
        self.page.get_by_role("heading", level=1, name=name).wait_for()

    def element(self, role: str, name: str, *, within: Any = None) -> Any:
        return (within or self.page).get_by_role(role, name=name, exact=True)

    @property
    def dialog(self) -> Any:
        return self.element("dialog", "Your plan does not include this")

    def is_offered(self) -> list[str]:
        """Plans and prices in the dialog, which opens."""
        self.dialog.wait_for()
        offers: list[str] = self.dialog.get_by_role("listitem").locator("> span").all_inner_texts()
        return offers

    def scenario(self, title: str) -> Any:
        return self.page.get_by_role("listitem").filter(has_text=title)

    def go_to(self, role: str, name: str, *, within: Any = None) -> None:
        """Tab until it has the focus, which is seen."""
        wanted = self.element(role, name, within=within)
        wanted.wait_for()
        for _ in range(_MOST_TABS):
            if wanted.evaluate("e => e === document.activeElement"):
                assert wanted.evaluate(_FOCUS), f"nobody sees that the focus is on the {role} {name}"
                return
            self.press_key("Tab")
        raise AssertionError(f"Tab does not lead to the {role} {name}")

    def press(self, name: str, *, within: Any = None) -> None:
        """A button."""
        self.go_to("button", name, within=within)
        self.press_key("Enter")

    def write(self, label: str, text: str) -> None:
        self.go_to("textbox", label)
        self.page.keyboard.type(text)

    def press_key(self, key: str) -> None:
        self.page.keyboard.press(key)

    def reads(self, text: str) -> None:
        """In the status line, where a screen reader reads it out."""
        self.page.get_by_role("status").get_by_text(text).wait_for()

    def opens(self, url: str) -> None:
        """A link that somebody sent."""
        self.page.goto("about:blank")
        self.page.goto(url)

    @property
    def status(self) -> str:
        text: str = self.page.get_by_role("status").inner_text()
        return text

    @property
    def workspaces(self) -> list[str]:
        """In the switcher."""
        names: list[str] = self.element("combobox", "Workspace").locator("option").all_inner_texts()
        return names

    def switch_to(self, workspace: str) -> None:
        self.go_to("combobox", "Workspace")
        self.page.keyboard.type(workspace)  # as a native select is used
        self.page.get_by_role("heading", level=1, name=workspace).wait_for()

    def in_both_schemes(self, look: Callable[[str], None]) -> None:
        for scheme in SCHEMES:
            self.page.emulate_media(color_scheme=scheme)
            look(scheme)
        self.page.emulate_media(color_scheme="light")

    def is_accessible(self) -> None:
        """By axe-core's rules, in both color schemes."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.add_script_tag(path=WEB / "node_modules/axe-core/axe.min.js")
        backgrounds = set()

        def look(scheme: str) -> None:
            backgrounds.add(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert self.page.evaluate(_VIOLATIONS) == [], scheme

        self.in_both_schemes(look)
        assert len(backgrounds) == len(SCHEMES)

    def is_shown_in_the_readme(self, name: str, folder: Path) -> None:
        """Screenshots, in both schemes: those that are kept show a page of the same size."""

        def look(scheme: str) -> None:
            kept, taken = SHOTS / f"{name}-{scheme}.png", folder / f"{name}-{scheme}.png"
            self.page.screenshot(path=kept if _WRITES_SHOTS else taken, animations="disabled")
            assert _size(kept) == tuple(SIZE.values())
            assert kept.stat().st_size < 60_000

        self.in_both_schemes(look)


def _size(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:])
