"""What the loop does with a request before a thread has it: whatever was sent, it raises nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.serving.application import Application, announced_length
from tests.api.stage import a_stage

PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
TARGETS = st.builds(
    "{}{}".format,
    st.sampled_from(
        ["/", "//", "http://", "x://", "https://[", "/gw/ext-authz/", "/v1/", "/workspaces/", "*"]
    ),
    st.text(PRINTABLE, max_size=40),
)
VALUES = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)


@pytest.fixture(scope="module")
def application():
    return Application(a_stage().service)


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PATCH", "CONNECT", "PROPFIND"]),
    target=TARGETS,
    value=VALUES,
    by_socket=st.booleans(),
)
@example(method="GET", target="http://[::1", value=None, by_socket=False)
@example(method="POST", target="/v1/authorize", value="9" * 5_000, by_socket=False)
def test_no_request_is_a_defect_before_it_is_answered(application, method, target, value, by_socket):
    request = application.request(
        method, target, header=lambda _: value, repeated=(), by_socket=by_socket, remote="127.0.0.1"
    )
    endpoint = application.endpoint_of(request)

    assert application.largest_body(request, endpoint) >= 0
    assert announced_length(request) >= 0
    assert application.deadline(request, endpoint) > request.began
