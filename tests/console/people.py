"""People at the console, in a real Chromium, and what they may hold."""

from __future__ import annotations

import os
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sidecar.console.sessions import Sessions
from sidecar.identity.callers import Caller, Callers, digest_of
from tests.test_architecture import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADMIN, AUDITOR, BACKEND = "sct_admin-of-tests", "sct_auditor-of-tests", "sct_backend-of-tests"
SECRET = b"0123456789abcdef0123456789abcdef"
SHOTS = ROOT / "docs/console"
COOKIE = "sidecar_console"
_WRITES_SHOTS = os.environ.get("TEST_SCREENSHOTS") == "write"
_VIOLATIONS = """async () => (await axe.run()).violations.map(
  ({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(" ")}`)"""
_FOCUS = "() => { const e = document.activeElement; return e === document.body ? '' :"
_FOCUS += " [e.tagName, e.getAttribute('href') ?? e.id ?? '', getComputedStyle(e).outlineStyle].join(' '); }"


class Visitor:
    """*errors* are what the browser says of scripts, and of what the page may not load."""

    def __init__(self, page: Any, port: int) -> None:
        self.page = page
        self.at = f"http://127.0.0.1:{port}"
        self.errors: list[str] = []
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.at, "data:")):
            self.errors.append(f"it loads {request.url}")

    def sign_in(self, token: str) -> None:
        self.page.goto(f"{self.at}/console/sign-in")
        self.page.get_by_label("Caller token").fill(token)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("heading", level=1, name="Overview").wait_for()

    def has_signed_in(self) -> None:
        """As by the form, which other tests try."""
        self.page.context.add_cookies(
            [{"name": COOKIE, "value": session(), "domain": "127.0.0.1", "path": "/console"}]
        )

    def opens(self, path: str) -> int:
        """The status of the page."""
        status: int = self.page.goto(f"{self.at}{path}").status
        return status

    @property
    def heading(self) -> str:
        text: str = self.page.get_by_role("heading", level=1).inner_text()
        return text

    @property
    def text(self) -> str:
        text: str = self.page.locator("main").inner_text()
        return text

    def is_accessible(self, axe: str) -> None:
        """By axe-core's rules, in both color schemes, which differ."""
        grounds = set()
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            grounds.add(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            if not self.page.evaluate("() => 'axe' in window"):
                self.page.evaluate(axe)
            assert self.page.evaluate(_VIOLATIONS) == [], scheme
        self.page.emulate_media(color_scheme="light")
        assert len(grounds) == 2

    def fits(self) -> None:
        """From a small phone to 4K nothing is beside the page: tables scroll by themselves."""
        for width in (320, 768, 3840):
            self.page.set_viewport_size({"width": width, "height": 900})
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} pixels on a screen of {width}"
        self.page.set_viewport_size({"width": 1280, "height": 800})

    def is_shown_in_the_docs(self, name: str, folder: Path) -> None:
        """A screenshot in each scheme; those that are kept are of this page."""
        self.page.set_viewport_size({"width": 1000, "height": 620})
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            kept, taken = SHOTS / f"{name}-{scheme}.png", folder / f"{name}-{scheme}.png"
            self.page.screenshot(path=kept if _WRITES_SHOTS else taken, animations="disabled")
            assert kept.stat().st_size < 120_000
        self.page.emulate_media(color_scheme="light")

    def focused(self) -> str:
        """What has the focus, and how that is seen."""
        said: str = self.page.evaluate(_FOCUS)
        return said


def session() -> str:
    """A cookie's value, of the auditor."""
    made = Sessions(SECRET, auditors("audit")).signed_in(AUDITOR)
    assert made is not None
    return made.cookie


def cookie() -> str:
    return f"{COOKIE}={session()}"


def auditors(*scopes: str, token: str = AUDITOR) -> Callers:
    return Callers({digest_of(token): Caller(name="auditor", scopes=frozenset(scopes))})


def ask(
    port: int, method: str, path: str, *, form: Mapping[str, str] | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, header fields in lower case, text; redirections are not followed."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None
        if form is not None:
            body, named = urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"} | named
        connection.request(method, path, body, named)
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return response.status, fields, response.read().decode()
    finally:
        connection.close()
