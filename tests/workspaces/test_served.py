"""The seed's stories through `sidecar serve` itself: processes, a database, a provider's keys over HTTP."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sidecar.identity.callers import SCOPES, token_line
from tests.api.stripe_events import SECRET, an_event, signature_of
from tests.identity.provider import AUDIENCE, ISSUER, a_jwk, a_provider, a_set, signed
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


class Product:
    def __init__(self, sidecar, provider):
        self.sidecar = sidecar
        self.provider = provider

    def ask(self, user, method, path, body=None, **claims):
        token = signed(sub=user, email=f"{user}@example.com", **claims)
        return self.sidecar.request(method, path, body, headers={"Authorization": token}, timeout=30)

    def invite(self, user, path, email):
        return self.ask(user, "POST", f"{path}/invite", {"email": email, "role": "member"})

    def authorize(self, user, workspace, action):
        question = {"user": user, "workspace": workspace, "action": action}
        return self.admin("POST", "/v1/authorize", question)[1]

    def admin(self, method, path, body):
        return self.sidecar.request(method, path, body, headers={"Authorization": "Bearer t"}, timeout=30)


@pytest.fixture(scope="module")
def product(published_url, tmp_path_factory):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    folder = tmp_path_factory.mktemp("served")
    tokens = folder / "tokens"
    tokens.write_text(token_line("ops", SCOPES, "t"))
    with a_provider() as provider:
        settings = {
            "database_url": published_url,
            "engine": "embedded",
            "tokens": tokens,
            "deadline_ms": 5_000,
            "jwt_keys": provider.url,
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "stripe_secrets": f"whsec_old,{SECRET}",
            "stripe_livemode": "false",
        }
        with serving(folder, **settings) as sidecar:
            assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
            yield Product(sidecar, provider)


def test_a_signup_makes_a_workspace_its_user_the_owner_and_gives_it_what_starter_has(product):
    product.ask("amy", "GET", "/workspaces")

    status, found = product.ask("amy", "GET", "/workspaces")
    [own] = found["workspaces"]
    _, details = product.ask("amy", "GET", f"/workspaces/{own['slug']}")

    assert (status, own["role"], own["plan_tier"]) == (200, "owner", "starter")
    assert [feature for feature, on in details["features"].items() if on] == ["scenario_builder"]
    assert product.authorize("amy", own["slug"], "scenarios.create")["allow"] is True


def test_a_invites_b_and_both_see_the_same(product):
    _, shop = product.ask("amy", "POST", "/workspaces", {"name": "Shop of Amy"})
    path = f"/workspaces/{shop['slug']}"
    product.admin("PUT", f"/v1{path}/plan", {"plan": "team"})
    status, invited = product.ask(
        "amy", "POST", f"{path}/invite", {"email": "bob@example.com", "role": "member"}
    )
    assert status == 201

    assert product.ask("eve", "POST", "/invitations/accept", {"token": invited["token"]})[0] == 404
    status, joined = product.ask("bob", "POST", "/invitations/accept", {"token": invited["token"]})

    assert (status, joined["slug"], joined["role"]) == (200, shop["slug"], "member")
    assert product.ask("amy", "GET", f"{path}/members") == product.ask("bob", "GET", f"{path}/members")
    ours = [product.ask(user, "GET", path)[1] for user in ("amy", "bob")]
    assert ours[0] | {"role": None} == ours[1] | {"role": None}


def test_a_member_of_one_workspace_is_nobody_in_another(product):
    for user, other in (("sam", "acme"), ("olivia", "solo")):
        status, problem = product.ask(user, "GET", f"/workspaces/{other}")
        assert (status, problem["code"]) == (403, "not_a_member")


def test_starter_has_no_video_avatar_pro_has_and_team_has_team_sessions(product):
    def avatar():
        return product.authorize("sam", "solo", "roleplay.start_with_avatar")["status"]

    def team_session():
        return product.authorize("sam", "solo", "team_sessions.start")["status"]

    def plan(name):
        assert product.admin("PUT", "/v1/workspaces/solo/plan", {"plan": name})[0] == 200

    assert (avatar(), team_session()) == (402, 402)
    plan("pro")
    assert (avatar(), team_session()) == (200, 402)
    plan("team")
    assert (avatar(), team_session()) == (200, 200)
    plan("starter")


def test_the_last_seat_goes_once_whichever_process_is_asked(product):
    for number in range(4):
        _, shop = product.ask("ann", "POST", "/workspaces", {"name": f"Shop {number}"})
        path = f"/workspaces/{shop['slug']}"
        product.admin("PUT", f"/v1{path}/plan", {"plan": "team"})
        users = [f"guest-{number}-{guest}" for guest in range(4)]
        tokens = [product.invite("ann", path, f"{user}@example.com")[1]["token"] for user in users]
        product.admin("PUT", f"/v1{path}/overrides", {"limits": {"members": 2}})

        def accept(user, token):
            while True:
                status, said = product.ask(user, "POST", "/invitations/accept", {"token": token})
                if status != 503:
                    return status, said.get("code")
                assert said["code"] == "workspace_contended"

        with ThreadPoolExecutor(4) as pool:
            outcomes = sorted(pool.map(accept, users, tokens), key=str)

        assert outcomes == [(200, None), *[(403, "quota_exceeded")] * 3]
        assert len(product.ask("ann", "GET", f"{path}/members")[1]["members"]) == 2


def test_a_backend_acts_for_a_user_in_utf_8(product):
    def act(user):
        headers = {"Authorization": "Bearer t", "X-Act-As": user}
        return product.sidecar.request("GET", "/workspaces", headers=headers, timeout=30)

    _, made = act("zoé".encode())

    assert [each["role"] for each in made["workspaces"]] == ["owner"]
    _, own = product.ask("zoé", "GET", "/workspaces")
    assert own == made


def post(product, body, signature):
    head = (
        f"POST /billing/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: {signature}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer = product.sidecar.raw(f"{head}{body}".encode())
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


def test_an_event_of_stripe_is_verified_by_its_very_bytes(product):
    body = json.dumps(an_event(workspace="solo", created=int(time.time())), indent=3)
    signature = signature_of(body)

    # The shipped plans are sold as nothing at Stripe.
    assert post(product, body, signature)[1]["code"] == "billing_plan_unknown"
    assert post(product, body.replace("   ", "  "), signature)[1]["code"] == "signature_invalid"
    assert post(product, " " * (256 * 1024 + 1), signature)[0] == 413


def test_no_token_is_in_the_log(product):
    assert product.sidecar.until(lambda: any(line["endpoint"] == "invite" for line in product.sidecar.lines))
    said = f"{product.sidecar.lines}{product.sidecar.said}"

    assert "inv_" not in said
    assert "eyJ" not in said


def test_keys_are_rotated_while_it_runs(product):
    rotated = {"algorithm": "EdDSA", "kid": "two"}
    assert product.ask("amy", "GET", "/workspaces", **rotated)[0] == 401
    product.provider.answer = a_set(a_jwk(), a_jwk("EdDSA", "two"))

    assert product.sidecar.until(
        lambda: product.ask("amy", "GET", "/workspaces", **rotated)[0] == 200, within_s=30
    )
    assert product.ask("amy", "GET", "/workspaces")[0] == 200


def test_while_the_provider_is_down_questions_of_backends_are_answered(published_url, tmp_path):
    with a_provider() as provider:
        provider.status = 503
        settings: dict[str, Any] = {
            "database_url": published_url,
            "engine": "embedded",
            "deadline_ms": 2_000,
            "workers": 1,
            "jwt_keys": provider.url,
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
        }
        with serving(tmp_path, **settings) as sidecar:
            assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
            product = Product(sidecar, provider)

            status, problem = product.ask("mia", "GET", "/workspaces/acme")

            assert (status, problem["code"]) == (503, "identity_unavailable")
            assert sidecar.ask()[0] == 200
            provider.status = 200
            assert sidecar.until(lambda: product.ask("mia", "GET", "/workspaces/acme")[0] == 200, within_s=30)
