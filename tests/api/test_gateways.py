"""What every dialect has in common, and what each endpoint reads: its own headers and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest

from sidecar.api.gateways.decision import IDENTITY, GatewayDecision
from sidecar.api.problems import DENIALS
from sidecar.catalog.catalog import Route, Source
from sidecar.catalog.routes import Routes
from sidecar.decisions.reasons import GRANTED, REASONS
from sidecar.errors import FactsUnavailable, IdentityUnavailable, UnknownUser, UsageContended
from sidecar.serving.application import Application
from tests.api.stage import AUDITOR, BACKEND, a_stage
from tests.values import WORKSPACE_ID, some_facts, the_catalog

LOOPBACK, ELSEWHERE = {"REMOTE_ADDR": "127.0.0.1"}, {"REMOTE_ADDR": "10.0.0.7"}
MEMBERS = {
    ("adam", "acme"): some_facts(role="admin"),
    ("sam", "solo"): some_facts(role="owner", plan="starter"),
    ("full", "acme"): some_facts(usage={"minutes": 1000}),
}
ANALYTICS = "/workspaces/acme/analytics"
LIMITED = "/workspaces/acme/limited"


class Everybody:
    """An identity provider whose token is the user's name."""

    def recall(self, authorization, /):
        return None

    def user(self, authorization, /, *, deadline):
        if authorization == "Bearer outage":
            raise IdentityUnavailable("no keys")
        scheme, _, name = (authorization or "").partition(" ")
        if scheme != "Bearer" or not name or "," in name:
            raise UnknownUser
        user = name.encode("latin-1").decode()
        return SimpleNamespace(id=user, claims={"sub": user, "team": "acme", "number": 7})


def a_route(path, action="platform.use", *, user=("claim", "sub"), workspace=("path", "workspace"), **more):
    values = {"method": "GET", "host": None, "mode": "check"} | more
    return Route(
        path=path,
        action=action,
        user=Source(kind=user[0], name=user[1]),
        workspace=Source(kind=workspace[0], name=workspace[1]),
        **values,
    )


ROUTES = (
    *the_catalog().routes,
    a_route("/workspaces/{workspace}/recordings", "recording.start"),
    a_route("/workspaces/{workspace}/recordings", "recording.start", method="POST", mode="consume"),
    a_route(
        "/workspaces/{workspace}/recordings",
        "recording.start",
        method="PUT",
        mode="consume",
        once_per="Idempotency-Key",
    ),
    a_route(
        "/workspaces/{workspace}/others",
        "scenarios.create",
        method="PUT",
        mode="consume",
        once_per="Idempotency-Key",
    ),
    a_route("/workspaces/{workspace}/limited", "recording.start", ratelimit=True),
    a_route("/workspaces/{workspace}/limited", "scenarios.create", method="PUT", ratelimit=True),
    a_route("/from-header", workspace=("header", "X-Workspace-Id")),
    a_route("/from-claim", workspace=("claim", "team")),
    a_route("/from-number", workspace=("claim", "number")),
    a_route("/user-from-claim/{workspace}", user=("claim", "uid")),
    a_route("/user-from-header/{workspace}", user=("header", "X-User")),
    a_route("/users/{user}/{workspace}", user=("path", "user")),
    a_route("/{workspace}", "billing.manage", host="admin.example"),
    a_route("/{workspace}", "platform.use"),
)


@pytest.fixture
def stage():
    stage = a_stage(MEMBERS, identities=Everybody())
    return with_service(stage, routes=Routes(ROUTES))


def with_service(stage, **changes):
    service = replace(stage.service, **changes)
    client = type(stage.client)(Application(service))
    return SimpleNamespace(**{**vars(stage), "service": service, "client": client})


