from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.catalog.catalog import Route, Source
from sidecar.catalog.routes import Routes
from sidecar.errors import Unroutable, UnsafePath
from tests.values import the_catalog


def a_route(path, action="a", *, method="GET", host=None):
    return Route(
        method=method,
        path=path,
        host=host,
        action=action,
        user=Source(kind="claim", name="sub"),
        workspace=Source(kind="path", name="workspace"),
        mode="check",
    )


ROUTES = Routes(
    [
        a_route("/{workspace}/{page}", "page"),
        a_route("/{workspace}/billing", "billing"),
        a_route("/{workspace}/billing", "pay", method="POST"),
        a_route("/{workspace}/billing/{invoice}", "invoice"),
        a_route("/docs/openapi.json", "docs"),
        a_route("/{workspace}/caf%C3%A9", "café"),
        a_route("/{workspace}/a:run", "run"),
        a_route("/", "home"),
        a_route("/{workspace}/billing", "admin-billing", host="admin.example"),
    ]
)


def found(target, *, method="GET", host="app.example"):
    match = ROUTES.match(method=method, host=host, target=target)
    return match.route.action, dict(match.parameters)


@pytest.mark.parametrize(
    ("target", "action", "parameters"),
    [
        ("/", "home", {}),
        ("/?workspace=x", "home", {}),
        ("/acme/start", "page", {"workspace": "acme", "page": "start"}),
        ("/acme/start/", "page", {"workspace": "acme", "page": "start"}),
        ("/acme/billing", "billing", {"workspace": "acme"}),
        ("/acme/billing?a=/../b&c=d;e//%2f", "billing", {"workspace": "acme"}),
        ("/acme/billing/7", "invoice", {"workspace": "acme", "invoice": "7"}),
        ("/docs/openapi.json", "docs", {}),
        ("/acme/caf%c3%a9", "café", {"workspace": "acme"}),
        ("/acme/a:run", "run", {"workspace": "acme"}),
        ("/auth0|1/x", "page", {"workspace": "auth0|1", "page": "x"}),
        ("/auth0%7C1/x", "page", {"workspace": "auth0|1", "page": "x"}),
        ("/acme/billing?x#y", "billing", {"workspace": "acme"}),
        ("/acme/billing?\t\0 \xff\ud800,/..//%zz", "billing", {"workspace": "acme"}),
        ("/cafe%CC%81/%E5%AE%8C", "page", {"workspace": "cafe\u0301", "page": "完"}),
        ("/..a/a..b", "page", {"workspace": "..a", "page": "a..b"}),
    ],
)
def test_a_path_leads_to_its_route(target, action, parameters):
    assert found(target) == (action, parameters)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/acme/billing"),
        ("get", "/acme/billing"),
        ("HEAD", "/acme/billing"),
        ("GET", "/acme"),
        ("GET", "/acme/billing/7/8"),
        ("GET", "/" + "a/" * 4_000),
    ],
)
def test_what_no_route_is_for_is_refused(method, target):
    with pytest.raises(Unroutable) as refused:
        found(target, method=method)

    assert refused.value.code == "unknown_route"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "acme/billing",
        "*",
        "http://app.example/acme/billing",
        "//acme/billing",
        "/acme//billing",
        "/acme/billing//",
        "/acme/./billing",
        "/acme/x/../billing",
        "/acme/billing/..",
        "/acme/%2e%2e/billing",
        "/acme/.%2E/billing",
        "/acme/bill%69ng",
        "/acme/%42illing",
        "/acme%2fbilling",
        "/acme%2Fx/billing",
        "/acme/a%5cb",
        "/acme/a\\b",
        "/acme/a;b",
        "/acme;x=1/billing",
        "/acme/a%3bb",
        "/acme/a%3fb",
        "/acme/a%23b",
        "/acme/billing#x",
        "/acme/%252e%252e",
        "/acme/%25",
        "/acme/%",
        "/acme/%4",
        "/acme/%zz",
        "/acme/%00",
        "/acme/%0a",
        "/acme/%7f",
        "/acme/%ff",
        "/acme/%c0%ae",
        "/acme/%e2%80%ae",
        "/acme/caf\u00e9",
        "/acme/a b",
        "/acme/\t",
        "/acme/<a>",
        "/acme/Billing",
        "/acme/BILLING",
        "/acme/billing.json",
        "/acme/billing.",
        "/acme/billing%20",
        "/acme/%EF%BD%82illing",
        "/acme/a%20b",
        "/%20acme/x",
        "/acme%20/x",
        "/acme./x",
        "/acme/...",
        "/acme/a%C2%A0b",  # a space that does not break
        "/acme/a%EF%BC%8Fb",  # a full-width slash
        "/acme/a%EF%BC%BCb",  # a full-width backslash
        "/acme/%EF%BC%8E%EF%BC%8E",  # full-width dots
        "/acme/%E2%80%A5",  # .. as one character
        "/acme/%E2%80%A4%E2%80%A4",  # one-dot leaders
        "/acme/a%EF%BC%9Bb",  # a full-width semicolon
        "/acme/a%CD%BEb",  # a Greek question mark, which is a semicolon
        "/acme/%EF%BC%85",  # a full-width percent sign
        "/acme/a%E2%84%80b",  # a/c as one character
        "/acme/a%C2%A8",  # a diaeresis: a space and a mark
        "/%E2%84%AAim/x",  # the Kelvin sign
        "/acme/%EF%BD%81",  # a full-width letter, in a parameter
        "/acme/a%3Arun",
        "/docs/OpenAPI.json",
    ],
)
def test_a_path_that_two_servers_could_read_differently_is_refused(target):
    with pytest.raises(UnsafePath):
        found(target)


