"""docs/billing.md says what is true: its handlers run, against a sidecar and a database."""

from __future__ import annotations

import hmac
import json
import re
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from werkzeug.serving import make_server

from sidecar.api.service import Stripe
from sidecar.identity.stripe_signatures import StripeSignatures
from tests.api.stage import OPS
from tests.api.stripe_events import a_catalog_that_sells
from tests.servers import on_a_thread
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

TEXT = (Path(__file__).parent.parent / "docs/billing.md").read_text()
CODE = {
    re.match(r"# (\S+)\.py\n", code)[1]: code  # type: ignore[index] # each says its file
    for code in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
}
SECRET = "of the biller"  # noqa: S105 - of tests


@pytest.fixture(scope="module")
def stage(database_url):
    stripe = Stripe(require_signed=StripeSignatures(["whsec_mine"]).require, livemode=False)
    with a_people_stage(database_url, catalog=a_catalog_that_sells(), stripe=stripe) as stage:
        yield stage


def whole_bodies(application):
    """Werkzeug's server gives a body that does not end where it ends."""

    def called(environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        return application(
            environ | {"wsgi.input": BytesIO(environ["wsgi.input"].read(length))}, start_response
        )

    return called


@pytest.fixture(scope="module")
def sidecar_url(stage):
    with on_a_thread(
        make_server("127.0.0.1", 0, whole_bodies(stage.client.application), threaded=True)
    ) as url:
        yield url


class Mollie(BaseHTTPRequestHandler):
    """As much of its API as the handler asks: *answers* by path."""

    answers: dict[str, dict[str, object]]

    def do_GET(self):
        found = self.answers.get(self.path) if self.headers["Authorization"] == "Bearer test_key" else None
        body = json.dumps(found or {"status": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_DELETE(self):
        self.answers[self.path] |= {"status": "canceled", "canceledAt": "2026-11-28T12:00:00+00:00"}
        self.do_GET()

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def mollie():
    kind: type[Mollie] = type("OneMollie", (Mollie,), {"answers": {}})
    with on_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), kind)) as url:
        yield kind.answers, url


def written(name, monkeypatch, **environ):
    """What the code of the document has made, in this environment."""
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    names: dict[str, Any] = {"__name__": name}
    code = compile(CODE[name], f"docs/billing.md: {name}.py", "exec", dont_inherit=True)
    exec(code, names)  # noqa: S102 - our own document
    return names


def state_of(stage, workspace):
    [found] = stage.rows("SELECT plan_tier, status FROM authz.workspaces_now WHERE slug = %s", workspace)
    return found


def stored(stage, workspace):
    return stage.rows(
        """SELECT s.subscription, s.plan, s.status, s.source FROM authz.workspace_subscriptions AS s
        JOIN authz.workspaces AS w ON w.id = s.workspace_id WHERE w.slug = %s""",
        workspace,
    )


def test_an_event_that_one_sends_oneself_is_taken(stage, sidecar_url, monkeypatch, capsys):
    written("send", monkeypatch, SIDECAR_URL=sidecar_url)

    assert capsys.readouterr().out.startswith("200 ")
    assert state_of(stage, "solo") == ("pro", "active")


@pytest.fixture
def shop(stage, mollie):
    """The slug of a workspace that has a subscription at Mollie with a payment."""
    answers, _ = mollie
    shop = stage.workspace("starter")
    answers["/payments/tr_1"] = {
        "id": "tr_1",
        "status": "paid",
        "customerId": "cst_1",
        "subscriptionId": "sub_1",
        "paidAt": "2026-11-28T09:00:00+00:00",
    }
    answers["/customers/cst_1/subscriptions/sub_1"] = {
        "id": "sub_1",
        "status": "active",
        "metadata": {"workspace": shop, "plan": "team"},
    }
    return shop


def test_the_handler_for_mollie_works(stage, sidecar_url, mollie, shop, monkeypatch):
    answers, url = mollie
    payment, subscription = answers["/payments/tr_1"], answers["/customers/cst_1/subscriptions/sub_1"]
    names = written(
        "mollie",
        monkeypatch,
        SIDECAR_URL=sidecar_url,
        SIDECAR_TOKEN=OPS,
        MOLLIE_URL=url,
        MOLLIE_API_KEY="test_key",
    )
    client = names["app"].test_client()

    def call(id_="tr_1"):
        assert client.post("/webhooks/mollie", data={"id": id_}).status_code == 200
        return stored(stage, shop)

    assert call("tr_unknown") == call("../customers/cst_1") == []
    payment["status"] = "open"
    assert call() == []
    payment["status"] = "paid"
    assert call() == call() == [("sub_1", "team", "active", "mollie")]
    payment |= {"status": "failed", "failedAt": "2026-11-28T10:00:00+00:00"}
    assert call() == [("sub_1", "team", "past_due", "mollie")]
    subscription["status"] = "suspended"
    payment["failedAt"] = "2026-11-28T11:00:00+00:00"
    assert call() == [("sub_1", "team", "unpaid", "mollie")]
    names["cancel"]("cst_1", "sub_1")
    assert call() == [("sub_1", "team", "canceled", "mollie")]
    assert state_of(stage, shop) == ("starter", "active")


def test_the_handler_for_any_other_biller_works(stage, sidecar_url, monkeypatch):
    shop = stage.workspace("starter")
    names = written("biller", monkeypatch, SIDECAR_URL=sidecar_url, SIDECAR_TOKEN=OPS, BILLER_SECRET=SECRET)
    client = names["app"].test_client()

    def call(state="live", secret=SECRET, workspace=shop, **more):
        subscription = {"id": "s-1", "workspace": workspace, "product": "P-299", "state": state, **more}
        event = {"id": uuid4().hex, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        body = json.dumps(event | {"subscription": subscription}).encode()
        signature = hmac.new(secret.encode(), body, sha256).hexdigest()
        return client.post("/webhooks/biller", data=body, headers={"X-Signature": signature}).status_code

    assert call(secret="another") == 400  # noqa: S106 - of tests
    assert stored(stage, shop) == []
    assert call(seats=3) == 204
    assert stored(stage, shop) == [("s-1", "team", "active", "biller")]
    assert call("ended") == 204
    assert state_of(stage, shop) == ("starter", "active")
    assert call(workspace="nowhere") == 503
