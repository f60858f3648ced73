"""What is not read is not measured: a large head gets the answer of a small one, through every gateway."""

from __future__ import annotations

import pytest

from tests.identity.provider import bearer

pytestmark = [pytest.mark.postgres, pytest.mark.gateways]

KIB = 1_024
PAGE = "/workspaces/acme/page"
MANY = [f"X-{number}: {number}" for number in range(200)]
COOKIE = "Cookie: c=" + "c" * 60 * KIB
QUERY = "?q=" + "q" * 30 * KIB
GROUPS = ["g" * 60] * 143  # makes a token of 12 KiB
LARGE = {
    "200 headers": (MANY, "", []),
    "60 KiB of cookies": ([COOKIE], "", []),
    "30 KiB of query": ([], QUERY, []),
    "12 KiB of token": ([], "", GROUPS),
    "all four": ([*MANY, COOKIE], QUERY, GROUPS),
}


@pytest.mark.parametrize("what", LARGE)
def test_a_large_head_is_answered_like_a_small_one(gateway, upstream, what):
    lines, query, groups = LARGE[what]
    token = bearer(sub="mia", groups=groups)
    assert 12 * KIB < len(bearer(sub="mia", groups=GROUPS)) < 13 * KIB

    allowed = gateway.ask(PAGE + query, *lines, bearer=token)
    reached = upstream.reached[-1]
    denied = gateway.ask("/workspaces/acme/billing" + query, *lines, bearer=token)

    assert allowed.status == 200
    assert reached.target == PAGE + query
    assert reached.values("X-Authz-User") == ["mia"]
    assert denied.status == 403