def test_a_route_with_the_host_goes_first_and_others_are_for_any_host():
    assert found("/acme/billing", host="admin.example")[0] == "admin-billing"
    assert found("/acme/start", host="admin.example")[0] == "page"


@pytest.mark.parametrize("target", ["/acme/billing", "/acme/start", "/"])
def test_without_a_host_nothing_is_found_once_a_route_names_one(target):
    with pytest.raises(Unroutable) as refused:
        found(target, host=None)

    assert refused.value.code == "gateway_unreadable"


def test_the_order_of_the_file_does_not_matter():
    routes = [a_route("/{workspace}/{page}", "page"), a_route("/{workspace}/billing", "billing")]

    for each in (routes, routes[::-1]):
        assert Routes(each).match(method="GET", host=None, target="/a/billing").route.action == "billing"


def test_each_shipped_route_is_found():
    routes = Routes(the_catalog().routes)

    for route in the_catalog().routes:
        target = route.path.replace("{workspace}", "acme")
        match = routes.match(method=route.method, host="any.example", target=target)
        assert (match.route, match.parameters) == (route, {"workspace": "acme"})


@given(st.text(min_size=1, max_size=12))
def test_a_parameter_that_is_let_through_has_no_other_reading_after_nfkc(text):
    try:
        _, parameters = found(f"/acme/{quote(text, safe='', errors='surrogatepass')}")
    except (UnsafePath, Unroutable):
        return

    read = unicodedata.normalize("NFKC", parameters["page"])
    assert [each for each in read if each in "/\\;?#%. "] == ["."] * text.count(".")
    assert {each for each in read if each.isascii()} <= set(text)
    assert read == read.rstrip(".")


@given(st.text(alphabet="/.%2fFeE5cC;\\?#aAb0", max_size=20))
def test_what_is_let_through_has_one_reading(tail):
    try:
        _, parameters = found(f"/acme/{tail}")
    except (UnsafePath, Unroutable):
        return

    path = f"/acme/{tail}".partition("?")[0]
    assert not {".", ".."} & set(path.split("/"))
    assert not any(divider in text for text in parameters.values() for divider in "/\\;?#% ")
    assert "//" not in path