def ask(stage, path, method="GET", *, user="adam", came=LOOPBACK, **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    if user is not None:
        given["Authorization"] = f"Bearer {user}"
    return stage.client.open(path, method=method, headers=given, environ_base=came)


def nginx(stage, target=ANALYTICS, method="GET", **more):
    return ask(stage, "/gw/nginx", X_Original_Method=method, X_Original_URI=target, **more)


def haproxy(stage, target=ANALYTICS, method="GET", **more):
    return ask(stage, "/gw/haproxy", X_Original_Method=method, X_Original_URI=target, **more)


def ingress_nginx(stage, target=ANALYTICS, method="GET", host="app.example", **more):
    url = f"http://{host}{target}" if target else target
    return ask(stage, "/gw/ingress-nginx", X_Original_Method=method, X_Original_URL=url, **more)


def forward_auth(stage, target=ANALYTICS, method="GET", host="app.example", **more):
    return ask(
        stage,
        "/gw/forward-auth",
        X_Forwarded_Method=method,
        X_Forwarded_Uri=target,
        X_Forwarded_Host=host,
        **more,
    )


def ext_authz(stage, target=ANALYTICS, method="GET", **more):
    return ask(stage, f"/gw/ext-authz{target}", method, **more)


DIALECTS = [nginx, ingress_nginx, haproxy, forward_auth, ext_authz]
LIKE_NGINX = (nginx, ingress_nginx)
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@every_dialect
def test_a_yes_is_exactly_200_with_all_of_the_identity(stage, dialect):
    answer = dialect(stage)

    assert (answer.status_code, answer.data) == (200, b"")
    identity = {name: answer.headers[name] for name in IDENTITY}
    decision = identity.pop("X-Authz-Decision-Id")
    assert identity == {
        "X-Authz-User": "adam",
        "X-Authz-Workspace": str(WORKSPACE_ID),
        "X-Authz-Role": "admin",
        "X-Authz-Plan": "team",
    }
    assert stage.lines[-1]["decision_id"] == decision
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


@every_dialect
@pytest.mark.parametrize(
    ("target", "user", "status", "reason"),
    [
        (ANALYTICS, "zoe", 403, "not_a_member"),
        ("/workspaces/solo/analytics", "sam", 402, "feature_not_in_plan"),
        ("/workspaces/acme/recordings", "full", 429, "quota_exceeded"),
        ("/no/such/route", "adam", 403, "unknown_route"),
        ("/workspaces/acme/../acme/analytics", "adam", 403, "unsafe_path"),
    ],
)
def test_a_no_says_why(stage, dialect, target, user, status, reason):
    answer = dialect(stage, target, user=user)

    assert answer.status_code == (403 if dialect in LIKE_NGINX else status)
    assert (answer.headers["X-Authz-Status"], answer.headers["X-Authz-Reason"]) == (str(status), reason)
    assert answer.content_type == "application/problem+json"
    assert (answer.json["code"], answer.json["status"]) == (reason, status)
    assert ("Retry-After" in answer.headers) == (status == 429)
    assert not set(answer.headers.keys()) & set(IDENTITY[:4])


@every_dialect
def test_what_is_left_is_told_where_the_route_says_so(stage, dialect):
    passing, none_left = (dialect(stage, LIMITED, user=user) for user in ("adam", "full"))

    assert (passing.status_code, none_left.headers["X-Authz-Status"]) == (200, "429")
    assert passing.headers["RateLimit-Policy"] == '"minutes";q=1000'
    assert re.fullmatch(r'"minutes";r=[1-9][0-9]*;t=[0-9]+', passing.headers["RateLimit"])
    assert none_left.headers["RateLimit"].startswith('"minutes";r=0;t=')
    for answer in (
        dialect(stage, LIMITED, user="zoe"),  # for another reason than quota
        dialect(stage, LIMITED, "PUT"),  # unlimited
        dialect(stage, "/workspaces/acme/recordings"),
        dialect(stage, "/workspaces/acme/recordings", user="full"),
    ):
        assert not {"RateLimit", "RateLimit-Policy"} & set(answer.headers.keys())


@every_dialect
@pytest.mark.parametrize("user", [None, "", "a,b"])
def test_only_missing_or_bad_credentials_are_a_401(stage, dialect, user):
    answer = dialect(stage, user=user)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@every_dialect
def test_trouble_is_no_decision(stage, dialect):
    stage.facts.outage = FactsUnavailable("down")
    starting = with_service(stage, serving=lambda: False)
    keyless = with_service(stage, identities=None)

    answers = [
        dialect(stage),
        dialect(stage, user="outage"),
        dialect(starting),
        dialect(keyless),
    ]

    assert [(answer.status_code, answer.headers["X-Authz-Reason"]) for answer in answers] == [
        (503, "facts_unavailable"),
        (503, "identity_unavailable"),
        (503, "starting"),
        (503, "identity_unavailable"),
    ]
    assert all(answer.headers["Retry-After"] for answer in answers)


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE", "TRACE"]
)
@pytest.mark.parametrize(
    "path", ["/gw/nginx", "/gw/ingress-nginx", "/gw/forward-auth", "/gw/haproxy", "/gw/ext-authz/no/such"]
)
def test_no_method_is_a_yes_by_itself(stage, path, method):
    answer = ask(stage, path, method)

    assert answer.status_code == 403
    assert "Allow" not in answer.headers
    if method == "HEAD":
        assert answer.data == b""


