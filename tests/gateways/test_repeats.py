"""A gateway that asks twice takes once: answers that are lost, held or asked for again on the way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.gateways.processes import DOCS, KINDS
from tests.identity.provider import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gateways.relay import Relay

pytestmark = [pytest.mark.postgres, pytest.mark.gateways]

OLIVIA = bearer(sub="olivia")
WITHOUT_A_KEY = {"traefik"}
# How often the question of one request comes, if the relay cuts the first answer on a kept connection.
ASKED = {"nginx": 2, "ingress-nginx": 1, "caddy": 2, "traefik": 2, "haproxy": 2, "envoy": 1, "envoy-grpc": 1}
TARGET = "/workspaces/often/recordings"


@pytest.fixture
def used(sidecar):
    """What olivia's requests have taken since."""

    def now() -> int:
        answer = sidecar.request("GET", "/v1/workspaces/often/entitlements?user=olivia")[1]
        taken: int = answer["quotas"]["minutes"]["used"]
        return taken

    before = now()
    return lambda: now() - before


@pytest.fixture
def way(request, gateway, ways) -> Iterator[Relay]:
    """The relay that the gateway is behind, over connections that have been used once."""
    relay: Relay = ways.grpc if "grpc" in request.node.callspec.params["gateway"] else ways.http
    assert gateway.ask("/workspaces/often/analytics", bearer=OLIVIA).status == 200
    relay.questions.clear()
    try:
        yield relay
    finally:
        relay.be_good()


def take(gateway, *headers: str):
    return gateway.ask(TARGET, *headers, method="POST", bearer=OLIVIA)


@pytest.fixture
def name(request) -> str:
    found: str = request.node.callspec.params["gateway"]
    return found


def test_an_answer_that_is_cut_takes_once(gateway, name, way, used):
    way.cuts = 1

    answer = take(gateway)

    assert way.cuts == 0
    if name in WITHOUT_A_KEY:
        assert used() == ASKED[name]  # as its document says
    else:
        assert used() == 1
    assert answer.status == 200 if ASKED[name] > 1 else answer.status >= 500


def test_answers_that_are_cut_again_and_again_take_once(gateway, name, way, used):
    way.cuts = 9

    answer = take(gateway)

    assert answer.status >= 500
    assert used() == 1 or name in WITHOUT_A_KEY


@pytest.mark.parametrize("gateway", [each for each in KINDS if each not in WITHOUT_A_KEY], indirect=True)
def test_an_answer_that_is_held_takes_once(gateway, way, used):
    way.lag_s = 1.3  # longer than most of them wait

    answer = take(gateway)

    assert answer.status == 200 or answer.status >= 500
    assert used() == 1


@pytest.mark.parametrize("gateway", ["nginx", "caddy", "haproxy", "envoy"], indirect=True)
def test_a_question_that_is_asked_twice_takes_once(gateway, way, used):
    way.repeats = True

    answer = take(gateway)

    assert (answer.status, used()) == (200, 1)


def test_two_requests_are_two_whatever_key_a_client_sends(gateway, used, upstream, request):
    before = len(upstream.reached)
    keys = ("X-Request-Key: same", "x-request-key: same")

    answers = [take(gateway, *keys[:number]).status for number in (1, 1, 2)]

    assert answers == [200] * 3
    assert used() == 3
    for reached in upstream.reached[before:] if "traefik" not in request.node.name else ():
        assert "same" not in reached.values("X-Request-Key")


@pytest.mark.parametrize("gateway", ["nginx", "caddy", "haproxy", "envoy"], indirect=True)
def test_the_backend_gets_the_key_of_the_question(gateway, way, upstream):
    take(gateway)

    [asked] = re.findall(rb"\r\nx-request-key: ([!-~]{32,36})\r\n", b"".join(way.questions), re.IGNORECASE)
    assert upstream.reached[-1].values("X-Request-Key") == [asked.decode()]


def test_every_document_makes_a_key_or_says_that_it_cannot():
    assert {KINDS[name].document for name in WITHOUT_A_KEY} == {"traefik.md"}
    for kind in KINDS.values():
        text = (DOCS / kind.document).read_text()
        if kind.name in WITHOUT_A_KEY:
            assert "`mode: consume` is not for" in text
        else:
            assert "once_per: X-Request-Key" in text
