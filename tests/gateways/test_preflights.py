"""Pages of another origin, in a real Chromium, through every gateway by the lines of its document."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.browser import a_chromium
from tests.gateways.test_gateways import MIA, SAM

pytestmark = [pytest.mark.postgres, pytest.mark.gateways, pytest.mark.slow]

PAGE = "/workspaces/acme/analytics"


@pytest.fixture(scope="module")
def chromium():
    with a_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def listed(chromium, pages):
    return chromium(f"http://localhost:{pages}")


@pytest.fixture(scope="module")
def strange(chromium, pages):
    return chromium(f"http://127.0.0.1:{pages}")


def url_of(gateway, path):
    return f"http://127.0.0.1:{gateway.port}{path}"


def preflight(gateway, origin, *lines, path=PAGE):
    asks = ["Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"]
    return gateway.ask(path, f"Origin: {origin}", *(lines or asks), method="OPTIONS")


def test_a_listed_page_reads_what_the_backend_answers(gateway, listed, upstream):
    before = len(upstream.reached)

    answers = [
        listed.fetch(url_of(gateway, PAGE), Authorization=MIA, X_Workspace_Id="acme"),
        listed.fetch(
            url_of(gateway, "/workspaces/acme"),
            method="POST",
            body=json.dumps({"a": 1}),
            Authorization=MIA,
            Content_Type="application/json",
        ),
    ]

    assert [(answer.get("status"), answer.get("text")) for answer in answers] == [(200, "served")] * 2
    assert [each.method for each in upstream.reached[before:]] == ["GET", "POST"]  # and no preflight


@pytest.mark.parametrize(
    ("path", "headers", "status", "reason"),
    [
        ("/workspaces/solo/analytics", {"Authorization": SAM}, 402, "feature_not_in_plan"),
        (PAGE, {"Authorization": SAM}, 403, "not_a_member"),
        (PAGE, {"X-Workspace-Id": "acme"}, 401, None),
    ],
)
def test_a_listed_page_reads_why_it_is_denied(gateway, listed, upstream, path, headers, status, reason):
    before = len(upstream.reached)

    answer = listed.fetch(url_of(gateway, path), **headers)

    assert answer.get("status") == status, answer
    assert reason is None or answer["headers"]["x-authz-reason"] == reason
    assert len(upstream.reached) == before


def test_no_other_page_reads_anything(gateway, strange, upstream):
    before = len(upstream.reached)

    answers = [
        strange.fetch(url_of(gateway, PAGE), Authorization=MIA),
        strange.fetch(url_of(gateway, "/workspaces/acme"), method="DELETE", Authorization=MIA),
        strange.fetch(url_of(gateway, PAGE)),
    ]

    assert [answer.get("error") for answer in answers] == ["TypeError: Failed to fetch"] * 3
    assert len(upstream.reached) == before


def test_a_preflight_reaches_neither_sidecar_nor_backend(gateway, pages, sidecar, upstream):
    before, name = len(upstream.reached), uuid4().hex

    answer = preflight(gateway, f"http://localhost:{pages}", path=f"/preflight-{name}")
    other = preflight(gateway, "https://app.example.com", path=f"/preflight-{name}")
    gateway.ask(f"/asked-{name}")

    for each, origin in ((answer, f"http://localhost:{pages}"), (other, "https://app.example.com")):
        assert each.status in {200, 204}
        assert each.headers["access-control-allow-origin"] == origin
        assert {"GET", "POST", "PATCH", "DELETE"} <= set(
            each.headers["access-control-allow-methods"].replace(" ", "").split(",")
        )
        assert "x-workspace-id" in each.headers["access-control-allow-headers"].lower()
        assert each.headers["access-control-max-age"] == "7200"
        assert "access-control-allow-credentials" not in each.headers
    assert len(upstream.reached) == before
    assert sidecar.until(lambda: f"/asked-{name}" in str(sidecar.lines))
    assert f"/preflight-{name}" not in str(sidecar.lines)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://evil.example",
        "null",
        "https://APP.example.com",
    ],
)
def test_a_preflight_of_another_origin_gets_nowhere(gateway, upstream, origin):
    before = len(upstream.reached)

    answer = preflight(gateway, origin)

    assert answer.headers.get("access-control-allow-origin") != origin
    assert answer.status in {200, 204, 401, 403}  # nginx reads it in any case, and names the one it lists
    assert len(upstream.reached) == before


def test_an_options_that_is_no_preflight_is_asked_about(gateway, pages, upstream):
    before = len(upstream.reached)

    answer = preflight(gateway, f"http://localhost:{pages}", "X-A: 1")

    assert answer.status == 403
    assert answer.headers["x-authz-reason"] == "unknown_route"
    assert len(upstream.reached) == before