@pytest.mark.parametrize("dialect", [nginx, ingress_nginx, haproxy, forward_auth])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
def test_the_method_of_the_question_is_not_that_of_the_request(stage, dialect, method):
    path, own = {
        nginx: ("/gw/nginx", "Original"),
        ingress_nginx: ("/gw/ingress-nginx", "Original"),
        haproxy: ("/gw/haproxy", "Original"),
        forward_auth: ("/gw/forward-auth", "Forwarded"),
    }[dialect]
    headers = {f"X-{own}-Method": "GET", f"X-{own}-Uri": ANALYTICS, f"X-{own}-Host": "app.example"}
    headers["X-Original-URL"] = f"http://localhost{ANALYTICS}"

    assert ask(stage, path, method, **headers).status_code == 200


BY_HEADER_ALONE = [nginx, ingress_nginx, haproxy, forward_auth]


@pytest.mark.parametrize("dialect", BY_HEADER_ALONE)
@pytest.mark.parametrize(
    ("target", "method"),
    [
        (None, "GET"),
        ("", "GET"),
        (ANALYTICS, None),
        (ANALYTICS, ""),
        (ANALYTICS, "GET,GET"),
        (ANALYTICS, "GET, POST"),
        (ANALYTICS, "G T"),
    ],
)
def test_what_is_absent_or_no_method_is_refused(stage, dialect, target, method):
    answer = dialect(stage, target, method)

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (403, "gateway_unreadable")


READ = {
    nginx: ("X-Original-Method", "X-Original-URI", "X-Original-URL", "Host"),
    ingress_nginx: ("X-Original-Method", "X-Original-URL"),
    haproxy: ("X-Original-Method", "X-Original-URI", "Host"),
    forward_auth: ("X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host"),
    ext_authz: ("Host",),
}


def twice(*names):
    """As the server tells the application which headers were more than one line."""
    return LOOPBACK | {"sidecar.repeated": frozenset(name.lower() for name in names)}


@every_dialect
def test_two_lines_of_a_dialects_header_are_refused(stage, dialect):
    for name in READ[dialect]:
        answer = dialect(stage, came=twice(name))

        assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (403, "gateway_unreadable")


@every_dialect
def test_two_lines_of_what_is_not_read_are_nobodys_matter(stage, dialect):
    others = {"Cookie", "Accept", "X-Request-Key", "X-Workspace-Id", *sum(READ.values(), ())} - {
        *READ[dialect]
    }

    assert dialect(stage, came=twice(*others)).status_code == 200


@every_dialect
def test_two_lines_of_authorization_are_no_token(stage, dialect):
    assert dialect(stage, came=twice("Authorization")).status_code == 401


@every_dialect
def test_two_lines_of_a_header_that_a_route_names_name_nothing(stage, dialect):
    came = twice("X-Workspace-Id")

    answer = dialect(stage, "/from-header", X_Workspace_Id="acme", came=came)

    assert answer.headers["X-Authz-Reason"] == "gateway_unreadable"


@every_dialect
def test_a_comma_in_a_header_is_part_of_its_text(stage, dialect):
    for name in ("acme,acme", "acme, acme", "acme,", ",acme", "a b", "a;b"):
        stage.facts.members["adam", name] = some_facts()

        assert dialect(stage, "/from-header", X_Workspace_Id=name).status_code == 200
        others = dialect(stage, "/from-header", user="zoe", X_Workspace_Id=name)
        assert others.headers["X-Authz-Reason"] == "not_a_member"


@every_dialect
def test_a_comma_in_a_path_is_part_of_it(stage, dialect):
    stage.facts.members["adam", "a,b"] = some_facts()

    assert dialect(stage, "/workspaces/a,b/analytics").status_code == 200
    assert dialect(stage, f"{ANALYTICS},{ANALYTICS}").headers["X-Authz-Reason"] == "unknown_route"


