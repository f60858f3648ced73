"""A real Chromium, Debian's, and pages of two origins for it to open."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FETCH = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return {status: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers)};
  } catch (error) {
    return {error: String(error)};
  }
}"""
_WITHIN_MS = 20_000


class Page:
    """One that is open in the browser; *origin* is its own."""

    def __init__(self, page: Any, origin: str) -> None:
        self.page = page
        self.origin = origin

    def fetch(
        self, url: str, *, method: str = "GET", body: str | None = None, **headers: str
    ) -> dict[str, Any]:
        """What a script of this page gets: status, text and the headers that it may read, or an error."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        options = {"method": method, "headers": named, "body": body, "cache": "no-store"}
        found: dict[str, Any] = self.page.evaluate(_FETCH, [url, options])
        return found


@contextmanager
def a_chromium(*options: str) -> Iterator[Callable[[str], Page]]:
    """What opens a page of an origin. Skips the test where there is no browser."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("needs chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", *options]  # as root, in CI
        browser = playwright.chromium.launch(executable_path=binary, args=arguments)

        def opened(origin: str) -> Page:
            page = browser.new_page()
            page.set_default_timeout(_WITHIN_MS)
            page.goto(f"{origin}/")
            return Page(page, origin)

        try:
            yield opened
        finally:
            browser.close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>A page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Quiet."""


@contextmanager
def empty_pages() -> Iterator[int]:
    """The port of a server of pages: `http://localhost` and `http://127.0.0.1` with it are two origins."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
