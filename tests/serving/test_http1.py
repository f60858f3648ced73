"""What is taken of gunicorn's protocol: the names are there, and the parser judges as gunicorn's does."""

# ruff: noqa: SLF001 - what is private there is what is compared

from __future__ import annotations

import inspect

import pytest
from gunicorn.asgi.parser import PythonProtocol  # type: ignore[import-untyped] # it ships none
from gunicorn.asgi.protocol import ASGIProtocol  # type: ignore[import-untyped] # ditto
from gunicorn.workers.gasgi import ASGIWorker  # type: ignore[import-untyped] # ditto
from hypothesis import given
from hypothesis import strategies as st

from sidecar.serving.http1 import Http1, Parser
from sidecar.serving.worker import Worker

OWN = {  # what is ours alone, and overrides nothing
    Http1: {
        "time_out",
        "_refuse",
        "_serve_parsed",
        "_request_of",
        "_collect_body",
        "_answer",
        "_observe",
        "_send_reply",
    },
    Worker: {
        "_stop_before_serving",
        "_show",
        "_show_share",
        "_reader",
        "_stop",
        "_accept",
        "_accept_if_it_is_our_turn",
        "_opened",
        "_wait_for_descriptors",
        "_accept_again",
    },
    Parser: {"left_over", "target", "field"},
}


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Http1, ASGIProtocol), (Worker, ASGIWorker), (Parser, PythonProtocol)]
)
def test_every_method_is_ours_alone_or_overrides_one_of_gunicorns_with_its_parameters(ours, theirs):
    for name, method in vars(ours).items():
        if name.startswith("__") or not callable(method):
            continue
        if name in OWN[ours]:
            assert not hasattr(theirs, name)
            continue
        assert list(inspect.signature(method).parameters) == list(
            inspect.signature(getattr(theirs, name)).parameters
        )


@pytest.mark.parametrize(
    "name",
    [
        "_closed",
        "_request_ready",
        "_body_receiver",
        "_callback_parser",
        "_flow_control",
        "_will_close",
        "_safe_write",
    ],
)
def test_what_is_used_of_gunicorns_protocol_is_there(name):
    assert name in inspect.getsource(ASGIProtocol)


@pytest.mark.parametrize("name", ["path", "_headers_list"])
def test_what_is_used_of_gunicorns_parser_is_there(name):
    assert name in PythonProtocol.__slots__


@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_the_parser_takes_the_names_and_values_that_gunicorns_takes(octets):
    parser, gunicorns = Parser(), PythonProtocol()

    assert parser._is_valid_token(octets) == gunicorns._is_valid_token(octets)
    assert parser._has_invalid_header_chars(octets) == gunicorns._has_invalid_header_chars(octets)


def test_each_single_octet_is_judged_as_gunicorn_judges_it():
    parser, gunicorns = Parser(), PythonProtocol()
    for octet in range(256):
        one = bytes([octet])
        assert parser._is_valid_token(one) == gunicorns._is_valid_token(one), one
        assert parser._has_invalid_header_chars(one) == gunicorns._has_invalid_header_chars(one), one