HOSTS_OF_NOBODY = [
    "a.example,b.example",
    "a b",
    "user@a.example",
    "admin.example.",
    "admin.example.:80",
    "admin..example",
    ".admin.example",
    "admin.example?",
    "admin.example#",
    "admin.example:80:80",
    "admin.example:",
    "admin%2eexample",
    "\uff41dmin.example".encode().decode("latin-1"),
    "admin\u3002example".encode().decode("latin-1"),
    "a" * 300,
]


def at_host(stage, dialect, host, target="/acme"):
    """As *dialect* asks about a request for *host*."""
    if dialect in {forward_auth, ingress_nginx}:
        return dialect(stage, target, host=host)
    return dialect(stage, target, Host=host)


@every_dialect
def test_a_host_has_one_reading(stage, dialect):
    for host in HOSTS_OF_NOBODY:
        answer = at_host(stage, dialect, host, ANALYTICS)

        reason = answer.headers.get("X-Authz-Reason")
        assert (answer.status_code, reason, host) == (403, "gateway_unreadable", host)


@pytest.mark.parametrize("dialect", [forward_auth, ingress_nginx])
def test_a_dialect_that_says_the_host_says_it(stage, dialect):
    answer = dialect(stage, host="")

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (403, "gateway_unreadable")


QUERIES = [
    "ids=1,2&x=//..;%2f",
    "sort=name:asc,date:desc",
    ",/nowhere",
    "a=1, /nowhere",
    "a,http://x/nowhere",
    "a b",
    "a\tb",
    "#/../billing",
    "%zz%00%ff",
    "\xff\xfe",
    "?" * 9,
    "x" * 30_000,
]


def as_it_came(stage, target):
    """As a gateway sends it to Envoy's endpoint; the test's client would put it right first."""
    environ = {"RAW_URI": f"/gw/ext-authz{target}", "REQUEST_METHOD": "GET"}
    return stage.client.open(environ_overrides={**environ, "HTTP_AUTHORIZATION": "Bearer adam", **LOOPBACK})


@every_dialect
def test_a_query_is_not_looked_at_whatever_it_holds(stage, dialect):
    asked = as_it_came if dialect is ext_authz else dialect
    for query in QUERIES:
        allowed, refused = (asked(stage, f"{path}?{query}") for path in (ANALYTICS, "/no/such/route"))

        assert (allowed.status_code, query) == (200, query)
        assert refused.headers["X-Authz-Reason"] == "unknown_route"


@pytest.mark.parametrize("path", ["/gw/nginx", "/gw/ingress-nginx", "/gw/haproxy", "/gw/forward-auth"])
def test_a_query_of_the_endpoint_itself_says_nothing(stage, path):
    answer = ask(stage, f"{path}?X-Original-URI={ANALYTICS}&user=olivia")

    assert answer.headers["X-Authz-Reason"] == "gateway_unreadable"


THE_OTHERS = {
    "X-Original-Method": "GET",
    "X-Original-URI": ANALYTICS,
    "X-Original-URL": f"http://app.example{ANALYTICS}",
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Uri": ANALYTICS,
    "X-Forwarded-Host": "app.example",
    "Forwarded": "host=app.example",
    "X-Rewrite-URL": ANALYTICS,
}


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/gw/nginx", {"X-Original-Method", "X-Original-URI"}),
        ("/gw/ingress-nginx", {"X-Original-Method", "X-Original-URL"}),
        ("/gw/haproxy", {"X-Original-Method", "X-Original-URI"}),
        ("/gw/forward-auth", {"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host"}),
    ],
)
def test_an_endpoint_reads_no_headers_but_its_own(stage, path, own):
    others = {name: value for name, value in THE_OTHERS.items() if name not in own}

    assert ask(stage, path, **others).headers["X-Authz-Reason"] == "gateway_unreadable"
    assert ask(stage, path, **THE_OTHERS, Host="app.example").status_code == 200
    assert ask(stage, "/gw/ext-authz/no/such", **THE_OTHERS).headers["X-Authz-Reason"] == "unknown_route"


WITHOUT_HOSTS = tuple(route for route in ROUTES if route.host is None)


