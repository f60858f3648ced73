"""Which answers say that another origin's pages may read them, and that nothing else ever does."""

from __future__ import annotations

import random
import string

import pytest

from sidecar.api.audience import Audience
from sidecar.api.cors import Cors
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.ofrep.endpoints import OFREP
from sidecar.api.people import plans
from sidecar.errors import IdentityUnavailable
from sidecar.identity.users import FixedKeys, Identities, key_set_of_secret
from tests.api.stage import BACKEND, a_stage
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, bearer

LISTED, ALSO, STRANGE = "https://app.example.com", "http://localhost:5173", "https://evil.example"
IDENTITIES = Identities(FixedKeys(key_set_of_secret(SECRET.encode())), audience=AUDIENCE, issuer=ISSUER)
FOR_BROWSERS = [endpoint for endpoint in ENDPOINTS if endpoint.for_browsers]
OTHERS = [endpoint for endpoint in ENDPOINTS if not endpoint.for_browsers]
PREFLIGHT = {"Access-Control-Request-Method": "GET"}
EXPOSED = "ETag, Retry-After, X-Request-ID"


def path_of(endpoint):
    return endpoint.path.replace("{", "").replace("}", "")


def a_browsers_stage(**more):
    return a_stage(identities=IDENTITIES, cors_origins=(LISTED, ALSO), **more)


def cors_of(answer):
    return {name: value for name, value in answer.headers if name.lower().startswith("access-control-")}


@pytest.mark.parametrize("endpoint", FOR_BROWSERS, ids=lambda each: each.name)
def test_a_preflight_of_a_listed_origin_is_answered_with_the_routes_methods(endpoint):
    methods = {each.method for each in FOR_BROWSERS if each.path == endpoint.path}

    answer = a_browsers_stage().client.options(path_of(endpoint), headers={"Origin": LISTED} | PREFLIGHT)

    said = cors_of(answer)
    assert (answer.status_code, answer.data, answer.headers["Vary"]) == (204, b"", "Origin")
    assert set(said.pop("Access-Control-Allow-Methods").split(", ")) - {"HEAD"} == methods
    assert said == {
        "Access-Control-Allow-Origin": LISTED,
        "Access-Control-Allow-Headers": "authorization, content-type, x-workspace-id, x-request-id,"
        " if-none-match",
        "Access-Control-Max-Age": "7200",
        "Access-Control-Expose-Headers": EXPOSED,
    }


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Origin": STRANGE} | PREFLIGHT, None),
        ({"Origin": LISTED}, LISTED),  # no preflight, but a page that asks for it
        (PREFLIGHT, None),
        ({}, None),
    ],
)
def test_any_other_options_is_405_as_ever(headers, named):
    answer = a_browsers_stage().client.options("/plans", headers=headers)

    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.headers["Vary"] == "Origin"
    assert cors_of(answer).get("Access-Control-Allow-Origin") == named


def asked(stage, method, path, *, origin=LISTED, **more):
    headers = more.pop("headers", {})
    return stage.client.open(path, method=method, headers={"Origin": origin, **headers}, **more)


class NoKeys:
    def user(self, _, /, *, deadline):
        raise IdentityUnavailable("the provider is away")


def test_problems_of_every_kind_are_for_the_page_to_read():
    stage = a_browsers_stage()
    user = {"Authorization": bearer()}
    down = a_stage(cors_origins=(LISTED,))  # without keys there are no end users

    answers = [
        asked(stage, "GET", "/workspaces"),
        asked(stage, "PUT", "/workspaces"),
        asked(stage, "GET", "/workspaces/acme/nowhere"),
        asked(stage, "GET", "/plans?page=2"),
        asked(a_stage(identities=NoKeys(), cors_origins=(LISTED,)), "GET", "/workspaces", headers=user),
        asked(a_browsers_stage(serving=lambda: False), "GET", "/workspaces", headers=user),
        asked(down, "GET", "/workspaces"),
    ]

    assert [answer.status_code for answer in answers] == [401, 405, 404, 400, 503, 503, 404]
    for answer in answers:
        assert cors_of(answer) == {
            "Access-Control-Allow-Origin": LISTED,
            "Access-Control-Expose-Headers": EXPOSED,
        }
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_defect_is_for_the_page_to_read_too(monkeypatch):
    monkeypatch.setattr(plans, "_document", lambda _: 1 / 0)

    answer = asked(a_browsers_stage(), "GET", "/plans")

    assert (answer.status_code, cors_of(answer)["Access-Control-Allow-Origin"]) == (500, LISTED)


def test_heads_are_answered_like_what_they_are_about():
    answer = asked(a_browsers_stage(), "HEAD", "/plans")

    assert (answer.status_code, answer.data) == (200, b"")
    assert cors_of(answer)["Access-Control-Allow-Origin"] == LISTED


