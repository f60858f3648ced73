"""Whatever a request holds, in any field of any endpoint: the answer is no 500, no 503, and no silence."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections import Counter
from itertools import cycle

import pytest

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.gateways.by_header import BY_HEADER
from sidecar.identity.callers import SCOPES, token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.api.stripe_events import SECRET as STRIPE_SECRET
from tests.api.stripe_events import an_event, signature_of
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.serving.not_held import ENCODED, OCTETS, bodies, tokens
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

pytest.importorskip("regopy", reason="needs the extra `embedded`")

_OLIVIA = f"Bearer {a_token(sub='olivia', iss=ISSUER)}"
_ASKED = {"user": "adam", "workspace": "acme", "action": "recording.start"}
_PARTS = {
    "subject": {"type": "user", "id": "adam"},
    "action": {"name": "recording.start", "properties": {"amounts": {"minutes": 1}}},
    "resource": {"type": "workspace", "id": "acme"},
    "context": {"ip": "10.0.0.1"},
}
_CLIENTS = {
    "method": "GET",
    "host": "x",
    "path": "/workspaces/acme/analytics",
    "headers": {"authorization": _OLIVIA},
}
_WHOLE = {
    "mode": "reserve",
    "amounts": {"minutes": 1},
    "idempotency_key": "k",
    "ttl_seconds": 1,
    "resource": "r",
}
_SUBSCRIBED = {
    "subscription": "s",
    "plan": "team",
    "status": "trialing",
    "seats": 5,
    "trial_ends_at": "2030-01-31T12:00:00Z",
    "billing_anchor": "2026-01-31T12:00:00Z",
    "as_of": "2026-01-31T12:00:00Z",
    "event": "e",
    "source": "x",
}
# A body that is right, by the endpoint's name.
BODIES = {
    "authorize": _ASKED | _WHOLE | {"context": {"ip": "10.0.0.1"}},
    "authorize_batch": {
        "defaults": {"user": "adam"},
        "questions": [_ASKED | {"amounts": {"minutes": 1}}, {"context": {}}],
    },
    "commit": {"amounts": {"minutes": 1}},
    "release_usage": {"workspace": "acme", "idempotency_key": "k", "amounts": {"minutes": 1}},
    "access_evaluation": _PARTS,
    "access_evaluations": _PARTS
    | {"evaluations": [_PARTS], "options": {"evaluations_semantic": "execute_all"}},
    "search_subject": _PARTS | {"subject": {"type": "user"}, "page": {"limit": 1, "token": ""}},
    "search_resource": _PARTS | {"resource": {"type": "workspace"}, "page": {"limit": 1, "token": ""}},
    "search_action": {name: _PARTS[name] for name in ("subject", "resource", "context")},
    "evaluate_flag": {"context": {"targetingKey": "adam", "workspace": "acme", "email": "x", "n": [1, None]}},
    "evaluate_flags": {
        "context": {"targetingKey": "adam", "workspace": "acme", "email": "x", "n": [1, None]}
    },
    "put_plan": {"plan": "team", "as_of": "2026-01-31T12:00:00Z", "overrule": True},
    "put_subscription": _SUBSCRIBED,
    "patch_workspace": {"external_id": "x-1"},
    "stripe_events": an_event(workspace="acme", status="trialing", trial_end=1_900_000_000),
    "put_overrides": {
        "features": {"analytics": True},
        "limits": {"minutes": 1_000},
        "expires_at": "2030-01-31T12:00:00Z",
        "until_plan_change": True,
        "reason": "x",
    },
    "put_status": {
        "status": "active",
        "reason": "x",
        "as_of": "2026-01-31T12:00:00Z",
        "overrule": True,
    },
    "create_workspace": {"name": "New"},
    "rename_workspace": {"name": "New"},
    "change_role": {"role": "member"},
    "transfer": {"user": "nobody"},
    "invite": {"email": "new@example.com", "role": "member"},
    "accept_invitation": {"token": "x"},
    "gateway_apisix": {"input": {"request": _CLIENTS}},
    "gateway_kong": {"input": {"request": {"http": _CLIENTS}}},
    "gateway_envoy": {"input": {"attributes": {"request": {"http": _CLIENTS}}}},
}
WITH_BODY = {endpoint.name for endpoint in ENDPOINTS if endpoint.body is not None}
HEADERS = (
    "X-Request-ID",
    "X-Act-As",
    "X-Act-As-Email",
    "X-Workspace-Id",
    "Authorization",
    "X-Sidecar-Token",
    "X-Original-Method",
    "X-Original-URI",
    "X-Forwarded-Method",
    "X-Forwarded-Host",
    "X-Forwarded-Uri",
    "Content-Type",
    "traceparent",
)
_PLACES = {
    "workspace": "acme",
    "user": "mia",
    "tenant": "t",
    "target": "workspaces/acme/analytics",
    "reservation": "0" * 32,
    "invitation": "x",
    "key": "plan",
}
_AT_MOST = 80  # bodies of one endpoint


@pytest.fixture(scope="module", params=["on", "off"])
def asked(request, database_url, policies_with_context, tmp_path_factory):
    """Sends requests to a server with the lane or without, and counts what was wrong with the answers."""
    compiled = compiled_at(shipped("plans.yaml"), policies_with_context)
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    folder = tmp_path_factory.mktemp("not_held")
    (folder / "tokens").write_text(token_line("all", SCOPES, "t") + "\n")
    (folder / "secret").write_text(SECRET)
    with serving(
        folder,
        database_url=database_url,
        engine="embedded",
        policies=policies_with_context,
        tokens=folder / "tokens",
        jwt_keys=f"hs256:{folder / 'secret'}",
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        lane=request.param,
        stripe_secrets=STRIPE_SECRET,
        stripe_livemode="false",
        workers=1,
        deadline_ms=10_000,
    ) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        asked = Asked(sidecar, lane=request.param)
        yield asked
        asked.connection.close()
        assert "Traceback" not in sidecar.said


class Asked:
    def __init__(self, sidecar, *, lane) -> None:
        self.lane = lane
        self.sidecar = sidecar
        self.statuses: Counter[int] = Counter()
        self.wrong: list[object] = []
        self.connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=30)

    def send(self, method, path, content=b"", **headers):
        given = {"Content-Type": "application/json", "Authorization": "Bearer t"} if content else {}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self.connection.request(
                method, path, content or None, given | {"Authorization": "Bearer t"} | sent
            )
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.wrong.append((method, path[:80], content[:80], repr(error)))
            return
        self.statuses[answer.status] += 1
        is_problem = answer.headers["Content-Type"] == "application/problem+json"
        if answer.status >= 500 or not answer.headers["X-Request-ID"]:
            self.wrong.append((method, path[:80], content[:120], headers, answer.status, text[:300]))
        elif is_problem and not json.loads(text).get("detail"):
            self.wrong.append((method, path[:80], content[:120], "no detail", text[:300]))


def some_of(values, seed, *, most=_AT_MOST):
    """The same each time, and others for each server."""
    values = list(values)
    return random.Random(seed).sample(values, min(len(values), most))  # noqa: S311 - of tests


def path_of(endpoint, **named):
    return endpoint.path.format_map(_PLACES | named)


def who(endpoint, content=b""):
    if endpoint.name == "stripe_events":
        return {"Stripe-Signature": signature_of(content.decode(errors="replace"))}
    return {"Authorization": _OLIVIA} if endpoint.audience is Audience.END_USERS else {}


def test_every_endpoint_with_a_body_is_tried():
    assert set(BODIES) == WITH_BODY


def test_no_value_in_a_body_makes_an_endpoint_fail(asked):
    for endpoint in ENDPOINTS:
        if endpoint.name in BODIES:
            for content in some_of(bodies(BODIES[endpoint.name]), f"{endpoint.name} {asked.lane}"):
                asked.send(endpoint.method, path_of(endpoint), content, **who(endpoint, content))

    assert asked.wrong == []
    assert asked.statuses[200] > 100
    assert asked.statuses[400] > 100


def test_no_value_in_a_path_or_a_query_makes_an_endpoint_fail(asked):
    for endpoint in ENDPOINTS:
        places = [place for place in _PLACES if f"{{{place}}}" in endpoint.path]
        body = json.dumps(BODIES.get(endpoint.name, "")).encode() if endpoint.name in BODIES else b""
        for place in places:
            for value in ENCODED:
                asked.send(endpoint.method, path_of(endpoint, **{place: value}), body, **who(endpoint))
        for name in endpoint.query:
            for value in ENCODED:
                asked.send(endpoint.method, f"{path_of(endpoint)}?{name}={value}", body, **who(endpoint))

    assert asked.wrong == []


def test_no_value_of_a_header_makes_an_endpoint_fail(asked):
    plain = json.dumps(_ASKED).encode()
    gateways = cycle(BY_HEADER)
    for name in HEADERS:
        for value in OCTETS:
            asked.send("POST", "/v1/authorize", plain, **{name: value})
            asked.send("GET", "/workspaces/acme", **{"Authorization": _OLIVIA, name: value})
            asked.send("GET", "/workspaces/acme", **{"X-Act-As": "olivia", name: value})
            gateway = next(gateways)
            said = {
                "X-Original-Method": "GET",
                "X-Original-URI": "/workspaces/acme/analytics",
                "X-Forwarded-Method": "GET",
                "X-Forwarded-Uri": "/workspaces/acme/analytics",
                "X-Forwarded-Host": "x",
                "Authorization": _OLIVIA,
            }
            asked.send("GET", path_of(gateway), **{**said, name: value})

    assert asked.wrong == []


def test_no_value_of_a_token_makes_an_endpoint_fail(asked):
    now = int(time.time())
    claims = {
        "sub": "olivia",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": now + 900,
        "iat": now,
        "email": "o@example.com",
        "email_verified": True,
        "user_metadata": {"email_verified": True},
        "app_metadata": {"workspace": "acme"},
        "amr": [{"method": "otp", "timestamp": now}],
    }
    for number, token in enumerate(some_of(tokens(claims, SECRET), asked.lane, most=300)):
        shown = {"Authorization": f"Bearer {token}"}
        if number % 2:
            asked.send("GET", "/workspaces", **shown)
        else:
            asked.send("GET", "/gw/ext-authz/workspaces/acme/analytics", **shown)

    assert asked.wrong == []
    assert asked.statuses[401] > 30


def test_no_tag_makes_the_bundle_fail(asked):
    for value in OCTETS:
        asked.send("GET", "/bundles/authz.tar.gz", If_None_Match=value)

    assert asked.wrong == []


def test_what_was_stored_keeps_nobody_from_the_next_change(asked):
    for body, status in (
        ({"plan": "team", "as_of": "9999-12-31T23:59:59.999999Z"}, 400),
        ({"plan": "team", "as_of": "9999-12-31T23:59:59-14:00"}, 400),
        ({"plan": "pro"}, 200),
    ):
        answer = asked.sidecar.request("PUT", "/v1/workspaces/acme/plan", body)
        assert answer[0] == status, answer
    subscribed = _SUBSCRIBED | {
        "trial_ends_at": "9999-12-31T23:59:59.999999Z",
        "billing_anchor": "9999-12-31T23:59:59.999999Z",
        "event": "of a far future",
    }
    assert asked.sidecar.request("PUT", "/v1/workspaces/acme/subscription", subscribed)[0] == 200
    overrides = {"limits": {"minutes": 7}, "expires_at": "9999-12-31T23:59:59Z"}
    assert asked.sidecar.request("PUT", "/v1/workspaces/acme/overrides", overrides)[0] == 200
    assert asked.sidecar.request("PUT", "/v1/workspaces/acme/plan", {"plan": "pro"})[0] == 200
    assert asked.sidecar.ask()[0] == 200
