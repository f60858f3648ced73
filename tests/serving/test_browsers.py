"""A page of another origin, in a real Chromium, against the sidecar itself."""

from __future__ import annotations

import json

import pytest

from tests.browser import a_chromium, empty_pages
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, bearer
from tests.serving.serving import QUESTION, serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

EVA = bearer(sub="eva", email="eva@example.com")
JSON = "application/json"
REBOUND = "rebound.example"  # a name for which whoever wrote its page lets the DNS say 127.0.0.1


@pytest.fixture(scope="module")
def pages():
    with empty_pages() as port:
        yield port


@pytest.fixture(scope="module")
def sidecar(database, opa, pages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browsers")
    (folder / "secret").write_text(SECRET)
    settings = {
        "database_url": database,
        "opa_url": opa.url,
        "deadline_ms": 5_000,
        "jwt_keys": f"hs256:{folder / 'secret'}",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "cors_origins": f"http://localhost:{pages}",
    }
    with serving(folder, workers=1, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        yield sidecar


@pytest.fixture(scope="module")
def chromium():
    with a_chromium(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as chromium:
        yield chromium


def test_a_listed_page_does_all_that_its_user_may(sidecar, chromium, pages):
    page = chromium(f"http://localhost:{pages}")

    def ask(path, **more):
        return page.fetch(f"http://127.0.0.1:{sidecar.port}{path}", **{"Authorization": EVA} | more)

    made = ask("/workspaces", method="POST", body='{"name": "Eva"}', Content_Type=JSON)
    slug = json.loads(made["text"])["slug"]
    found = ask("/workspaces", X_Request_ID="page-1")
    renamed = ask(f"/workspaces/{slug}", method="PATCH", body='{"name": "E"}', Content_Type=JSON)
    drawn = ask(f"/workspaces/{slug}/entitlements", X_Workspace_Id=slug)
    again = ask(f"/workspaces/{slug}/entitlements", If_None_Match=drawn["headers"]["etag"])
    plans = page.fetch(f"http://127.0.0.1:{sidecar.port}/plans")
    denied = ask("/workspaces/acme")
    unknown = ask("/workspaces", Authorization="Bearer x.y.z")
    deleted = ask(f"/workspaces/{slug}", method="DELETE")

    assert (made["status"], found["status"], renamed["status"], drawn["status"]) == (201, 200, 200, 200)
    assert found["headers"]["x-request-id"] == "page-1"
    assert json.loads(drawn["text"])["features"]["video_avatar"]["unlocked_by"] == ["pro", "team"]
    assert (again["status"], again["text"]) == (304, "")
    assert (plans["status"], json.loads(plans["text"])["currency"]) == (200, "EUR")
    assert (denied["status"], json.loads(denied["text"])["code"]) == (403, "not_a_member")
    assert (unknown["status"], json.loads(unknown["text"])["code"]) == (401, "user_unauthenticated")
    assert deleted["status"] == 204


def test_no_page_reads_what_is_for_callers_and_no_other_page_reads_anything(sidecar, chromium, pages):
    listed, strange = chromium(f"http://localhost:{pages}"), chromium(f"http://127.0.0.1:{pages}")
    at = f"http://127.0.0.1:{sidecar.port}"

    answers = [
        listed.fetch(f"{at}/v1/authorize", method="POST", body=json.dumps(QUESTION), Content_Type=JSON),
        listed.fetch(f"{at}/metrics"),
        listed.fetch(f"{at}/healthz"),
        strange.fetch(f"{at}/workspaces", Authorization=EVA),
        strange.fetch(f"{at}/plans"),
        strange.fetch(f"{at}/workspaces", method="POST", body="{}", Authorization=EVA),
    ]

    assert [answer.get("error") for answer in answers] == ["TypeError: Failed to fetch"] * 6


def test_a_page_whose_name_was_made_to_mean_this_machine_may_not_ask(sidecar, chromium):
    """DNS rebinding: for the browser the sidecar is the page's own server, so it reads every answer."""
    rebound, own = (chromium(f"http://{host}:{sidecar.port}") for host in (REBOUND, "localhost"))

    def asked(page):
        posted = page.fetch("/v1/authorize", method="POST", body=json.dumps(QUESTION), Content_Type=JSON)
        return posted["status"], page.fetch("/v1/workspaces/acme/entitlements?user=adam")["status"]

    assert (asked(rebound), asked(own)) == ((401, 401), (200, 200))
    assert rebound.fetch("/healthz")["status"] == 200
