from __future__ import annotations

import json
from hashlib import sha256

import pytest

from sidecar.audit.chain import SEAL, Chain, first_head, head_in, last_sealed, next_head, shown

WRITER = "host7-mi2k9x1q-30528"


def test_a_seal_is_of_the_seal_before_and_the_bytes_before_it():
    chain = Chain(WRITER)

    lines = [chain.seal(b'{"number":%d' % number) for number in range(3)]

    head = first_head(WRITER)
    assert head == sha256(b"policy-sidecar decision log 1\n" + WRITER.encode()).digest()
    for number, line in enumerate(lines, 1):
        content, _, seal = line.rpartition(SEAL)
        head = next_head(head, content)
        document = json.loads(line)
        assert list(document)[-3:] == ["writer", "n", "h"]
        assert (document["writer"], document["n"], document["h"]) == (WRITER, number, shown(head))
        assert seal == b'"%b"}\n' % shown(head).encode()
    assert (chain.n, chain.head) == (3, head)
    assert last_sealed(b"".join(lines)) == (3, head)


def test_the_longest_seal_is_as_long_as_that():
    chain = Chain(WRITER)
    chain.n = 10**19 - 1

    assert len(chain.seal(b"{")) - 1 <= chain.longest_seal <= 160


def test_a_writer_with_a_percent_sign_stands_as_it_is():
    assert json.loads(Chain("50%b").seal(b'{"a":1'))["writer"] == "50%b"


@pytest.mark.parametrize(
    "text", ["", "x", "A" * 42, "A" * 44, "A" * 42 + "B", "A" * 42 + "=", "+" * 43, "é" * 43, " " + "A" * 42]
)
def test_what_is_no_seal_is_none(text):
    assert head_in(text) is None


def test_a_seal_is_read_as_it_is_shown():
    head = sha256(b"x").digest()

    assert head_in(shown(head)) == head


def test_of_no_lines_there_is_no_last_one():
    assert last_sealed(b"") is None