@pytest.mark.parametrize("endpoint", OTHERS, ids=lambda each: each.name)
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
def test_no_other_route_says_a_word_to_a_listed_origin(endpoint, method):
    for headers in (PREFLIGHT, {"Authorization": f"Bearer {BACKEND}"} | PREFLIGHT):
        answer = asked(a_browsers_stage(), method, path_of(endpoint), headers=headers)

        assert cors_of(answer) == {}
        assert "Vary" not in answer.headers
        assert method != "OPTIONS" or answer.status_code != 204


def test_every_end_users_route_is_for_browsers_and_none_that_a_caller_token_alone_opens():
    users = [endpoint for endpoint in ENDPOINTS if endpoint.audience is Audience.END_USERS]

    assert [endpoint for endpoint in users if not endpoint.for_browsers] == []
    others = [endpoint for endpoint in FOR_BROWSERS if endpoint not in users]
    assert [endpoint.path for endpoint in others] == ["/plans", *(endpoint.path for endpoint in OFREP)]
    assert [endpoint for endpoint in FOR_BROWSERS if endpoint.audience.scope] == list(OFREP)
    assert {endpoint.audience for endpoint in OFREP} == {Audience.EITHER}


def strange_origins(number, *, seed):
    """None of those that are listed, and many that are nearly one."""
    chance = random.Random(seed)  # noqa: S311 - for tests
    letters = string.ascii_letters + string.digits + "-._~:/@*,;%[]?# \u00e4"

    def text(most):
        return "".join(chance.choices(letters, k=chance.randint(1, most)))

    def near(origin):
        place = chance.randrange(len(origin))
        return chance.choice(
            [
                lambda: origin[:place] + chance.choice(letters) + origin[place:],
                lambda: origin[:place] + origin[place + 1 :],
                lambda: origin[:place] + origin[place].swapcase() + origin[place + 1 :],
                lambda: f"{origin}{text(8)}",
                lambda: f"{text(8)}{origin}",
                lambda: f"{origin}:{chance.randint(0, 70_000)}",
                lambda: f"{origin}, {chance.choice((LISTED, text(9)))}",
                lambda: (
                    origin.replace("https", "http") if origin == LISTED else origin.replace("http", "https")
                ),
                lambda: f"https://{text(5)}.{origin.partition('//')[2]}",
                origin.upper,
                lambda: "null",
                lambda: "*",
            ]
        )()

    while number:
        origin = near(chance.choice((LISTED, ALSO))) if chance.random() < 0.7 else f"https://{text(30)}"
        if origin.strip() not in {LISTED, ALSO}:
            number -= 1
            yield origin


def test_ten_thousand_origins_that_are_not_listed_are_told_nothing_on_any_route_and_any_error():
    stage = a_browsers_stage()
    application = stage.client.application
    chance = random.Random(17)  # noqa: S311 - for tests
    paths = [path_of(endpoint) for endpoint in ENDPOINTS] + [
        "/nowhere",
        "/workspaces/a/b/c/d",
        "//plans",
        "*",
    ]
    tokens = [None, f"Bearer {BACKEND}", bearer(), "Bearer x.y.z"]
    seen = set()

    for origin in strange_origins(10_000, seed=17):
        target, method = (
            chance.choice(paths),
            chance.choice(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")),
        )
        fields = {"origin": origin, "authorization": chance.choice(tokens)}
        fields |= {"access-control-request-method": "GET"} if chance.random() < 0.5 else {}
        kind = chance.randrange(4)
        if kind == 0:
            reply = application.unreadable("head_too_large", target=target, origin=origin)
        else:
            request = application.request(
                method,
                target,
                header=lambda name, fields=fields: fields.get(name.lower()),
                repeated=frozenset(),
                by_socket=False,
                remote="192.0.2.1",
            )
            endpoint = application.endpoint_of(request)
            if kind == 1:
                reply = application.overloaded(request, endpoint)
            else:
                reply = application.answer(request, endpoint)
        status, headers, _ = reply
        seen.add(status)
        assert [name for name, _ in headers if name.lower().startswith("access-control")] == [], (
            origin,
            target,
        )
        assert status != 204

    assert seen >= {200, 401, 403, 404, 405, 431, 503}


def test_dev_lists_every_port_of_this_machine_and_nothing_else():
    cors = Cors(("http://localhost:*", "http://127.0.0.1:*"), paths=["/plans"])

    def named(origin):
        return any(name == "Access-Control-Allow-Origin" for name, _ in cors.fields("/plans", origin))

    for origin in (
        "http://localhost",
        "http://localhost:1",
        "http://localhost:5173",
        "http://127.0.0.1:65535",
    ):
        assert named(origin), origin
    for origin in (
        "https://localhost:5173",
        "http://localhost:",
        "http://localhost:*",
        "http://localhost:x",
        "http://localhost:05",
        "http://localhost:123456",
        "http://localhost:5173.evil.example",
        "http://localhost.evil.example:5173",
        "http://evil.example:5173",
        "http://a@localhost:5173",
        "http://localhost:5173:5173",
        "http://127.0.0.2:5173",
        "http://localhost:\u0665",
        "null",
        "",
    ):
        assert not named(origin), origin