def without_a_host(stage, path):
    asked = {"HTTP_X_ORIGINAL_METHOD": "GET", "HTTP_X_ORIGINAL_URI": "/acme"}
    environ = {
        "RAW_URI": path,
        "HTTP_HOST": None,
        "HTTP_AUTHORIZATION": "Bearer adam",
        "REQUEST_METHOD": "GET",
    }
    return stage.client.open(environ_overrides=environ | asked | LOOPBACK)


@pytest.mark.parametrize("path", ["/gw/nginx", "/gw/haproxy", "/gw/ext-authz/acme"])
def test_once_a_route_names_a_host_a_question_without_one_is_refused(stage, path):
    hostless = with_service(stage, routes=Routes(WITHOUT_HOSTS))

    assert without_a_host(stage, path).headers["X-Authz-Reason"] == "gateway_unreadable"
    assert without_a_host(hostless, path).status_code == 200


@every_dialect
def test_the_sidecars_own_host_is_not_the_clients(stage, dialect):
    hostless = with_service(stage, routes=Routes(WITHOUT_HOSTS))

    for host, target in product(("127.0.0.1:8080", "LOCALHOST:8080"), ("/acme", ANALYTICS)):
        assert at_host(stage, dialect, host, target).headers["X-Authz-Reason"] == "gateway_unreadable"
        assert at_host(hostless, dialect, host, target).status_code == 200
    assert at_host(stage, dialect, "localhost:8000").status_code == 200


def test_nginx_is_refused_where_a_url_says_another_host(stage):
    """As ingress-nginx asks, whose Host is the sidecar's own."""

    def asked(url):
        answer = nginx(stage, "/acme", Host="app.example", X_Original_URL=url)
        return answer.headers.get("X-Authz-Reason")

    for url in ("http://app.example/acme", "https://APP.example:8443/acme?x"):
        assert asked(url) is None
    for url in (
        "http://admin.example/acme",
        "http://app.example.evil/acme",
        "http://app.example@admin.example/acme",
        "http:///acme",
        "/acme",
        "",
    ):
        assert (asked(url), url) == ("gateway_unreadable", url)


def test_an_original_url_is_one_of_http_with_its_host(stage):
    for url in (
        "http:///acme",
        "http://app.example",
        "http://app.example?/acme",
        "http://app.example#/acme",
        "http://app.example\\/acme",
        "http://admin.example@app.example/acme",
        "//app.example/acme",
        "ftp://app.example/acme",
        "HTTP://app.example/acme",
        "app.example/acme",
        "/acme",
    ):
        answer = ask(stage, "/gw/ingress-nginx", X_Original_Method="GET", X_Original_URL=url)

        assert (answer.headers.get("X-Authz-Reason"), url) == ("gateway_unreadable", url)


def test_every_reason_for_a_denial_has_its_title():
    assert set(DENIALS) == set(REASONS) - {GRANTED}


def test_a_ruling_is_as_true_as_what_it_says():
    assert GatewayDecision(status=200, reason="granted", identity={})
    assert not GatewayDecision(status=403, reason="unknown_route", identity={})


def test_a_host_of_its_own_is_the_routes(stage):
    by_host = [
        nginx(stage, "/acme", user="adam", Host="admin.example"),
        haproxy(stage, "/acme", user="adam", Host="ADMIN.example:8443"),
        forward_auth(stage, "/acme", host="admin.example", user="adam"),
        ingress_nginx(stage, "/acme", host="Admin.Example:80", user="adam", Host="app.example"),
        ext_authz(stage, "/acme", user="adam", Host="admin.example"),
    ]
    by_another = [
        nginx(stage, "/acme", Host="app.example", X_Forwarded_Host="admin.example"),
        ext_authz(stage, "/acme", Host="[::1]:8000"),
    ]

    assert {answer.headers["X-Authz-Reason"] for answer in by_host} == {"role_insufficient"}
    assert [answer.status_code for answer in by_another] == [200, 200]


@pytest.mark.parametrize(
    "target",
    [
        "//workspaces/acme/analytics",
        "/workspaces//acme/analytics",
        "/workspaces/acme/./analytics",
        "/x/../workspaces/acme/analytics",
        "/workspaces/acme%2fanalytics",
        "/workspaces/acme/analytics#x",
        "/workspaces/acme/%61nalytics",
    ],
)
def test_envoys_path_is_taken_as_it_is_written(stage, target):
    assert as_it_came(stage, target).headers["X-Authz-Reason"] == "unsafe_path"


