"""The HTTP clients that Python programs have; they run in the test's own process."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import local
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import httpx2
import requests

from sidecar.guard.client import Client
from tests.serving.clients.asking import JSON, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.clients.asking import Answers, Asking

_WITHIN_S = 10
_AT_ONCE = 4


def _asked(ask: Callable[[str, str], tuple[int, str]]) -> Answers:
    one_by_one = [ask(path, body) for path, body in REQUESTS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return one_by_one + list(pool.map(ask, *zip(*REQUESTS, strict=True)))


def _content(asking: Asking, body: str) -> bytes | Iterator[bytes]:
    content = body.encode()
    return iter([content[:30], content[30:]]) if asking.chunked else content


def by_http_client(asking: Asking) -> Answers:
    kept = local()
    with ExitStack() as stack:

        def ask(path: str, body: str) -> tuple[int, str]:
            if not hasattr(kept, "connection"):
                kept.connection = stack.enter_context(
                    closing(http.client.HTTPConnection(urlsplit(asking.url).netloc, timeout=_WITHIN_S))
                )
            kept.connection.request("POST", path, _content(asking, body), JSON)
            response = kept.connection.getresponse()
            return response.status, response.read().decode()

        return _asked(ask)


def by_urllib(asking: Asking) -> Answers:
    opener = build_opener(ProxyHandler({}))

    def ask(path: str, body: str) -> tuple[int, str]:
        request = Request(asking.url + path, body.encode(), JSON)  # noqa: S310 - the sidecar's own URL
        with opener.open(request, timeout=_WITHIN_S) as response:
            return response.status, response.read().decode()

    return _asked(ask)


def by_requests(asking: Asking) -> Answers:
    with requests.Session() as session:
        session.trust_env = False

        def ask(path: str, body: str) -> tuple[int, str]:
            content = _content(asking, body)
            response = session.post(asking.url + path, content, headers=JSON, timeout=_WITHIN_S)
            return response.status_code, response.text

        return _asked(ask)


def by_httpx(asking: Asking) -> Answers:
    with httpx2.Client(trust_env=False, timeout=_WITHIN_S) as client:

        def ask(path: str, body: str) -> tuple[int, str]:
            response = client.post(asking.url + path, content=_content(asking, body), headers=JSON)
            return response.status_code, response.text

        return _asked(ask)


def by_guard(asking: Asking) -> Answers:
    """It asks no evaluation, so that it asks for a decision in its place: both are read by the lane."""
    with Client(asking.url, timeout_s=_WITHIN_S) as client:

        def ask(path: str, body: str) -> tuple[int, str]:
            document = json.loads(body)
            if path == "/v1/authorize/batch":
                decisions = client.batch(document["questions"])
                return 200, json.dumps({"answers": [{"allow": each.allowed} for each in decisions]})
            decision = client.check("recording.start", user="adam", workspace="acme")
            return decision.status, json.dumps({"allow": decision.allowed, "decision": decision.allowed})

        return _asked(ask)
