"""Who gets into the console: tokens, cookies, forms, and what a stranger is told."""

from __future__ import annotations

import re
from time import time
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.api.request import Request
from sidecar.console.console import Console, Doors
from sidecar.console.pages.table import PAGES
from sidecar.console.sessions import LASTS_S, Sessions
from sidecar.console.sources import Sources
from sidecar.identity.callers import digest_of
from tests.console.people import ADMIN, AUDITOR, BACKEND, COOKIE, SECRET, ask, auditors
from tests.postgres_server import rows
from tests.serving.serving import run_to_its_end

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SIGN_IN = "/console/sign-in"
CHANGES = "SELECT max(id), (SELECT count(*) FROM authz.usage_ledger) FROM authz.outbox"


def form_of(port: int) -> dict[str, str]:
    """The cookie and the hidden field of a form to sign in."""
    _, headers, text = ask(port, "GET", SIGN_IN)
    [hidden] = re.findall(r'name="form_token" value="([0-9a-f]+)"', text)
    return {"cookie": headers["set-cookie"].partition(";")[0], "form_token": hidden}


def test_a_stranger_is_sent_to_sign_in_and_from_there_to_what_they_wanted(visitor):
    visitor.opens("/console/workspaces?q=acme")
    assert (visitor.heading, visitor.page.title()) == ("Sign in", "Sign in · Sidecar console")
    visitor.page.get_by_label("Caller token").fill(ADMIN)
    visitor.page.get_by_role("button", name="Sign in").click()
    visitor.page.get_by_role("heading", level=1, name="Workspaces").wait_for()

    assert visitor.page.url.endswith("/console/workspaces?q=acme")
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.page.get_by_role("heading", level=1, name="Sign in").wait_for()
    assert visitor.opens("/console/") == 200
    assert visitor.heading == "Sign in"


@pytest.mark.parametrize(
    ("token", "says"),
    [(BACKEND, "needs the scope audit or admin"), ("nobody-s", "Nobody has this token"), ("", "Nobody has")],
)
def test_another_token_is_refused_and_is_not_shown(sidecar, token, says):
    form = form_of(sidecar.port)

    status, headers, text = ask(
        sidecar.port, "POST", SIGN_IN, form={"token": token, **form}, Cookie=form["cookie"]
    )

    assert status == 403
    assert says in text
    assert token not in text or not token
    assert "location" not in headers


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(sidecar):
    form = form_of(sidecar.port)

    status, headers, text = ask(
        sidecar.port, "POST", SIGN_IN, form={"token": AUDITOR, **form}, Cookie=form["cookie"]
    )

    cookie, _, attributes = headers["set-cookie"].partition("; ")
    assert (status, headers["location"], text.count(AUDITOR)) == (303, "/console/", 0)
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", f"Max-Age={LASTS_S}", "Path=/console"} <= set(attributes.split("; "))
    assert digest_of(AUDITOR) not in cookie
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example/", "/console/\\evil", "/v1/x"])
def test_nobody_is_sent_elsewhere(sidecar, next_):
    form = form_of(sidecar.port)
    path = f"{SIGN_IN}?next={next_}"

    _, headers, _ = ask(sidecar.port, "POST", path, form={"token": AUDITOR, **form}, Cookie=form["cookie"])

    assert headers["location"] == "/console/"


def test_a_form_of_another_page_is_refused(sidecar):
    form = form_of(sidecar.port)
    sent = {"token": AUDITOR, **form}
    session = Sessions(SECRET, auditors("audit")).signed_in(AUDITOR)
    assert session is not None
    cookie = f"{COOKIE}={session.cookie}"

    without = ask(sidecar.port, "POST", SIGN_IN, form={"token": AUDITOR}, Cookie=form["cookie"])
    without_a_cookie = ask(sidecar.port, "POST", SIGN_IN, form=sent)
    elsewhere = ask(
        sidecar.port, "POST", SIGN_IN, form=sent, Cookie=form["cookie"], Origin="https://evil.example"
    )
    nowhere = ask(sidecar.port, "POST", SIGN_IN, form=sent, Cookie=form["cookie"], Origin="null")
    as_json = ask(sidecar.port, "POST", SIGN_IN, Cookie=form["cookie"], Content_Type="application/json")
    out = ask(sidecar.port, "POST", "/console/sign-out", form={}, Cookie=cookie)
    still_in = ask(sidecar.port, "GET", "/console/", Cookie=cookie)

    refused = [without, without_a_cookie, elsewhere, nowhere, as_json, out]
    assert [status for status, _, _ in refused] == [403] * 6
    assert still_in[0] == 200