@pytest.mark.parametrize(
    "target", ["http://x/gw/ext-authz/acme", "/gw/ext-authz", "/gw/ext-authz*", "/gw/ext-authzz/acme"]
)
def test_what_is_not_under_envoys_prefix_is_no_yes(stage, target):
    answer = stage.client.open(
        environ_overrides={"RAW_URI": target, "HTTP_AUTHORIZATION": "Bearer adam", **LOOPBACK}
    )

    assert answer.status_code in {403, 404}


@every_dialect
def test_a_name_that_is_no_header_is_percent_encoded(stage, dialect):
    stage.facts.members["léo%|@x", "acme"] = some_facts()

    answer = dialect(stage, user="léo%|@x".encode().decode("latin-1"))

    assert answer.headers["X-Authz-User"] == "l%C3%A9o%25|@x"


@pytest.mark.parametrize(
    ("target", "headers", "reason"),
    [
        ("/from-header", {"X-Workspace-Id": "acme"}, None),
        ("/from-header", {"X-Workspace-Id": str(WORKSPACE_ID).upper()}, None),
        ("/from-header", {}, "workspace_missing"),
        ("/from-header", {"X-Workspace-Id": ""}, "workspace_missing"),
        ("/from-header", {"X-Workspace-Id": "acme,acme"}, "not_a_member"),
        ("/from-header", {"X-Workspace-Id": "\xff"}, "gateway_unreadable"),
        ("/from-header", {"X-Workspace-Id": "x" * 300}, "workspace_missing"),
        ("/from-claim", {}, None),
        ("/from-number", {}, "workspace_missing"),
        ("/user-from-claim/acme", {}, "user_unauthenticated"),
    ],
)
def test_a_workspace_is_where_the_route_says(stage, target, headers, reason):
    answer = nginx(stage, target, **headers)

    assert answer.headers.get("X-Authz-Reason") == reason


TRUSTED = {"X-Sidecar-Token": BACKEND}


@pytest.mark.parametrize("target", ["/user-from-header/acme", "/users/adam/acme"])
def test_a_user_without_a_token_counts_from_a_gateway_that_has_proved_itself(stage, target):
    told = {"X-User": "adam", "user": None}

    assert nginx(stage, target, **told).headers["X-Authz-Reason"] == "gateway_untrusted"
    assert nginx(stage, target, **told, **TRUSTED).headers["X-Authz-User"] == "adam"
    assert nginx(stage, target, **told, **TRUSTED, came=ELSEWHERE).status_code == 200


def test_a_users_header_that_is_absent_is_a_missing_credential(stage):
    answer = nginx(stage, "/user-from-header/acme", user=None, **TRUSTED)

    assert answer.status_code == 401


def test_by_a_unix_socket_a_gateway_needs_no_token(stage):
    connection = SimpleNamespace(family=1)
    came = {"gunicorn.socket": connection, "REMOTE_ADDR": ""}

    assert nginx(stage, "/user-from-header/acme", X_User="adam", user=None, came=came).status_code == 200


@pytest.mark.parametrize("token", ["nobodys", AUDITOR])
@pytest.mark.parametrize("came", [LOOPBACK, ELSEWHERE])
def test_a_token_that_is_not_for_this_opens_nothing(stage, token, came):
    answer = nginx(stage, came=came, X_Sidecar_Token=token)

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (403, "gateway_untrusted")


@every_dialect
def test_from_another_machine_a_gateway_shows_a_token(stage, dialect):
    assert dialect(stage, came=ELSEWHERE).headers["X-Authz-Reason"] == "gateway_untrusted"
    assert dialect(stage, came=ELSEWHERE, **TRUSTED).status_code == 200
    assert dialect(stage, came={"REMOTE_ADDR": ""}).headers["X-Authz-Reason"] == "gateway_untrusted"


def test_a_callers_token_is_no_end_users(stage):
    real = with_service(stage, identities=None)

    assert nginx(real, user=BACKEND).status_code == 503


def test_the_log_says_what_was_asked_and_what_came_of_it(stage):
    nginx(stage, f"{ANALYTICS}?token=secret")
    allowed = stage.lines[-1]
    nginx(stage, "/no/such?token=secret")
    refused = stage.lines[-1]
    nginx(stage, "/from-number")
    without = stage.lines[-1]

    assert (allowed["endpoint"], allowed["caller"], allowed["request"]) == (
        "gateway_nginx",
        "loopback",
        "GET /workspaces/{workspace}/analytics",
    )
    assert (allowed["user"], allowed["workspace"], allowed["action"]) == ("adam", "acme", "analytics.view")
    assert (allowed["allow"], allowed["reason"], allowed["status"]) == (True, "granted", 200)
    assert (refused["request"], refused["code"], refused["status"]) == ("GET /no/such", "unknown_route", 403)
    assert "claim" in without["why"]
    assert "secret" not in str(stage.lines)


def test_decisions_and_refusals_are_counted(stage):
    nginx(stage)
    nginx(stage, "/no/such")

    counted = stage.metrics.text().decode()

    assert 'sidecar_decisions_total{engine="embedded",reason="granted",status="200"} 1.0' in counted
    assert 'sidecar_problems_total{code="unknown_route"} 1.0' in counted


RECORDINGS = "/workspaces/acme/recordings"


def used(stage):
    return stage.facts.members["adam", "acme"].usage["minutes"].used


@every_dialect
def test_each_request_that_gets_through_takes_once(stage, dialect):
    assert [dialect(stage, RECORDINGS, "POST").status_code for _ in range(3)] == [200] * 3
    assert dialect(stage, RECORDINGS, "POST", user=None).status_code == 401
    assert dialect(stage, RECORDINGS, "GET").status_code == 200

    assert used(stage) == 3
    assert [line["mode"] for line in stage.lines if "mode" in line][:1] == ["consume"]


def test_what_is_denied_takes_nothing(stage):
    answer = haproxy(stage, RECORDINGS, "POST", user="full")

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (429, "quota_exceeded")
    assert stage.facts.members["full", "acme"].usage["minutes"].used == 1000


def test_a_key_of_a_client_counts_only_where_the_route_says_so(stage):
    for _ in range(2):
        assert nginx(stage, RECORDINGS, "POST", Idempotency_Key="k").status_code == 200

    assert used(stage) == 2


def test_a_repetition_takes_nothing_more(stage):
    first, again, other = (nginx(stage, RECORDINGS, "PUT", Idempotency_Key=key) for key in ("k", "k", "l"))

    assert [answer.status_code for answer in (first, again, other)] == [200] * 3
    assert used(stage) == 2
    assert again.headers["X-Authz-Decision-Id"] == first.headers["X-Authz-Decision-Id"]
    assert stage.lines[1]["replayed"] is True


def test_a_key_is_each_users_own(stage):
    stage.facts.members["mia", "acme"] = some_facts()

    answers = [nginx(stage, RECORDINGS, "PUT", user=user, Idempotency_Key="k") for user in ("adam", "mia")]

    assert [answer.headers.get("X-Authz-User") for answer in answers] == ["adam", "mia"]


def test_a_key_of_another_request_is_refused(stage):
    nginx(stage, RECORDINGS, "PUT", Idempotency_Key="k")

    answer = haproxy(stage, "/workspaces/acme/others", "PUT", Idempotency_Key="k")

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (403, "idempotency_key_reused")
    assert answer.json["status"] == 403


@pytest.mark.parametrize("key", ["", "a b", "k" * 129, "\xe9"])
def test_a_key_that_is_none_is_refused(stage, key):
    answer = nginx(stage, RECORDINGS, "PUT", Idempotency_Key=key)

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (403, "gateway_unreadable")
    assert used(stage) == 0


def test_trouble_with_the_quota_is_no_decision(stage):
    stage.ledger.outage = UsageContended("busy")

    answer = nginx(stage, RECORDINGS, "POST")

    assert (answer.status_code, answer.headers["X-Authz-Reason"]) == (503, "usage_contended")


def test_a_defect_lets_nothing_pass(stage, monkeypatch):
    monkeypatch.setattr(stage.service.routes, "match", None)

    assert nginx(stage).status_code == 500


def test_an_endpoint_under_another_spelling_is_none(stage):
    for path in ("/gw/nginx/", "/gw//nginx", "/gw/./nginx", "/gw/Nginx", "/gw", "/gw/"):
        assert nginx_at(stage, path).status_code == 404


def nginx_at(stage, path):
    return ask(stage, path, X_Original_Method="GET", X_Original_URI=ANALYTICS)