@pytest.mark.parametrize("path", ["/console/", "/console/workspaces", "/console/workspaces/acme"])
def test_a_session_ends_after_hours_and_with_its_token(sidecar, monkeypatch, path):
    here = Sessions(SECRET, auditors("audit"))
    fresh = here.signed_in(AUDITOR)
    of_another = Sessions(SECRET, auditors("audit", token=BACKEND)).signed_in(BACKEND)
    forged = Sessions(b"another secret of thirty-two byte", auditors("audit")).signed_in(AUDITOR)
    monkeypatch.setattr("sidecar.console.sessions.time", lambda: time() - LASTS_S - 2)
    old = here.signed_in(AUDITOR)
    monkeypatch.undo()
    assert fresh
    assert of_another
    assert forged
    assert old

    def shown(cookie: str) -> tuple[int, str | None]:
        status, headers, _ = ask(sidecar.port, "GET", path, Cookie=f"{COOKIE}={cookie}")
        return status, headers.get("location", "").partition("?")[0] or None

    assert shown(fresh.cookie) == (200, None)
    for cookie in (of_another.cookie, forged.cookie, old.cookie, fresh.cookie[:-1] + "x", "x", "é.é"):
        assert shown(cookie) == (303, SIGN_IN)


def test_a_token_that_loses_its_scope_loses_its_session():
    before = Sessions(SECRET, auditors("audit")).signed_in(AUDITOR)
    assert before

    assert Sessions(SECRET, auditors("audit")).of(before.cookie)
    assert Sessions(SECRET, auditors("authorize")).of(before.cookie) is None


def test_behind_tls_the_cookie_is_for_this_host_alone_and_forms_are_of_its_origin():
    service: Any = SimpleNamespace(callers=auditors("audit"))
    nothing: Any = None
    sources = Sources(
        service=service,
        compiled=nothing,
        facts=nothing,
        people=nothing,
        engines=nothing,
        sold=nothing,
        plans_text=b"",
        audit_url=None,
        log_dir=None,
    )
    console = Console(sources, Doors(secret=SECRET, url="https://console.example.com"))

    def sent(method: str, *, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(id="1", method=method, target=SIGN_IN, header=named.get, body=lambda: body)
        status, fields, text = console.answer(request)
        return status, dict(fields), text.decode()

    _, headers, text = sent("GET", Host="sidecar:8080")
    [hidden] = re.findall(r'name="form_token" value="([0-9a-f]+)"', text)
    cookie, _, attributes = headers["Set-Cookie"].partition("; ")
    form: dict[str, Any] = {
        "body": f"token={AUDITOR}&form_token={hidden}".encode(),
        "Cookie": cookie,
        "Host": "sidecar:8080",
        "Content_Type": "application/x-www-form-urlencoded",
    }
    ours: Any = sent("POST", **form, Origin="https://console.example.com")
    not_ours: Any = sent("POST", **form, Origin="http://sidecar:8080")

    assert cookie.startswith("__Host-sidecar=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(attributes.split("; "))
    assert (ours[0], not_ours[0]) == (303, 403)


def test_off_there_is_no_console_and_off_loopback_it_needs_its_url(sidecar, database, tmp_path):
    refused = run_to_its_end(
        database_url=database,
        bind="0.0.0.0:1",
        tokens=sidecar.folder / "tokens",
        plans="plans.yaml",
        console="on",
    )
    short = tmp_path / "short"
    short.write_bytes(b"short")
    too_short = run_to_its_end(
        database_url=database, plans="plans.yaml", console="on", console_secret=short, engine="embedded"
    )

    assert (refused.returncode, "SIDECAR_CONSOLE_URL: is required" in refused.stderr) == (78, True)
    assert (too_short.returncode, "must have 32 bytes or more" in too_short.stderr) == (78, True)


def test_another_method_or_path_is_told_so(sidecar):
    session = Sessions(SECRET, auditors("audit")).signed_in(AUDITOR)
    assert session is not None
    cookie = f"{COOKIE}={session.cookie}"

    nowhere = ask(sidecar.port, "GET", "/console/nowhere", Cookie=cookie)
    post = ask(sidecar.port, "POST", "/console/", form={}, Cookie=cookie)
    slash = ask(sidecar.port, "GET", "/console", Cookie=cookie)
    head = ask(sidecar.port, "HEAD", "/console/", Cookie=cookie)

    assert (nowhere[0], "no such page" in nowhere[2]) == (404, True)
    assert (post[0], "GET" in post[1]["allow"]) == (405, True)
    assert (slash[0], slash[1]["location"]) == (308, "/console/")
    assert (head[0], head[2]) == (200, "")


def test_no_page_takes_anything_but_a_look(sidecar, database):
    """Not of an administrator either, who may change things by the API."""
    session = Sessions(SECRET, auditors("admin", token=ADMIN)).signed_in(ADMIN)
    assert session is not None
    cookie, form = f"{COOKIE}={session.cookie}", {"form_token": session.form_token, "plan": "pro"}
    paths = [f"/console{re.sub('<[^>]+>', 'solo', path)}" for page in PAGES for path in page.paths]
    before = rows(database, CHANGES)

    looked = [ask(sidecar.port, "GET", path, Cookie=cookie)[0] for path in paths]
    refused = {
        ask(sidecar.port, method, path, form=form, Cookie=cookie)[0]
        for path in paths
        for method in ("POST", "PUT", "PATCH", "DELETE")
    }

    assert (looked.count(200) > 5, refused) == (True, {405})
    assert rows(database, CHANGES) == before
